package clientlib

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/primitive"
	"github.com/troupelog/troupe/messages/wire"
)

func groupsAnswer(err error, ids ...string) *wire.ClientResponse {
	groups := &wire.ClientGroups{}
	for _, id := range ids {
		groups.Groups = append(groups.Groups,
			&wire.ClientGroup{Group: id, Type: "consumer", State: "Stable"})
	}
	resp := &wire.ClientResponse{Result: &wire.ClientResponse_Groups{Groups: groups}}
	if err != nil {
		resp.Error = wire.FromError(err)
	}
	return resp
}

func TestGroupsAsksEveryNodeAndReturnsWhatIsKnown(t *testing.T) {
	c := &adminCluster{nodes: []link.Node{{ID: 1}, {ID: 2}, {ID: 3}}}
	c.answer = func(to string, _ *wire.ClientRequest) (*wire.ClientResponse, error) {
		switch to {
		case "node 1":
			return groupsAnswer(nil, "c", "a"), nil
		case "node 2": // a moved there meanwhile, and a part is not loaded
			return groupsAnswer(messages.ErrCoordinatorLoading, "b", "a"), nil
		default:
			return nil, link.ErrNoAnswer
		}
	}
	groups, err := (&Admin{c, stays}).Groups(t.Context())
	checkError(t, err, "node 2", messages.ErrCoordinatorLoading)
	checkError(t, err, "node 3", ErrUnavailable)
	var ids []string
	for _, g := range groups {
		ids = append(ids, g.ID)
		if g.State != "Stable" || g.Type != "consumer" {
			t.Errorf("group %+v", g)
		}
	}
	if !slices.Equal(ids, []string{"a", "b", "c"}) {
		t.Errorf("groups are %v", ids)
	}
	if want := []string{"node 1", "node 2", "node 3"}; !slices.Equal(c.whom(), want) {
		t.Errorf("asked %v", c.whom())
	}
}

func TestWhoGivesUpListingGroupsBlamesNoNode(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := &adminCluster{nodes: []link.Node{{ID: 1}, {ID: 2}}}
	c.answer = func(string, *wire.ClientRequest) (*wire.ClientResponse, error) {
		cancel()
		return nil, context.Canceled
	}
	_, err := (&Admin{c, stays}).Groups(ctx)
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "node") {
		t.Errorf("it failed with %v", err)
	}
}

func TestMoreQuestionsThanMayBeAskedAtOnceAreAllAsked(t *testing.T) {
	var ids []string
	for i := range 3 * adminAtOnce {
		ids = append(ids, fmt.Sprintf("g%03d", i))
	}
	c := &adminCluster{answer: func(to string, _ *wire.ClientRequest) (*wire.ClientResponse, error) {
		return refusal(errors.Join(group.ErrNonEmptyGroup)), nil
	}}
	err := (&Admin{c, stays}).DeleteGroups(t.Context(), ids...)
	for _, id := range ids {
		checkError(t, err, id, ErrGroupNotEmpty)
	}
	if len(c.asked) != len(ids) {
		t.Errorf("asked %d times", len(c.asked))
	}
}

// assignment is what a leader of a classic group sends for a member.
func assignment(partitions map[string][]int32) []byte {
	b := primitive.AppendInt16(nil, 3)
	b = primitive.Classic.AppendCount(b, len(partitions))
	for _, topic := range slices.Sorted(maps.Keys(partitions)) {
		b = primitive.Classic.AppendText(b, topic)
		b = primitive.Classic.AppendCount(b, len(partitions[topic]))
		for _, p := range partitions[topic] {
			b = primitive.AppendInt32(b, p)
		}
	}
	return primitive.Classic.AppendBytes(b, []byte("the assignor's own"))
}

func TestGroupShowsWhatMembersOfBothProtocolsRead(t *testing.T) {
	want := []Partition{{"a", 1}, {"a", 2}, {"b", 0}}
	cases := map[string]struct {
		g    *wire.ClientGroup
		want []Partition
	}{
		"consumer": {&wire.ClientGroup{Type: "consumer", ProtocolType: "consumer",
			Members: []*wire.ClientMember{{Assigned: []*wire.ClientPartitions{
				{Topic: "b", Partitions: []int32{0}}, {Topic: "a", Partitions: []int32{2, 1}}}}}}, want},
		"classic": {&wire.ClientGroup{Type: "classic", ProtocolType: "consumer",
			Members: []*wire.ClientMember{{
				Assignment: assignment(map[string][]int32{"b": {0}, "a": {2, 1}})}}}, want},
		"of another kind": {&wire.ClientGroup{Type: "classic", ProtocolType: "connect",
			Members: []*wire.ClientMember{{Assignment: []byte{1}}}}, nil},
		"while it rebalances": {&wire.ClientGroup{Type: "classic", ProtocolType: "consumer",
			Members: []*wire.ClientMember{{}}}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := c.g.Members[0]
			m.MemberId, m.InstanceId, m.ClientId, m.Host = "m", "i", "c", "h"
			a, cluster := answering(&wire.ClientResponse{Result: &wire.ClientResponse_Group{Group: c.g}})
			got, err := a.Group(t.Context(), "g")
			want := GroupInfo{ID: "g", Type: c.g.Type, Members: []GroupMember{
				{ID: "m", InstanceID: "i", ClientID: "c", Host: "h", Partitions: c.want}}}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
			if !slices.Equal(cluster.asked, []string{"group g"}) {
				t.Errorf("asked %v", cluster.asked)
			}
		})
	}
}

