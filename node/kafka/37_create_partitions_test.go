package kafka

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func growRequest(counts ...any) *kmsg.CreatePartitionsRequest {
	req := kmsg.NewPtrCreatePartitionsRequest()
	for i := 0; i < len(counts); i += 2 {
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = counts[i].(string), int32(counts[i+1].(int))
		req.Topics = append(req.Topics, t)
	}
	return req
}

func TestCreatePartitionsGrowsTopicsOneByOne(t *testing.T) {
	eachVersion(t, 37, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 1)
		f.addTopic("b", 3)
		f.addTopic("c", 1)
		req := growRequest("a", 3, "b", 3, "gone", 2, "c", 2, "c", 5)
		req.ValidateOnly = true
		ask[*kmsg.CreatePartitionsResponse](t, f, req, v)
		equal(t, "partitions of a after the trial", len(f.Image().Topic("a").Partitions), 1)

		req.ValidateOnly = false
		resp := ask[*kmsg.CreatePartitionsResponse](t, f, req, v)
		var got []string
		for _, topic := range resp.Topics {
			got = append(got, fmt.Sprintf("%s:%d", topic.Topic, topic.ErrorCode))
			if topic.ErrorCode != codeNone {
				hasText(t, topic.Topic, topic.ErrorMessage)
			}
		}
		equal(t, "outcomes", got, []string{"a:0", "b:37", "gone:3", "c:42"})
		equal(t, "partitions of a", len(f.Image().Topic("a").Partitions), 3)
		equal(t, "partitions of c, named twice", len(f.Image().Topic("c").Partitions), 1)
	})
}

// growRecorder keeps what the controller is asked.
type growRecorder struct {
	*fakeCluster
	asked []messages.CreatePartitions
}

func (r *growRecorder) CreatePartitions(_ context.Context, topics []messages.CreatePartitions,
	_ bool,
) ([]messages.TopicResult, error) {
	r.asked = topics
	return nil, nil // a controller that answers too few
}

func TestCreatePartitionsTellsNoAssignmentFromAnEmptyOne(t *testing.T) {
	req := growRequest("placed", 2, "empty", 2, "by-hand", 3)
	req.Topics[1].Assignment = []kmsg.CreatePartitionsRequestTopicAssignment{}
	req.Topics[2].Assignment = []kmsg.CreatePartitionsRequestTopicAssignment{
		{Replicas: []int32{1, 2}}, {Replicas: []int32{2, 3}},
	}
	rec := &growRecorder{fakeCluster: newFakeCluster()}
	s := &Server{cluster: rec, apis: newAPITable()}
	resp := s.createPartitions(t.Context(), &call{req: req}).(*kmsg.CreatePartitionsResponse)
	equal(t, "asked", rec.asked, []messages.CreatePartitions{
		{Topic: "placed", Count: 2},
		{Topic: "empty", Count: 2, Assignment: [][]messages.NodeID{}},
		{Topic: "by-hand", Count: 3, Assignment: [][]messages.NodeID{{1, 2}, {2, 3}}},
	})
	for _, topic := range resp.Topics {
		equal(t, "code of a topic without an answer", topic.ErrorCode, codeUnknownServerError)
	}
}

func TestCreatePartitionsPassesTheControllersFailureOn(t *testing.T) {
	eachVersion(t, 37, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.failControl(messages.ErrOverloaded)
		want := codeThrottlingQuotaExceeded
		if v < 3 {
			want = codeRequestTimedOut
		}
		resp := ask[*kmsg.CreatePartitionsResponse](t, f, growRequest("a", 2), v)
		equal(t, "code", resp.Topics[0].ErrorCode, want)
	})
}
