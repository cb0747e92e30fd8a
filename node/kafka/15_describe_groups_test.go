package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

func TestDescribeGroupsShowsClassicGroups(t *testing.T) {
	eachVersion(t, 15, func(t *testing.T, v int16) {
		f := newFakeCluster()
		script(f, func(_ string, r *group.Describe) {
			r.Reply(group.Description{GroupID: "g", Type: group.Classic, State: group.Stable,
				ProtocolType: "consumer", Protocol: "range", Members: []group.Member{
					{MemberID: "m", InstanceID: "i", ClientID: "c", ClientHost: "/h",
						Metadata: []byte("x"), Assignment: []byte("y")}, {MemberID: "n"}}})
		})
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups, req.IncludeAuthorizedOperations = []string{"g", "g"}, true
		resp := ask[*kmsg.DescribeGroupsResponse](t, f, req, v)
		equal(t, "groups, each once", len(resp.Groups), 1)
		g := resp.Groups[0]
		equal(t, "group", []string{g.Group, g.State, g.ProtocolType, g.Protocol},
			[]string{"g", "Stable", "consumer", "range"})
		equal(t, "code", g.ErrorCode, codeNone)
		m := g.Members[0]
		equal(t, "member", []string{m.MemberID, m.ClientID, m.ClientHost,
			string(m.ProtocolMetadata), string(m.MemberAssignment)}, []string{"m", "c", "/h", "x", "y"})
		equal(t, "members", len(g.Members), 2)
		if v >= 4 {
			equal(t, "instances", []*string{m.InstanceID, g.Members[1].InstanceID},
				[]*string{ptr("i"), nil})
		}
		if v >= 3 {
			equal(t, "operations", g.AuthorizedOperations, groupOperations)
		}
		req.IncludeAuthorizedOperations = false
		resp = ask[*kmsg.DescribeGroupsResponse](t, f, req, v)
		equal(t, "operations unasked", resp.Groups[0].AuthorizedOperations, authorizedOpsUnset)
	})
}

func TestDescribeGroupsKnowsNoGroupOfAnotherType(t *testing.T) {
	eachVersion(t, 15, func(t *testing.T, v int16) {
		for name, d := range map[string]group.Description{
			"gone":       {Err: fmt.Errorf("g: %w", group.ErrGroupNotFound)},
			"dead":       {Type: group.Classic, State: group.Dead},
			"a consumer": {Type: group.Consumer, State: group.Stable},
		} {
			f := newFakeCluster()
			script(f, func(_ string, r *group.Describe) { r.Reply(d) })
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Groups = []string{"g"}
			g := ask[*kmsg.DescribeGroupsResponse](t, f, req, v).Groups[0]
			equal(t, name, g.State, "Dead")
			if v >= 6 {
				equal(t, name, g.ErrorCode, codeGroupIDNotFound)
				hasText(t, name, g.ErrorMessage)
			} else {
				equal(t, name, g.ErrorCode, codeNone)
			}
		}
	})
}

func TestDescribeGroupsHasAnErrorForEachGroup(t *testing.T) {
	f := newFakeCluster()
	script(f, func(key string, r *group.Describe) {
		if key == "bad" {
			r.Refuse(messages.ErrCoordinatorLoading)
			return
		}
		r.Reply(group.Description{Type: group.Classic, State: group.Empty})
	})
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{"good", "bad"}
	resp := ask[*kmsg.DescribeGroupsResponse](t, f, req, 6)
	equal(t, "good", resp.Groups[0].ErrorCode, codeNone)
	equal(t, "bad", resp.Groups[1].ErrorCode, codeCoordinatorLoadInProgress)
}
