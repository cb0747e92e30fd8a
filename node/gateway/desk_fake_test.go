package gateway

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

// deskFake is what a desk needs of a node: a cluster of one, coordinators that answer
// as the test says, and settings. It records what the coordinators are asked.
type deskFake struct {
	door.Cluster // what is not set below is not asked
	door.Coordinators

	mu       sync.Mutex
	image    *messages.Image
	asked    []coord.Request
	keys     []string
	script   func(r coord.Request) // answers groups and transactional ids
	err      error                 // of the controller, of Find, of Groups
	created  []messages.CreateTopic
	altered  []messages.AlterConfigs
	listed   []group.Listed
	added    txn.Added
	adds     []txn.Add
	noTopic  bool
	settings map[string]string
}

const (
	deskNode  messages.NodeID = 1
	deskOther messages.NodeID = 2 // fenced
)

// newDeskFake has topic "orders" with two partitions and an internal one.
func newDeskFake() *deskFake {
	f := &deskFake{settings: map[string]string{}}
	image, _ := messages.NewImage().Apply(&messages.Delta{To: 1, Controller: deskNode,
		Nodes: []messages.Node{{ID: deskNode}, {ID: deskOther, Fenced: true}},
		Topics: []*messages.Topic{
			deskTopic("orders", 1, 2, messages.Config{"segment.bytes": "1048576"}),
			deskTopic(coord.OffsetsTopic, 2, 1, nil),
		}})
	f.image = image
	return f
}

func deskTopicID(n byte) messages.TopicID { return messages.TopicID{0: 0xde, 15: n} }

func deskTopic(name string, id byte, partitions int, c messages.Config) *messages.Topic {
	t := &messages.Topic{ID: deskTopicID(id), Name: name, Configs: c}
	for range partitions {
		t.Partitions = append(t.Partitions, messages.Partition{Leader: deskNode,
			Replicas: []messages.NodeID{deskNode}, ISR: []messages.NodeID{deskNode}})
	}
	return t
}

func (f *deskFake) desk() *desk { return &desk{f, f, f} }

func (f *deskFake) Image() *messages.Image { return f.image }

func (f *deskFake) Self() messages.NodeID { return deskNode }

func (f *deskFake) NewProducerID(context.Context) (messages.ProducerID, error) { return 77, f.err }

func (f *deskFake) CreateTopics(_ context.Context, topics []messages.CreateTopic, _ bool,
) ([]messages.TopicResult, error) {
	f.created = append(f.created, topics...)
	results := make([]messages.TopicResult, len(topics))
	for i, t := range topics {
		results[i] = messages.TopicResult{Name: t.Name, ID: deskTopicID(9), Partitions: 3,
			ReplicationFactor: 1, Configs: t.Configs}
		if f.image.Topic(t.Name) != nil {
			results[i].Err = messages.ErrTopicAlreadyExists
		}
	}
	return results, f.err
}

func (f *deskFake) DeleteTopics(_ context.Context, topics []messages.TopicRef,
) ([]messages.TopicResult, error) {
	return make([]messages.TopicResult, len(topics)), f.err
}

func (f *deskFake) CreatePartitions(_ context.Context, topics []messages.CreatePartitions, _ bool,
) ([]messages.TopicResult, error) {
	results := make([]messages.TopicResult, len(topics))
	for i, t := range topics {
		if f.image.Topic(t.Topic) == nil {
			results[i].Err = messages.ErrUnknownTopicOrPartition
		}
	}
	return results, f.err
}

func (f *deskFake) AlterConfigs(_ context.Context, reqs []messages.AlterConfigs, _ bool,
) ([]error, error) {
	f.altered = append(f.altered, reqs...)
	return make([]error, len(reqs)), f.err
}

func (f *deskFake) Find(_ context.Context, _ coord.Kind, key string) (messages.NodeID, error) {
	f.noTopic = false
	if key == "elsewhere" {
		return deskOther, f.err
	}
	return deskNode, f.err
}

func (f *deskFake) Partition(kind coord.Kind, _ string) (messages.TopicPartition, error) {
	if f.noTopic {
		return messages.TopicPartition{}, messages.ErrUnknownTopicOrPartition
	}
	return messages.TopicPartition{Topic: kind.Topic(), Partition: 7}, nil
}

func (f *deskFake) Group(id string, r coord.Request) { f.ask(id, r) }

func (f *deskFake) Txn(id string, r coord.Request) { f.ask(id, r) }

func (f *deskFake) ask(key string, r coord.Request) {
	f.mu.Lock()
	f.asked, f.keys = append(f.asked, r), append(f.keys, key)
	f.mu.Unlock()
	if f.script == nil {
		r.Refuse(fmt.Errorf("%q: %w", key, group.ErrGroupNotFound))
		return
	}
	f.script(r)
}

func (f *deskFake) AddToTxn(_ context.Context, id string, a txn.Add) txn.Added {
	f.keys, f.adds = append(f.keys, id), append(f.adds, a)
	return f.added
}

func (f *deskFake) Groups(context.Context) ([]group.Listed, error) { return f.listed, f.err }

func (f *deskFake) Broker() []door.Setting { return nil }

func (f *deskFake) Value(name string) string { return f.settings[name] }

// refuse has every coordinator answer err.
func (f *deskFake) refuse(err error) {
	f.script = func(r coord.Request) { r.Refuse(err) }
}

// deskAnswer asks over the wire encoding and checks that request and answer belong
// together.
func deskAnswer(t *testing.T, f *deskFake, req *wire.ClientRequest) *wire.ClientResponse {
	t.Helper()
	req.RequestId = 42
	sent, received := proto.Clone(req).(*wire.ClientRequest), &wire.ClientResponse{}
	resp := f.desk().answer(t.Context(), who{"app", "192.0.2.9:4000"}, sent)
	b, err := proto.Marshal(resp)
	if err == nil {
		err = proto.Unmarshal(b, received)
	}
	if err != nil {
		t.Fatal(err)
	}
	if received.GetRequestId() != 42 {
		t.Errorf("request 42 is answered by %d", received.GetRequestId())
	}
	return received
}

// lastOf returns the last request that a coordinator was asked.
func lastOf[R coord.Request](t *testing.T, f *deskFake) R {
	t.Helper()
	if len(f.asked) == 0 {
		t.Fatal("no coordinator was asked")
	}
	r, ok := f.asked[len(f.asked)-1].(R)
	if !ok {
		t.Fatalf("the coordinator was asked %T", f.asked[len(f.asked)-1])
	}
	return r
}

// wantError checks what an error means; nil: that there is none.
func wantError(t *testing.T, what string, e *wire.Error, want error) {
	t.Helper()
	err := wire.ToError(e)
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func wantSame(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is\n%+v, want\n%+v", what, got, want)
	}
}

// wantErrors checks an ErrorList.
func wantErrors(t *testing.T, resp *wire.ClientResponse, want ...error) {
	t.Helper()
	wantError(t, "the answer", resp.GetError(), nil)
	got := resp.GetErrors().GetErrors()
	if len(got) != len(want) {
		t.Fatalf("%d outcomes, want %d", len(got), len(want))
	}
	for i := range want {
		wantError(t, fmt.Sprint("outcome ", i), got[i], want[i])
	}
}
