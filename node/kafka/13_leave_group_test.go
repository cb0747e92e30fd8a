package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/group"
)

func leaveRequest(id string, members ...string) *kmsg.LeaveGroupRequest {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = id, members[0]
	for _, name := range members {
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID, m.InstanceID, m.Reason = name, ptr("i"+name), ptr("done")
		req.Members = append(req.Members, m)
	}
	return req
}

func TestLeaveGroupHandsOverWhatTheVersionSays(t *testing.T) {
	eachVersion(t, 13, func(t *testing.T, v int16) {
		f := newFakeCluster()
		script(f, func(_ string, r *group.Leave) {
			r.Reply(group.Left{Errs: []error{group.ErrUnknownMember, nil}[:len(r.Members)]})
		})
		resp := ask[*kmsg.LeaveGroupResponse](t, f, leaveRequest("g", "a", "b"), v)
		_, got := lastAsked[*group.Leave](t, f)
		switch {
		case v < 3:
			equal(t, "members", got.Members, []group.Leaving{{MemberID: "a"}})
			equal(t, "code", resp.ErrorCode, codeUnknownMemberID)
			return
		case v < 5:
			equal(t, "members", got.Members, []group.Leaving{
				{MemberID: "a", InstanceID: "ia"}, {MemberID: "b", InstanceID: "ib"}})
		default:
			equal(t, "members", got.Members, []group.Leaving{
				{MemberID: "a", InstanceID: "ia", Reason: "done"},
				{MemberID: "b", InstanceID: "ib", Reason: "done"}})
		}
		equal(t, "code", resp.ErrorCode, codeNone)
		equal(t, "answers", len(resp.Members), 2)
		for i, m := range resp.Members {
			equal(t, "member", m.MemberID, []string{"a", "b"}[i])
			equal(t, "instance", *m.InstanceID, []string{"ia", "ib"}[i])
			equal(t, "code", m.ErrorCode, []int16{codeUnknownMemberID, codeNone}[i])
		}
	})
}
