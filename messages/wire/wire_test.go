package wire

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages"
)

// rounds is how many random values each property is tried with.
const rounds = 200

// gen draws random values of package messages.
type gen struct{ *rand.Rand }

func newGen(seed uint64) gen { return gen{rand.New(rand.NewPCG(seed, 17))} }

func (g gen) text(prefix string) string { return fmt.Sprintf("%s-%d-ø", prefix, g.IntN(1000)) }

func (g gen) topicID() (id messages.TopicID) {
	for id.IsZero() {
		for i := range id {
			id[i] = byte(g.Uint32())
		}
	}
	return id
}

func (g gen) config() messages.Config {
	if g.IntN(3) == 0 {
		return nil
	}
	c := messages.Config{}
	for range 1 + g.IntN(4) {
		c[g.text("setting")] = g.text("value")
	}
	return c
}

func (g gen) partition() messages.Partition {
	p := messages.Partition{
		Leader:         messages.NoNode,
		LeaderEpoch:    messages.LeaderEpoch(g.Int32()),
		PartitionEpoch: messages.PartitionEpoch(g.Int32()),
	}
	for _, id := range g.Perm(9)[:1+g.IntN(5)] {
		p.Replicas = append(p.Replicas, messages.NodeID(id))
	}
	for _, i := range g.Perm(len(p.Replicas))[:g.IntN(len(p.Replicas)+1)] {
		p.ISR = append(p.ISR, p.Replicas[i])
	}
	if len(p.ISR) > 0 {
		p.Leader = p.ISR[0]
	}
	for _, r := range p.Replicas {
		if !slices.Contains(p.ISR, r) && g.IntN(2) == 0 {
			p.ELR = append(p.ELR, r)
		}
		switch g.IntN(4) {
		case 0:
			p.Adding = append(p.Adding, r)
		case 1:
			p.Removing = append(p.Removing, r)
		}
	}
	return p
}

func (g gen) topic(partitions int) *messages.Topic {
	t := &messages.Topic{ID: g.topicID(), Name: g.text("topic"), Configs: g.config()}
	t.Partitions = make([]messages.Partition, partitions)
	for i := range t.Partitions {
		t.Partitions[i] = g.partition()
	}
	return t
}

func (g gen) nodes() []messages.Node {
	nodes := []messages.Node{}
	for id := range messages.NodeID(5) {
		if g.IntN(2) == 0 {
			nodes = append(nodes, messages.Node{
				ID: id, Host: g.text("host"), Port: g.Int32N(65536), Rack: g.text("rack"),
				Epoch: messages.NodeEpoch(g.Int64()), Incarnation: g.text("life"),
				Directory: g.text("dir"),
				Fenced:    g.IntN(2) == 0, Leaving: g.IntN(2) == 0, Draining: g.IntN(2) == 0,
			})
		}
	}
	return nodes
}

func (g gen) nodeConfigs() map[messages.NodeID]messages.Config {
	configs := map[messages.NodeID]messages.Config{}
	for id := messages.NoNode; id < 4; id++ {
		if c := g.config(); c != nil {
			configs[id] = c
		}
	}
	return configs
}

func (g gen) delta() *messages.Delta {
	d := &messages.Delta{
		From:            messages.MetadataVersion(g.Int64()),
		To:              messages.MetadataVersion(g.Int64()),
		ControllerEpoch: messages.ControllerEpoch(g.Int64()),
		Controller:      messages.NodeID(g.IntN(4) - 1),
		ClusterID:       g.text("cluster"),
		Snapshot:        g.IntN(2) == 0,
	}
	for range g.IntN(3) {
		d.Topics = append(d.Topics, g.topic(g.IntN(10)))
		d.Removed = append(d.Removed, g.topicID())
	}
	if g.IntN(2) == 0 {
		d.Nodes, d.NodeConfigs = g.nodes(), g.nodeConfigs()
	}
	return d
}