func TestADamagedAssignmentIsAnErrorThatNamesTheMember(t *testing.T) {
	whole := assignment(map[string][]int32{"topic": {1, 2}})
	for _, bad := range [][]byte{whole[:1], whole[:9], whole[:len(whole)-24], {0xff, 0xff, 0, 0, 0, 0},
		{0, 0, 0x7f, 0xff, 0xff, 0xff}} {
		a, _ := answering(&wire.ClientResponse{Result: &wire.ClientResponse_Group{
			Group: &wire.ClientGroup{ProtocolType: "consumer",
				Members: []*wire.ClientMember{{MemberId: "odd", Assignment: bad}}}}})
		_, err := a.Group(t.Context(), "g")
		checkError(t, err, `member "odd"`, ErrDecode)
	}
}

func FuzzClassicAssignment(f *testing.F) {
	f.Add(assignment(map[string][]int32{"topic": {1, 2}, "other": {}}))
	f.Add([]byte{0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		partitions, err := classicAssignment(b)
		if err == nil && 4*len(partitions) > len(b) {
			t.Errorf("%d partitions out of %d bytes", len(partitions), len(b))
		}
	})
}

func TestCommittedLeavesOutWhatHasNoPosition(t *testing.T) {
	a, _ := answering(&wire.ClientResponse{Result: &wire.ClientResponse_FetchedOffsets{
		FetchedOffsets: &wire.ClientFetchedOffsets{Positions: []*wire.ClientPosition{
			{Topic: "t", Partition: 0, Offset: 0}, {Topic: "t", Partition: 1, Offset: -1},
			{Topic: "t", Partition: 2, Error: wire.FromError(group.ErrUnstableOffset)},
			{Topic: "t", Partition: 3, Offset: 9, Error: wire.FromError(nil)}}}}})
	got, err := a.Committed(t.Context(), "g")
	checkError(t, err, "t-2", group.ErrUnstableOffset)
	if want := (map[Partition]int64{{"t", 0}: 0, {"t", 3}: 9}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func offsetAnswer(offset int64, err error) *wire.ClientResponse {
	o := &wire.ClientOffset{Offset: offset}
	if err != nil {
		o.Error = wire.FromError(err)
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_Offsets{
		Offsets: &wire.ClientOffsets{Partitions: []*wire.ClientOffset{o}}}}
}

// logCluster answers like two partitions with the offsets 10 to 20, one record each
// second from second 10 on, and remembers what is committed.
func logCluster(committed map[string]int64) *adminCluster {
	c := &adminCluster{routes: map[string]*link.Route{
		"t": {Partitions: make([]link.Leader, 2)}, "gone": {Gone: true}}}
	c.answer = func(to string, req *wire.ClientRequest) (*wire.ClientResponse, error) {
		if commit := req.GetCommitOffsets(); commit != nil {
			var errs []error
			for _, p := range commit.GetPositions() {
				committed[fmt.Sprintf("%s %s-%d", to, p.GetTopic(), p.GetPartition())] = p.GetOffset()
				errs = append(errs, nil)
			}
			return errorList(errs...), nil
		}
		switch ts := req.GetListOffsets().GetPartitions()[0].GetTimestamp(); {
		case ts == earliestTimestamp:
			return offsetAnswer(10, nil), nil
		case ts == latestTimestamp:
			return offsetAnswer(20, nil), nil
		case ts < 0:
			return nil, fmt.Errorf("timestamp %d", ts)
		case ts >= 20_000:
			return offsetAnswer(-1, nil), nil
		default:
			return offsetAnswer(max(10, (ts+999)/1000), nil), nil
		}
	}
	return c
}

func TestOffsetsFindsPlacesInALog(t *testing.T) {
	cases := map[string]struct {
		start Start
		want  int64
	}{
		"zero value":        {Start{}, 10},
		"earliest":          {Earliest, 10},
		"latest":            {Latest, 20},
		"offset":            {AtOffset(15), 15},
		"offset too low":    {AtOffset(-3), 10},
		"offset too high":   {AtOffset(99), 20},
		"time":              {AtTime(time.Unix(15, 0)), 15},
		"time between":      {AtTime(time.Unix(15, 5_000_000)), 16},
		"time before all":   {AtTime(time.Unix(1, 0)), 10},
		"time before Kafka": {AtTime(time.Time{}), 10},
		"time after all":    {AtTime(time.Unix(1000, 0)), 20},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			committed := map[string]int64{}
			a := &Admin{logCluster(committed), stays}
			got, err := a.Offsets(t.Context(), "t", c.start)
			want := map[Partition]int64{{"t", 0}: c.want, {"t", 1}: c.want}
			if err != nil || !maps.Equal(got, want) {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
			checkError(t, a.ResetOffsets(t.Context(), "g", "t", c.start), "")
			if want := (map[string]int64{"group g t-0": c.want, "group g t-1": c.want}); !maps.Equal(
				committed, want) {
				t.Errorf("committed %v, want %v", committed, want)
			}
		})
	}
}

func TestOffsetsOfATopicThatIsNotThereAreAnError(t *testing.T) {
	a := &Admin{logCluster(nil), stays}
	for _, topic := range []string{"gone", "never"} {
		_, err := a.Offsets(t.Context(), topic, Earliest)
		checkError(t, err, topic, ErrUnknownTopic)
		checkError(t, a.ResetOffsets(t.Context(), "g", topic, Latest), topic, ErrUnknownTopic)
	}
}
