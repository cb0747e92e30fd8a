package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// deleteRequest names topics in the way of the version.
func deleteRequest(version int16, names ...string) *kmsg.DeleteTopicsRequest {
	req := kmsg.NewPtrDeleteTopicsRequest()
	for _, n := range names {
		if version < 6 {
			req.TopicNames = append(req.TopicNames, n)
			continue
		}
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = ptr(n)
		req.Topics = append(req.Topics, t)
	}
	return req
}

func deleted(resp *kmsg.DeleteTopicsResponse) []string {
	var all []string
	for _, t := range resp.Topics {
		name := "null"
		if t.Topic != nil {
			name = *t.Topic
		}
		all = append(all, fmt.Sprintf("%s:%d", name, t.ErrorCode))
	}
	return all
}

func TestDeleteTopicsDeletesByNameInOrder(t *testing.T) {
	eachVersion(t, 20, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 1)
		b := f.addTopic("b", 1)
		f.addTopic("c", 1)
		resp := ask[*kmsg.DeleteTopicsResponse](t, f, deleteRequest(v, "b", "gone", "c", "c"), v)
		equal(t, "outcomes", deleted(resp), []string{"b:0", "gone:3", "c:42", "c:42"})
		equal(t, "a is there", f.Image().Topic("a") != nil, true)
		equal(t, "b is there", f.Image().Topic("b") != nil, false)
		equal(t, "c, named twice, is there", f.Image().Topic("c") != nil, true)
		if v >= 5 {
			hasText(t, "gone", resp.Topics[1].ErrorMessage)
			equal(t, "message of b", resp.Topics[0].ErrorMessage, nil)
		}
		if v >= 6 {
			equal(t, "id of b", resp.Topics[0].TopicID, [16]byte(b.ID))
		}
	})
}

func TestDeleteTopicsDeletesByID(t *testing.T) {
	f := newFakeCluster()
	a, b := f.addTopic("a", 1), f.addTopic("b", 1)
	c := f.addTopic("c", 1)
	req := deleteRequest(6, "b")
	req.Topics = append(req.Topics, []kmsg.DeleteTopicsRequestTopic{
		{TopicID: a.ID}, {TopicID: [16]byte{9}}, {}, {Topic: ptr("c"), TopicID: c.ID},
		{TopicID: b.ID}, // named already
	}...)
	resp := ask[*kmsg.DeleteTopicsResponse](t, f, req, 6)
	equal(t, "outcomes", deleted(resp), []string{"b:42", "a:0", "null:100", "null:42", "c:42", "b:42"})
	equal(t, "id of a", resp.Topics[1].TopicID, [16]byte(a.ID))
	equal(t, "unknown id", resp.Topics[2].TopicID, [16]byte{9})
	equal(t, "topics left", f.Image().TopicCount(), 2)
}

func TestDeleteTopicsCanBeDisabled(t *testing.T) {
	eachVersion(t, 20, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.set("delete.topic.enable", "false")
		f.addTopic("a", 1)
		want := []string{"a:73", "none:73"}
		if v < 3 {
			want = []string{"a:42", "none:42"}
		}
		resp := ask[*kmsg.DeleteTopicsResponse](t, f, deleteRequest(v, "a", "none"), v)
		equal(t, "outcomes", deleted(resp), want)
		equal(t, "a is there", f.Image().Topic("a") != nil, true)
	})
}

func TestDeleteTopicsPassesTheControllersFailureOn(t *testing.T) {
	eachVersion(t, 20, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 1)
		f.failControl(messages.ErrOverloaded)
		want := "a:89"
		if v < 5 {
			want = "a:7"
		}
		resp := ask[*kmsg.DeleteTopicsResponse](t, f, deleteRequest(v, "a"), v)
		equal(t, "outcomes", deleted(resp), []string{want})
	})
}
