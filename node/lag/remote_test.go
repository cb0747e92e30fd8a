package lag

import (
	"context"
	"errors"
	"maps"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// newRemote asks a cluster of two brokers, each of which leads a partition of
// "orders" with three records, a minute apart up to noon.
func newRemote(t *testing.T) (*remote, *kfake.Cluster, *messages.Image) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(2, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for p := range int32(2) {
		if err := c.MoveTopicPartition("orders", p, p); err != nil {
			t.Fatal(err)
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("orders"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for p := range int32(2) {
		for i := range 3 {
			r := &kgo.Record{Partition: p, Value: []byte("v"),
				Timestamp: noon.Add(time.Duration(i-2) * time.Minute)}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	details, err := kadm.NewClient(cl).ListTopics(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	var nodes []messages.Node
	for id, address := range c.ListenAddrs() {
		host, port, _ := net.SplitHostPort(address)
		n, _ := strconv.Atoi(port)
		nodes = append(nodes, messages.Node{ID: messages.NodeID(id), Host: host, Port: int32(n)})
	}
	topic := &messages.Topic{Name: "orders", ID: messages.TopicID(details["orders"].ID),
		Partitions: []messages.Partition{{Leader: 0}, {Leader: 1}}}
	im, ok := messages.NewImage().Apply(&messages.Delta{To: 1, Snapshot: true, Nodes: nodes,
		Topics: []*messages.Topic{topic}})
	if !ok {
		t.Fatal("the image is refused")
	}
	r := &remote{image: func() *messages.Image { return im }}
	t.Cleanup(r.close)
	return r, c, im
}

func TestLeadersOnOtherNodesTellEndsAndTimes(t *testing.T) {
	r, _, _ := newRemote(t)
	asked := []messages.TopicPartition{orders(0), orders(1), orders(2), {Topic: "none"}}
	ends := r.ends(t.Context(), asked)
	want := map[messages.TopicPartition]messages.Offset{orders(0): 3, orders(1): 3}
	if !maps.Equal(ends, want) {
		t.Errorf("ends are %v, want %v", ends, want)
	}
	times := r.times(t.Context(), []place{{orders(0), 0}, {orders(1), 1}, {orders(1), 2},
		{orders(0), 3},
		{orders(0), 9}, {orders(5), 0}})
	wantTimes := map[place]messages.Timestamp{
		{orders(0), 0}: messages.Timestamp(noon.Add(-2 * time.Minute).UnixMilli()),
		{orders(1), 1}: messages.Timestamp(noon.Add(-time.Minute).UnixMilli()),
		{orders(1), 2}: messages.Timestamp(noon.UnixMilli()),
	}
	if !maps.Equal(times, wantTimes) {
		t.Errorf("times are %v, want %v", times, wantTimes)
	}
}

func TestALeaderThatDoesNotAnswerHoldsUpNoOther(t *testing.T) {
	r, c, _ := newRemote(t)
	if len(r.ends(t.Context(), []messages.TopicPartition{orders(1)})) != 1 {
		t.Fatal("the leader of partition 1 does not answer yet")
	}
	c.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		switch req.(type) {
		case *kmsg.ListOffsetsRequest, *kmsg.FetchRequest:
			if c.CurrentNode() == 1 {
				return nil, errors.New("hung up"), true
			}
		}
		return nil, nil, false
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	ends := r.ends(ctx, []messages.TopicPartition{orders(0), orders(1)})
	if want := map[messages.TopicPartition]messages.Offset{orders(0): 3}; !maps.Equal(ends, want) {
		t.Errorf("ends are %v, want %v", ends, want)
	}
	times := r.times(t.Context(), []place{{orders(0), 0}, {orders(1), 0}})
	if len(times) != 1 {
		t.Errorf("times are %v", times)
	}
}

func TestNobodyIsAskedWhenNoNodeIsKnown(t *testing.T) {
	r := &remote{image: messages.NewImage}
	defer r.close()
	if ends := r.ends(t.Context(), []messages.TopicPartition{orders(0)}); len(ends) != 0 {
		t.Errorf("ends are %v", ends)
	}
	if times := r.times(t.Context(), []place{{orders(0), 0}}); len(times) != 0 || r.client != nil {
		t.Errorf("times are %v", times)
	}
}
