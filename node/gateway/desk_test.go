package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
)

func initOf(id string, producer int64, epoch int32) *wire.ClientRequest {
	return &wire.ClientRequest{Command: &wire.ClientRequest_InitProducer{
		InitProducer: &wire.ClientInitProducer{TransactionalId: id, TimeoutMs: 500,
			ProducerId: producer, ProducerEpoch: epoch}}}
}

func TestDeskInitializesProducers(t *testing.T) {
	for _, tt := range []struct {
		name string
		req  *wire.ClientRequest
		err  error
		want error
		got  [2]int64
	}{
		{"idempotent", initOf("", -1, -1), nil, nil, [2]int64{77, 0}},
		{"idempotent, known", initOf("", 5, 2), nil, nil, [2]int64{77, 0}},
		{"idempotent, no controller", initOf("", -1, -1), messages.ErrNotController,
			messages.ErrUnavailable, [2]int64{}},
		{"transactional", initOf("x", 7, 3), nil, nil, [2]int64{7, 4}},
		{"fenced", initOf("x", 7, 3), txn.ErrProducerFenced, txn.ErrProducerFenced, [2]int64{}},
		{"half an id", initOf("x", 7, -1), nil, messages.ErrInvalidRequest, [2]int64{}},
		{"half a nothing", initOf("", -1, 3), nil, messages.ErrInvalidRequest, [2]int64{}},
		{"an epoch beyond Kafka's", initOf("x", 7, 1<<15), nil, messages.ErrInvalidRequest,
			[2]int64{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newDeskFake()
			f.err = tt.err
			f.script = func(r coord.Request) {
				i := r.(*txn.Init)
				if tt.err != nil {
					i.Refuse(tt.err)
					return
				}
				if i.TimeoutMs != 500 {
					t.Errorf("the timeout is %d", i.TimeoutMs)
				}
				i.Reply(txn.Initialized{Producer: i.Producer, Epoch: i.Epoch + 1})
			}
			resp := deskAnswer(t, f, tt.req)
			wantError(t, "the answer", resp.GetError(), tt.want)
			p := resp.GetProducer()
			wantSame(t, "the producer", [2]int64{p.GetProducerId(), int64(p.GetProducerEpoch())}, tt.got)
		})
	}
}

func endOf(id string, epoch int32) *wire.ClientRequest {
	return &wire.ClientRequest{Command: &wire.ClientRequest_EndTxn{EndTxn: &wire.ClientEndTxn{
		TransactionalId: id, ProducerId: 7, ProducerEpoch: epoch, Commit: true}}}
}

func TestDeskEndsTransactions(t *testing.T) {
	f := newDeskFake()
	f.script = func(r coord.Request) {
		e := r.(*txn.End)
		if !e.V2 || !e.Commit || e.Producer != 7 || e.Epoch != 3 {
			t.Errorf("the coordinator was asked %+v", e)
		}
		e.Reply(txn.Ended{Producer: 8, Epoch: 0})
	}
	resp := deskAnswer(t, f, endOf("x", 3))
	wantError(t, "the answer", resp.GetError(), nil)
	wantSame(t, "the next producer id", resp.GetProducer().GetProducerId(), int64(8))
	wantError(t, "no id", deskAnswer(t, f, endOf("", 3)).GetError(), messages.ErrInvalidRequest)
	wantError(t, "no epoch", deskAnswer(t, f, endOf("x", -2)).GetError(), messages.ErrInvalidRequest)
	f.refuse(txn.ErrConcurrent)
	wantError(t, "again", deskAnswer(t, f, endOf("x", 3)).GetError(), txn.ErrConcurrent)
}

