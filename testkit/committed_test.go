package testkit

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestACommittedOffsetThatFallsIsFound(t *testing.T) {
	fetched := func(at ...int64) kadm.OffsetResponses {
		r := kadm.OffsetResponses{}
		for p, offset := range at {
			r.Add(kadm.OffsetResponse{Offset: kadm.Offset{Topic: "orders", Partition: int32(p),
				At: offset}})
		}
		return r
	}
	for _, tt := range []struct {
		name  string
		acked int64 // partition 0
		then  []kadm.OffsetResponses
		falls int
	}{
		{"it rises", 5, []kadm.OffsetResponses{fetched(5), fetched(9)}, 0},
		{"an acknowledged commit is not there", 5, []kadm.OffsetResponses{fetched(4)}, 1},
		{"nothing is there", 5, []kadm.OffsetResponses{{}}, 1},
		{"it falls from what was read", 0, []kadm.OffsetResponses{fetched(9), fetched(8)}, 1},
		{"another partition falls", 0, []kadm.OffsetResponses{fetched(9, 7), fetched(9, 1)}, 1},
	} {
		c := committed{topic: "orders", floor: map[int32]int64{}}
		c.answered(commitOf(tt.acked), answerOf(nil), func(int32, error) {
			t.Errorf("%s: the commit was refused", tt.name)
		})
		falls := 0
		for _, got := range tt.then {
			c.fetched(c.before(), got, func(int32, int64, int64) { falls++ })
		}
		if falls != tt.falls {
			t.Errorf("%s: %d falls, want %d", tt.name, falls, tt.falls)
		}
	}
}

func TestOnlyAcknowledgedCommitsCount(t *testing.T) {
	c := committed{topic: "orders", floor: map[int32]int64{}}
	told := 0
	for _, err := range []*kerr.Error{kerr.RebalanceInProgress, kerr.UnknownServerError} {
		c.answered(commitOf(7), answerOf(err), func(int32, error) { told++ })
	}
	if told != 1 || c.before()[0] != 0 {
		t.Errorf("%d refusals were told, the floor is %v", told, c.before())
	}
}

func commitOf(offset int64) *kmsg.OffsetCommitRequest {
	return &kmsg.OffsetCommitRequest{Topics: []kmsg.OffsetCommitRequestTopic{{Topic: "orders",
		Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: offset}}}}}
}

func answerOf(err *kerr.Error) *kmsg.OffsetCommitResponse {
	p := kmsg.OffsetCommitResponseTopicPartition{}
	if err != nil {
		p.ErrorCode = err.Code
	}
	return &kmsg.OffsetCommitResponse{Topics: []kmsg.OffsetCommitResponseTopic{{Topic: "orders",
		Partitions: []kmsg.OffsetCommitResponseTopicPartition{p}}}}
}
