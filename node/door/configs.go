package door

import (
	"context"
	"fmt"
	"strconv"

	"github.com/troupelog/troupe/messages"
)

// Change is what a client wants of the settings of one resource, or why that
// cannot be.
type Change struct {
	messages.AlterConfigs
	Err error
}

// Add notes a change to one key.
func (c *Change) Add(key string, op messages.ConfigOp, value string) {
	if op < messages.ConfigSet || op > messages.ConfigSubtract {
		c.Fail("unknown operation %d on %q", op, key)
	}
	c.Changes = append(c.Changes, messages.ConfigChange{Key: key, Op: op, Value: value})
}

// Fail says what is wrong with it. What was said first stays.
func (c *Change) Fail(format string, args ...any) {
	if c.Err == nil {
		c.Err = fmt.Errorf("%w: %s", messages.ErrInvalidRequest, fmt.Sprintf(format, args...))
	}
}

// check finds what the controller need not be asked about.
func (c *Change) check() error {
	keys := make(map[string]bool, len(c.Changes))
	for i := range c.Changes {
		key := c.Changes[i].Key
		if keys[key] {
			c.Fail("%q stands in the request more than once", key)
		}
		keys[key] = true
	}
	if c.Err != nil {
		return c.Err
	}
	switch name := c.Resource.Name; {
	case c.Resource.Type == messages.ConfigTopic && name == "":
		return fmt.Errorf("%w: name a topic; what holds for all of them is set on brokers",
			messages.ErrInvalidRequest)
	case c.Resource.Type == messages.ConfigTopic:
		return CheckTopicName(name)
	case c.Resource.Type == messages.ConfigBroker && name == "":
		return nil
	case c.Resource.Type == messages.ConfigBroker:
		_, err := BrokerID(name)
		return err
	}
	return Unconfigurable(c.Resource.Type)
}

// BrokerID reads a broker's name in the config APIs, its id in digits.
func BrokerID(name string) (messages.NodeID, error) {
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil || id < 0 {
		return messages.NoNode, fmt.Errorf("%w: a broker is named by its id, not %q",
			messages.ErrInvalidRequest, name)
	}
	return messages.NodeID(id), nil
}

// Unconfigurable says that resources of a type have no settings.
func Unconfigurable(t messages.ConfigResourceType) error {
	return fmt.Errorf("%w: resources of type %d have no settings; topics (%d) and brokers (%d) do",
		messages.ErrInvalidRequest, t, messages.ConfigTopic, messages.ConfigBroker)
}

// AlterConfigs has the controller change the resources and returns an error, or
// nil, for each. A resource that is named twice changes not at all, because
// the order of the two would decide the outcome.
func AlterConfigs(ctx context.Context, c Cluster, all []Change, validateOnly bool) []error {
	resources := make([]messages.ConfigResource, len(all))
	for i := range all {
		resources[i] = all[i].Resource
	}
	twice := Repeated(resources)
	errs := make([]error, len(all))
	var asked []messages.AlterConfigs
	var at []int // index in errs of each in asked
	for i := range all {
		if errs[i] = all[i].check(); twice[resources[i]] {
			errs[i] = fmt.Errorf("%w: each resource may stand in the request once",
				messages.ErrInvalidRequest)
		}
		if errs[i] == nil {
			asked, at = append(asked, all[i].AlterConfigs), append(at, i)
		}
	}
	if len(asked) == 0 {
		return errs
	}
	results, err := c.AlterConfigs(ctx, asked, validateOnly)
	for i, to := range at {
		errs[to] = PerItem(results, err, i)
	}
	return errs
}
