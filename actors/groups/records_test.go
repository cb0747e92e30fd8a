package groups

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

var (
	tpExample = messages.TopicPartition{Topic: "orders", Partition: 7}
	idExample = messages.TopicID{1, 2, 3, 15: 9}
)

func offsetExamples() []group.Offset {
	o := group.Offset{
		Topic: "orders", Partition: 7, Offset: 1 << 40, Epoch: 12, Metadata: "grüße",
		CommitMs: 1_700_000_000_000, ExpireMs: messages.NoTimestamp,
	}
	withID, expiring, bare := o, o, o
	withID.TopicID = idExample
	withID.Metadata = string(make([]byte, 300)) // a length of two bytes
	expiring.ExpireMs, expiring.Epoch = 1_700_000_000_001, messages.NoEpoch
	bare.Epoch, bare.Metadata, bare.Offset = messages.NoEpoch, "", 0
	return []group.Offset{o, withID, expiring, bare}
}

func kafkaOffset(version int16, o *group.Offset) kmsg.OffsetCommitValue {
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch = version, int64(o.Offset), int32(o.Epoch)
	v.Metadata, v.CommitTimestamp = o.Metadata, int64(o.CommitMs)
	v.ExpireTimestamp, v.TopicID = int64(o.ExpireMs), o.TopicID
	return v
}

func TestOffsetRecordsAreThoseOfKafka(t *testing.T) {
	versions := []int16{3, 4, 1, 3}
	for i, o := range offsetExamples() {
		r := offsetRecord(groupID, &o)
		key := kmsg.NewOffsetCommitKey()
		key.Version, key.Group, key.Topic, key.Partition = 1, groupID, "orders", 7
		if want := key.AppendTo(nil); !bytes.Equal(r.Key, want) {
			t.Errorf("key %x, want %x", r.Key, want)
		}
		value := kafkaOffset(versions[i], &o)
		if want := value.AppendTo(nil); !bytes.Equal(r.Value, want) {
			t.Errorf("value %x, want %x", r.Value, want)
		}
		got, err := parseOffsetValue(tpExample, r.Value)
		if err != nil || got != o {
			t.Errorf("read back %+v, %v, want %+v", got, err, o)
		}
	}
}

func TestOffsetsOfAllVersionsAreRead(t *testing.T) {
	for version := range int16(5) {
		o := offsetExamples()[0]
		if version < 3 {
			o.Epoch = messages.NoEpoch
		}
		if version == 1 {
			o.ExpireMs = 5
		}
		if version == 4 {
			o.TopicID = idExample
		}
		value := kafkaOffset(version, &o)
		if version == 4 { // a tag of a later Kafka
			value.UnknownTags.Set(5, []byte("news"))
		}
		got, err := parseOffsetValue(tpExample, value.AppendTo(nil))
		if err != nil || got != o {
			t.Errorf("version %d: %+v, %v, want %+v", version, got, err, o)
		}
	}
}

func metadataExample() *metadata {
	return &metadata{
		protocolType: "consumer", generation: 9, protocol: "range", leader: "b",
		since: 1_700_000_000_000, members: []memberMetadata{
			{id: "a", clientID: "c", clientHost: "/h", rebalanceMs: 5, sessionMs: 6,
				subscription: []byte("s"), assignment: []byte{}},
			{id: "b", instance: "i", clientID: "", clientHost: "/h", rebalanceMs: 7, sessionMs: 8,
				subscription: []byte{}, assignment: []byte("x")},
		},
	}
}

func kafkaMetadata(version int16, m *metadata) kmsg.GroupMetadataValue {
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Generation = version, m.protocolType, m.generation
	optional := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	v.Protocol, v.Leader = optional(m.protocol), optional(m.leader)
	v.CurrentStateTimestamp = int64(m.since)
	for _, o := range m.members {
		n := kmsg.NewGroupMetadataValueMember()
		n.MemberID, n.InstanceID, n.ClientID = o.id, optional(o.instance), o.clientID
		n.ClientHost, n.RebalanceTimeoutMillis = o.clientHost, o.rebalanceMs
		n.SessionTimeoutMillis, n.Subscription = o.sessionMs, o.subscription
		n.Assignment = o.assignment
		v.Members = append(v.Members, n)
	}
	return v
}

func TestGroupRecordsAreThoseOfKafka(t *testing.T) {
	for _, m := range []*metadata{
		metadataExample(), {protocolType: "consumer", generation: 3, since: messages.NoTimestamp},
	} {
		r := metadataRecord(groupID, m)
		key := kmsg.NewGroupMetadataKey()
		key.Version, key.Group = 2, groupID
		if want := key.AppendTo(nil); !bytes.Equal(r.Key, want) {
			t.Errorf("key %x, want %x", r.Key, want)
		}
		value := kafkaMetadata(3, m)
		if want := value.AppendTo(nil); !bytes.Equal(r.Value, want) {
			t.Errorf("value %x, want %x", r.Value, want)
		}
		got, err := parseMetadata(r.Value)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("read back %+v, %v, want %+v", got, err, m)
		}
	}
}

