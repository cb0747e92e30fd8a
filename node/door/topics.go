package door

import (
	"context"
	"fmt"

	"github.com/troupelog/troupe/messages"
)

// createTopicsMax bounds the topics of one request. Kafka draws the line at as
// many partitions; the answer has all settings of every topic.
const createTopicsMax = 10_000

// topicNameMax is the longest legal topic name: a partition's folder is the
// name, a dash and up to five digits, and file systems stop at 255 bytes.
const topicNameMax = 249

// CheckTopicName returns an ErrInvalidTopic that says which of Kafka's rules
// the name breaks. Collisions of '.' and '_' are the controller's to find.
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name is empty", messages.ErrInvalidTopic)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q is reserved", messages.ErrInvalidTopic, name)
	case len(name) > topicNameMax:
		return fmt.Errorf("%w: a name of %d characters, %d are allowed",
			messages.ErrInvalidTopic, len(name), topicNameMax)
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("%w: %q may have only letters, digits, '.', '_' and '-'",
				messages.ErrInvalidTopic, name)
		}
	}
	return nil
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Repeated returns the keys that occur more than once.
func Repeated[K comparable](keys []K) map[K]bool {
	count := make(map[K]int, len(keys))
	for _, k := range keys {
		count[k]++
	}
	twice := map[K]bool{}
	for k, n := range count {
		if n > 1 {
			twice[k] = true
		}
	}
	return twice
}

// PerItem is the outcome of item i of what the controller was asked. Its own error
// says more than one that failed them all: the wait for the metadata may time out
// after the controller refused an item.
func PerItem(errs []error, err error, i int) error {
	switch {
	case i < len(errs) && errs[i] != nil:
		return errs[i]
	case err == nil && i >= len(errs):
		return fmt.Errorf("controller answered only %d items", len(errs))
	}
	return err
}

// perTopic is PerItem for operations on topics.
func perTopic(results []messages.TopicResult, err error, i int) messages.TopicResult {
	switch {
	case i < len(results) && results[i].Err != nil:
		return results[i]
	case err != nil:
		return messages.TopicResult{Err: err}
	case i >= len(results):
		return messages.TopicResult{
			Err: fmt.Errorf("controller answered only %d topics", len(results)),
		}
	}
	return results[i]
}

// NewTopic is a topic to create, or why it cannot be.
type NewTopic struct {
	messages.CreateTopic
	Err error
}

// CreateTopics creates topics, each succeeding or failing on its own, once this
// node's image shows them. The results stand in the order of the request and have
// the names; topics of one name all fail.
func CreateTopics(ctx context.Context, c Cluster, topics []NewTopic, validateOnly bool,
) []messages.TopicResult {
	names := make([]string, len(topics))
	for i := range topics {
		names[i] = topics[i].Name
	}
	twice := Repeated(names)
	out := make([]messages.TopicResult, len(topics))
	var asked []messages.CreateTopic
	var at []int // index in out of each in asked
	for i := range topics {
		err := topics[i].Err
		if err == nil {
			err = CheckTopicName(names[i])
		}
		switch {
		case len(topics) > createTopicsMax:
			err = fmt.Errorf("%w: %d topics in one request, %d are allowed",
				messages.ErrPolicyViolation, len(topics), createTopicsMax)
		case twice[names[i]]:
			err = namedTwice(names[i])
		}
		if err == nil {
			asked, at = append(asked, topics[i].CreateTopic), append(at, i)
		}
		out[i].Err = err
	}
	if len(asked) > 0 {
		results, err := c.CreateTopics(ctx, asked, validateOnly)
		for i, to := range at {
			out[to] = perTopic(results, err, i)
		}
	}
	for i := range out {
		out[i].Name = names[i]
	}
	return out
}

func namedTwice(topic string) error {
	return fmt.Errorf("%w: topic %q stands in the request more than once",
		messages.ErrInvalidRequest, topic)
}

// Deletion is a topic to delete, by name or by id.
type Deletion struct {
	Name *string // nil: by id
	ID   messages.TopicID
	// Topic is what was to be deleted, nil unless it existed.
	Topic *messages.Topic
	Err   error
}

func (d *Deletion) resolve(image *messages.Image) {
	switch {
	case d.Name != nil && !d.ID.IsZero():
		d.Err = fmt.Errorf("%w: topic %q is given with an id too, use one of them",
			messages.ErrInvalidRequest, *d.Name)
	case d.Name != nil:
		if d.Topic = image.Topic(*d.Name); d.Topic == nil {
			d.Err = fmt.Errorf("topic %q: %w", *d.Name, messages.ErrUnknownTopicOrPartition)
		}
	case d.ID.IsZero():
		d.Err = fmt.Errorf("%w: a topic has neither name nor id", messages.ErrInvalidRequest)
	default:
		if d.Topic = image.TopicByID(d.ID); d.Topic == nil {
			d.Err = fmt.Errorf("topic id %s: %w", d.ID, messages.ErrUnknownTopicID)
		}
	}
}

// DeleteTopics deletes topics and sets Topic and Err of each. One that is named
// twice, by name or by id, is not deleted and all mentions fail.
func DeleteTopics(ctx context.Context, c Cluster, s Settings, all []Deletion) {
	image := c.Image()
	ids := make([]messages.TopicID, 0, len(all))
	disabled := s.Value("delete.topic.enable") == "false"
	for i := range all {
		if disabled { // whether a topic is there does not matter then
			all[i].Err = messages.ErrTopicDeletionDisabled
			continue
		}
		all[i].resolve(image)
		if t := all[i].Topic; t != nil {
			ids = append(ids, t.ID)
		}
	}
	twice := Repeated(ids)
	var asked []messages.TopicRef
	var at []int // index in all of each in asked
	for i := range all {
		d := &all[i]
		if d.Topic != nil && twice[d.Topic.ID] {
			d.Err = namedTwice(d.Topic.Name)
		}
		if d.Err == nil {
			asked = append(asked, messages.TopicRef{Name: d.Topic.Name, ID: d.Topic.ID})
			at = append(at, i)
		}
	}
	if len(asked) == 0 {
		return
	}
	results, err := c.DeleteTopics(ctx, asked)
	for i, to := range at {
		all[to].Err = perTopic(results, err, i).Err
	}
}

// CreatePartitions grows topics. The results stand in the order of the request and
// have the names; topics of one name all fail.
func CreatePartitions(ctx context.Context, c Cluster, topics []messages.CreatePartitions,
	validateOnly bool,
) []messages.TopicResult {
	names := make([]string, len(topics))
	for i := range topics {
		names[i] = topics[i].Topic
	}
	twice := Repeated(names)
	out := make([]messages.TopicResult, len(topics))
	var asked []messages.CreatePartitions
	var at []int // index in out of each in asked
	for i := range topics {
		if twice[names[i]] {
			out[i].Err = namedTwice(names[i])
			continue
		}
		asked, at = append(asked, topics[i]), append(at, i)
	}
	if len(asked) > 0 {
		results, err := c.CreatePartitions(ctx, asked, validateOnly)
		for i, to := range at {
			out[to] = perTopic(results, err, i)
		}
	}
	for i := range out {
		out[i].Name = names[i]
	}
	return out
}
