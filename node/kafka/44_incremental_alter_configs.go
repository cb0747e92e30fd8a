package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
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
	changes := make([]resourceChange, len(req.Resources))
	for i := range req.Resources {
		rr := &req.Resources[i]
		ch := resourceChange{kind: rr.ResourceType, name: rr.ResourceName}
		for j := range rr.Configs {
			rc := &rr.Configs[j]
			ch.add(rc.Name, messages.ConfigOp(rc.Op), rc.Value)
		}
		changes[i] = ch
	}
	for i, err := range s.alterAll(ctx, changes, req.ValidateOnly) {
		r := kmsg.NewIncrementalAlterConfigsResponseResource()
		r.ResourceType, r.ResourceName = changes[i].kind, changes[i].name
		r.ErrorCode, r.ErrorMessage = controllerErrorCode(err), errorMessage(err)
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}

// resourceChange is what one of the two alter APIs wants of one resource.
type resourceChange struct {
	kind    kmsg.ConfigResourceType
	name    string
	replace bool
	changes []messages.ConfigChange
	keys    map[string]bool // of changes
	err     error           // the first thing wrong with it
}

// add notes a change to one key. A null value is right for a delete alone.
func (r *resourceChange) add(key string, op messages.ConfigOp, value *string) {
	change := messages.ConfigChange{Key: key, Op: op}
	switch {
	case op < messages.ConfigSet || op > messages.ConfigSubtract:
		r.fail("unknown operation %d on %q", op, key)
	case op != messages.ConfigDelete && value == nil:
		r.fail("%q is null; delete the setting to get its default", key)
	case value != nil:
		change.Value = *value
	}
	if r.keys == nil {
		r.keys = map[string]bool{}
	}
	if r.keys[key] {
		r.fail("%q stands in the request more than once", key)
	}
	r.keys[key] = true
	r.changes = append(r.changes, change)
}

func (r *resourceChange) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", messages.ErrInvalidRequest, fmt.Sprintf(format, args...))
	}
}

// check finds what the controller need not be asked about.
func (r *resourceChange) check() error {
	if r.err != nil {
		return r.err
	}
	switch kind := messages.ConfigResourceType(r.kind); {
	case kind == messages.ConfigTopic && r.name == "":
		return fmt.Errorf("%w: name a topic; what holds for all of them is set on brokers",
			messages.ErrInvalidRequest)
	case kind == messages.ConfigTopic:
		return checkTopicName(r.name)
	case kind == messages.ConfigBroker && r.name == "":
		return nil
	case kind == messages.ConfigBroker:
		_, err := brokerID(r.name)
		return err
	default:
		return unconfigurable(kind)
	}
}

func (r *resourceChange) resource() messages.ConfigResource {
	return messages.ConfigResource{Type: messages.ConfigResourceType(r.kind), Name: r.name}
}

// alterAll has the controller change the resources and returns an error, or
// nil, for each. A resource that is named twice changes not at all, because
// the order of the two would decide the outcome.
func (s *Server) alterAll(ctx context.Context, all []resourceChange, validateOnly bool) []error {
	ctx, cancel := waitFor(ctx, 0)
	defer cancel()
	resources := make([]messages.ConfigResource, len(all))
	for i := range all {
		resources[i] = all[i].resource()
	}
	twice := repeated(resources)
	errs := make([]error, len(all))
	var asked []messages.AlterConfigs
	var answers []int // index in errs of each in asked
	for i := range all {
		if errs[i] = all[i].check(); twice[resources[i]] {
			errs[i] = fmt.Errorf("%w: each resource may stand in the request once",
				messages.ErrInvalidRequest)
		}
		if errs[i] == nil {
			asked = append(asked, messages.AlterConfigs{
				Resource: resources[i], Changes: all[i].changes, Replace: all[i].replace,
			})
			answers = append(answers, i)
		}
	}
	if len(asked) == 0 {
		return errs
	}
	results, err := s.cluster.AlterConfigs(ctx, asked, validateOnly)
	for i, at := range answers {
		switch {
		case err != nil:
			errs[at] = err
		case i >= len(results):
			errs[at] = fmt.Errorf("controller answered %d of %d resources", len(results), len(asked))
		default:
			errs[at] = results[i]
		}
	}
	return errs
}
