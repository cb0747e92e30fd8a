package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// metadataRequest names topics, and wants none of them created.
func metadataRequest(names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, n := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = ptr(n)
		req.Topics = append(req.Topics, t)
	}
	return req
}

func byID(id messages.TopicID) kmsg.MetadataRequestTopic {
	t := kmsg.NewMetadataRequestTopic()
	t.TopicID = id
	return t
}

// described lists "name:code" of the topics of an answer, in order.
func described(resp *kmsg.MetadataResponse) []string {
	all := []string{}
	for _, t := range resp.Topics {
		name := "null"
		if t.Topic != nil {
			name = *t.Topic
		}
		all = append(all, fmt.Sprintf("%s:%d", name, t.ErrorCode))
	}
	return all
}

func TestMetadataTellsAllTopicsFromNone(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("b", 1)
	f.addTopic("a", 1)
	f.addTopic("__consumer_offsets", 1)
	all := []string{"__consumer_offsets:0", "a:0", "b:0"}
	eachVersion(t, 3, func(t *testing.T, v int16) {
		null := kmsg.NewPtrMetadataRequest()
		empty := metadataRequest()
		want := []string{}
		if v == 0 {
			want = all
			null = empty // version 0 has no null
		}
		resp := ask[*kmsg.MetadataResponse](t, f, null, v)
		equal(t, "null topics", described(resp), all)
		equal(t, "internal", resp.Topics[0].IsInternal, v >= 1)
		equal(t, "no topics", described(ask[*kmsg.MetadataResponse](t, f, empty, v)), want)
	})
}

func TestMetadataAnswersNamedTopicsInOrderAndOnce(t *testing.T) {
	f := newFakeCluster()
	a := f.addTopic("a", 1)
	f.addTopic("b", 1)
	eachVersion(t, 3, func(t *testing.T, v int16) {
		req := metadataRequest("b", "gone", "a", "b", "gone")
		if v >= 12 {
			req.Topics = append(req.Topics, byID(a.ID))
		}
		// Below v4 there is no flag; the broker's setting, unset here, says no.
		equal(t, "topics", described(ask[*kmsg.MetadataResponse](t, f, req, v)),
			[]string{"b:0", "gone:3", "a:0"})
	})
}

func TestMetadataHasTheFieldsOfItsVersion(t *testing.T) {
	f := newFakeCluster()
	f.addNodes()
	topic := f.addTopic("a", 1)
	f.change("a", func(t *messages.Topic) {
		t.Partitions[0] = messages.Partition{Leader: 2, LeaderEpoch: 7,
			Replicas: []messages.NodeID{2, 1, 9}, ISR: []messages.NodeID{2, 1}}
	})
	eachVersion(t, 3, func(t *testing.T, v int16) {
		resp := ask[*kmsg.MetadataResponse](t, f, metadataRequest("a"), v)
		if len(resp.Brokers) != 3 {
			t.Fatalf("%d brokers", len(resp.Brokers))
		}
		self, other := resp.Brokers[0], resp.Brokers[1]
		equal(t, "own host", self.Host, "listener.example")
		equal(t, "own port", self.Port, int32(19092))
		equal(t, "other host", other.Host, "two.example")
		equal(t, "other port", other.Port, int32(9093))
		p := resp.Topics[0].Partitions[0]
		equal(t, "leader", p.Leader, int32(2))
		if v >= 1 {
			equal(t, "rack", other.Rack, ptr("r2"))
			equal(t, "missing rack", resp.Brokers[2].Rack, nil)
			equal(t, "controller", resp.ControllerID, int32(fakeNode))
			equal(t, "code", p.ErrorCode, codeNone)
			equal(t, "replicas", p.Replicas, []int32{2, 1, 9})
		} else {
			equal(t, "code", p.ErrorCode, codeReplicaNotAvailable)
			equal(t, "replicas", p.Replicas, []int32{2, 1})
		}
		equal(t, "isr", p.ISR, []int32{2, 1})
		if v >= 2 {
			equal(t, "cluster id", resp.ClusterID, ptr("fake-cluster-id-000000"))
		}
		if v >= 5 {
			equal(t, "offline replicas", p.OfflineReplicas, []int32{9})
		}
		if v >= 7 {
			equal(t, "leader epoch", p.LeaderEpoch, int32(7))
		}
		if v >= 10 {
			equal(t, "topic id", resp.Topics[0].TopicID, [16]byte(topic.ID))
		}
		equal(t, "top-level error", resp.ErrorCode, codeNone)
	})
}

