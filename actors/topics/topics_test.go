package topics

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
)

// world is a state with nodes 1 to n and a clock of ids.
type world struct {
	t     *testing.T
	state *State
	ids   byte
}

func newWorld(t *testing.T, nodes int) *world {
	w := &world{
		t: t,
		state: New(
			messages.NewImage(),
			0,
			Defaults{Partitions: 3, ReplicationFactor: 1, DeleteTopics: true},
		),
	}
	for i := 1; i <= nodes; i++ {
		p := w.state.Plan()
		w.register(p, messages.Node{ID: messages.NodeID(i), Host: "h", Port: 9092})
		w.adopt(p)
	}
	return w
}

func (w *world) register(p *Plan, n messages.Node) {
	w.t.Helper()
	epoch := messages.NodeEpoch(w.state.Image().Version + 1)
	if err := p.Register(messages.Registration{Node: n}, epoch); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) id() messages.TopicID {
	w.ids++
	return messages.TopicID{15: w.ids}
}

func (w *world) adopt(p *Plan) {
	w.t.Helper()
	w.state.Adopt(p, p.Delta(w.state.Image().Version+1, 1, 1, "c"))
}

func (w *world) create(
	name string,
	partitions int32,
	configs messages.Config,
) messages.TopicResult {
	p := w.state.Plan()
	r := p.CreateTopic(
		messages.CreateTopic{Name: name, Partitions: partitions, ReplicationFactor: 1, Configs: configs},
		w.id(),
	)
	w.adopt(p)
	return r
}

// plain asks for a topic, manual for one placed by hand.
func plain(name string, partitions int32, factor int16) messages.CreateTopic {
	return messages.CreateTopic{Name: name, Partitions: partitions, ReplicationFactor: factor}
}

func manual(count int32, assignment map[int32][]messages.NodeID) messages.CreateTopic {
	return messages.CreateTopic{
		Name: "t", Partitions: count, ReplicationFactor: -1, Assignment: assignment,
	}
}

func configured(key, value string) messages.CreateTopic {
	c := plain("t", 1, 1)
	c.Configs = messages.Config{key: value}
	return c
}

func TestCreateTopicRefuses(t *testing.T) {
	type nodes = []messages.NodeID
	type assignment = map[int32][]messages.NodeID
	badAssignment := messages.ErrInvalidReplicaAssignment
	for _, tt := range []struct {
		name string
		when messages.CreateTopic
		want error
	}{
		{"a name that is taken",
			plain("taken.topic", 1, 1), messages.ErrTopicAlreadyExists},
		{"a name that differs only in dots and underscores",
			plain("taken_topic", 1, 1), messages.ErrInvalidTopic},
		{"Kafka's metadata log", plain("__cluster_metadata", 1, 1), messages.ErrInvalidRequest},
		{"an empty name", plain("", 1, 1), messages.ErrInvalidTopic},
		{"a name of 250 characters",
			plain(strings.Repeat("x", 250), 1, 1), messages.ErrInvalidTopic},
		{"a name with a slash", plain("a/b", 1, 1), messages.ErrInvalidTopic},
		{"the name of a parent folder", plain("..", 1, 1), messages.ErrInvalidTopic},
		{"no partitions", plain("t", 0, 1), messages.ErrInvalidPartitions},
		{"more partitions than the bound",
			plain("t", MaxPartitions+1, 1), messages.ErrInvalidPartitions},
		{"more replicas than nodes", plain("t", 1, 3), messages.ErrInvalidReplicationFactor},
		{"an unknown setting", configured("retention.mz", "1"), messages.ErrInvalidConfig},
		{"a value out of bounds", configured("retention.ms", "-7"), messages.ErrInvalidConfig},
		{"a manual assignment with a count",
			manual(1, assignment{0: {1}}), messages.ErrInvalidRequest},
		{"a manual assignment with a gap", manual(-1, assignment{0: {1}, 2: {1}}), badAssignment},
		{"a manual assignment to a node that is not there",
			manual(-1, assignment{0: {9}}), badAssignment},
		{"a manual assignment that names a node twice",
			manual(-1, assignment{0: {1, 1}}), badAssignment},
		{"unequal numbers of replicas",
			manual(-1, assignment{0: nodes{1, 2}, 1: nodes{1}}), badAssignment},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 2)
			w.create("taken.topic", 1, nil)
			p := w.state.Plan()
			if r := p.CreateTopic(tt.when, w.id()); !errors.Is(r.Err, tt.want) {
				t.Fatalf("got %v, want %v", r.Err, tt.want)
			}
			if !p.Empty() {
				t.Fatal("a refused topic left something in the plan")
			}
		})
	}
}

