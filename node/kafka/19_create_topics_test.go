package kafka

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func createRequest(topics ...kmsg.CreateTopicsRequestTopic) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = topics
	return req
}

func newTopic(name string, partitions int32, replicas int16) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, replicas
	return t
}

// assigned is a topic whose partitions are assigned by hand.
func assigned(name string, partitions ...int32) kmsg.CreateTopicsRequestTopic {
	t := newTopic(name, -1, -1)
	for _, p := range partitions {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = p, []int32{1}
		t.ReplicaAssignment = append(t.ReplicaAssignment, a)
	}
	return t
}

func TestCreateTopicsAnswersWhatWasMade(t *testing.T) {
	eachVersion(t, 19, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.set("log.segment.bytes", "5000")
		topic := newTopic("orders", 3, 1)
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = "retention.ms", ptr("1000")
		topic.Configs = append(topic.Configs, c)
		resp := ask[*kmsg.CreateTopicsResponse](t, f, createRequest(topic), v)
		made := f.Image().Topic("orders")
		if made == nil || len(made.Partitions) != 3 || made.Configs["retention.ms"] != "1000" {
			t.Fatalf("made %+v", made)
		}
		got := resp.Topics[0]
		equal(t, "name", got.Topic, "orders")
		equal(t, "code", got.ErrorCode, codeNone)
		equal(t, "message", got.ErrorMessage, nil)
		if v >= 7 {
			equal(t, "id", got.TopicID, [16]byte(made.ID))
		}
		if v < 5 {
			return
		}
		equal(t, "partitions", got.NumPartitions, int32(3))
		equal(t, "replicas", got.ReplicationFactor, int16(1))
		sources := map[string]string{}
		for _, e := range got.Configs {
			sources[e.Name] = fmt.Sprintf("%s from %d", *e.Value, e.Source)
		}
		equal(t, "override", sources["retention.ms"], "1000 from 1")
		equal(t, "broker's own setting", sources["segment.bytes"], "5000 from 4")
		equal(t, "default", sources["cleanup.policy"], "delete from 5")
	})
}

func TestCreateTopicsFailsTopicsOneByOne(t *testing.T) {
	nullConfig := newTopic("null-config", 1, 1)
	c := kmsg.NewCreateTopicsRequestTopicConfig()
	c.Name = "retention.ms"
	nullConfig.Configs = append(nullConfig.Configs, c)
	both := assigned("both", 0)
	both.NumPartitions = 1
	replicas := assigned("replicas", 0)
	replicas.ReplicationFactor = 1
	eachVersion(t, 19, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("there", 1)
		resp := ask[*kmsg.CreateTopicsResponse](t, f, createRequest(
			newTopic("fine", 1, 1), newTopic("there", 1, 1), newTopic("twice", 1, 1),
			newTopic("a b", 1, 1), newTopic("wide", 1, 2), newTopic("twice", 2, 1), nullConfig,
			both, replicas, assigned("again", 0, 0), assigned("by-hand", 1, 0),
		), v)
		var got []string
		for _, topic := range resp.Topics {
			got = append(got, fmt.Sprintf("%s:%d", topic.Topic, topic.ErrorCode))
			if v >= 1 && topic.ErrorCode != codeNone {
				hasText(t, topic.Topic, topic.ErrorMessage)
			}
			if v >= 5 && topic.ErrorCode != codeNone {
				equal(t, "partitions on error", topic.NumPartitions, int32(-1))
				equal(t, "replicas on error", topic.ReplicationFactor, int16(-1))
				equal(t, "configs on error are empty, not null", topic.Configs != nil, true)
			}
		}
		equal(t, "outcomes", got, []string{"fine:0", "there:36", "twice:42", "a b:17", "wide:38",
			"null-config:40", "both:42", "replicas:42", "again:39", "by-hand:0"})
		equal(t, "topic named twice exists", f.Image().Topic("twice") != nil, false)
		equal(t, "partitions assigned by hand", len(f.Image().Topic("by-hand").Partitions), 2)
	})
}

func TestCreateTopicsValidatesWithoutCreating(t *testing.T) {
	f := newFakeCluster()
	for v := int16(1); v <= 7; v++ {
		req := createRequest(newTopic("orders", 3, 1))
		req.ValidateOnly = true
		resp := ask[*kmsg.CreateTopicsResponse](t, f, req, v)
		equal(t, "code", resp.Topics[0].ErrorCode, codeNone)
		equal(t, "exists", f.Image().Topic("orders") != nil, false)
		if v >= 5 {
			equal(t, "partitions", resp.Topics[0].NumPartitions, int32(3))
			equal(t, "has configs", len(resp.Topics[0].Configs) > 0, true)
		}
	}
}

func TestCreateTopicsPassesTheControllersFailureOn(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error
		since int16 // version that knows the code
		want  int16
		old   int16
	}{
		{"a controller that moved", messages.ErrNotController, 0, codeNotController, 0},
		{"a full queue", messages.ErrOverloaded, 6, codeThrottlingQuotaExceeded, codeRequestTimedOut},
		{"the client's timeout", context.DeadlineExceeded, 0, codeRequestTimedOut, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachVersion(t, 19, func(t *testing.T, v int16) {
				f := newFakeCluster()
				f.failControl(tt.err)
				want := tt.want
				if v < tt.since {
					want = tt.old
				}
				resp := ask[*kmsg.CreateTopicsResponse](t, f, createRequest(newTopic("a", 1, 1)), v)
				equal(t, "code", resp.Topics[0].ErrorCode, want)
			})
		})
	}
}

func TestCreateTopicsBoundsTheTopicsOfARequest(t *testing.T) {
	f := newFakeCluster()
	req := createRequest()
	for i := range 10_000 + 1 {
		req.Topics = append(req.Topics, newTopic(fmt.Sprint("t", i), 1, 1))
	}
	resp := ask[*kmsg.CreateTopicsResponse](t, f, req, 7)
	equal(t, "answers", len(resp.Topics), len(req.Topics))
	equal(t, "code", resp.Topics[0].ErrorCode, codePolicyViolation)
	equal(t, "topics in the cluster", f.Image().TopicCount(), 0)
}

func TestErrorMessagesStayShort(t *testing.T) {
	f := newFakeCluster()
	topic := newTopic("a", 1, 1)
	c := kmsg.NewCreateTopicsRequestTopicConfig()
	c.Name = strings.Repeat("\u00fc", 16000) // its value is null
	topic.Configs = append(topic.Configs, c)
	long := newTopic(strings.Repeat("x", 1<<15-1), 1, 1)
	for v := int16(1); v <= 7; v++ {
		resp := ask[*kmsg.CreateTopicsResponse](t, f, createRequest(topic, long), v)
		for _, got := range resp.Topics {
			if n := len(*got.ErrorMessage); n > errorMessageMax+len("...") {
				t.Errorf("message has %d bytes", n)
			}
			equal(t, "is text", utf8.ValidString(*got.ErrorMessage), true)
		}
		equal(t, "name", resp.Topics[1].Topic, long.Topic)
	}
}
