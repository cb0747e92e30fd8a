package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// IncrementalAlterConfigs, key 44, versions 0 and 1: change single settings of
// topics and nodes while they run (KIP-339).
//
//	v1  flexible encoding
//
// Operations are set, delete (back to the default), append and subtract (lists
// alone). One resource changes wholly or not at all; resources succeed or fail
// on their own. Nodes' settings can be changed through any node.
func (s *Server) incrementalAlterConfigs(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.IncrementalAlterConfigsRequest)
	resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	changes := make([]door.Change, len(req.Resources))
	for i := range req.Resources {
		rr, ch := &req.Resources[i], &changes[i]
		ch.Resource = resourceOf(rr.ResourceType, rr.ResourceName)
		for j := range rr.Configs {
			rc := &rr.Configs[j]
			addChange(ch, rc.Name, messages.ConfigOp(rc.Op), rc.Value)
		}
	}
	for i, err := range s.alterAll(ctx, changes, req.ValidateOnly) {
		r := kmsg.NewIncrementalAlterConfigsResponseResource()
		r.ResourceType, r.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
		r.ErrorCode, r.ErrorMessage = controllerErrorCode(err), errorMessage(err)
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}

func resourceOf(kind kmsg.ConfigResourceType, name string) messages.ConfigResource {
	return messages.ConfigResource{Type: messages.ConfigResourceType(kind), Name: name}
}

// addChange notes a change to one key. A null value is right for a delete alone.
func addChange(c *door.Change, key string, op messages.ConfigOp, value *string) {
	c.Add(key, op, orEmpty(value))
	if op != messages.ConfigDelete && value == nil {
		c.Fail("%q is null; delete the setting to get its default", key)
	}
}

// alterAll has the controller change the resources and returns an error, or
// nil, for each.
func (s *Server) alterAll(ctx context.Context, all []door.Change, validateOnly bool) []error {
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	return door.AlterConfigs(ctx, s.cluster, all, validateOnly)
}
