package consumer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const uuid1 = "0101010101010101 0101010101010101"
const uuid2 = "0202020202020202 0202020202020202"

func topicID(b byte) (id messages.TopicID) {
	copy(id[:], bytes.Repeat([]byte{b}, 16))
	return id
}

// The bytes are spelled out after Kafka's schemas of the records.
var formats = []struct {
	name       string
	event      event
	key, value string
}{
	{"the group without topics", event{Key{keyGroup, "g", ""}, groupValue{epoch: 7}},
		"0003 0001 67", "0000 00000007 00"},
	{"the group", event{Key{keyGroup, "g", ""}, groupValue{epoch: 7, hash: -2}},
		"0003 0001 67", "0000 00000007 01 00 08 fffffffffffffffe"},
	{"a member that says little", event{Key{keyMember, "g", "m"}, meta{
		clientID: "c", clientHost: "h", rebalanceTimeoutMs: 256}},
		"0005 0001 67 0001 6d", "0000 00 00 0263 0268 01 00 00000100 00 00"},
	{"a member that says all", event{Key{keyMember, "g", "m"}, meta{
		instance: "i", rack: "r", clientID: "c", clientHost: "h", topics: []string{"a", "bc"},
		regex: "x", rebalanceTimeoutMs: -1, assignor: "range"}},
		"0005 0001 67 0001 6d",
		"0000 0269 0272 0263 0268 03 0261 036263 0278 ffffffff 0672616e6765 00"},
	{"the target's epoch", event{Key{keyTargetEpoch, "g", ""}, targetEpochValue(9)},
		"0006 0001 67", "0000 00000009 00"},
	{"a target", event{Key{keyTarget, "g", "m"}, target{
		{Topic: topicID(1), Partitions: []int32{0, 3}}, {Topic: topicID(2), Partitions: []int32{1}}}},
		"0007 0001 67 0001 6d",
		"0000 03" + uuid1 + "03 00000000 00000003 00" + uuid2 + "02 00000001 00 00"},
	{"an assignment", event{Key{keyCurrent, "g", "m"}, current{
		memberEpoch: 5, previous: 4, state: unrevoked,
		assigned: set{{Topic: topicID(1), Partitions: []int32{2}}},
		revoking: set{{Topic: topicID(2), Partitions: []int32{8}}}}},
		"0008 0001 67 0001 6d",
		"0000 00000005 00000004 01 02" + uuid1 + "02 00000002 00 02" + uuid2 + "02 00000008 00 00"},
	{"an empty assignment", event{Key{keyCurrent, "g", "m"}, current{memberEpoch: -2, previous: 3}},
		"0008 0001 67 0001 6d", "0000 fffffffe 00000003 00 01 01 00"},
	{"a regular expression", event{Key{keyRegex, "g", "a.*"}, regexValue{
		topics: []string{"a"}, version: 3, timestamp: 4}},
		"0010 0001 67 0003 612e2a", "0000 02 0261 0000000000000003 0000000000000004 00"},
}

func TestRecordsAreKafkas(t *testing.T) {
	for _, tt := range formats {
		t.Run(tt.name, func(t *testing.T) {
			key, value := unhex(t, tt.key), unhex(t, tt.value)
			r := tt.event.record()
			if !bytes.Equal(r.Key, key) {
				t.Errorf("key is % x, want % x", r.Key, key)
			}
			if !bytes.Equal(r.Value, value) {
				t.Errorf("value is % x, want % x", r.Value, value)
			}
			k, err := ParseKey(key)
			if err != nil || k != tt.event.key {
				t.Fatalf("%v, %v", k, err)
			}
			e, err := parse(k, value)
			if err != nil {
				t.Fatal(err)
			}
			if back := e.record(); !bytes.Equal(back.Value, value) {
				t.Errorf("read and written again: % x", back.Value)
			}
			if r := (event{key: k}).record(); r.Value != nil {
				t.Errorf("a tombstone has the value % x", r.Value)
			}
			for n := range value {
				if _, err := parse(k, value[:n]); !errors.Is(err, ErrBadRecord) {
					t.Errorf("the first %d bytes: %v", n, err)
				}
			}
			for n := range key {
				if _, err := ParseKey(key[:n]); !errors.Is(err, ErrBadRecord) {
					t.Errorf("the first %d bytes of the key: %v", n, err)
				}
			}
		})
	}
}

