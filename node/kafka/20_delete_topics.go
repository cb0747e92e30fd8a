package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
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
	ctx, cancel := door.WaitFor(ctx, req.TimeoutMillis)
	defer cancel()

	entries := deletions(req)
	door.DeleteTopics(ctx, s.cluster, s.settings, entries)
	for i := range entries {
		resp.Topics = append(resp.Topics, deletedTopic(&entries[i], req.Version))
	}
	return resp
}

func deletions(req *kmsg.DeleteTopicsRequest) []door.Deletion {
	var entries []door.Deletion
	if req.Version < 6 {
		for i := range req.TopicNames {
			entries = append(entries, door.Deletion{Name: &req.TopicNames[i]})
		}
		return entries
	}
	for i := range req.Topics {
		entries = append(entries, door.Deletion{Name: req.Topics[i].Topic, ID: req.Topics[i].TopicID})
	}
	return entries
}

func deletedTopic(d *door.Deletion, version int16) kmsg.DeleteTopicsResponseTopic {
	t := kmsg.NewDeleteTopicsResponseTopic()
	t.Topic, t.TopicID = d.Name, d.ID
	if d.Topic != nil {
		t.Topic, t.TopicID = &d.Topic.Name, d.Topic.ID
	}
	t.ErrorCode, t.ErrorMessage = topicErrorCode(d.Err, version >= 5), errorMessage(d.Err)
	if version < 3 && errors.Is(d.Err, messages.ErrTopicDeletionDisabled) {
		t.ErrorCode = codeInvalidRequest
	}
	return t
}
