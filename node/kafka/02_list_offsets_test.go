package kafka

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// listOffsetsRequest asks for timestamps of one topic, one for each partition.
func listOffsetsRequest(topic string, parts ...[2]int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for _, p := range parts {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = int32(p[0]), p[1]
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func askOffset(t *testing.T, f *fakeCluster, req *kmsg.ListOffsetsRequest, version int16,
) kmsg.ListOffsetsResponseTopicPartition {
	t.Helper()
	resp := ask[*kmsg.ListOffsetsResponse](t, f, req, version)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		t.Fatalf("answer has not one partition: %+v", resp)
	}
	return resp.Topics[0].Partitions[0]
}

func TestListOffsetsAnswersTheEndsOfAPartition(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("orders", 1)
	f.replica("orders", 0).edit(func(p *fakePartition) { p.start, p.high, p.stable = 5, 40, 30 })
	eachVersion(t, 2, func(t *testing.T, v int16) {
		for _, tt := range []struct {
			name      string
			timestamp int64
			committed bool
			min       int16 // version that first has it
			want      int64
		}{
			{"latest is the high watermark", -1, false, 1, 40},
			{"latest is the last stable offset for read_committed", -1, true, 2, 30},
			{"earliest is the log start", -2, false, 1, 5},
			{"earliest local is the log start", -4, false, 8, 5},
			{"nothing is in tiered storage", -5, false, 9, -1},
		} {
			t.Run(tt.name, func(t *testing.T) {
				req := listOffsetsRequest("orders", [2]int64{0, tt.timestamp})
				if tt.committed {
					req.IsolationLevel = 1
				}
				got := askOffset(t, f, req, v)
				if v < tt.min && !tt.committed {
					equal(t, "error code", got.ErrorCode, codeUnsupportedVersion)
					equal(t, "offset", got.Offset, int64(-1))
					return
				}
				want := tt.want
				if v < tt.min { // the isolation level is not in the request
					want = 40
				}
				equal(t, "error code", got.ErrorCode, codeNone)
				equal(t, "offset", got.Offset, want)
				equal(t, "timestamp", got.Timestamp, int64(-1))
				if v >= 4 && want >= 0 {
					equal(t, "leader epoch", got.LeaderEpoch, int32(3))
				}
			})
		}
	})
}

func TestListOffsetsRefusesSpecialTimestampsThatTheVersionDoesNotKnow(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("orders", 1)
	eachVersion(t, 2, func(t *testing.T, v int16) {
		for ts, first := range map[int64]int16{
			-1: 1, -2: 1, -3: 7, -4: 8, -5: 9, -6: 11, -7: 99, -1 << 63: 99, 0: 1, 1: 1,
		} {
			want := codeNone
			if v < first {
				want = codeUnsupportedVersion
			}
			got := askOffset(t, f, listOffsetsRequest("orders", [2]int64{0, ts}), v)
			equal(t, fmt.Sprintf("error code of %d", ts), got.ErrorCode, want)
		}
	})
}

func TestListOffsetsFindsNoRecordWithoutAnError(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("orders", 1)
	eachVersion(t, 2, func(t *testing.T, v int16) {
		got := askOffset(t, f, listOffsetsRequest("orders", [2]int64{0, 1 << 50}), v)
		equal(t, "error code", got.ErrorCode, codeNone)
		equal(t, "offset", got.Offset, int64(-1))
		equal(t, "timestamp", got.Timestamp, int64(-1))
	})
}

func TestListOffsetsRefusesEveryMentionOfAPartitionNamedTwice(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("orders", 2)
	req := listOffsetsRequest("orders", [2]int64{0, -1}, [2]int64{1, -1})
	again := listOffsetsRequest("orders", [2]int64{0, -2})
	req.Topics = append(req.Topics, again.Topics...)
	eachVersion(t, 2, func(t *testing.T, v int16) {
		resp := ask[*kmsg.ListOffsetsResponse](t, f, req, v)
		equal(t, "first mention", resp.Topics[0].Partitions[0].ErrorCode, codeInvalidRequest)
		equal(t, "other partition", resp.Topics[0].Partitions[1].ErrorCode, codeNone)
		equal(t, "second mention", resp.Topics[1].Partitions[0].ErrorCode, codeInvalidRequest)
	})
}

func TestListOffsetsAnswersErrorsByPartition(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("orders", 3)
	f.fail("orders", 1, fmt.Errorf("moved: %w", messages.ErrNotLeader))
	f.fail("orders", 2, messages.ErrUnavailable)
	eachVersion(t, 2, func(t *testing.T, v int16) {
		notYet := codeOffsetNotAvailable
		if v < 5 {
			notYet = codeLeaderNotAvailable
		}
		req := listOffsetsRequest("orders", [2]int64{0, -1}, [2]int64{1, -1}, [2]int64{2, -1},
			[2]int64{3, -1}, [2]int64{-1, -1})
		req.Topics = append(req.Topics, listOffsetsRequest("nowhere", [2]int64{0, -1}).Topics...)
		resp := ask[*kmsg.ListOffsetsResponse](t, f, req, v)
		var got []int16
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				got = append(got, p.ErrorCode)
			}
		}
		equal(t, "codes", got, []int16{codeNone, codeNotLeaderOrFollower, notYet,
			codeUnknownTopicOrPartition, codeUnknownTopicOrPartition, codeUnknownTopicOrPartition})
	})
}

func TestListOffsetsFencesTheClientsLeaderEpoch(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("orders", 1)
	eachVersion(t, 2, func(t *testing.T, v int16) {
		for epoch, want := range map[int32]int16{
			-1: codeNone, 3: codeNone, 2: codeFencedLeaderEpoch, 4: codeUnknownLeaderEpoch,
		} {
			if v < 4 {
				want = codeNone
			}
			req := listOffsetsRequest("orders", [2]int64{0, -1})
			req.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch
			equal(t, fmt.Sprintf("code for epoch %d", epoch), askOffset(t, f, req, v).ErrorCode, want)
		}
	})
}

func TestListOffsetsStopsLookingWhenTheRequestEnds(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("orders", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	resp := askCtx[*kmsg.ListOffsetsResponse](ctx, t, f,
		listOffsetsRequest("orders", [2]int64{0, -1}), 10)
	equal(t, "code", resp.Topics[0].Partitions[0].ErrorCode, codeRequestTimedOut)
}