func TestWhatKafkaWritesAndWeDoNotIsRead(t *testing.T) {
	for name, tt := range map[string]struct {
		version int16
		value   string
		want    event
	}{
		"creation time of a group": {keyGroup,
			"0000 00000007 02 00 08 0000000000000001 01 08 0000000000000002",
			event{value: groupValue{epoch: 7, hash: 1}}},
		"time of a target": {keyTargetEpoch, "0000 00000009 01 00 08 0000000000000001",
			event{value: targetEpochValue(9)}},
		"epochs of partitions, in any order": {keyCurrent,
			"0000 00000005 00000004 02 02" + uuid1 +
				"03 00000002 00000001 01 00 09 03 00000005 00000004 01 00",
			event{value: current{memberEpoch: 5, previous: 4, state: unreleased,
				assigned: set{{Topic: topicID(1), Partitions: []int32{1, 2}}}}}},
		"a state to come": {keyCurrent, "0000 00000005 00000004 09 01 01 00",
			event{value: current{memberEpoch: 5, previous: 4, state: unknown}}},
		"a classic member": {keyMember,
			"0000 00 00 0263 0268 03 0262 0261 00 00000100 00 01 00 0a 01 00001000 02 0172 01 00",
			event{value: meta{clientID: "c", clientHost: "h", topics: []string{"a", "b"},
				rebalanceTimeoutMs: 256, classic: true}}},
		"null lists": {keyTarget, "0000 00 00", event{value: target(nil)}},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := parse(Key{Version: tt.version}, unhex(t, tt.value))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := e.record().Value, tt.want.record().Value; !bytes.Equal(got, want) {
				t.Fatalf("% x, want % x", got, want)
			}
			if m, ok := tt.want.value.(meta); ok && m.classic != e.value.(meta).classic {
				t.Fatal("it is not seen to be classic")
			}
		})
	}
}

func TestDamagedRecordsAreNamed(t *testing.T) {
	for name, tt := range map[string]struct{ key, value string }{
		"a key of another kind":        {"0002 0001 67", ""},
		"a key with more":              {"0003 0001 67 00", ""},
		"a negative length":            {"0003 ffff", ""},
		"a value of a later version":   {"0003 0001 67", "0001 00000007 00"},
		"a value with more":            {"0003 0001 67", "0000 00000007 00 00"},
		"an empty value":               {"0003 0001 67", "00"},
		"a list that is too long":      {"0007 0001 67 0001 6d", "0000 ffffffff0f 00"},
		"a partition below 0":          {"0007 0001 67 0001 6d", "0000 02" + uuid1 + "02 ffffffff 00 00"},
		"a partition beyond all":       {"0007 0001 67 0001 6d", "0000 02" + uuid1 + "02 7fffffff 00 00"},
		"a tag that is too long":       {"0003 0001 67", "0000 00000007 01 00 09 0000000000000001"},
		"a tag that is too short":      {"0003 0001 67", "0000 00000007 01 00 01 00"},
		"a record of another group":    {"0003 0001 68", "0000 00000007 00"},
		"more tags than there is room": {"0003 0001 67", "0000 00000007 ffffffff0f"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := ParseKey(unhex(t, tt.key))
			if err == nil {
				err = New("g", nil).Replay(k, unhex(t, tt.value))
			}
			if !errors.Is(err, ErrBadRecord) {
				t.Fatal(err)
			}
		})
	}
}

func TestOwnsNamesOurKeys(t *testing.T) {
	for v := range int16(20) {
		if want := v >= 3 && v <= 8 || v == 16; Owns(v) != want {
			t.Errorf("version %d: %v", v, Owns(v))
		}
	}
}

