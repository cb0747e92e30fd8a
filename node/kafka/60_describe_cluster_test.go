package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
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