func TestMetadataLeavesOutFencedNodes(t *testing.T) {
	f := replicated()
	f.change("a", func(t *messages.Topic) { t.Partitions[1].Leader = 3 }) // not moved yet
	eachVersion(t, 3, func(t *testing.T, v int16) {
		resp := ask[*kmsg.MetadataResponse](t, f, metadataRequest("a"), v)
		equal(t, "brokers", len(resp.Brokers), 2)
		parts := resp.Topics[0].Partitions
		if v == 0 {
			equal(t, "code", parts[0].ErrorCode, codeReplicaNotAvailable)
			equal(t, "live replicas", parts[0].Replicas, []int32{1, 2})
		} else {
			equal(t, "code", parts[0].ErrorCode, codeNone)
			equal(t, "replicas", parts[0].Replicas, []int32{1, 2, 3})
		}
		if v >= 5 {
			equal(t, "offline", parts[0].OfflineReplicas, []int32{3})
		}
		for _, p := range parts[1:] {
			equal(t, "code without a live leader", p.ErrorCode, codeLeaderNotAvailable)
			equal(t, "leader", p.Leader, -1)
		}
	})
}

func TestMetadataShowsPartitionsWithoutALiveLeader(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 2)
	f.change("a", func(t *messages.Topic) {
		t.Partitions[0].Leader, t.Partitions[0].LeaderEpoch = messages.NoNode, 8
		t.Partitions[1].Leader = 9 // not alive
	})
	eachVersion(t, 3, func(t *testing.T, v int16) {
		resp := ask[*kmsg.MetadataResponse](t, f, metadataRequest("a"), v)
		equal(t, "topic code", resp.Topics[0].ErrorCode, codeNone)
		for i, p := range resp.Topics[0].Partitions {
			equal(t, "partition", p.Partition, int32(i))
			equal(t, "code", p.ErrorCode, codeLeaderNotAvailable)
			equal(t, "leader", p.Leader, int32(-1))
			equal(t, "replicas", p.Replicas, []int32{1})
			equal(t, "isr", p.ISR, []int32{1})
		}
	})
}

func TestMetadataCreatesTopicsWhenClientAndBrokerWantIt(t *testing.T) {
	eachVersion(t, 3, func(t *testing.T, v int16) {
		for _, tt := range []struct {
			name    string
			broker  string
			client  bool
			created bool
		}{
			{"both want it", "true", true, true},
			{"the broker forbids it", "false", true, false},
			{"the client forbids it, which it can from v4 on", "true", false, v < 4},
		} {
			t.Run(tt.name, func(t *testing.T) {
				f := newFakeCluster()
				f.set("auto.create.topics.enable", tt.broker)
				req := metadataRequest("new")
				req.AllowAutoTopicCreation = tt.client
				resp := ask[*kmsg.MetadataResponse](t, f, req, v)
				want := []string{"new:3"}
				if tt.created {
					want = []string{"new:0"}
					equal(t, "leader", resp.Topics[0].Partitions[0].Leader, int32(fakeNode))
					equal(t, "partition code", resp.Topics[0].Partitions[0].ErrorCode, codeNone)
				}
				equal(t, "topics", described(resp), want)
				equal(t, "exists", f.Image().Topic("new") != nil, tt.created)
			})
		}
	})
}

func TestMetadataNeverCreatesInvalidOrInternalTopics(t *testing.T) {
	f := newFakeCluster()
	f.set("auto.create.topics.enable", "true")
	eachVersion(t, 3, func(t *testing.T, v int16) {
		req := metadataRequest("", ".", "..", "a b", "ü", "__consumer_offsets", "__transaction_state")
		req.AllowAutoTopicCreation = true
		resp := ask[*kmsg.MetadataResponse](t, f, req, v)
		equal(t, "topics", described(resp), []string{":17", ".:17", "..:17", "a b:17", "ü:17",
			"__consumer_offsets:3", "__transaction_state:3"})
		if v >= 1 {
			equal(t, "internal", resp.Topics[5].IsInternal, true)
		}
		equal(t, "topics in the cluster", f.Image().TopicCount(), 0)
	})
}

func TestMetadataCreatesNothingForAllTopicsOrForIDs(t *testing.T) {
	f := newFakeCluster()
	f.set("auto.create.topics.enable", "true")
	eachVersion(t, 3, func(t *testing.T, v int16) {
		req := metadataRequest()
		req.AllowAutoTopicCreation = true
		if v >= 12 {
			req.Topics = append(req.Topics, byID(messages.TopicID{1}))
		}
		ask[*kmsg.MetadataResponse](t, f, req, v)
		equal(t, "topics in the cluster", f.Image().TopicCount(), 0)
	})
}

