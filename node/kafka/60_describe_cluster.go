package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster, key 60, versions 0 to 2: the cluster's id, controller and
// live brokers (KIP-700).
//
//	v1  endpoint type (KIP-919)
//	v2  fenced brokers may be asked for (KIP-1073)
func (s *Server) describeCluster(_ context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeClusterRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	if req.EndpointType != endpointBrokers {
		var text string
		resp.ErrorCode, text = refuseEndpoint(req.EndpointType)
		resp.ErrorMessage = &text
		return resp
	}
	v := s.view(c)
	resp.EndpointType = endpointBrokers
	resp.ClusterID, resp.ControllerID = v.image.ClusterID, v.controller()
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	for i := range v.image.Nodes {
		n := &v.image.Nodes[i]
		if n.Fenced && !req.IncludeFencedBrokers {
			continue
		}
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Rack = int32(n.ID), rackOf(n)
		b.Host, b.Port = v.endpoint(n)
		b.IsFenced = n.Fenced
		resp.Brokers = append(resp.Brokers, b)
	}
	return resp
}

// Endpoint types of KIP-919: what kind of listener the client believes it is
// talking to.
const (
	endpointBrokers     int8 = 1
	endpointControllers int8 = 2

	codeMismatchedEndpointType  int16 = 114
	codeUnsupportedEndpointType int16 = 115
)

func refuseEndpoint(asked int8) (code int16, text string) {
	if asked == endpointControllers {
		return codeMismatchedEndpointType, "this is a broker endpoint; Troupe has no controller " +
			"listener, use bootstrap servers instead of bootstrap controllers"
	}
	return codeUnsupportedEndpointType, fmt.Sprintf("unsupported endpoint type %d", asked)
}