func TestDeskCommitsOffsetsInTransactions(t *testing.T) {
	ask := func(id, of string, positions ...*wire.ClientPosition) *wire.ClientRequest {
		return &wire.ClientRequest{Command: &wire.ClientRequest_TxnCommitOffsets{
			TxnCommitOffsets: &wire.ClientTxnCommitOffsets{TransactionalId: id, ProducerId: 7,
				ProducerEpoch: 3, Group: of, MemberId: "m", MemberEpoch: 2, Positions: positions}}}
	}
	one := position("orders", 1, 5)
	for _, tt := range []struct {
		name   string
		req    *wire.ClientRequest
		added  error
		answer group.Committed
		want   error
		each   []error
		keys   []string // asked
	}{
		{"some", ask("x", "g", one, position("gone", 0, 1)), nil, group.Committed{}, nil,
			[]error{nil, messages.ErrUnknownTopicOrPartition}, []string{"x", "g"}},
		{"nothing that exists", ask("x", "g", position("gone", 0, 1)), nil, group.Committed{}, nil,
			[]error{messages.ErrUnknownTopicOrPartition}, nil},
		{"no transaction", ask("", "g", one), nil, group.Committed{}, messages.ErrInvalidRequest, nil,
			nil},
		{"no group", ask("x", "", one), nil, group.Committed{}, group.ErrInvalidGroupID, nil, nil},
		{"fenced", ask("x", "g", one), txn.ErrProducerFenced, group.Committed{},
			txn.ErrProducerFenced, nil, []string{"x"}},
		{"the transaction's coordinator moves", ask("x", "g", one), messages.ErrNotCoordinator,
			group.Committed{}, messages.ErrCoordinatorLoading, nil, []string{"x"}},
		{"the group's coordinator moves", ask("x", "g", one), nil,
			group.Committed{Err: messages.ErrNotCoordinator}, messages.ErrNotCoordinator, nil,
			[]string{"x", "g"}},
		{"a stale member", ask("x", "g", one), nil, group.Committed{Err: group.ErrStaleMemberEpoch},
			group.ErrStaleMemberEpoch, nil, []string{"x", "g"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newDeskFake()
			f.noTopic = true // the first commit makes it
			f.added.Err = tt.added
			f.script = func(r coord.Request) {
				c := r.(*group.TxnCommit)
				if c.TransactionalID != "x" || c.Producer != 7 || c.Epoch != 3 || c.MemberID != "m" ||
					c.Generation != 2 || len(c.Offsets) != 1 {
					t.Errorf("the group was asked %+v", c)
				}
				c.Reply(tt.answer)
			}
			resp := deskAnswer(t, f, tt.req)
			if tt.want != nil {
				wantError(t, "the answer", resp.GetError(), tt.want)
			} else {
				wantErrors(t, resp, tt.each...)
			}
			wantSame(t, "asked are", f.keys, tt.keys)
			for _, a := range f.adds {
				wantSame(t, "what joins", a.Partitions,
					[]messages.TopicPartition{{Topic: coord.OffsetsTopic, Partition: 7}})
			}
		})
	}
}

// topicErrors checks TopicResults by name.
func topicErrors(t *testing.T, resp *wire.ClientResponse, want ...error) {
	t.Helper()
	wantError(t, "the answer", resp.GetError(), nil)
	got := resp.GetTopics().GetTopics()
	if len(got) != len(want) {
		t.Fatalf("%d topics, want %d", len(got), len(want))
	}
	for i := range want {
		wantError(t, got[i].GetName(), got[i].GetError(), want[i])
	}
}

func TestDeskCreatesTopics(t *testing.T) {
	f := newDeskFake()
	w := wire.FromNewTopics([]messages.CreateTopic{
		{Name: "new", Partitions: -1, ReplicationFactor: -1, Configs: messages.Config{"a": "b"}},
		{Name: "orders", Partitions: 1, ReplicationFactor: 1},
		{Name: "a/b", Partitions: 1, ReplicationFactor: 1},
		{Name: "twice"}, {Name: "twice"}, {Name: "wide"},
	})
	w.Topics[5].ReplicationFactor = 1 << 20
	ask := &wire.ClientRequest{Command: &wire.ClientRequest_CreateTopics{CreateTopics: w}}
	resp := deskAnswer(t, f, ask)
	topicErrors(t, resp, nil, messages.ErrTopicAlreadyExists, messages.ErrInvalidTopic,
		messages.ErrInvalidRequest, messages.ErrInvalidRequest, messages.ErrInvalidRequest)
	wantSame(t, "topics asked for", len(f.created), 2)
	wantSame(t, "partitions", resp.GetTopics().GetTopics()[0].GetPartitions(), int32(3))
	wantSame(t, "names", resp.GetTopics().GetTopics()[2].GetName(), "a/b")
	f.err = context.DeadlineExceeded
	topicErrors(t, deskAnswer(t, f, ask), messages.ErrUnavailable, messages.ErrTopicAlreadyExists,
		messages.ErrInvalidTopic, messages.ErrInvalidRequest, messages.ErrInvalidRequest,
		messages.ErrInvalidRequest)
}

