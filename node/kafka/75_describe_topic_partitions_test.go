package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func pageRequest(limit int32, topics ...string) *kmsg.DescribeTopicPartitionsRequest {
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = limit
	for _, name := range topics {
		t := kmsg.NewDescribeTopicPartitionsRequestTopic()
		t.Topic = name
		req.Topics = append(req.Topics, t)
	}
	return req
}

func at(topic string, partition int32) *kmsg.DescribeTopicPartitionsRequestCursor {
	c := kmsg.NewDescribeTopicPartitionsRequestCursor()
	c.Topic, c.Partition = topic, partition
	return &c
}

// page lists "topic-partition", or "topic:code" for errors, and the cursor.
func page(resp *kmsg.DescribeTopicPartitionsResponse) (rows []string, next string) {
	for _, t := range resp.Topics {
		if t.ErrorCode != codeNone {
			rows = append(rows, fmt.Sprintf("%s:%d", *t.Topic, t.ErrorCode))
		}
		for _, p := range t.Partitions {
			rows = append(rows, fmt.Sprintf("%s-%d", *t.Topic, p.Partition))
		}
	}
	if resp.NextCursor != nil {
		next = fmt.Sprintf("%s-%d", resp.NextCursor.Topic, resp.NextCursor.Partition)
	}
	return rows, next
}

func TestDescribeTopicPartitionsGoesThroughTheClusterPageByPage(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("b", 2)
	f.addTopic("a", 3)
	f.addTopic("c", 1)
	all := []string{"a-0", "a-1", "a-2", "b-0", "b-1", "c-0"}
	for limit := int32(-1); limit <= 7; limit++ {
		t.Run(fmt.Sprintf("limit %d", limit), func(t *testing.T) {
			req := pageRequest(limit)
			var got []string
			for pages := 1; ; pages++ {
				resp := ask[*kmsg.DescribeTopicPartitionsResponse](t, f, req, 0)
				rows, _ := page(resp)
				if len(rows) > int(max(limit, 1)) || pages > len(all) {
					t.Fatalf("page %d has %d rows", pages, len(rows))
				}
				got = append(got, rows...)
				if resp.NextCursor == nil {
					break
				}
				req.Cursor = at(resp.NextCursor.Topic, resp.NextCursor.Partition)
			}
			equal(t, "rows", got, all)
		})
	}
}

func TestDescribeTopicPartitionsAnswersNamedTopics(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 2)
	f.addTopic("b", 1)
	f.addTopic("c", 1)
	for _, tt := range []struct {
		name   string
		topics []string
		cursor *kmsg.DescribeTopicPartitionsRequestCursor
		limit  int32
		rows   []string
		next   string
	}{
		{"sorted and once", []string{"c", "a", "c"}, nil, 100, []string{"a-0", "a-1", "c-0"}, ""},
		{"missing and invalid ones too", []string{"gone", "a b"}, nil, 100,
			[]string{"a b:17", "gone:3"}, ""},
		{"from the cursor on", []string{"a", "b", "c"}, at("b", 0), 100, []string{"b-0", "c-0"}, ""},
		{"from the middle of a topic", []string{"a"}, at("a", 1), 100, []string{"a-1"}, ""},
		{"past the end of a topic", []string{"a", "b"}, at("a", 9), 100, []string{"b-0"}, ""},
		{"a full page ends before the next topic", []string{"a", "b"}, nil, 2,
			[]string{"a-0", "a-1"}, "b-0"},
		{"a cursor must name one of the topics", []string{"a", "c"}, at("b", 0), 100,
			[]string{"a:42", "c:42"}, ""},
		{"a cursor must name a partition", []string{"a"}, at("a", -1), 100, []string{"a:42"}, ""},
		{"a cursor of a topic that went leads on", nil, at("aa", 5), 100, []string{"b-0", "c-0"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := pageRequest(tt.limit, tt.topics...)
			req.Cursor = tt.cursor
			rows, next := page(ask[*kmsg.DescribeTopicPartitionsResponse](t, f, req, 0))
			equal(t, "rows", rows, tt.rows)
			equal(t, "cursor", next, tt.next)
		})
	}
}

func TestDescribeTopicPartitionsShowsEveryField(t *testing.T) {
	f := newFakeCluster()
	f.addNodes()
	topic := f.addTopic("__consumer_offsets", 2)
	f.change(topic.Name, func(t *messages.Topic) {
		t.Partitions[0] = messages.Partition{Leader: 2, LeaderEpoch: 7,
			Replicas: []messages.NodeID{2, 9}, ISR: []messages.NodeID{2}}
		t.Partitions[1].Leader = messages.NoNode
	})
	resp := ask[*kmsg.DescribeTopicPartitionsResponse](t, f, pageRequest(10, topic.Name), 0)
	got := resp.Topics[0]
	equal(t, "id", got.TopicID, [16]byte(topic.ID))
	equal(t, "internal", got.IsInternal, true)
	equal(t, "operations", got.AuthorizedOperations, topicOperations)
	p := got.Partitions[0]
	equal(t, "leader", p.LeaderID, int32(2))
	equal(t, "epoch", p.LeaderEpoch, int32(7))
	equal(t, "replicas", p.Replicas, []int32{2, 9})
	equal(t, "isr", p.ISR, []int32{2})
	equal(t, "offline", p.OfflineReplicas, []int32{9})
	equal(t, "eligible leaders are none, not unknown", p.EligibleLeaderReplicas, []int32{})
	equal(t, "last known eligible leaders too", p.LastKnownELR, []int32{})
	equal(t, "code without a leader", got.Partitions[1].ErrorCode, codeLeaderNotAvailable)
	equal(t, "no leader", got.Partitions[1].LeaderID, int32(-1))
}

func TestDescribeTopicPartitionsBoundsAPage(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", describePartitionsMax+1)
	rows, next := page(ask[*kmsg.DescribeTopicPartitionsResponse](t, f, pageRequest(1<<30), 0))
	equal(t, "rows", len(rows), describePartitionsMax)
	equal(t, "cursor", next, fmt.Sprintf("a-%d", describePartitionsMax))
}

func TestDescribeTopicPartitionsShowsEligibleLeadersAndDeadReplicas(t *testing.T) {
	f := replicated()
	p := ask[*kmsg.DescribeTopicPartitionsResponse](t, f, pageRequest(10, "a"), 0).
		Topics[0].Partitions[2]
	equal(t, "code", p.ErrorCode, codeLeaderNotAvailable)
	equal(t, "leader", p.LeaderID, -1)
	equal(t, "eligible", p.EligibleLeaderReplicas, []int32{2})
	equal(t, "last known eligible", p.LastKnownELR, []int32{})
	equal(t, "in sync", p.ISR, []int32{3})
	equal(t, "offline", p.OfflineReplicas, []int32{3})
}
