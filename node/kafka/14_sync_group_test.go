package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/group"
)

func syncRequest(id string) *kmsg.SyncGroupRequest {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = id, "m", 5, ptr("i")
	req.ProtocolType, req.Protocol = ptr("consumer"), ptr("range")
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = "m", []byte("partitions")
	req.GroupAssignment = append(req.GroupAssignment, a)
	return req
}

func TestSyncGroupHandsOverWhatTheVersionSays(t *testing.T) {
	eachVersion(t, 14, func(t *testing.T, v int16) {
		f := newFakeCluster()
		script(f, func(_ string, r *group.Sync) {
			r.Reply(group.Synced{ProtocolType: "consumer", Protocol: "range", Assignment: []byte("p")})
		})
		resp := ask[*kmsg.SyncGroupResponse](t, f, syncRequest("g"), v)
		equal(t, "code", resp.ErrorCode, codeNone)
		equal(t, "assignment", string(resp.MemberAssignment), "p")
		key, got := lastAsked[*group.Sync](t, f)
		equal(t, "group", key, "g")
		got.Reply = nil
		want := &group.Sync{MemberID: "m", Generation: 5,
			Assignments: map[string][]byte{"m": []byte("partitions")}}
		if v >= 3 {
			want.InstanceID = "i"
		}
		if v >= 5 {
			want.ProtocolType, want.Protocol = "consumer", "range"
			equal(t, "type", *resp.ProtocolType, "consumer")
			equal(t, "protocol", *resp.Protocol, "range")
		}
		equal(t, "request", got, want)
	})
}

func TestSyncGroupMustNameTheProtocolFromVersion5(t *testing.T) {
	for _, edit := range []func(*kmsg.SyncGroupRequest){
		func(r *kmsg.SyncGroupRequest) { r.ProtocolType = nil },
		func(r *kmsg.SyncGroupRequest) { r.Protocol = nil },
	} {
		f := newFakeCluster()
		req := syncRequest("g")
		edit(req)
		equal(t, "code", codeOf(t, f, req, 5), codeInconsistentGroupProtocol)
		equal(t, "coordinators asked", f.coords.count(), 0)
	}
}
