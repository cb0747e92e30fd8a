package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// withGroups has a stable classic group "a", an empty one "b" and a consumer
// group "c".
func withGroups() *fakeCluster {
	f := newFakeCluster()
	f.coords.make("a", group.Classic).member = &group.Member{MemberID: "m"}
	f.coords.groups["a"].kind = "consumer"
	f.coords.make("b", group.Classic)
	f.coords.make("c", group.Consumer).member = &group.Member{MemberID: "n"}
	return f
}

func listedNames(resp *kmsg.ListGroupsResponse) (names []string) {
	for _, g := range resp.Groups {
		names = append(names, g.Group)
	}
	return names
}

func TestListGroupsShowsWhatTheVersionHas(t *testing.T) {
	eachVersion(t, 16, func(t *testing.T, v int16) {
		resp := ask[*kmsg.ListGroupsResponse](t, withGroups(), kmsg.NewPtrListGroupsRequest(), v)
		equal(t, "groups", listedNames(resp), []string{"a", "b", "c"})
		g := resp.Groups[0]
		equal(t, "type of protocol", g.ProtocolType, "consumer")
		if v >= 4 {
			equal(t, "state", g.GroupState, "Stable")
		}
		if v >= 5 {
			equal(t, "type", g.GroupType, "classic")
		}
	})
}

func TestListGroupsFiltersByStateAndType(t *testing.T) {
	for _, tt := range []struct {
		states, types []string
		v             int16
		want          []string
	}{
		{[]string{"stable"}, nil, 4, []string{"a", "c"}},
		{[]string{"STABLE", "Empty"}, nil, 5, []string{"a", "b", "c"}},
		{[]string{"Empty"}, []string{"Classic"}, 5, []string{"b"}},
		{nil, []string{"consumer", "share"}, 5, []string{"c"}},
		{[]string{"nonsense"}, nil, 5, nil},
		{nil, []string{"streams"}, 5, nil},
		{[]string{"Empty"}, []string{"consumer"}, 4, []string{"b"}}, // no types yet
		{[]string{"Empty"}, nil, 3, []string{"a", "b", "c"}},        // no filters yet
	} {
		req := kmsg.NewPtrListGroupsRequest()
		req.StatesFilter, req.TypesFilter = tt.states, tt.types
		resp := ask[*kmsg.ListGroupsResponse](t, withGroups(), req, tt.v)
		equal(t, "groups", listedNames(resp), tt.want)
	}
}

func TestListGroupsSaysThatItIsNotComplete(t *testing.T) {
	eachVersion(t, 16, func(t *testing.T, v int16) {
		f := withGroups()
		f.coords.err = messages.ErrCoordinatorLoading
		resp := ask[*kmsg.ListGroupsResponse](t, f, kmsg.NewPtrListGroupsRequest(), v)
		equal(t, "code", resp.ErrorCode, codeCoordinatorLoadInProgress)
		equal(t, "groups", len(resp.Groups), 3)
	})
}
