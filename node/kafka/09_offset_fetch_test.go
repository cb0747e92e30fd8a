package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// fetchOffsetsRequest asks for partitions 0 and 3 of topic "t".
func fetchOffsetsRequest(id string) *kmsg.OffsetFetchRequest {
	req := kmsg.NewPtrOffsetFetchRequest()
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = "t", []int32{0, 3}
	req.Group, req.Topics = id, append(req.Topics, rt)
	req.Groups = append(req.Groups, fetchGroup(id))
	return req
}

func fetchGroup(id string) kmsg.OffsetFetchRequestGroup {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.MemberID, g.MemberEpoch = id, ptr("m"), 4
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.TopicID, gt.Partitions = "t", messages.TopicID{0: 0xfa, 15: 1}, []int32{0, 3}
	g.Topics = append(g.Topics, gt)
	return g
}

// fetched is the answer as text: topic-partition@offset/epoch"metadata"!code.
func fetchedText(resp *kmsg.OffsetFetchResponse) (lines []string) {
	line := func(topic string, id [16]byte, p kmsg.OffsetFetchResponseGroupTopicPartition) {
		if resp.Version >= 10 {
			topic = fmt.Sprint(id[15])
		}
		lines = append(lines, fmt.Sprintf("%s-%d@%d/%d%q!%d", topic, p.Partition, p.Offset,
			p.LeaderEpoch, *p.Metadata, p.ErrorCode))
	}
	for _, rt := range resp.Topics {
		for _, p := range rt.Partitions {
			line(rt.Topic, [16]byte{}, kmsg.OffsetFetchResponseGroupTopicPartition(p))
		}
	}
	for _, g := range resp.Groups {
		for _, rt := range g.Topics {
			for _, p := range rt.Partitions {
				line(rt.Topic, rt.TopicID, p)
			}
		}
	}
	return lines
}

