package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func TestDescribeClusterShowsTheBrokers(t *testing.T) {
	f := newFakeCluster()
	f.addNodes()
	eachVersion(t, 60, func(t *testing.T, v int16) {
		req := kmsg.NewPtrDescribeClusterRequest()
		resp := ask[*kmsg.DescribeClusterResponse](t, f, req, v)
		equal(t, "code", resp.ErrorCode, codeNone)
		equal(t, "message", resp.ErrorMessage, nil)
		equal(t, "endpoint type", resp.EndpointType, endpointBrokers)
		equal(t, "cluster id", resp.ClusterID, "fake-cluster-id-000000")
		equal(t, "controller", resp.ControllerID, int32(fakeNode))
		equal(t, "brokers", len(resp.Brokers), 3)
		equal(t, "own host", resp.Brokers[0].Host, "listener.example")
		equal(t, "own port", resp.Brokers[0].Port, int32(19092))
		equal(t, "other host", resp.Brokers[1].Host, "two.example")
		equal(t, "rack", resp.Brokers[1].Rack, ptr("r2"))
		equal(t, "missing rack", resp.Brokers[2].Rack, nil)
		equal(t, "operations, not asked", resp.ClusterAuthorizedOperations, authorizedOpsUnset)

		req.IncludeClusterAuthorizedOperations = true
		resp = ask[*kmsg.DescribeClusterResponse](t, f, req, v)
		equal(t, "operations", resp.ClusterAuthorizedOperations, clusterOperations)
	})
}

func TestDescribeClusterRefusesOtherEndpoints(t *testing.T) {
	f := newFakeCluster()
	for v := int16(1); v <= 2; v++ {
		for endpoint, want := range map[int8]int16{2: 114, 0: 115, 3: 115} {
			req := kmsg.NewPtrDescribeClusterRequest()
			req.EndpointType = endpoint
			resp := ask[*kmsg.DescribeClusterResponse](t, f, req, v)
			equal(t, "code", resp.ErrorCode, want)
			hasText(t, "refusal", resp.ErrorMessage)
			equal(t, "brokers", len(resp.Brokers), 0)
		}
	}
}

func TestDescribeClusterShowsFencedBrokersOnlyWhenAsked(t *testing.T) {
	f := newFakeCluster()
	f.addNodes()
	f.fence(2)
	eachVersion(t, 60, func(t *testing.T, v int16) {
		req := kmsg.NewPtrDescribeClusterRequest()
		resp := ask[*kmsg.DescribeClusterResponse](t, f, req, v)
		equal(t, "brokers", len(resp.Brokers), 2)
		equal(t, "the other", resp.Brokers[1].NodeID, 3)

		req.IncludeFencedBrokers = true
		resp = ask[*kmsg.DescribeClusterResponse](t, f, req, v)
		if v < 2 {
			equal(t, "brokers", len(resp.Brokers), 2)
			return
		}
		equal(t, "brokers", len(resp.Brokers), 3)
		equal(t, "alive", resp.Brokers[0].IsFenced, false)
		equal(t, "fenced", resp.Brokers[1].IsFenced, true)
	})
}

func TestAFencedControllerIsNotNamed(t *testing.T) {
	f := newFakeCluster()
	f.addNodes()
	f.mu.Lock()
	f.apply(&messages.Delta{Controller: 2, ClusterID: f.image.ClusterID})
	f.mu.Unlock()
	controller := func() int32 {
		return ask[*kmsg.DescribeClusterResponse](t, f, kmsg.NewPtrDescribeClusterRequest(), 2).
			ControllerID
	}
	equal(t, "controller", controller(), 2)
	f.fence(2)
	equal(t, "who passes requests on", controller(), int32(fakeNode))
}
