package kafka

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/group"
)

func joinRequest(id string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = id, "m", "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 60_000
	for _, name := range []string{"range", "sticky"} {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = name, []byte("topics of "+name)
		req.Protocols = append(req.Protocols, p)
	}
	req.InstanceID, req.Reason = ptr("i"), ptr("why not")
	return req
}

func TestJoinGroupHandsOverWhatTheVersionSays(t *testing.T) {
	eachVersion(t, 11, func(t *testing.T, v int16) {
		f := newFakeCluster()
		ask[*kmsg.JoinGroupResponse](t, f, joinRequest("g"), v)
		key, got := lastAsked[*group.Join](t, f)
		equal(t, "group", key, "g")
		name := "i-"
		if v < 5 {
			name = "-" // no instance id, and ask has no client id
		}
		if !strings.HasPrefix(got.NewMemberID, name) || len(got.NewMemberID) != len(name)+36 {
			t.Errorf("new id is %q", got.NewMemberID)
		}
		got.Reply, got.NewMemberID = nil, ""
		want := &group.Join{MemberID: "m", ClientHost: "/192.0.2.9", ProtocolType: "consumer",
			SessionTimeoutMs: 10_000, RebalanceTimeoutMs: 60_000,
			Protocols: []group.Protocol{{Name: "range", Metadata: []byte("topics of range")},
				{Name: "sticky", Metadata: []byte("topics of sticky")}},
			RequireKnownID: v >= 4, CanSkipAssignment: v >= 9}
		if v == 0 {
			want.RebalanceTimeoutMs = 10_000
		}
		if v >= 5 {
			want.InstanceID = "i"
		}
		if v >= 8 {
			want.Reason = "why not"
		}
		equal(t, "request", got, want)
	})
}

func TestJoinGroupAnswersWithTheGeneration(t *testing.T) {
	eachVersion(t, 11, func(t *testing.T, v int16) {
		f := newFakeCluster()
		script(f, func(_ string, r *group.Join) {
			r.Reply(group.Joined{Generation: 3, ProtocolType: "consumer", Protocol: "range",
				Leader: "l", MemberID: "m", SkipAssignment: true,
				Members: []group.JoinedMember{{MemberID: "l", InstanceID: "i", Metadata: []byte("x")},
					{MemberID: "m", Metadata: []byte("y")}}})
		})
		resp := ask[*kmsg.JoinGroupResponse](t, f, joinRequest("g"), v)
		equal(t, "code", resp.ErrorCode, codeNone)
		equal(t, "generation", resp.Generation, int32(3))
		equal(t, "protocol", *resp.Protocol, "range")
		equal(t, "leader", resp.LeaderID, "l")
		equal(t, "member", resp.MemberID, "m")
		equal(t, "members", len(resp.Members), 2)
		equal(t, "metadata", string(resp.Members[1].ProtocolMetadata), "y")
		equal(t, "skips", resp.SkipAssignment, v >= 9)
		if v >= 5 {
			equal(t, "instances", []*string{resp.Members[0].InstanceID, resp.Members[1].InstanceID},
				[]*string{ptr("i"), nil})
		}
		if v >= 7 {
			equal(t, "type", *resp.ProtocolType, "consumer")
		}
	})
}

func TestJoinGroupTellsANewMemberItsID(t *testing.T) {
	eachVersion(t, 11, func(t *testing.T, v int16) {
		f := newFakeCluster()
		req := joinRequest("g")
		req.MemberID, req.InstanceID = "", nil
		resp := ask[*kmsg.JoinGroupResponse](t, f, req, v)
		_, asked := lastAsked[*group.Join](t, f)
		equal(t, "member", resp.MemberID, asked.NewMemberID)
		if v < 4 {
			equal(t, "code", resp.ErrorCode, codeNone)
			return
		}
		equal(t, "code", resp.ErrorCode, codeMemberIDRequired)
		equal(t, "generation", resp.Generation, int32(-1))
		if v >= 7 {
			equal(t, "protocols of an error", []*string{resp.ProtocolType, resp.Protocol},
				[]*string{nil, nil})
		}
	})
}

func TestTheGroupKeepsItsOwnCopyOfWhatMembersSend(t *testing.T) {
	f := newFakeCluster()
	s := serveFake(t, f, Config{}) // its buffers are overwritten when they are given back
	c := dial(t, s)
	join := versioned(joinRequest("g"), 9)
	resp := request[*kmsg.JoinGroupResponse](c, join)
	sync := syncRequest("g")
	sync.Generation = resp.Generation
	synced := request[*kmsg.SyncGroupResponse](c, versioned(sync, 5))
	equal(t, "code", synced.ErrorCode, codeNone)
	for range 3 {
		request[*kmsg.ApiVersionsResponse](c, versioned(kmsg.NewPtrApiVersionsRequest(), 0))
	}
	f.coords.mu.Lock()
	defer f.coords.mu.Unlock()
	member := f.coords.groups["g"].member
	equal(t, "metadata", string(member.Metadata), "topics of range")
	equal(t, "assignment", string(member.Assignment), "partitions")
}