func TestACollisionNamesTheOtherTopic(t *testing.T) {
	w := newWorld(t, 1)
	w.create("old.topic", 1, nil)
	p := w.state.Plan()
	if r := p.CreateTopic(plain("new.topic", 1, 1), w.id()); r.Err != nil {
		t.Fatal(r.Err)
	}
	for _, name := range []string{"old", "new"} { // of the state, of the same plan
		r := p.CreateTopic(plain(name+"_topic", 1, 1), w.id())
		if !errors.Is(r.Err, messages.ErrInvalidTopic) ||
			!strings.Contains(r.Err.Error(), `"`+name+`.topic"`) {
			t.Errorf("%v", r.Err)
		}
	}
}

func TestATopicIsCreatedWithSettingsAsTheyAreShown(t *testing.T) {
	w := newWorld(t, 1)
	w.create("t", 1, messages.Config{"retention.ms": " 5 "})
	if got := w.state.Image().Topic("t").Configs["retention.ms"]; got != "5" {
		t.Fatalf("%q", got)
	}
}

func TestATopicWithDefaultsGetsThoseOfTheBroker(t *testing.T) {
	w := newWorld(t, 1)
	p := w.state.Plan()
	r := p.CreateTopic(messages.CreateTopic{Name: "t", Partitions: -1, ReplicationFactor: -1}, w.id())
	if r.Err != nil || r.Partitions != 3 || r.ReplicationFactor != 1 {
		t.Fatalf("%+v", r)
	}
	if w.state.Image().Topic("t") != nil {
		t.Fatal("a plan changed the state before it was adopted")
	}
	w.adopt(p)
	topic := w.state.Image().Topic("t")
	for i, part := range topic.Partitions {
		if part.Leader != 1 || len(part.ISR) != 1 || part.LeaderEpoch != 0 {
			t.Fatalf("partition %d: %+v", i, part)
		}
	}
}

