package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func TestListPartitionReassignmentsShowsWhatMoves(t *testing.T) {
	f := replicated()
	f.addTopic("still", 1)
	f.change("a", func(t *messages.Topic) {
		t.Partitions[1].Replicas = []messages.NodeID{3, 2, 1}
		t.Partitions[1].Adding = []messages.NodeID{3}
		t.Partitions[1].Removing = []messages.NodeID{1}
	})
	req := kmsg.NewPtrListPartitionReassignmentsRequest()
	check := func(what string, want int) {
		t.Helper()
		resp := ask[*kmsg.ListPartitionReassignmentsResponse](t, f, req, 0)
		equal(t, "code", resp.ErrorCode, codeNone)
		if len(resp.Topics) != want {
			t.Fatalf("%s: %d topics, want %d", what, len(resp.Topics), want)
		}
		if want == 0 {
			return
		}
		equal(t, "topic", resp.Topics[0].Topic, "a")
		equal(t, "partitions", len(resp.Topics[0].Partitions), 1)
		p := resp.Topics[0].Partitions[0]
		equal(t, "partition", p.Partition, 1)
		equal(t, "replicas", p.Replicas, []int32{3, 2, 1})
		equal(t, "added", p.AddingReplicas, []int32{3})
		equal(t, "removed", p.RemovingReplicas, []int32{1})
	}
	check("all", 1)
	name := func(topic string, partitions ...int32) {
		rt := kmsg.NewListPartitionReassignmentsRequestTopic()
		rt.Topic, rt.Partitions = topic, partitions
		req.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{rt}
	}
	req.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{}
	check("none named", 0)
	name("a", -1, 0, 1, 9)
	check("named", 1)
	name("a", 0)
	check("others named", 0)
	name("none", 1)
	check("unknown", 0)
}
