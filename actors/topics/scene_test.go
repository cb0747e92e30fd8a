package topics

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
)

type nodeIDs = []messages.NodeID

const none = messages.NoNode

// scene is one partition of topic "t" among nodes 1 to 5, for tests of one
// decision: given this partition and these nodes, when this is decided, then the
// partition is that.
type scene struct {
	configs  messages.Config
	fenced   nodeIDs
	leaving  nodeIDs
	draining nodeIDs
	part     messages.Partition
}

var sceneTopic = messages.TopicID{1}

var scenePartition = messages.PartitionID{Topic: sceneTopic}

// oldDisk is the directory of every node of a scene; its epoch is 10 times its id.
const oldDisk = "disk a,disk b"

func (s scene) state() *State {
	d := &messages.Delta{To: 100, Snapshot: true, Controller: 1}
	has := func(list nodeIDs, n messages.NodeID) bool { return len(without(list, n)) < len(list) }
	for id := messages.NodeID(1); id <= 5; id++ {
		d.Nodes = append(d.Nodes, messages.Node{
			ID: id, Host: "h", Port: 9092, Epoch: messages.NodeEpoch(10 * id),
			Incarnation: "first life", Directory: oldDisk,
			Fenced: has(s.fenced, id), Leaving: has(s.leaving, id), Draining: has(s.draining, id),
		})
	}
	d.Topics = []*messages.Topic{{
		ID: sceneTopic, Name: "t", Configs: s.configs, Partitions: []messages.Partition{s.part},
	}}
	image, _ := messages.NewImage().Apply(d)
	return New(image, 0, Defaults{Partitions: 1, ReplicationFactor: 1, DeleteTopics: true})
}

// play decides, adopts, and returns the partition as it is then.
func (s scene) play(t *testing.T, when func(p *Plan) error) (messages.Partition, error) {
	t.Helper()
	state := s.state()
	if err := Check(state.Image()); err != nil {
		t.Fatalf("the scene cannot be: %v", err)
	}
	p := state.Plan()
	err := when(p)
	state.Adopt(p, p.Delta(101, 1, 0, "c"))
	if err := Check(state.Image()); err != nil {
		t.Error(err)
	}
	return *state.Image().Partition(scenePartition), err
}

// text writes a partition: what the leader is, and under which epochs,
// then "r" the replicas, "i" the in-sync and "e" the eligible ones, "+" the added
// and "-" the removed ones, where there are any.
func text(p messages.Partition) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d@%d.%d r%v i%v", p.Leader, p.LeaderEpoch, p.PartitionEpoch, p.Replicas, p.ISR)
	for _, list := range []struct {
		mark  string
		nodes nodeIDs
	}{{"e", p.ELR}, {"+", p.Adding}, {"-", p.Removing}} {
		if len(list.nodes) > 0 {
			fmt.Fprintf(&b, " %s%v", list.mark, list.nodes)
		}
	}
	return b.String()
}

func partitionOf(leader messages.NodeID, replicas, isr, elr nodeIDs) messages.Partition {
	return messages.Partition{
		Leader: leader, LeaderEpoch: 5, PartitionEpoch: 7, Replicas: replicas, ISR: isr, ELR: elr,
	}
}

func minISR(n int) messages.Config {
	return messages.Config{"min.insync.replicas": fmt.Sprint(n)}
}

func unclean(c messages.Config) messages.Config {
	out := messages.Config{"unclean.leader.election.enable": "true"}
	for k, v := range c {
		out[k] = v
	}
	return out
}

// outcome is a row's end: the partition as text, and the error.
func outcome(t *testing.T, got messages.Partition, err error, want string, wantErr error) {
	t.Helper()
	if text(got) != want {
		t.Errorf("the partition is %s, want %s", text(got), want)
	}
	if !errors.Is(err, wantErr) || wantErr == nil && err != nil {
		t.Errorf("the error is %v, want %v", err, wantErr)
	}
}
