package wire

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages"
)

// store is a registry reduced to a map.
type store map[string][]byte

func (s store) apply(entries ...Entry) {
	for _, e := range entries {
		if e.Value == nil {
			delete(s, e.Key)
		} else {
			s[e.Key] = e.Value
		}
	}
}

func (s store) entries() []Entry {
	var out []Entry
	for k, v := range s {
		out = append(out, Entry{k, v})
	}
	return out
}

func TestKeysAreReadAsTheyAreWritten(t *testing.T) {
	id := newGen(1).topicID()
	for _, k := range []Key{
		{Kind: KindCluster},
		{Kind: KindProducerIDs},
		{Kind: KindTopic, Topic: id},
		{Kind: KindPartitions, Topic: id, Chunk: 39},
		{Kind: KindNode, Node: 0},
		{Kind: KindConfig, Node: 7},
		{Kind: KindConfig, Node: messages.NoNode},
	} {
		got, err := ParseKey(k.String())
		same(t, got, k, err)
	}
	hex := strings.Repeat("ab", 16)
	for _, s := range []string{
		"", "cluster/", "topics", "topics/", "topics/" + strings.ToUpper(hex), "topics/" + hex + "/",
		"partitions/" + hex, "partitions/" + hex + "/-1", "partitions/" + hex + "/01",
		"nodes/-1", "nodes/4294967296", "configs/-1", "groups/a",
	} {
		if _, err := ParseKey(s); !errors.Is(err, ErrBadKey) {
			t.Errorf("ParseKey(%q) gave %v, want ErrBadKey", s, err)
		}
	}
}

func TestTheRegistryGivesBackWhatWasStored(t *testing.T) {
	for seed := range uint64(rounds / 4) {
		g := newGen(seed)
		s := store{}
		want := &Contents{
			ClusterID: "c1", FeatureLevel: 3, NextProducerID: 2000,
			Nodes: g.nodes(), NodeConfigs: g.nodeConfigs(),
		}
		for i := range 1 + g.IntN(3) {
			topic := g.topic(g.IntN(3 * PartitionsPerChunk))
			topic.Name = string(rune('a' + i))
			want.Topics = append(want.Topics, topic)
			s.apply(TopicEntries(nil, topic)...)
		}
		s.apply(ClusterEntry("c1", 3), ProducerIDsEntry(1000, 1000))
		for _, n := range want.Nodes {
			s.apply(NodeEntry(n))
		}
		for id, c := range want.NodeConfigs {
			s.apply(NodeConfigEntry(id, c))
		}
		got, err := Decode(s.entries())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Contents{got, want} { // nil and empty mean the same here
			c.Nodes = append([]messages.Node{}, c.Nodes...)
			for _, topic := range c.Topics {
				topic.Partitions = append([]messages.Partition{}, topic.Partitions...)
			}
		}
		same(t, got, want, nil)
	}
}

func TestChangingATopicWritesOnlyWhatChanged(t *testing.T) {
	g := newGen(3)
	before := g.topic(3 * PartitionsPerChunk)
	after := *before
	after.Partitions = slices.Clone(before.Partitions)
	after.Partitions[PartitionsPerChunk].LeaderEpoch /= 2
	after.Partitions[PartitionsPerChunk].PartitionEpoch = 12

	got := TopicEntries(before, &after)
	if len(got) != 1 || got[0].Key != PartitionsKey(before.ID, 1) {
		t.Errorf("one partition changed, written were %v", keysOf(got))
	}
	if got := TopicEntries(before, before); len(got) != 0 {
		t.Errorf("nothing changed, written were %v", keysOf(got))
	}
}

func TestAnyChangeOfATopicLeadsToItsNewState(t *testing.T) {
	for seed := range uint64(rounds / 4) {
		g := newGen(seed)
		before := g.topic(g.IntN(3 * PartitionsPerChunk))
		after := g.topic(g.IntN(3 * PartitionsPerChunk))
		after.ID = before.ID
		s, want := store{}, store{}
		s.apply(TopicEntries(nil, before)...)
		s.apply(TopicEntries(before, after)...)
		want.apply(TopicEntries(nil, after)...)
		if !reflect.DeepEqual(s, want) {
			t.Fatalf("seed %d: the registry differs from one that never saw the old state", seed)
		}
		s.apply(TopicEntries(after, nil)...)
		if len(s) != 0 {
			t.Fatalf("seed %d: a deleted topic left %v", seed, keysOf(s.entries()))
		}
	}
}

func TestASnapshotOfTheContentsReplacesAnImage(t *testing.T) {
	topic := newGen(5).topic(2)
	c := &Contents{ClusterID: "c1", Topics: []*messages.Topic{topic}}
	image, ok := messages.NewImage().Apply(c.Snapshot(9, 2, 1))
	if !ok || image.Version != 9 || image.ControllerEpoch != 2 || image.TopicByID(topic.ID) != topic {
		t.Errorf("image is %+v, applied: %v", image, ok)
	}
}