// committed stores offset 7 of partition 0 of topic "t", and more.
func committed() *fakeCluster {
	f := newFakeCluster()
	f.addTopic("t", 4)
	f.addTopic("a", 1)
	g := f.coords.make("g", group.Classic)
	for _, o := range []group.Offset{
		{Topic: "t", Partition: 2, Offset: 9, Epoch: -1},
		{Topic: "t", Partition: 0, Offset: 7, Epoch: 2, Metadata: "note"},
		{Topic: "a", Partition: 0, Offset: 1, Epoch: 1},
		{Topic: "deleted", Partition: 0, Offset: 3, Epoch: 0},
	} {
		g.offsets[messages.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o
	}
	return f
}

func TestOffsetFetchAnswersEveryPartition(t *testing.T) {
	eachVersion(t, 9, func(t *testing.T, v int16) {
		f := committed()
		resp := ask[*kmsg.OffsetFetchResponse](t, f, fetchOffsetsRequest("g"), v)
		want := []string{`t-0@7/2"note"!0`, `t-3@-1/-1""!0`}
		if v < 5 {
			want[0] = `t-0@7/-1"note"!0`
		}
		if v >= 10 {
			want = []string{`1-0@7/2"note"!0`, `1-3@-1/-1""!0`}
		}
		equal(t, "answer", fetchedText(resp), want)
		_, got := lastAsked[*group.FetchOffsets](t, f)
		got.Reply = nil
		asked := &group.FetchOffsets{MemberEpoch: -1,
			Partitions: []messages.TopicPartition{{Topic: "t"}, {Topic: "t", Partition: 3}}}
		if v >= 9 {
			asked.MemberID, asked.MemberEpoch = "m", 4
		}
		equal(t, "request", got, asked)
	})
}

func TestOffsetFetchKnowsNoErrorForAGroupThatDoesNotExist(t *testing.T) {
	eachVersion(t, 9, func(t *testing.T, v int16) {
		f := committed()
		resp := ask[*kmsg.OffsetFetchResponse](t, f, fetchOffsetsRequest("new"), v)
		equal(t, "partitions", len(fetchedText(resp)), 2)
		equal(t, "error", codeOf(t, f, fetchOffsetsRequest("new"), v), codeNone)
	})
}

func TestOffsetFetchOfNullTopicsAnswersAllThereIs(t *testing.T) {
	eachVersion(t, 9, func(t *testing.T, v int16) {
		if v < 2 {
			return
		}
		f := committed()
		req := fetchOffsetsRequest("g")
		req.Topics, req.Groups[0].Topics = nil, nil
		req.Groups = append(req.Groups, req.Groups[0]) // twice is answered once
		resp := ask[*kmsg.OffsetFetchResponse](t, f, req, v)
		want := []string{`a-0@1/1""!0`, `deleted-0@3/0""!0`, `t-0@7/2"note"!0`, `t-2@9/-1""!0`}
		switch {
		case v < 5:
			want = []string{`a-0@1/-1""!0`, `deleted-0@3/-1""!0`, `t-0@7/-1"note"!0`, `t-2@9/-1""!0`}
		case v >= 10: // what is deleted has no id
			want = []string{`2-0@1/1""!0`, `1-0@7/2"note"!0`, `1-2@9/-1""!0`}
		}
		equal(t, "answer", fetchedText(resp), want)
		equal(t, "coordinators asked", f.coords.count(), 1)
	})
}

func TestOffsetFetchOfNoTopicsAsksNobody(t *testing.T) {
	eachVersion(t, 9, func(t *testing.T, v int16) {
		f := committed()
		req := fetchOffsetsRequest("g")
		req.Topics = []kmsg.OffsetFetchRequestTopic{}
		req.Groups[0].Topics = []kmsg.OffsetFetchRequestGroupTopic{}
		resp := ask[*kmsg.OffsetFetchResponse](t, f, req, v)
		equal(t, "answer", len(fetchedText(resp)), 0)
		equal(t, "coordinators asked", f.coords.count(), 0)
	})
}

func TestOffsetFetchSaysWhichOffsetsAreNotStable(t *testing.T) {
	eachVersion(t, 9, func(t *testing.T, v int16) {
		f := committed()
		req := fetchOffsetsRequest("g")
		req.RequireStable = true
		script(f, func(_ string, r *group.FetchOffsets) {
			equal(t, "stable", r.Stable, v >= 7)
			r.Reply(group.Fetched{Offsets: []group.FetchedOffset{
				{Err: group.ErrUnstableOffset, Offset: group.Offset{Offset: 5}},
				{Offset: group.Offset{Offset: 6, Epoch: 1}},
			}})
		})
		resp := ask[*kmsg.OffsetFetchResponse](t, f, req, v)
		equal(t, "first", fetchedText(resp)[0][3:], `@-1/-1""!88`)
	})
}

func TestOffsetFetchPutsErrorsWhereTheVersionHasAPlace(t *testing.T) {
	eachVersion(t, 9, func(t *testing.T, v int16) {
		f := committed()
		f.coords.refuse(messages.ErrNotCoordinator)
		resp := ask[*kmsg.OffsetFetchResponse](t, f, fetchOffsetsRequest("g"), v)
		switch {
		case v < 2:
			equal(t, "partitions", fetchedText(resp), []string{`t-0@-1/-1""!16`, `t-3@-1/-1""!16`})
		case v < 8:
			equal(t, "error", resp.ErrorCode, codeNotCoordinator)
		default:
			equal(t, "error", resp.Groups[0].ErrorCode, codeNotCoordinator)
			equal(t, "topics", len(resp.Groups[0].Topics), 0)
		}
	})
}

func TestOffsetFetchAnswersManyGroups(t *testing.T) {
	for v := int16(8); v <= 10; v++ {
		f := committed()
		req := fetchOffsetsRequest("g")
		req.Groups = append(req.Groups, fetchGroup("other"), fetchGroup("g"), fetchGroup(""))
		req.Groups[2].Topics[0].Topic, req.Groups[2].Topics[0].TopicID = "gone", [16]byte{9}
		resp := ask[*kmsg.OffsetFetchResponse](t, f, req, v)
		var names []string
		for _, g := range resp.Groups {
			names = append(names, fmt.Sprintf("%s!%d", g.Group, g.ErrorCode))
		}
		equal(t, "groups", names, []string{"g!0", "other!0", "g!0", "!24"})
		equal(t, "partitions of a topic that is not there", len(resp.Groups[2].Topics[0].Partitions), 2)
		want := codeNone
		if v >= 10 {
			want = codeUnknownTopicID
		}
		equal(t, "its error", resp.Groups[2].Topics[0].Partitions[0].ErrorCode, want)
	}
}
