package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// AlterConfigs, key 33, versions 0 to 2: replace all settings of a topic or a
// node that are set at run time. What is not named goes back to its default.
//
//	v1  throttling starts after the answer (KIP-219)
//	v2  flexible encoding
//
// Clients since Kafka 2.3 use IncrementalAlterConfigs instead (KIP-339).
func (s *Server) alterConfigs(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.AlterConfigsRequest)
	resp := req.ResponseKind().(*kmsg.AlterConfigsResponse)
	changes := make([]door.Change, len(req.Resources))
	for i := range req.Resources {
		rr, ch := &req.Resources[i], &changes[i]
		ch.Resource, ch.Replace = resourceOf(rr.ResourceType, rr.ResourceName), true
		for j := range rr.Configs {
			addChange(ch, rr.Configs[j].Name, messages.ConfigSet, rr.Configs[j].Value)
		}
	}
	for i, err := range s.alterAll(ctx, changes, req.ValidateOnly) {
		r := kmsg.NewAlterConfigsResponseResource()
		r.ResourceType, r.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
		r.ErrorCode, r.ErrorMessage = controllerErrorCode(err), errorMessage(err)
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}