func TestDeskDeletesTopics(t *testing.T) {
	ask := func(refs ...messages.TopicRef) *wire.ClientRequest {
		return &wire.ClientRequest{Command: &wire.ClientRequest_DeleteTopics{
			DeleteTopics: wire.FromDeleteTopics(refs)}}
	}
	f := newDeskFake()
	resp := deskAnswer(t, f, ask(messages.TopicRef{ID: deskTopicID(1)},
		messages.TopicRef{Name: "gone"}, messages.TopicRef{ID: deskTopicID(6)}, messages.TopicRef{},
		messages.TopicRef{Name: "orders", ID: deskTopicID(1)}))
	topicErrors(t, resp, nil, messages.ErrUnknownTopicOrPartition, messages.ErrUnknownTopicID,
		messages.ErrInvalidRequest, messages.ErrInvalidRequest)
	wantSame(t, "the name of what had an id", resp.GetTopics().GetTopics()[0].GetName(), "orders")
	topicErrors(t, deskAnswer(t, f, ask(messages.TopicRef{Name: "orders"},
		messages.TopicRef{ID: deskTopicID(1)})), messages.ErrInvalidRequest, messages.ErrInvalidRequest)
	f.settings["delete.topic.enable"] = "false"
	topicErrors(t, deskAnswer(t, f, ask(messages.TopicRef{Name: "orders"})),
		messages.ErrTopicDeletionDisabled)
	bad := ask()
	bad.GetDeleteTopics().Topics = []*wire.TopicRef{{TopicId: []byte{1}}}
	wantError(t, "a short id", deskAnswer(t, f, bad).GetError(), messages.ErrInvalidRequest)
}

func TestDeskGrowsTopics(t *testing.T) {
	f := newDeskFake()
	ask := &wire.ClientRequest{Command: &wire.ClientRequest_CreatePartitions{
		CreatePartitions: wire.FromCreatePartitions([]messages.CreatePartitions{
			{Topic: "orders", Count: 5}, {Topic: "gone", Count: 5}, {Topic: "x"}, {Topic: "x"}})}}
	topicErrors(t, deskAnswer(t, f, ask), nil, messages.ErrUnknownTopicOrPartition,
		messages.ErrInvalidRequest, messages.ErrInvalidRequest)
	ask.GetCreatePartitions().Topics[0].Assignment = []*wire.ReplicaAssignment{{Partition: 4}}
	wantError(t, "a gap", deskAnswer(t, f, ask).GetError(), messages.ErrInvalidRequest)
}

func TestDeskAltersConfigs(t *testing.T) {
	set := messages.ConfigChange{Key: "segment.bytes", Value: "1"}
	of := func(k messages.ConfigResourceType, name string, c ...messages.ConfigChange,
	) messages.AlterConfigs {
		return messages.AlterConfigs{Resource: messages.ConfigResource{Type: k, Name: name}, Changes: c}
	}
	f := newDeskFake()
	ask := &wire.ClientRequest{Command: &wire.ClientRequest_AlterConfigs{
		AlterConfigs: wire.FromAlterConfigs([]messages.AlterConfigs{
			of(messages.ConfigTopic, "orders", set), of(messages.ConfigBroker, "", set),
			of(messages.ConfigBroker, "one", set), of(messages.ConfigTopic, "", set),
			of(messages.ConfigTopic, "a b", set), of(messages.ConfigTopic, "c", set, set),
			of(messages.ConfigTopic, "d"), of(messages.ConfigTopic, "d"),
		})}}
	invalid := messages.ErrInvalidRequest
	wantErrors(t, deskAnswer(t, f, ask), nil, nil, invalid, invalid, messages.ErrInvalidTopic, invalid,
		invalid, invalid)
	wantSame(t, "what the controller was asked", f.altered, []messages.AlterConfigs{
		of(messages.ConfigTopic, "orders", set), of(messages.ConfigBroker, "", set)})
	ask.GetAlterConfigs().Resources[0].Type = 9
	wantError(t, "an unknown type", deskAnswer(t, f, ask).GetError(), invalid)
}

