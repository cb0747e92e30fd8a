package gateway

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
)

func TestDeskFindsLiveCoordinators(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  string
		err  error
		want error
	}{
		{"one that lives", "g", nil, nil},
		{"one that is fenced", "elsewhere", nil, messages.ErrUnavailable},
		{"none", "g", messages.ErrNotLeader, messages.ErrNotCoordinator},
		{"an empty id", "", nil, messages.ErrInvalidRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newDeskFake()
			f.err = tt.err
			resp := deskAnswer(t, f, &wire.ClientRequest{Command: &wire.ClientRequest_FindCoordinator{
				FindCoordinator: &wire.ClientFindCoordinator{Key: tt.key}}})
			wantError(t, "the answer", resp.GetError(), tt.want)
			if tt.want == nil && resp.GetCoordinator().GetNodeId() != int32(deskNode) {
				t.Errorf("it is node %d", resp.GetCoordinator().GetNodeId())
			}
		})
	}
}

// joining is a heartbeat as a new member sends it.
func joining() *group.ConsumerHeartbeat {
	return &group.ConsumerHeartbeat{MemberID: "m", RebalanceTimeoutMs: 1000,
		Topics: []string{"orders"}, HasTopics: true, HasOwned: true}
}

func heartbeatRequest(id string, b *group.ConsumerHeartbeat) *wire.ClientRequest {
	return &wire.ClientRequest{Command: &wire.ClientRequest_GroupHeartbeat{
		GroupHeartbeat: wire.FromConsumerHeartbeat(id, b)}}
}

func TestDeskHeartbeatsCarryWhatTheGroupNeeds(t *testing.T) {
	f := newDeskFake()
	f.script = func(r coord.Request) {
		r.(*group.ConsumerHeartbeat).Reply(group.ConsumerHeartbeated{MemberEpoch: 4,
			HeartbeatIntervalMs: 3000, HasAssigned: true, Assigned: []group.TopicPartitions{
				{Topic: deskTopicID(1), Partitions: []int32{0, 1}},
				{Topic: deskTopicID(8), Partitions: []int32{0}}, // deleted meanwhile
			}})
	}
	beat := joining()
	beat.MemberEpoch = 3
	beat.Owned = []group.TopicPartitions{
		{Topic: deskTopicID(1), Name: "made up", Partitions: []int32{1, 0}},
		{Topic: deskTopicID(7), Partitions: []int32{5}},
	}
	resp := deskAnswer(t, f, heartbeatRequest("g", beat))
	wantError(t, "the answer", resp.GetError(), nil)
	got, err := wire.ToConsumerHeartbeated(resp.GetGroupHeartbeated())
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "the answer", got, group.ConsumerHeartbeated{MemberEpoch: 4,
		HeartbeatIntervalMs: 3000, HasAssigned: true, Assigned: []group.TopicPartitions{
			{Topic: deskTopicID(1), Name: "orders", Partitions: []int32{0, 1}}}})
	asked := *lastOf[*group.ConsumerHeartbeat](t, f)
	asked.Reply = nil
	want := *beat
	want.ClientID, want.ClientHost = "app", "/192.0.2.9"
	want.Owned = []group.TopicPartitions{
		{Topic: deskTopicID(1), Name: "orders", Partitions: []int32{0, 1}},
		{Topic: deskTopicID(7), Partitions: []int32{5}},
	}
	wantSame(t, "the heartbeat", asked, want)
	wantSame(t, "the group", f.keys, []string{"g"})
}

func TestWhatAGroupKnowsOfAMemberIsNotChangedByTheMembersProgram(t *testing.T) {
	f := newDeskFake()
	f.script = func(r coord.Request) {
		r.(*group.ConsumerHeartbeat).Reply(group.ConsumerHeartbeated{})
	}
	topics := []string{"orders", "payments"} // of a program in the node's process
	beat := joining()
	beat.Topics = topics
	f.desk().answer(t.Context(), who{"app", "nonhost"}, heartbeatRequest("g", beat))
	topics[0] = "another"
	wantSame(t, "the subscription", lastOf[*group.ConsumerHeartbeat](t, f).Topics,
		[]string{"orders", "payments"})
}

func TestDeskRefusesHeartbeatsThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		name string
		id   string
		edit func(b *group.ConsumerHeartbeat)
	}{
		{"without a group", "", func(*group.ConsumerHeartbeat) {}},
		{"without a member id", "g", func(b *group.ConsumerHeartbeat) { b.MemberID = "" }},
		{"with an empty rack", "g", func(b *group.ConsumerHeartbeat) { b.Rack = proto.String("") }},
		{"of an epoch that is none", "g", func(b *group.ConsumerHeartbeat) { b.MemberEpoch = -3 }},
		{"of a dynamic member that comes back", "g",
			func(b *group.ConsumerHeartbeat) { b.MemberEpoch = group.EpochLeaveStatic }},
		{"joining without a timeout", "g",
			func(b *group.ConsumerHeartbeat) { b.RebalanceTimeoutMs = -1 }},
		{"joining without topics", "g", func(b *group.ConsumerHeartbeat) { b.HasTopics = false }},
		{"joining with partitions", "g", func(b *group.ConsumerHeartbeat) {
			b.Owned = []group.TopicPartitions{{Topic: deskTopicID(1), Partitions: []int32{0}}}
		}},
		{"joining without saying what it owns", "g",
			func(b *group.ConsumerHeartbeat) { b.HasOwned = false }},
		{"owning a topic without an id", "g", func(b *group.ConsumerHeartbeat) {
			b.MemberEpoch, b.Owned = 1, []group.TopicPartitions{{Partitions: []int32{0}}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newDeskFake()
			beat := joining()
			tt.edit(beat)
			resp := deskAnswer(t, f, heartbeatRequest(tt.id, beat))
			wantError(t, "the answer", resp.GetError(), messages.ErrInvalidRequest)
			if len(f.asked) > 0 {
				t.Error("the group was asked")
			}
		})
	}
}

// position is what a client commits.
func position(topic string, partition int32, offset int64) *wire.ClientPosition {
	return &wire.ClientPosition{Topic: topic, Partition: partition, Offset: offset, LeaderEpoch: -1}
}

func TestDeskCommitsWhatExists(t *testing.T) {
	unknown := messages.ErrUnknownTopicOrPartition
	old, cut := position("orders", 0, 5), position("orders", 0, 5)
	old.TopicId = make([]byte, 16)
	old.TopicId[3] = 1
	cut.TopicId = []byte{1}
	for _, tt := range []struct {
		name      string
		group     string
		positions []*wire.ClientPosition
		answer    group.Committed
		want      error // of all
		each      []error
		asked     int
	}{
		{"some", "g", []*wire.ClientPosition{position("orders", 1, 5), position("orders", 2, 5),
			position("gone", 0, 5), position("orders", -1, 5), position("orders", 0, 0)},
			group.Committed{Errs: []error{nil, group.ErrMetadataTooLarge}}, nil,
			[]error{nil, unknown, unknown, unknown, group.ErrMetadataTooLarge}, 2},
		{"one answer for all", "g", []*wire.ClientPosition{position("orders", 1, 5)},
			group.Committed{}, nil, []error{nil}, 1},
		{"a negative offset", "g", []*wire.ClientPosition{position("orders", 1, -1)},
			group.Committed{}, nil, []error{messages.ErrInvalidRequest}, 0},
		{"a topic of the same name", "g", []*wire.ClientPosition{old}, group.Committed{}, nil,
			[]error{messages.ErrUnknownTopicID}, 0},
		{"an id that is none", "g", []*wire.ClientPosition{cut}, group.Committed{},
			messages.ErrInvalidRequest, nil, 0},
		{"nothing", "g", nil, group.Committed{}, nil, nil, 0},
		{"no group", "", []*wire.ClientPosition{position("orders", 1, 5)}, group.Committed{},
			group.ErrInvalidGroupID, nil, 0},
		{"a stale member", "g", []*wire.ClientPosition{position("orders", 1, 5)},
			group.Committed{Err: group.ErrStaleMemberEpoch}, group.ErrStaleMemberEpoch, nil, 1},
		{"too few answers", "g", []*wire.ClientPosition{position("orders", 0, 5),
			position("orders", 1, 5)}, group.Committed{Errs: []error{nil}}, nil,
			[]error{nil, errAny}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newDeskFake()
			f.script = func(r coord.Request) { r.(*group.Commit).Reply(tt.answer) }
			resp := deskAnswer(t, f, &wire.ClientRequest{Command: &wire.ClientRequest_CommitOffsets{
				CommitOffsets: &wire.ClientCommitOffsets{Group: tt.group, MemberId: "m",
					MemberEpoch: 4, Positions: tt.positions}}})
			if tt.want != nil {
				wantError(t, "the answer", resp.GetError(), tt.want)
			} else {
				wantOutcomes(t, resp, tt.each)
			}
			if tt.asked == 0 {
				wantSame(t, "requests to the group", len(f.asked), 0)
				return
			}
			c := lastOf[*group.Commit](t, f)
			if len(c.Offsets) != tt.asked || !c.Epochs || c.Generation != 4 || c.MemberID != "m" ||
				c.Offsets[0].TopicID != deskTopicID(1) ||
				c.Offsets[0].CommitMs != messages.NoTimestamp {
				t.Errorf("the group was asked %+v", c)
			}
		})
	}
}

