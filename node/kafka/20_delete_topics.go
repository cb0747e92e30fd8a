package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// DeleteTopics, key 20, versions 0 to 6: topics gone with all their records.
//
//	v3  TOPIC_DELETION_DISABLED may be answered; INVALID_REQUEST below
//	v4  flexible encoding
//	v5  error message; THROTTLING_QUOTA_EXCEEDED may be answered (KIP-599)
//	v6  by name or by id (KIP-516)
//
// Answers stand in the order of the request. Naming a topic twice, by name or
// by id, fails all mentions but deletes nothing.
func (s *Server) deleteTopics(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DeleteTopicsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	ctx, cancel := waitFor(ctx, req.TimeoutMillis)
	defer cancel()

	image := s.cluster.Image()
	entries := deleteEntries(req)
	topics := make([]messages.TopicID, 0, len(entries))
	disabled := s.settings.Value("delete.topic.enable") == "false"
	for i := range entries {
		if disabled { // whether a topic is there does not matter then
			entries[i].err = messages.ErrTopicDeletionDisabled
			continue
		}
		entries[i].resolve(image)
		if t := entries[i].topic; t != nil {
			topics = append(topics, t.ID)
		}
	}
	twice := repeated(topics)
	var asked []messages.TopicRef
	var answers []int // index in entries of each in asked
	for i := range entries {
		e := &entries[i]
		if e.topic != nil && twice[e.topic.ID] {
			e.err = fmt.Errorf("%w: topic %q stands in the request more than once",
				messages.ErrInvalidRequest, e.topic.Name)
		}
		if e.err == nil {
			asked, answers = append(asked, messages.TopicRef{Name: e.topic.Name, ID: e.topic.ID}),
				append(answers, i)
		}
	}
	s.deleteAll(ctx, asked, func(i int, err error) { entries[answers[i]].err = err })
	for i := range entries {
		resp.Topics = append(resp.Topics, entries[i].answer(req.Version))
	}
	return resp
}

// deleteAll deletes the topics and reports the outcome of each.
func (s *Server) deleteAll(ctx context.Context, refs []messages.TopicRef,
	report func(i int, err error),
) {
	if len(refs) == 0 {
		return
	}
	results, err := s.cluster.DeleteTopics(ctx, refs)
	for i := range refs {
		_, failed := perTopic(results, err, i)
		report(i, failed)
	}
}

// deleteEntry is one topic of a DeleteTopics request.
type deleteEntry struct {
	name  *string // as asked for
	id    messages.TopicID
	topic *messages.Topic // nil unless it exists
	err   error
}

func deleteEntries(req *kmsg.DeleteTopicsRequest) []deleteEntry {
	var entries []deleteEntry
	if req.Version < 6 {
		for i := range req.TopicNames {
			entries = append(entries, deleteEntry{name: &req.TopicNames[i]})
		}
		return entries
	}
	for i := range req.Topics {
		entries = append(entries, deleteEntry{name: req.Topics[i].Topic, id: req.Topics[i].TopicID})
	}
	return entries
}

func (e *deleteEntry) resolve(image *messages.Image) {
	switch {
	case e.name != nil && !e.id.IsZero():
		e.err = fmt.Errorf("%w: topic %q is given with an id too, use one of them",
			messages.ErrInvalidRequest, *e.name)
	case e.name != nil:
		if e.topic = image.Topic(*e.name); e.topic == nil {
			e.err = fmt.Errorf("topic %q: %w", *e.name, messages.ErrUnknownTopicOrPartition)
		}
	case e.id.IsZero():
		e.err = fmt.Errorf("%w: a topic has neither name nor id", messages.ErrInvalidRequest)
	default:
		if e.topic = image.TopicByID(e.id); e.topic == nil {
			e.err = fmt.Errorf("topic id %s: %w", e.id, messages.ErrUnknownTopicID)
		}
	}
}

func (e *deleteEntry) answer(version int16) kmsg.DeleteTopicsResponseTopic {
	t := kmsg.NewDeleteTopicsResponseTopic()
	t.Topic, t.TopicID = e.name, e.id
	if e.topic != nil {
		t.Topic, t.TopicID = &e.topic.Name, e.topic.ID
	}
	t.ErrorCode, t.ErrorMessage = topicErrorCode(e.err, version >= 5), errorMessage(e.err)
	if version < 3 && errors.Is(e.err, messages.ErrTopicDeletionDisabled) {
		t.ErrorCode = codeInvalidRequest
	}
	return t
}
