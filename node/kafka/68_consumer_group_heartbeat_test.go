package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// consumerHeartbeatRequest joins.
func consumerHeartbeatRequest(id string) *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.RebalanceTimeoutMillis = id, "m", 60_000
	req.SubscribedTopicNames = []string{"t"}
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return req
}

func TestConsumerGroupHeartbeatSaysAllOrNothing(t *testing.T) {
	eachVersion(t, 68, func(t *testing.T, v int16) {
		f := newFakeCluster()
		topic := f.addTopic("t", 4)
		script(f, func(_ string, r *group.ConsumerHeartbeat) {
			r.Reply(group.ConsumerHeartbeated{MemberID: "m", MemberEpoch: 3})
		})
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch = "g", "m", 3
		resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](t, f, req, v)
		equal(t, "assignment unchanged", resp.Assignment == nil, true)
		_, got := lastAsked[*group.ConsumerHeartbeat](t, f)
		got.Reply, got.NewMemberID = nil, ""
		equal(t, "least", got, &group.ConsumerHeartbeat{MemberID: "m", MemberEpoch: 3,
			ClientHost: "/192.0.2.9", RebalanceTimeoutMs: -1})

		req.InstanceID, req.RackID, req.ServerAssignor = ptr("i"), ptr("r"), ptr("range")
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 60_000, []string{"t"}
		req.SubscribedTopicRegex = ptr("t.*")
		owned := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		owned.TopicID, owned.Partitions = topic.ID, []int32{3, 1}
		gone := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		gone.TopicID, gone.Partitions = [16]byte{9}, []int32{0}
		req.Topics = append(req.Topics, owned, gone)
		ask[*kmsg.ConsumerGroupHeartbeatResponse](t, f, req, v)
		_, got = lastAsked[*group.ConsumerHeartbeat](t, f)
		got.Reply, got.NewMemberID = nil, ""
		want := &group.ConsumerHeartbeat{MemberID: "m", MemberEpoch: 3, InstanceID: "i",
			ClientHost: "/192.0.2.9", Rack: ptr("r"), RebalanceTimeoutMs: 60_000,
			Topics: []string{"t"}, HasTopics: true, Assignor: ptr("range"), HasOwned: true,
			Owned: []group.TopicPartitions{{Topic: topic.ID, Name: "t", Partitions: []int32{1, 3}},
				{Topic: messages.TopicID{9}, Partitions: []int32{0}}}}
		if v >= 1 {
			want.Regex = ptr("t.*")
		}
		equal(t, "most", got, want)
	})
}

func TestConsumerGroupHeartbeatAnswersWithTheAssignment(t *testing.T) {
	eachVersion(t, 68, func(t *testing.T, v int16) {
		f := newFakeCluster()
		script(f, func(_ string, r *group.ConsumerHeartbeat) {
			r.Reply(group.ConsumerHeartbeated{MemberID: "m", MemberEpoch: 4,
				HeartbeatIntervalMs: 5000, HasAssigned: true, Assigned: []group.TopicPartitions{
					{Topic: messages.TopicID{7}, Name: "t", Partitions: []int32{1, 3}}}})
		})
		resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](t, f, consumerHeartbeatRequest("g"), v)
		equal(t, "member", *resp.MemberID, "m")
		equal(t, "epoch", resp.MemberEpoch, int32(4))
		equal(t, "interval", resp.HeartbeatIntervalMillis, int32(5000))
		equal(t, "topic", resp.Assignment.Topics[0].TopicID, [16]byte{7})
		equal(t, "partitions", resp.Assignment.Topics[0].Partitions, []int32{1, 3})
	})
}

func TestConsumerGroupHeartbeatMakesIDsInVersion0Alone(t *testing.T) {
	f := newFakeCluster()
	req := consumerHeartbeatRequest("g")
	req.MemberID = ""
	resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](t, f, req, 0)
	_, got := lastAsked[*group.ConsumerHeartbeat](t, f)
	equal(t, "member", *resp.MemberID, got.NewMemberID)
	equal(t, "length of the id", len(got.NewMemberID), 36)
	equal(t, "version 1", codeOf(t, f, req, 1), codeInvalidRequest)
}

func TestConsumerGroupHeartbeatRefusesWhatCannotBe(t *testing.T) {
	eachVersion(t, 68, func(t *testing.T, v int16) {
		for name, edit := range map[string]func(*kmsg.ConsumerGroupHeartbeatRequest){
			"no group":       func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Group = "" },
			"empty instance": func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = ptr("") },
			"empty rack":     func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RackID = ptr("") },
			"no member": func(r *kmsg.ConsumerGroupHeartbeatRequest) {
				r.MemberID, r.MemberEpoch = "", 1
			},
			"no such epoch":    func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -3 },
			"dynamic and back": func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -2 },
			"joins without timeout": func(r *kmsg.ConsumerGroupHeartbeatRequest) {
				r.RebalanceTimeoutMillis = -1
			},
			"joins and hides": func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Topics = nil },
			"joins and owns": func(r *kmsg.ConsumerGroupHeartbeatRequest) {
				r.Topics = append(r.Topics, kmsg.NewConsumerGroupHeartbeatRequestTopic())
			},
			"joins and reads nothing": func(r *kmsg.ConsumerGroupHeartbeatRequest) {
				r.SubscribedTopicNames = nil
			},
		} {
			f := newFakeCluster()
			req := consumerHeartbeatRequest("g")
			edit(req)
			resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](t, f, req, v)
			equal(t, name, resp.ErrorCode, codeInvalidRequest)
			hasText(t, name, resp.ErrorMessage)
			equal(t, "coordinators asked", f.coords.count(), 0)
		}
	})
}

func TestConsumerGroupHeartbeatSaysWhatIsWrong(t *testing.T) {
	for err, want := range map[error]int16{
		group.ErrFencedMemberEpoch: 110, group.ErrUnreleasedInstance: 111,
		group.ErrUnsupportedAssignor: 112, group.ErrInvalidRegex: 128, group.ErrFull: 81,
		group.ErrGroupNotFound: 69, group.ErrUnknownMember: 25,
	} {
		f := newFakeCluster()
		f.coords.refuse(err)
		resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](t, f, consumerHeartbeatRequest("g"), 1)
		equal(t, err.Error(), resp.ErrorCode, want)
		hasText(t, err.Error(), resp.ErrorMessage)
		equal(t, "member", resp.MemberID == nil, true)
	}
}