func TestDeskDescribesConfigs(t *testing.T) {
	f := newDeskFake()
	ask := func(topic string) *wire.ClientResponse {
		return deskAnswer(t, f, &wire.ClientRequest{Command: &wire.ClientRequest_DescribeConfigs{
			DescribeConfigs: &wire.ClientDescribeConfigs{Topic: topic}}})
	}
	got := map[string]*wire.ClientConfig{}
	for _, c := range ask("orders").GetConfigs().GetConfigs() {
		got[c.GetName()] = c
	}
	if c := got["segment.bytes"]; c.GetValue() != "1048576" || c.GetInherited() {
		t.Errorf("what is set is %v", c)
	}
	if c := got["cleanup.policy"]; c.GetValue() != "delete" || !c.GetInherited() {
		t.Errorf("a default is %v", c)
	}
	wantError(t, "none", ask("gone").GetError(), messages.ErrUnknownTopicOrPartition)
	wantError(t, "a bad name", ask("a b").GetError(), messages.ErrInvalidTopic)
}

func TestDeskDescribesTopics(t *testing.T) {
	f := newDeskFake()
	ask := func(topics ...string) []*wire.ClientTopic {
		resp := deskAnswer(t, f, &wire.ClientRequest{Command: &wire.ClientRequest_DescribeTopics{
			DescribeTopics: &wire.ClientDescribeTopics{Topics: topics}}})
		wantError(t, "the answer", resp.GetError(), nil)
		return resp.GetTopicDescriptions().GetTopics()
	}
	all := ask()
	wantSame(t, "topics", len(all), 2)
	for i, name := range []string{coord.OffsetsTopic, "orders"} {
		topic, err := wire.ToTopic(all[i].GetTopic())
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "a topic", topic, f.image.Topic(name))
	}
	some := ask("orders", "gone", "a b", "x", "x")
	for i, want := range []error{nil, messages.ErrUnknownTopicOrPartition, messages.ErrInvalidTopic,
		messages.ErrInvalidRequest, messages.ErrInvalidRequest} {
		wantError(t, some[i].GetTopic().GetName(), some[i].GetError(), want)
	}
}

func TestDeskSaysWhatItDoesNotKnowAndWhatIsTooMuch(t *testing.T) {
	f := newDeskFake()
	for _, req := range []*wire.ClientRequest{{},
		{Command: &wire.ClientRequest_Hello{Hello: &wire.ClientHello{}}}} {
		wantError(t, "the answer", deskAnswer(t, f, req).GetError(), wire.ErrUnsupported)
	}
	var topics []*messages.Topic
	for i := range 300 {
		topics = append(topics, deskTopic(fmt.Sprint(strings.Repeat("x", 200), i), byte(i), 1,
			messages.Config{"a": strings.Repeat("y", 10_000)}))
		topics[i].ID[1] = byte(i >> 8)
	}
	f.image, _ = f.image.Apply(&messages.Delta{From: 1, To: 2, Topics: topics})
	resp := deskAnswer(t, f, &wire.ClientRequest{Command: &wire.ClientRequest_DescribeTopics{
		DescribeTopics: &wire.ClientDescribeTopics{}}})
	wantError(t, "too much", resp.GetError(), messages.ErrInvalidRequest)
}