func TestCommandsOfOnePlanSeeEachOther(t *testing.T) {
	w := newWorld(t, 1)
	w.create("old", 1, nil)
	p := w.state.Plan()
	create := func(name string) error {
		return p.CreateTopic(
			messages.CreateTopic{Name: name, Partitions: 1, ReplicationFactor: 1},
			w.id(),
		).Err
	}
	if err := create("twin"); err != nil {
		t.Fatal(err)
	}
	if err := create("twin"); !errors.Is(err, messages.ErrTopicAlreadyExists) {
		t.Fatalf("second twin: %v", err)
	}
	if r := p.DeleteTopic(messages.TopicRef{Name: "old"}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := p.DeleteTopic(messages.TopicRef{Name: "old"}); !errors.Is(
		r.Err,
		messages.ErrUnknownTopicOrPartition,
	) {
		t.Fatalf("deleted twice: %v", r.Err)
	}
	if err := create("old"); err != nil {
		t.Fatalf("a name freed in the same plan: %v", err)
	}
	before := w.state.Image().Topic("old").ID
	w.adopt(p)
	after := w.state.Image().Topic("old")
	if after == nil || after.ID == before {
		t.Fatalf("the re-created topic is %+v", after)
	}
	if w.state.Image().TopicByID(before) != nil {
		t.Fatal("the deleted topic can still be found by its id")
	}
}

func TestATopicCreatedAndDeletedInOnePlanLeavesNothing(t *testing.T) {
	w := newWorld(t, 1)
	p := w.state.Plan()
	p.CreateTopic(messages.CreateTopic{Name: "brief", Partitions: 1, ReplicationFactor: 1}, w.id())
	p.DeleteTopic(messages.TopicRef{Name: "brief"})
	w.adopt(p)
	if w.state.Image().Topic("brief") != nil {
		t.Fatal("it is still there")
	}
	if r := w.create("brief", 1, nil); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func TestADeletedNameDoesNotCollideAnyMore(t *testing.T) {
	w := newWorld(t, 1)
	w.create("a.b", 1, nil)
	p := w.state.Plan()
	p.DeleteTopic(messages.TopicRef{Name: "a.b"})
	w.adopt(p)
	if r := w.create("a_b", 1, nil); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func TestDeletionCanBeForbidden(t *testing.T) {
	s := New(messages.NewImage(), 0, Defaults{})
	if r := s.Plan().DeleteTopic(messages.TopicRef{Name: "t"}); !errors.Is(
		r.Err,
		messages.ErrTopicDeletionDisabled,
	) {
		t.Fatal(r.Err)
	}
}

func TestCreatePartitionsOnlyGrows(t *testing.T) {
	w := newWorld(t, 2)
	w.create("t", 4, nil)
	for _, count := range []int32{4, 3, 0, -1} {
		p := w.state.Plan()
		if r := p.CreatePartitions(messages.CreatePartitions{Topic: "t", Count: count}); !errors.Is(
			r.Err,
			messages.ErrInvalidPartitions,
		) {
			t.Errorf("to %d: %v", count, r.Err)
		}
	}
	before := w.state.Image().Topic("t")
	p := w.state.Plan()
	r := p.CreatePartitions(messages.CreatePartitions{
		Topic: "t", Count: 6, Assignment: [][]messages.NodeID{{2}, {1}},
	})
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	w.adopt(p)
	after := w.state.Image().Topic("t")
	if len(after.Partitions) != 6 || after.Partitions[4].Leader != 2 ||
		after.Partitions[5].Leader != 1 {
		t.Fatalf("%+v", after.Partitions)
	}
	if after.ID != before.ID || len(before.Partitions) != 4 {
		t.Fatal("the older image changed, or the topic got another id")
	}
}

func TestAlterConfigs(t *testing.T) {
	set := func(k, v string) messages.ConfigChange { return messages.ConfigChange{Key: k, Value: v} }
	op := func(o messages.ConfigOp, k, v string) messages.ConfigChange {
		return messages.ConfigChange{Key: k, Op: o, Value: v}
	}
	for _, tt := range []struct {
		name    string
		changes []messages.ConfigChange
		replace bool
		want    messages.Config
		err     error
	}{
		{name: "a value is set beside the others",
			changes: []messages.ConfigChange{set("retention.ms", "5")},
			want:    messages.Config{"segment.bytes": "1048576", "retention.ms": "5"}},
		{name: "a value is deleted",
			changes: []messages.ConfigChange{op(messages.ConfigDelete, "segment.bytes", "")},
			want:    messages.Config{}},
		{name: "the old API replaces the whole set", replace: true,
			changes: []messages.ConfigChange{set("retention.ms", "5")},
			want:    messages.Config{"retention.ms": "5"}},
		{name: "an element is appended to the default of a list",
			changes: []messages.ConfigChange{op(messages.ConfigAppend, "cleanup.policy", "compact")},
			want: messages.Config{
				"segment.bytes": "1048576", "cleanup.policy": "delete,compact"}},
		{name: "an element is appended once",
			changes: []messages.ConfigChange{op(messages.ConfigAppend, "cleanup.policy", "delete")},
			want:    messages.Config{"segment.bytes": "1048576", "cleanup.policy": "delete"}},
		{name: "values are stored without what the parser ignores",
			changes: []messages.ConfigChange{set("retention.ms", " +5 "), set("preallocate", "TRUE"),
				set("cleanup.policy", "compact, delete"), set("compression.type", " gzip ")},
			want: messages.Config{"segment.bytes": "1048576", "retention.ms": "5",
				"preallocate": "true", "cleanup.policy": "compact,delete", "compression.type": "gzip"}},
		{name: "a name nobody knows is deleted, as MirrorMaker does with those of newer Kafkas",
			changes: []messages.ConfigChange{op(messages.ConfigDelete, "nope", "")},
			want:    messages.Config{"segment.bytes": "1048576"}},
		{name: "a number cannot be appended to",
			changes: []messages.ConfigChange{op(messages.ConfigAppend, "retention.ms", "5")},
			err:     messages.ErrInvalidConfig},
		{name: "an unknown name",
			changes: []messages.ConfigChange{set("nope", "5")}, err: messages.ErrInvalidConfig},
		{name: "one bad change spoils all",
			changes: []messages.ConfigChange{set("retention.ms", "5"), set("segment.bytes", "x")},
			err:     messages.ErrInvalidConfig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.create("t", 1, messages.Config{"segment.bytes": "1048576"})
			p := w.state.Plan()
			err := p.AlterConfigs(messages.AlterConfigs{Replace: tt.replace, Changes: tt.changes,
				Resource: messages.ConfigResource{Type: messages.ConfigTopic, Name: "t"}})
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if err != nil {
				if !p.Empty() {
					t.Fatal("a refused change left something in the plan")
				}
				return
			}
			w.adopt(p)
			if got := w.state.Image().Topic("t").Configs; fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBrokerConfigsAreDynamicOrRefused(t *testing.T) {
	w := newWorld(t, 1)
	alter := func(node, key, value string) error {
		p := w.state.Plan()
		err := p.AlterConfigs(messages.AlterConfigs{
			Resource: messages.ConfigResource{Type: messages.ConfigBroker, Name: node},
			Changes:  []messages.ConfigChange{{Key: key, Value: value}}})
		if err == nil {
			w.adopt(p)
		}
		return err
	}
	if err := alter("", "log.retention.ms", "1000"); err != nil {
		t.Fatal(err)
	}
	if err := alter("1", "log.retention.ms", "2000"); err != nil {
		t.Fatal(err)
	}
	got := w.state.Image().NodeConfigs
	if got[messages.NoNode]["log.retention.ms"] != "1000" || got[1]["log.retention.ms"] != "2000" {
		t.Fatalf("%v", got)
	}
	if err := alter("1", "log.dirs", "/elsewhere"); !errors.Is(err, messages.ErrInvalidRequest) {
		t.Fatalf("a setting that needs a restart: %v", err)
	}
	if err := alter("7", "log.retention.ms", "1"); !errors.Is(err, messages.ErrInvalidRequest) {
		t.Fatalf("a node that is not there: %v", err)
	}
}

func TestANodeThatComesBackLeadsUnderANewEpoch(t *testing.T) {
	w := newWorld(t, 2)
	w.create("t", 4, nil)
	p := w.state.Plan()
	w.register(p, messages.Node{ID: 1, Host: "h", Port: 9093})
	w.adopt(p)
	for i, part := range w.state.Image().Topic("t").Partitions {
		want := messages.LeaderEpoch(0)
		if part.Leader == 1 {
			want = 1
		}
		if part.LeaderEpoch != want {
			t.Errorf("partition %d led by %d has epoch %d, want %d", i, part.Leader, part.LeaderEpoch, want)
		}
	}
	if w.state.Image().Node(1).Port != 9093 {
		t.Fatal("the new address was not taken over")
	}
}

func TestProducerIDBlocksDoNotOverlap(t *testing.T) {
	w := newWorld(t, 1)
	seen := map[messages.ProducerID]bool{}
	for range 5 {
		p := w.state.Plan()
		first := p.ReserveProducerIDs()
		w.adopt(p)
		if seen[first] || first%ProducerIDBlock != 0 {
			t.Fatalf("block %d comes again or overlaps", first)
		}
		seen[first] = true
	}
}