// What Kafka 4.0 wrote into key version 4 is deleted with the next epoch.
func TestOldPartitionMetadataIsDeleted(t *testing.T) {
	w := newWorld(t, "a:1")
	k := Key{keyPartitions, "g", ""}
	w.log = append(w.log, event{key: k, value: old{1, 2, 3}}.record())
	w.restart()
	if !w.g.Exists() {
		t.Fatal("it has a record")
	}
	w.beat(join("m1", "a"))
	w.wrote("3/", "4/!", "5/m1", "7/m1", "8/m1", "6/")
	w.beat(join("m2", "a"))
	w.wrote("3/", "5/m2", "8/m2", "6/")
}

// A group that Kafka left in the midst of a rebalance goes on.
func TestAGroupThatWasAssigningGetsItsTarget(t *testing.T) {
	w := newWorld(t, "a:2")
	for _, e := range []event{
		{Key{keyMember, "g", "m1"}, meta{clientID: "c", clientHost: "/::1", topics: []string{"a"},
			rebalanceTimeoutMs: 1000}},
		{Key{keyCurrent, "g", "m1"}, current{memberEpoch: 3, previous: 2, state: unknown}},
		{Key{keyGroup, "g", ""}, groupValue{epoch: 4, hash: 1}},
		{Key{keyTargetEpoch, "g", ""}, targetEpochValue(3)},
	} {
		w.log = append(w.log, e.record())
	}
	w.restart()
	if s := w.g.State(); s != group.Assigning {
		t.Fatal(s)
	}
	w.refused(w.beat(w.owning("m1", 3, "a:0")), group.ErrFencedMemberEpoch) // a state we do not know
	w.expect(w.beat(join("m1", "a")), 5, "a:0,1")
}

func TestALogThatContradictsItselfIsReadAndSetRight(t *testing.T) {
	w := newWorld(t, "a:2")
	id := w.image.Topic("a").ID
	both := set{{Topic: id, Partitions: []int32{0, 1}}}
	say := meta{clientID: "c", clientHost: "/::1", topics: []string{"a"}, rebalanceTimeoutMs: 1000}
	for _, e := range []event{
		{Key{keyGroup, "g", ""}, groupValue{epoch: 4, hash: 1}},
		{Key{keyTargetEpoch, "g", ""}, targetEpochValue(9)},
		{Key{keyMember, "g", "m1"}, say},
		{Key{keyMember, "g", "m2"}, say},
		{Key{keyCurrent, "g", "m1"}, current{memberEpoch: 3, assigned: both, revoking: both}},
		{Key{keyCurrent, "g", "m2"}, current{memberEpoch: 4, assigned: both[:1]}},
		{Key{keyCurrent, "g", "ghost"}, current{memberEpoch: 4, assigned: both}},
	} {
		w.log = append(w.log, e.record())
	}
	w.restart()
	if m := w.g.members["m1"]; len(m.assigned)+len(m.revoking) > 0 || len(w.g.members) != 2 {
		t.Fatal(picture(w.g))
	}
	w.pass(0)
	w.wrote("8/ghost!", "7/ghost!")
	w.expect(w.beat(join("m1", "a")), 5, "")
}

func FuzzRecords(f *testing.F) {
	for _, tt := range formats {
		f.Add(unhex(f, tt.key), unhex(f, tt.value))
	}
	f.Add(unhex(f, "0004 0001 67"), unhex(f, "0000 01"))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		k, err := ParseKey(key)
		if err != nil {
			if !errors.Is(err, ErrBadRecord) {
				t.Fatal(err)
			}
			return
		}
		if again := k.Append(nil); !bytes.Equal(again, key) {
			t.Fatalf("key % x is written as % x", key, again)
		}
		g := New(k.Group, func() Config { return Config{} })
		if g.Replay(k, value) != nil {
			return
		}
		e, _ := parse(k, value)
		r := e.record()
		e, err = parse(k, r.Value)
		if err != nil || !bytes.Equal(e.record().Value, r.Value) {
			t.Fatalf("% x is written as % x and read as %v", value, r.Value, err)
		}
		g.Loaded(noon)
		g.Tick(noon.Add(1000))
		_, _, _ = g.Describe(), g.Tombstones(), g.State()
	})
}