func TestMetadataSaysWhyATopicWasNotCreated(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"a busy controller makes clients ask again", messages.ErrUnavailable, "new:5"},
		{"so does one that moved", messages.ErrNotController, "new:5"},
		{"too few nodes", fmt.Errorf("3 of 1: %w", messages.ErrInvalidReplicationFactor), "new:38"},
		{"a colliding name", messages.ErrInvalidTopic, "new:17"},
		{"a topic another caller made and deleted", messages.ErrTopicAlreadyExists, "new:3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeCluster()
			f.set("auto.create.topics.enable", "true")
			f.failControl(tt.err)
			req := metadataRequest("new")
			req.AllowAutoTopicCreation = true
			equal(t, "topics", described(ask[*kmsg.MetadataResponse](t, f, req, 9)),
				[]string{tt.want})
		})
	}
}

func TestMetadataLooksTopicsUpByID(t *testing.T) {
	f := newFakeCluster()
	topic := f.addTopic("a", 1)
	for v := int16(12); v <= 13; v++ {
		req := metadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{byID(messages.TopicID{9}), byID(topic.ID),
			byID(topic.ID), {}}
		resp := ask[*kmsg.MetadataResponse](t, f, req, v)
		equal(t, "topics", described(resp), []string{"null:100", "a:0", "null:42"})
		equal(t, "unknown id", resp.Topics[0].TopicID, [16]byte{9})
	}
}

func TestMetadataRefusesIDsInVersionsThatOnlyReturnThem(t *testing.T) {
	f := newFakeCluster()
	topic := f.addTopic("a", 1)
	for v := int16(10); v <= 11; v++ {
		for _, bad := range []kmsg.MetadataRequestTopic{byID(topic.ID), {}} {
			req := metadataRequest("a")
			req.Topics = append(req.Topics, bad)
			resp := ask[*kmsg.MetadataResponse](t, f, req, v)
			equal(t, "topics", described(resp), []string{"a:42", ":42"})
			equal(t, "brokers", len(resp.Brokers), 1)
		}
	}
}

func TestMetadataShowsAuthorizedOperationsToThoseWhoAsk(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 1)
	eachVersion(t, 3, func(t *testing.T, v int16) {
		resp := ask[*kmsg.MetadataResponse](t, f, metadataRequest("a"), v)
		equal(t, "cluster, not asked", resp.AuthorizedOperations, authorizedOpsUnset)
		equal(t, "topic, not asked", resp.Topics[0].AuthorizedOperations, authorizedOpsUnset)
		req := metadataRequest("a", "no such name", "__consumer_offsets")
		req.IncludeClusterAuthorizedOperations = v >= 8 && v <= 10
		req.IncludeTopicAuthorizedOperations = v >= 8
		resp = ask[*kmsg.MetadataResponse](t, f, req, v)
		wantTopic, wantCluster := authorizedOpsUnset, authorizedOpsUnset
		if v >= 8 {
			wantTopic = 3576 // read write create delete alter describe, both configs
		}
		if v >= 8 && v <= 10 {
			wantCluster = 8096 // create alter describe cluster_action, both configs, idempotent_write
		}
		equal(t, "cluster", resp.AuthorizedOperations, wantCluster)
		for i := range resp.Topics { // there or not: what counts is the name
			equal(t, *resp.Topics[i].Topic, resp.Topics[i].AuthorizedOperations, wantTopic)
		}
	})
}

func TestMetadataNamesALiveNodeAsController(t *testing.T) {
	for _, tt := range []struct {
		name       string
		controller messages.NodeID
		nodes      []messages.Node
		want       int32
	}{
		{"the controller", 2, []messages.Node{{ID: 1}, {ID: 2}}, 2},
		{"this node while there is no controller", messages.NoNode, []messages.Node{{ID: 1}}, 1},
		{"this node while the controller is down", 2, []messages.Node{{ID: 1}}, 1},
		{"none before this node has joined", messages.NoNode, []messages.Node{}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeCluster()
			f.apply(&messages.Delta{Controller: tt.controller, ClusterID: "c", Nodes: tt.nodes})
			resp := ask[*kmsg.MetadataResponse](t, f, metadataRequest(), 9)
			equal(t, "controller", resp.ControllerID, tt.want)
		})
	}
}