// crossed returns m after a trip over the network.
func crossed[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	out := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(marshal(m), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func same(t *testing.T, got, want any, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestADeltaCrossesTheNetworkUnchanged(t *testing.T) {
	for seed := range uint64(rounds) {
		want := newGen(seed).delta()
		got, err := ToDelta(crossed(t, FromDelta(want)))
		same(t, got, want, err)
	}
}

func TestAnUnchangedNodeSetIsNotAnEmptyOne(t *testing.T) {
	for _, nodes := range [][]messages.Node{nil, {}} {
		want := &messages.Delta{Nodes: nodes, Controller: messages.NoNode}
		got, err := ToDelta(crossed(t, FromDelta(want)))
		same(t, got, want, err)
	}
}

func TestCommandsCrossTheNetworkUnchanged(t *testing.T) {
	for seed := range uint64(rounds) {
		g := newGen(seed)
		create := []messages.CreateTopic{
			{Name: g.text("a"), Partitions: -1, ReplicationFactor: -1, Configs: g.config()},
			{Name: g.text("b"), Partitions: -1, ReplicationFactor: -1,
				Assignment: map[int32][]messages.NodeID{0: {1, 2}, 7: {-5, 1}}},
		}
		ids := []messages.TopicID{g.topicID(), g.topicID()}
		gotCreate, gotIDs, err := ToCreateTopics(crossed(t, FromCreateTopics(create, ids)))
		same(t, gotCreate, create, err)
		same(t, gotIDs, ids, err)

		refs := []messages.TopicRef{{Name: g.text("a")}, {ID: g.topicID()}}
		gotRefs, err := ToDeleteTopics(crossed(t, FromDeleteTopics(refs)))
		same(t, gotRefs, refs, err)

		grow := []messages.CreatePartitions{
			{Topic: g.text("a"), Count: g.Int32()},
			{Topic: g.text("b"), Count: 3, Assignment: [][]messages.NodeID{{1}, {2, 3}}},
		}
		gotGrow, err := ToCreatePartitions(crossed(t, FromCreatePartitions(grow)))
		same(t, gotGrow, grow, err)

		alter := []messages.AlterConfigs{{
			Resource: messages.ConfigResource{Type: messages.ConfigBroker, Name: "1"},
			Changes: []messages.ConfigChange{
				{Key: g.text("k"), Op: messages.ConfigOp(g.IntN(4)), Value: g.text("v")},
			},
			Replace: g.IntN(2) == 0,
		}}
		gotAlter, err := ToAlterConfigs(crossed(t, FromAlterConfigs(alter)))
		same(t, gotAlter, alter, err)
	}
}

func TestTopicResultsCrossTheNetworkWithTheMeaningOfTheirErrors(t *testing.T) {
	g := newGen(1)
	want := []messages.TopicResult{
		{Name: "a", ID: g.topicID(), Partitions: 3, ReplicationFactor: 2, Configs: messages.Config{}},
		{Name: "b", Partitions: -1, ReplicationFactor: -1},
	}
	failed := messages.TopicResult{
		Name: "c", Err: fmt.Errorf("topic %q: %w", "c", messages.ErrTopicAlreadyExists),
	}
	got, err := ToTopicResults(crossed(t, FromTopicResults(append(want, failed))))
	same(t, got[:2], want, err)
	if !errors.Is(got[2].Err, messages.ErrTopicAlreadyExists) ||
		got[2].Err.Error() != failed.Err.Error() {
		t.Errorf("the error came back as %v", got[2].Err)
	}
}

func TestErrorsKeepTheirTextAndMeaning(t *testing.T) {
	errs := []error{
		nil,
		errors.New("something else"),
		fmt.Errorf("append to orders-0: %w", messages.ErrNotLeader),
		fmt.Errorf("%w: %w", messages.ErrStorage, messages.ErrDiskFull),
	}
	got := ToErrors(crossed(t, FromErrors(errs)))
	if got[0] != nil || got[1].Error() != "something else" {
		t.Errorf("got %v", got[:2])
	}
	if !errors.Is(got[2], messages.ErrNotLeader) || got[2].Error() != errs[2].Error() {
		t.Errorf("got %v", got[2])
	}
	if !errors.Is(got[3], messages.ErrDiskFull) {
		t.Errorf("of several meanings the most telling one must cross, got %v", got[3])
	}
	if err := ToError(&Error{Code: 999, Message: "news"}); err == nil || err.Error() != "news" {
		t.Errorf("a code of a newer version must stay an error, got %v", err)
	}
}

func TestEverySentinelErrorHasACode(t *testing.T) {
	declared := 1 // ErrUnsupported is wire's own
	for _, name := range []string{"../errors.go", "../txn/txn.go", "../group/group.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Err") {
				declared++
			}
			return true
		})
	}
	if len(codes) != declared {
		t.Errorf("%d sentinels are declared, wire has codes for %d", declared, len(codes))
	}
	seen := map[ErrorCode]bool{}
	for _, c := range codes {
		if seen[c.code] {
			t.Errorf("two sentinels have %v", c.code)
		}
		seen[c.code] = true
		if !errors.Is(ToError(FromError(fmt.Errorf("x: %w", c.err))), c.err) {
			t.Errorf("%v loses its meaning", c.err)
		}
	}
}