// errAny stands for an error that has no meaning of its own.
var errAny = errors.New("any error")

// wantOutcomes is wantErrors where errAny may stand.
func wantOutcomes(t *testing.T, resp *wire.ClientResponse, want []error) {
	t.Helper()
	for i, e := range resp.GetErrors().GetErrors() {
		if i < len(want) && want[i] == errAny && e.GetCode() == wire.ErrorCode_ERROR_CODE_OTHER {
			want[i], e.Code = nil, 0
		}
	}
	wantErrors(t, resp, want...)
}

func TestDeskFetchesOffsets(t *testing.T) {
	at := func(p int32, o messages.Offset, err error) group.FetchedOffset {
		return group.FetchedOffset{Err: err, Offset: group.Offset{Topic: "orders", Partition: p,
			Offset: o, Epoch: messages.NoEpoch, Metadata: "here", TopicID: deskTopicID(1),
			CommitMs: messages.NoTimestamp, ExpireMs: messages.NoTimestamp}}
	}
	both := []*wire.PartitionNames{{Topic: "orders", Partitions: []int32{1, 0}}}
	for _, tt := range []struct {
		name   string
		group  string
		names  []*wire.PartitionNames
		answer group.Fetched
		want   error
		each   []group.FetchedOffset
		asked  bool
	}{
		{"some, in order", "g", both, group.Fetched{Offsets: []group.FetchedOffset{
			at(1, 7, nil), at(0, -1, nil)}}, nil,
			[]group.FetchedOffset{at(1, 7, nil), at(0, -1, nil)}, true},
		{"all, sorted", "g", nil, group.Fetched{Offsets: []group.FetchedOffset{
			at(1, 7, nil), at(0, 3, nil)}}, nil,
			[]group.FetchedOffset{at(0, 3, nil), at(1, 7, nil)}, true},
		{"unstable ones", "g", nil, group.Fetched{Offsets: []group.FetchedOffset{
			at(1, -1, group.ErrUnstableOffset)}}, nil,
			[]group.FetchedOffset{at(1, -1, group.ErrUnstableOffset)}, true},
		{"none of a topic", "g", []*wire.PartitionNames{{Topic: "orders"}}, group.Fetched{}, nil,
			nil, false},
		{"too few", "g", both, group.Fetched{Offsets: []group.FetchedOffset{at(1, 7, nil)}}, errAny,
			nil, true},
		{"of a member of yesterday", "g", both, group.Fetched{Err: group.ErrStaleMemberEpoch},
			group.ErrStaleMemberEpoch, nil, true},
		{"of no group", "", nil, group.Fetched{}, group.ErrInvalidGroupID, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newDeskFake()
			f.script = func(r coord.Request) { r.(*group.FetchOffsets).Reply(tt.answer) }
			resp := deskAnswer(t, f, &wire.ClientRequest{Command: &wire.ClientRequest_FetchOffsets{
				FetchOffsets: &wire.ClientFetchOffsets{Group: tt.group, Partitions: tt.names,
					Stable: true}}})
			if tt.want == errAny {
				wantSame(t, "the code", resp.GetError().GetCode(), wire.ErrorCode_ERROR_CODE_OTHER)
			} else {
				wantError(t, "the answer", resp.GetError(), tt.want)
			}
			got, err := wire.ToFetched(resp.GetFetchedOffsets())
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if i < len(tt.each) && errors.Is(got[i].Err, tt.each[i].Err) {
					got[i].Err = tt.each[i].Err
				}
			}
			wantSame(t, "the offsets", got, tt.each)
			if !tt.asked {
				wantSame(t, "requests to the group", len(f.asked), 0)
				return
			}
			r := lastOf[*group.FetchOffsets](t, f)
			if !r.Stable || r.MemberEpoch != group.NoGeneration ||
				(r.Partitions == nil) != (tt.names == nil) {
				t.Errorf("the group was asked %+v", r)
			}
		})
	}
}