func TestGroupsOfAllVersionsAreRead(t *testing.T) {
	for version := range int16(5) {
		m := metadataExample()
		if version < 2 {
			m.since = messages.NoTimestamp
		}
		for i := range m.members {
			if version < 1 {
				m.members[i].rebalanceMs = -1
			}
			if version < 3 {
				m.members[i].instance = ""
			}
		}
		value := kafkaMetadata(version, m)
		got, err := parseMetadata(value.AppendTo(nil))
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("version %d: %+v, %v, want %+v", version, got, err, m)
		}
	}
}

func TestKeysSayWhichGroupARecordIsOf(t *testing.T) {
	regex := kmsg.OffsetCommitKey{Version: 16, Group: groupID, Topic: "t.*"}
	member := kmsg.OffsetCommitKey{Version: 5, Group: groupID, Topic: "member"}
	old := kmsg.OffsetCommitKey{Version: 0, Group: groupID, Topic: "orders", Partition: 7}
	share := kmsg.GroupMetadataKey{Version: 11, Group: groupID}
	future := kmsg.GroupMetadataKey{Version: 99, Group: groupID}
	for _, tt := range []struct {
		name string
		key  []byte
		want Key
		err  error
	}{
		{"an offset", appendOffsetKey(groupID, tpExample),
			Key{Version: 1, Group: groupID, Topic: "orders", Partition: 7}, nil},
		{"an offset of version 0", old.AppendTo(nil),
			Key{Version: 0, Group: groupID, Topic: "orders", Partition: 7}, nil},
		{"a classic group", appendMetadataKey(groupID), Key{Version: 2, Group: groupID}, nil},
		{"a consumer group", member.AppendTo(nil), Key{Version: 5, Group: groupID}, nil},
		{"a regular expression", regex.AppendTo(nil), Key{Version: 16, Group: groupID}, nil},
		{"a share group", share.AppendTo(nil), Key{}, ErrUnknownKey},
		{"something of the future", future.AppendTo(nil), Key{}, ErrUnknownKey},
		{"nothing", nil, Key{}, ErrDamaged},
		{"a cut key", appendOffsetKey(groupID, tpExample)[:9], Key{}, ErrDamaged},
		{"a key with something behind", append(appendMetadataKey(groupID), 0), Key{}, ErrDamaged},
	} {
		got, err := ParseKey(tt.key)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %+v, %v, want %+v, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}

func TestDamagedRecordsAreErrorsThatNameTheGroup(t *testing.T) {
	o := offsetExamples()[1]
	whole := appendOffsetValue(&o)
	for n := range whole {
		if _, err := parseOffsetValue(tpExample, whole[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("offset of %d bytes: %v", n, err)
		}
	}
	whole = appendMetadata(metadataExample())
	for n := range whole {
		if _, err := parseMetadata(whole[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("group of %d bytes: %v", n, err)
		}
	}
	w := newWorld(t)
	twice := metadataExample()
	twice.members[1].id = "a"
	for _, r := range []entry{
		{Replayed: replayed(appendOffsetKey(groupID, tpExample), []byte{0, 9})},
		{Replayed: replayed(appendMetadataKey(groupID), []byte{0, 3, 0})},
		{Replayed: replayed(appendMetadataKey(groupID), appendMetadata(twice))},
	} {
		err := w.fresh().Replay(r.Replayed)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `group "g"`) {
			t.Errorf("replay: %v", err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(appendOffsetKey(groupID, tpExample))
	f.Add(appendMetadataKey(groupID))
	f.Add([]byte{0, 5, 0, 1, 'g', 0})
	f.Add([]byte{0x7f, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		switch {
		case err != nil:
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnknownKey) {
				t.Fatal(err)
			}
		case k.isOffset():
			want := appendOffsetKey(k.Group, k.partition())
			if !bytes.Equal(b[2:], want[2:]) {
				t.Fatalf("%x is written back as %x", b, want)
			}
		case k.Version == metadataKey && !bytes.Equal(b, appendMetadataKey(k.Group)):
			t.Fatalf("%x is written back as %x", b, appendMetadataKey(k.Group))
		}
	})
}

func FuzzParseOffsetValue(f *testing.F) {
	for _, o := range offsetExamples() {
		f.Add(appendOffsetValue(&o))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOffsetValue(tpExample, b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if len(o.Metadata) > math.MaxInt16 || o.ExpireMs != messages.NoTimestamp {
			return // not written like this
		}
		again, err := parseOffsetValue(tpExample, appendOffsetValue(&o))
		if err != nil || again != o {
			t.Fatalf("%+v is read back as %+v, %v", o, again, err)
		}
	})
}

func FuzzParseMetadata(f *testing.F) {
	f.Add(appendMetadata(metadataExample()))
	for version := range int16(5) {
		v := kafkaMetadata(version, metadataExample())
		f.Add(v.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMetadata(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		w := newWorld(t)
		if r := replayed(appendMetadataKey(groupID), b); w.g.Replay(r) == nil {
			w.g.Loaded(w.now)
		}
		if len(b) > math.MaxInt16 {
			return // a string may be longer than version 3 can hold
		}
		again, err := parseMetadata(appendMetadata(m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v is read back as %+v, %v", m, again, err)
		}
	})
}

func FuzzSubscribedTopics(f *testing.F) {
	f.Add(subscribe("a", "b"))
	f.Add(subscribe())
	f.Add([]byte{0, 0, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		topics, ok := subscribedTopics(b)
		if ok && len(topics) > len(b)/2 {
			t.Fatalf("%d topics in %d bytes", len(topics), len(b))
		}
	})
}