// FuzzDesk asks whatever can be decoded. No request may panic, and every answer can be
// encoded, which takes texts that are UTF-8.
func FuzzDesk(f *testing.F) {
	for _, req := range []*wire.ClientRequest{
		heartbeatRequest("g", joining()), initOf("x", 7, 3), initOf("", -1, -1), endOf("x", 3),
		{Command: &wire.ClientRequest_CommitOffsets{CommitOffsets: &wire.ClientCommitOffsets{
			Group: "g", Positions: []*wire.ClientPosition{position("orders", 0, 3)}}}},
		{Command: &wire.ClientRequest_TxnCommitOffsets{
			TxnCommitOffsets: &wire.ClientTxnCommitOffsets{Group: "g", TransactionalId: "x",
				Positions: []*wire.ClientPosition{position("orders", 0, 3)}}}},
		{Command: &wire.ClientRequest_FetchOffsets{FetchOffsets: &wire.ClientFetchOffsets{
			Group: "g", Partitions: []*wire.PartitionNames{{Topic: "orders", Partitions: []int32{0}}}}}},
		{Command: &wire.ClientRequest_DeleteOffsets{DeleteOffsets: &wire.ClientDeleteOffsets{
			Group: "g", Partitions: []*wire.PartitionNames{{Topic: "orders", Partitions: []int32{0}}}}}},
		{Command: &wire.ClientRequest_DescribeGroup{DescribeGroup: &wire.ClientDescribeGroup{}}},
		{Command: &wire.ClientRequest_CreateTopics{CreateTopics: wire.FromNewTopics(
			[]messages.CreateTopic{{Name: "a"}, {Name: "orders", Configs: messages.Config{"a": "b"}}})}},
		{Command: &wire.ClientRequest_DeleteTopics{DeleteTopics: &wire.DeleteTopics{
			Topics: []*wire.TopicRef{{Name: "orders"}}}}},
		{Command: &wire.ClientRequest_CreatePartitions{CreatePartitions: &wire.CreatePartitions{
			Topics: []*wire.TopicGrowth{{Name: "orders", Count: 3}}}}},
		{Command: &wire.ClientRequest_AlterConfigs{AlterConfigs: &wire.AlterConfigs{
			Resources: []*wire.ResourceChange{{Type: 2, Name: "orders"}}}}},
		{Command: &wire.ClientRequest_DescribeConfigs{
			DescribeConfigs: &wire.ClientDescribeConfigs{Topic: "orders"}}},
		{Command: &wire.ClientRequest_DescribeTopics{
			DescribeTopics: &wire.ClientDescribeTopics{Topics: []string{"orders", "gone"}}}},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(slices.Concat(b, b), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, well bool) {
		req := &wire.ClientRequest{}
		if proto.Unmarshal(b, req) != nil {
			return
		}
		fake := newDeskFake()
		fake.script = deskFuzzScript(well)
		resp := fake.desk().answer(t.Context(), who{"app", "h"}, req)
		if resp == nil {
			t.Fatal("no answer")
		}
		if _, err := proto.Marshal(resp); err != nil {
			t.Fatal(err)
		}
	})
}

// deskFuzzScript answers everything well, or with an error.
func deskFuzzScript(well bool) func(coord.Request) {
	return func(r coord.Request) {
		if !well {
			r.Refuse(messages.ErrNotCoordinator)
			return
		}
		switch r := r.(type) {
		case *group.Commit:
			r.Reply(group.Committed{Errs: make([]error, len(r.Offsets))})
		case *group.TxnCommit:
			r.Reply(group.Committed{})
		case *group.FetchOffsets:
			offsets := make([]group.FetchedOffset, len(r.Partitions))
			for i, tp := range r.Partitions {
				offsets[i].Topic, offsets[i].Partition = tp.Topic, tp.Partition
			}
			r.Reply(group.Fetched{Offsets: offsets})
		case *group.ConsumerHeartbeat:
			r.Reply(group.ConsumerHeartbeated{HasAssigned: true, Assigned: r.Owned})
		default:
			r.Refuse(nil)
		}
	}
}