func TestDeskListsGroupsThatLive(t *testing.T) {
	live := group.Listed{GroupID: "a", ProtocolType: "consumer", State: group.Stable,
		Type: group.Consumer}
	for _, err := range []error{nil, messages.ErrCoordinatorLoading, messages.ErrUnavailable} {
		f := newDeskFake()
		f.err, f.listed = err, []group.Listed{live, {GroupID: "b", State: group.Dead}}
		resp := deskAnswer(t, f, &wire.ClientRequest{Command: &wire.ClientRequest_ListGroups{
			ListGroups: &wire.ClientListGroups{}}})
		wantError(t, "the answer", resp.GetError(), err)
		if !errors.Is(err, messages.ErrUnavailable) {
			wantSame(t, "the groups", wire.ToListed(resp.GetGroups()), []group.Listed{live})
		}
		wantSame(t, "the listing", len(f.listed), 2)
	}
}

func TestDeskDescribesGroupsOfBothTypes(t *testing.T) {
	classic := group.Description{GroupID: "g", Type: group.Classic, State: group.Stable,
		ProtocolType: "consumer", Protocol: "range", Members: []group.Member{{MemberID: "m",
			InstanceID: "i", ClientID: "app", ClientHost: "/h", Assignment: []byte{1, 2}}}}
	consumer := group.Description{GroupID: "g", Type: group.Consumer, State: group.Assigning,
		Epoch: 3, Assignor: "uniform", Members: []group.Member{{MemberID: "m", Epoch: 2,
			Assigned: []group.TopicPartitions{
				{Topic: deskTopicID(1), Name: "orders", Partitions: []int32{1}}}}}}
	dead := group.Description{GroupID: "g", Type: group.Classic, State: group.Dead}
	for _, tt := range []struct {
		name   string
		answer group.Description
		want   error
	}{
		{"classic", classic, nil},
		{"consumer", consumer, nil},
		{"dead", dead, group.ErrGroupNotFound},
		{"none", group.Description{Err: group.ErrGroupNotFound}, group.ErrGroupNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newDeskFake()
			f.script = func(r coord.Request) { r.(*group.Describe).Reply(tt.answer) }
			resp := deskAnswer(t, f, &wire.ClientRequest{Command: &wire.ClientRequest_DescribeGroup{
				DescribeGroup: &wire.ClientDescribeGroup{Group: "g"}}})
			wantError(t, "the answer", resp.GetError(), tt.want)
			if tt.want != nil {
				return
			}
			got, err := wire.ToDescription(resp.GetGroup())
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, "the group", got, tt.answer)
		})
	}
}

