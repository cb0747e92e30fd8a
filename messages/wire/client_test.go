package wire

import (
	"errors"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

func (g gen) flag() bool { return g.IntN(2) == 0 }

func (g gen) maybe(prefix string) *string {
	if g.flag() {
		return nil
	}
	s := g.text(prefix)
	return &s
}

func (g gen) topicPartitions() []group.TopicPartitions {
	var out []group.TopicPartitions
	for range g.IntN(3) {
		out = append(out, group.TopicPartitions{Topic: g.topicID(), Name: g.text("topic"),
			Partitions: []int32{0, g.Int32()}})
	}
	return out
}

func (g gen) offsets() []group.Offset {
	var out []group.Offset
	for range g.IntN(4) {
		o := group.Offset{Topic: g.text("topic"), Partition: g.Int32(),
			Offset: messages.Offset(g.Int64()), Epoch: messages.LeaderEpoch(g.IntN(9) - 1),
			Metadata: g.text("here"), CommitMs: messages.NoTimestamp, ExpireMs: messages.NoTimestamp}
		if g.flag() {
			o.TopicID = g.topicID()
		}
		out = append(out, o)
	}
	return out
}

func (g gen) names() []messages.TopicPartition {
	var out []messages.TopicPartition
	for range g.IntN(4) {
		out = append(out, messages.TopicPartition{Topic: g.text("topic"), Partition: g.Int32()})
	}
	return out
}

func (g gen) epoch() messages.ProducerEpoch { return messages.ProducerEpoch(g.IntN(1 << 15)) }

func TestWhatMembersSayCrossesUnchanged(t *testing.T) {
	for seed := range uint64(rounds) {
		g := newGen(seed)
		beat := &group.ConsumerHeartbeat{MemberID: g.text("m"), MemberEpoch: int32(g.IntN(5) - 2),
			InstanceID: g.text("i"), Rack: g.maybe("rack"), RebalanceTimeoutMs: int32(g.IntN(5) - 1),
			HasTopics: g.flag(), Regex: g.maybe("regex"), HasOwned: g.flag()}
		if beat.HasTopics {
			beat.Topics = []string{g.text("a"), g.text("b")}
		}
		if beat.HasOwned {
			beat.Owned = g.topicPartitions()
		}
		id, gotBeat, err := ToConsumerHeartbeat(crossed(t, FromConsumerHeartbeat("g", beat)))
		same(t, gotBeat, beat, err)
		same(t, id, "g", nil)

		answer := group.ConsumerHeartbeated{MemberEpoch: int32(g.IntN(5) - 2),
			HeartbeatIntervalMs: g.Int32(), HasAssigned: g.flag()}
		if answer.HasAssigned {
			answer.Assigned = g.topicPartitions()
		}
		got, err := ToConsumerHeartbeated(crossed(t, FromConsumerHeartbeated(&answer)))
		same(t, got, answer, err)
	}
}

func TestOffsetsOfGroupsCrossUnchanged(t *testing.T) {
	for seed := range uint64(rounds) {
		g := newGen(seed)
		commit := &group.Commit{MemberID: g.text("m"), InstanceID: g.text("i"),
			Generation: int32(g.IntN(5) - 1), Epochs: true, Offsets: g.offsets()}
		id, got, err := ToCommit(crossed(t, FromCommit("g", commit)))
		same(t, got, commit, err)
		same(t, id, "g", nil)

		inTxn := &group.TxnCommit{TransactionalID: "x", Producer: messages.ProducerID(g.Int64()),
			Epoch: g.epoch(), MemberID: g.text("m"), Generation: -1, Offsets: g.offsets()}
		id, gotTxn, err := ToTxnCommit(crossed(t, FromTxnCommit("g", inTxn)))
		same(t, gotTxn, inTxn, err)
		same(t, id, "g", nil)

		fetch := &group.FetchOffsets{Partitions: g.names(), Stable: g.flag(), MemberID: "m",
			MemberEpoch: int32(g.IntN(5) - 1)}
		id, gotFetch := ToFetchOffsets(crossed(t, FromFetchOffsets("g", fetch)))
		same(t, gotFetch, fetch, nil)
		same(t, id, "g", nil)

		var fetched []group.FetchedOffset
		for _, o := range g.offsets() {
			fetched = append(fetched, group.FetchedOffset{Offset: o})
		}
		gotFetched, err := ToFetched(crossed(t, FromFetched(fetched)))
		same(t, gotFetched, fetched, err)

		names := g.names()
		id, gotNames := ToDeleteOffsets(crossed(t, FromDeleteOffsets("g", names)))
		same(t, gotNames, names, nil)
		same(t, id, "g", nil)
	}
}

func TestAnOffsetThatIsNotStableCrossesWithItsError(t *testing.T) {
	want := []group.FetchedOffset{{Err: group.ErrUnstableOffset}}
	got, err := ToFetched(crossed(t, FromFetched(want)))
	if err != nil || len(got) != 1 || !errors.Is(got[0].Err, group.ErrUnstableOffset) {
		t.Errorf("%v, %v arrived", got, err)
	}
}

// All partitions are asked for by naming no topic, not by naming topics without any.
func TestNoPartitionsAreNotAllPartitions(t *testing.T) {
	_, all := ToFetchOffsets(crossed(t, &ClientFetchOffsets{MemberEpoch: 3}))
	if all.Partitions != nil || all.MemberEpoch != group.NoGeneration {
		t.Errorf("all arrived as %+v", all)
	}
	_, none := ToFetchOffsets(crossed(t, &ClientFetchOffsets{
		Partitions: []*PartitionNames{{Topic: "a"}}}))
	if none.Partitions == nil || len(none.Partitions) != 0 {
		t.Errorf("none arrived as %+v", none)
	}
}

func TestDescriptionsOfGroupsCrossUnchanged(t *testing.T) {
	for seed := range uint64(rounds) {
		g := newGen(seed)
		d := group.Description{GroupID: g.text("g"), Type: group.Classic, State: group.Stable,
			ProtocolType: "consumer", Protocol: g.text("range")}
		if g.flag() {
			d.Type, d.Protocol, d.Assignor, d.Epoch = group.Consumer, "", g.text("uniform"), g.Int32()
		}
		for range g.IntN(3) {
			m := group.Member{MemberID: g.text("m"), InstanceID: g.text("i"), ClientID: g.text("c"),
				ClientHost: g.text("h"), Epoch: g.Int32(), Assigned: g.topicPartitions()}
			if d.Type == group.Classic {
				m.Assignment = []byte(g.text("bytes"))
			}
			d.Members = append(d.Members, m)
		}
		got, err := ToDescription(crossed(t, FromDescription(&d)))
		same(t, got, d, err)

		listed := []group.Listed{{GroupID: g.text("g"), ProtocolType: g.text("p"), State: group.Empty,
			Type: group.Consumer}}
		same(t, ToListed(crossed(t, FromListed(listed))), listed, nil)
	}
}

func TestWhatProducersAskCrossesUnchanged(t *testing.T) {
	for seed := range uint64(rounds) {
		g := newGen(seed)
		init := &txn.Init{TimeoutMs: g.Int32(), Producer: messages.ProducerID(g.Int64()),
			Epoch: g.epoch()}
		if g.flag() {
			init.Producer, init.Epoch = messages.NoProducerID, -1
		}
		id, gotInit, err := ToInit(crossed(t, FromInit("x", init)))
		same(t, gotInit, init, err)
		same(t, id, "x", nil)

		end := &txn.End{Producer: messages.ProducerID(g.Int64()), Epoch: g.epoch(),
			Commit: g.flag(), V2: true}
		id, gotEnd, err := ToEnd(crossed(t, FromEnd("x", end)))
		same(t, gotEnd, end, err)
		same(t, id, "x", nil)

		producer, epoch, err := ToProducer(crossed(t, FromProducer(end.Producer, end.Epoch)))
		same(t, producer, end.Producer, err)
		same(t, epoch, end.Epoch, nil)
	}
}

func TestTopicsToCreateCrossWithoutIDs(t *testing.T) {
	want := []messages.CreateTopic{
		{Name: "a", Partitions: -1, ReplicationFactor: -1, Configs: newGen(2).config()},
		{Name: "b", Partitions: -1, ReplicationFactor: -1,
			Assignment: map[int32][]messages.NodeID{0: {1, 2}}},
	}
	w := crossed(t, FromNewTopics(want))
	for i, wt := range w.GetTopics() {
		got, err := ToNewTopic(wt)
		same(t, got, want[i], err)
	}
	got, err := ToNewTopic(&CreateTopic{Name: "wide", ReplicationFactor: 1 << 20})
	if !errors.Is(err, ErrMalformed) || got.Name != "wide" {
		t.Errorf("%+v, %v arrived", got, err)
	}
}

func TestMalformedRequestsOfClientsAreRefused(t *testing.T) {
	short := []*ClientPosition{{TopicId: []byte{1}}}
	for _, tt := range []struct {
		name string
		err  func() error
	}{
		{"a producer epoch beyond 16 bits", func() error {
			_, _, err := ToEnd(&ClientEndTxn{ProducerEpoch: 1 << 15})
			return err
		}},
		{"a producer epoch below none", func() error {
			_, _, err := ToProducer(&ClientProducer{ProducerEpoch: -2})
			return err
		}},
		{"a producer id without an epoch", func() error {
			_, _, err := ToInit(&ClientInitProducer{ProducerId: 3, ProducerEpoch: -1})
			return err
		}},
		{"a position of a topic id that is none", func() error {
			_, _, err := ToCommit(&ClientCommitOffsets{Positions: short})
			return err
		}},
		{"the same in a transaction", func() error {
			_, _, err := ToTxnCommit(&ClientTxnCommitOffsets{Positions: short})
			return err
		}},
		{"an epoch of a transaction", func() error {
			_, _, err := ToTxnCommit(&ClientTxnCommitOffsets{ProducerEpoch: 1 << 20})
			return err
		}},
		{"the same in an answer", func() error {
			_, err := ToFetched(&ClientFetchedOffsets{Positions: short})
			return err
		}},
		{"owned partitions of no topic", func() error {
			_, _, err := ToConsumerHeartbeat(&ClientGroupHeartbeat{HasOwned: true,
				Owned: []*ClientPartitions{{TopicId: make([]byte, 16)}}})
			return err
		}},
		{"a negative partition in an assignment", func() error {
			_, err := ToDescription(&ClientGroup{Members: []*ClientMember{{Assigned: []*ClientPartitions{
				{TopicId: append(make([]byte, 15), 1), Partitions: []int32{-1}}}}}})
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.err(); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
}
