package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/group"
)

func heartbeatRequest(id string) *kmsg.HeartbeatRequest {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = id, "m", 5, ptr("i")
	return req
}

func TestHeartbeatHandsOverWhatTheVersionSays(t *testing.T) {
	eachVersion(t, 12, func(t *testing.T, v int16) {
		f := newFakeCluster()
		script(f, func(_ string, r *group.Heartbeat) { r.Reply(nil) })
		equal(t, "code", codeOf(t, f, heartbeatRequest("g"), v), codeNone)
		key, got := lastAsked[*group.Heartbeat](t, f)
		equal(t, "group", key, "g")
		got.Reply = nil
		want := &group.Heartbeat{MemberID: "m", Generation: 5}
		if v >= 3 {
			want.InstanceID = "i"
		}
		equal(t, "request", got, want)
	})
}

func TestHeartbeatSaysWhatIsWrong(t *testing.T) {
	for err, want := range map[error]int16{
		group.ErrRebalanceInProgress: 27, group.ErrIllegalGeneration: 22,
		group.ErrUnknownMember: 25, group.ErrFencedInstance: 82,
	} {
		f := newFakeCluster()
		f.coords.refuse(err)
		equal(t, err.Error(), codeOf(t, f, heartbeatRequest("g"), 4), want)
	}
}