func TestDeskDeletesGroupsAndOffsets(t *testing.T) {
	remove := func(id string) *wire.ClientRequest {
		return &wire.ClientRequest{Command: &wire.ClientRequest_DeleteGroup{
			DeleteGroup: &wire.ClientDeleteGroup{Group: id}}}
	}
	f := newDeskFake()
	f.script = func(r coord.Request) { r.(*group.Delete).Reply(nil) }
	resp := deskAnswer(t, f, remove("g"))
	wantError(t, "the answer", resp.GetError(), nil)
	wantSame(t, "the group", f.keys, []string{"g"})
	wantError(t, "no group", deskAnswer(t, f, remove("")).GetError(), group.ErrInvalidGroupID)
	f.refuse(group.ErrNonEmptyGroup)
	wantError(t, "members", deskAnswer(t, f, remove("g")).GetError(), group.ErrNonEmptyGroup)

	forget := &wire.ClientRequest{Command: &wire.ClientRequest_DeleteOffsets{
		DeleteOffsets: wire.FromDeleteOffsets("g", []messages.TopicPartition{
			{Topic: "gone"}, {Topic: "orders", Partition: 1}, {Topic: "orders", Partition: 2}})}}
	wantError(t, "members", deskAnswer(t, f, forget).GetError(), group.ErrNonEmptyGroup)
	f.script = func(r coord.Request) {
		r.(*group.DeleteOffsets).Reply(group.Committed{Errs: []error{group.ErrSubscribed}})
	}
	wantErrors(t, deskAnswer(t, f, forget), messages.ErrUnknownTopicOrPartition,
		group.ErrSubscribed, messages.ErrUnknownTopicOrPartition)
	wantSame(t, "what is forgotten", lastOf[*group.DeleteOffsets](t, f).Partitions,
		[]messages.TopicPartition{{Topic: "orders", Partition: 1}})
}

// What clients of the SDK do about an error depends on few meanings alone.
func TestDeskSaysOfCoordinatorsWhatClientsActOn(t *testing.T) {
	for _, tt := range []struct{ err, want error }{
		{messages.ErrNotCoordinator, messages.ErrNotCoordinator},
		{messages.ErrNotLeader, messages.ErrNotCoordinator},
		{messages.ErrStorage, messages.ErrNotCoordinator},
		{messages.ErrDiskFull, messages.ErrNotCoordinator},
		{messages.ErrUnavailable, messages.ErrUnavailable},
		{messages.ErrNotEnoughReplicas, messages.ErrUnavailable},
		{messages.ErrRequestTimedOut, messages.ErrUnavailable},
		{context.DeadlineExceeded, messages.ErrUnavailable},
		{messages.ErrCoordinatorLoading, messages.ErrCoordinatorLoading},
		{messages.ErrOverloaded, messages.ErrOverloaded},
		{group.ErrFencedMemberEpoch, group.ErrFencedMemberEpoch},
	} {
		got := wire.ToError(wire.FromError(coordinatorError(tt.err)))
		if !errors.Is(got, tt.want) {
			t.Errorf("%v becomes %v", tt.err, got)
		}
	}
	got := wire.FromError(coordinatorError(messages.ErrBatchTooLarge))
	wantSame(t, "the code of a batch of the coordinator's", got.GetCode(),
		wire.ErrorCode_ERROR_CODE_OTHER)
}

func TestDeskDoesNotWaitLongerThanItsClient(t *testing.T) {
	f := newDeskFake()
	f.script = func(coord.Request) {} // never answers
	req := heartbeatRequest("g", joining())
	req.TimeoutMs = 20
	began := time.Now()
	wantError(t, "in time", deskAnswer(t, f, req).GetError(), messages.ErrUnavailable)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the client waited %s", took)
	}
}