func TestMalformedValuesAreRefused(t *testing.T) {
	id := make([]byte, 16)
	id[0] = 1
	for _, tt := range []struct {
		name string
		err  func() error
	}{
		{"a topic id that is too short", func() error {
			_, err := ToTopic(&Topic{TopicId: id[:15], Name: "a"})
			return err
		}},
		{"a topic id of zeros", func() error {
			_, err := ToTopic(&Topic{TopicId: make([]byte, 16), Name: "a"})
			return err
		}},
		{"a topic without a name", func() error {
			_, err := ToTopic(&Topic{TopicId: id})
			return err
		}},
		{"an in-sync replica that is no replica", func() error {
			_, err := ToPartition(&PartitionState{Leader: 1, Replicas: []int32{1}, Isr: []int32{1, 2}})
			return err
		}},
		{"an eligible leader that is no replica", func() error {
			_, err := ToPartition(&PartitionState{Leader: 1, Replicas: []int32{1}, Elr: []int32{2}})
			return err
		}},
		{"an added replica that is none", func() error {
			_, err := ToPartition(&PartitionState{Leader: 1, Replicas: []int32{1}, Adding: []int32{2}})
			return err
		}},
		{"a removed replica that is none", func() error {
			_, err := ToPartition(&PartitionState{Leader: 1, Replicas: []int32{1}, Removing: []int32{2}})
			return err
		}},
		{"an eligible leader twice", func() error {
			_, err := ToPartition(&PartitionState{Leader: -1, Replicas: []int32{1}, Elr: []int32{1, 1}})
			return err
		}},
		{"a replica that is in sync and eligible", func() error {
			_, err := ToPartition(&PartitionState{
				Leader: 1, Replicas: []int32{1}, Isr: []int32{1}, Elr: []int32{1}})
			return err
		}},
		{"a replica that is added and removed", func() error {
			_, err := ToPartition(&PartitionState{
				Leader: 1, Replicas: []int32{1, 2}, Adding: []int32{2}, Removing: []int32{2}})
			return err
		}},
		{"a partition without replicas", func() error {
			_, err := ToTopic(&Topic{TopicId: make([]byte, 16), Name: "t",
				Partitions: []*PartitionState{{Leader: -1}}})
			return err
		}},
		{"a node epoch below none", func() error {
			_, err := ToNode(&NodeRecord{NodeId: 1, Epoch: -2})
			return err
		}},
		{"a leader that is no replica", func() error {
			_, err := ToPartition(&PartitionState{Leader: 3, Replicas: []int32{1}})
			return err
		}},
		{"a replica that stands twice", func() error {
			_, err := ToPartition(&PartitionState{Leader: -1, Replicas: []int32{1, 1}})
			return err
		}},
		{"a negative leader epoch", func() error {
			_, err := ToPartition(&PartitionState{Leader: -1, LeaderEpoch: -1})
			return err
		}},
		{"a setting that stands twice", func() error {
			_, err := ToConfig([]*ConfigEntry{{Name: "a"}, {Name: "a"}})
			return err
		}},
		{"nodes out of order", func() error {
			nodes := &NodeSet{Nodes: []*NodeRecord{{NodeId: 2}, {NodeId: 1}}}
			_, err := ToDelta(&MetadataDelta{Nodes: nodes})
			return err
		}},
		{"a port above 65535", func() error {
			_, err := ToNode(&NodeRecord{Port: 65536})
			return err
		}},
		{"an unknown resource type", func() error {
			_, err := ToAlterConfigs(&AlterConfigs{Resources: []*ResourceChange{{Type: 8}}})
			return err
		}},
		{"a replication factor beyond 16 bits", func() error {
			_, _, err := ToCreateTopics(&CreateTopics{Topics: []*CreateTopic{{ReplicationFactor: 1 << 20}}})
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.err(); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
}