func TestARegistryThatContradictsItselfIsRefusedByName(t *testing.T) {
	g := newGen(7)
	topic := g.topic(PartitionsPerChunk + 1)
	other := g.topic(1)
	twin := *other
	twin.Name = topic.Name
	records := TopicEntries(nil, topic)
	for _, tt := range []struct {
		name    string
		entries []Entry
		names   string // must stand in the error
	}{
		{"a topic without its last partitions", records[:2], topic.Name},
		{"a topic without its first partitions", []Entry{records[0], records[2]}, records[2].Key},
		{"partitions without their topic", records[1:], topic.ID.Hex()},
		{"two topics of one name", append(TopicEntries(nil, &twin), records...), topic.Name},
		{"a topic under another one's key",
			[]Entry{{TopicKey(other.ID), records[0].Value}}, TopicKey(other.ID)},
		{"partitions under another number",
			[]Entry{{PartitionsKey(topic.ID, 5), records[1].Value}}, PartitionsKey(topic.ID, 5)},
		{"bytes that are no record", []Entry{{KeyCluster, []byte{0xff}}}, KeyCluster},
		{"a node under another one's key",
			[]Entry{{NodeKey(2), marshal(&NodeRecord{NodeId: 1, Host: "h"})}}, NodeKey(2)},
		{"producer ids that overflow",
			[]Entry{{KeyProducerIDs, marshal(&ProducerIdBlock{FirstId: 1<<63 - 1, Count: 9})}},
			KeyProducerIDs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode(tt.entries)
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.names) {
				t.Errorf("got %v, want ErrMalformed naming %q", err, tt.names)
			}
		})
	}
	if _, err := Decode([]Entry{{"secrets/1", nil}}); !errors.Is(err, ErrBadKey) {
		t.Errorf("a key of a newer version gave %v, want ErrBadKey", err)
	}
}

// The bytes are those that a node wrote before there were clusters.
func TestRecordsOfBeforeThereWereClustersAreRead(t *testing.T) {
	id := messages.TopicID{15: 1}
	topic := slices.Concat([]byte{0x0a, 16}, id[:], []byte{0x12, 1, 't', 0x20, 1})
	state := []byte{
		0x08, 2, 0x10, 3, 0x18, 4, // leader 1, epochs 3 and 4
		0x22, 2, 1, 2, 0x2a, 1, 1, // replicas 1 and 2, in sync is 1
	}
	chunk := slices.Concat([]byte{0x0a, 16}, id[:], []byte{0x1a, byte(len(state))}, state)
	node := []byte{0x08, 1, 0x12, 1, 'h', 0x18, 0x84, 0x47, 0x22, 1, 'r'}
	got, err := Decode([]Entry{
		{TopicKey(id), topic}, {PartitionsKey(id, 0), chunk}, {NodeKey(1), node},
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got.Nodes, []messages.Node{{ID: 1, Host: "h", Port: 9092, Rack: "r"}}, nil)
	same(t, got.Topics[0].Partitions, []messages.Partition{{
		Leader: 1, LeaderEpoch: 3, PartitionEpoch: 4,
		Replicas: []messages.NodeID{1, 2}, ISR: []messages.NodeID{1},
	}}, nil)
	// And a node or partition that uses nothing new is written as it was.
	if e := NodeEntry(got.Nodes[0]); !bytes.Equal(e.Value, node) {
		t.Errorf("the node is written as %x, was %x", e.Value, node)
	}
	if e := TopicEntries(nil, got.Topics[0]); !bytes.Equal(e[1].Value, chunk) {
		t.Errorf("the partitions are written as %x, were %x", e[1].Value, chunk)
	}
}

func TestDamagedRecordsAreRefusedOrReadAsSomethingWhole(t *testing.T) {
	g := newGen(4)
	entries := TopicEntries(nil, g.topic(3))
	for _, n := range g.nodes() {
		entries = append(entries, NodeEntry(n))
	}
	check := func(e Entry, value []byte) {
		t.Helper()
		got, err := Decode([]Entry{{e.Key, value}})
		if err != nil && !errors.Is(err, ErrMalformed) || err == nil && got == nil {
			t.Fatalf("%s with bytes %x: %v", e.Key, value, err)
		}
	}
	for _, e := range entries {
		for i := range e.Value {
			check(e, e.Value[:i])
			for bit := range 8 {
				damaged := slices.Clone(e.Value)
				damaged[i] ^= 1 << bit
				check(e, damaged)
			}
		}
	}
}

func TestARecordStaysBelowTheLimitOfARegistryValue(t *testing.T) {
	const limitBytes = 512 << 10
	topic := newGen(1).topic(PartitionsPerChunk)
	for i := range topic.Partitions {
		p := &topic.Partitions[i]
		p.Replicas = nil
		for id := range messages.NodeID(50) { // far more replicas than anyone wants
			p.Replicas = append(p.Replicas, 1<<30+id)
		}
		p.ISR, p.Leader = p.Replicas, p.Replicas[0]
	}
	for _, e := range TopicEntries(nil, topic) {
		if len(e.Value) > limitBytes {
			t.Errorf("%s has %d bytes", e.Key, len(e.Value))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range TopicEntries(nil, newGen(1).topic(3)) {
		f.Add(e.Key, e.Value)
	}
	f.Add(KeyCluster, ClusterEntry("c", 1).Value)
	f.Add(KeyProducerIDs, ProducerIDsEntry(5, 5).Value)
	f.Add(NodeKey(1), NodeEntry(messages.Node{ID: 1, Host: "h", Port: 9092}).Value)
	f.Add(ConfigKey(-1), NodeConfigEntry(-1, messages.Config{"a": "b"}).Value)
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		contents, err := Decode([]Entry{{key, value}})
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrBadKey) {
			t.Fatalf("unexpected error %v", err)
		}
		if err == nil && contents == nil {
			t.Fatal("neither contents nor an error")
		}
	})
}

func FuzzToDelta(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(marshal(FromDelta(newGen(seed).delta())))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var w MetadataDelta
		if proto.Unmarshal(b, &w) != nil {
			return
		}
		d, err := ToDelta(&w)
		if err != nil {
			return
		}
		again, err := ToDelta(FromDelta(d))
		same(t, again, d, err)
	})
}

func keysOf(entries []Entry) []string {
	var keys []string
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys
}
