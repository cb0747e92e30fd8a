package consumer

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/troupelog/troupe/messages/coord"
)

// Versions of keys in __consumer_offsets that belong to consumer groups.
const (
	keyGroup       int16 = 3
	keyPartitions  int16 = 4 // Kafka 3.7 to 4.0; since then the hash in keyGroup stands for it
	keyMember      int16 = 5
	keyTargetEpoch int16 = 6
	keyTarget      int16 = 7
	keyCurrent     int16 = 8
	keyRegex       int16 = 16
)

// Owns reports whether a key of this version in __consumer_offsets is a consumer
// group's.
func Owns(version int16) bool {
	return version >= keyGroup && version <= keyCurrent || version == keyRegex
}

// Key is the key of a record of a consumer group.
type Key struct {
	Version int16
	Group   string
	Name    string // the member id or the regular expression; "" in versions that have none
}

func (g *Group) key(version int16, name string) Key {
	return Key{Version: version, Group: g.id, Name: name}
}

func hasName(version int16) bool {
	return version == keyMember || version == keyTarget || version == keyCurrent || version == keyRegex
}

func compareKeys(a, b Key) int {
	// Assignments go before the members they are of, the group goes last.
	return cmp.Or(cmp.Compare(b.Version, a.Version), cmp.Compare(a.Group, b.Group),
		cmp.Compare(a.Name, b.Name))
}

// ParseKey reads the key of a record. Errors wrap ErrBadRecord: also for a key of
// a version that is not Owns's.
func ParseKey(b []byte) (Key, error) {
	r := reader{b: b}
	k := Key{Version: r.int16()}
	if r.bad || !Owns(k.Version) {
		return Key{}, fmt.Errorf("key of version %d is not of a consumer group: %w",
			k.Version, ErrBadRecord)
	}
	k.Group = r.string16()
	if hasName(k.Version) {
		k.Name = r.string16()
	}
	if r.bad || len(r.b) > 0 {
		return Key{}, fmt.Errorf("key of version %d: %w", k.Version, ErrBadRecord)
	}
	return k, nil
}

// Append appends the key as it stands in the log. Texts are at most 32767 bytes
// long, as they are where they come from.
func (k Key) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(k.Version))
	b = appendString16(b, k.Group)
	if hasName(k.Version) {
		b = appendString16(b, k.Name)
	}
	return b
}

func appendString16(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// value is the value of a record; nil is a tombstone. All are of version 0 and in
// Kafka's flexible encoding: lengths are varints and count from 1, each structure
// ends in its tagged fields.
type value interface {
	append(b []byte) []byte
}

// event is one change of a group: what becomes one record.
type event struct {
	key   Key
	value value
}

func (e event) record() coord.Record {
	r := coord.Record{Key: e.key.Append(nil)}
	if e.value != nil {
		r.Value = e.value.append([]byte{0, 0})
	}
	return r
}

// parse reads the value of a record; nil for a tombstone.
func parse(k Key, b []byte) (event, error) {
	e := event{key: k}
	if b == nil {
		return e, nil
	}
	r := reader{b: b}
	if v := r.int16(); v != 0 {
		return e, fmt.Errorf("value of key version %d has version %d, 0 is known: %w",
			k.Version, v, ErrBadRecord)
	}
	switch k.Version {
	case keyGroup:
		e.value = readGroup(&r)
	case keyPartitions:
		e.value = old(r.rest())
	case keyMember:
		e.value = readMeta(&r)
	case keyTargetEpoch:
		e.value = readTargetEpoch(&r)
	case keyTarget:
		e.value = target(r.partitions())
		r.tags(nil)
	case keyCurrent:
		e.value = readCurrent(&r)
	case keyRegex:
		e.value = readRegex(&r)
	default:
		r.bad = true
	}
	if r.bad || len(r.b) > 0 {
		return event{key: k}, fmt.Errorf("value of key version %d of group %q, %q: %w",
			k.Version, k.Group, k.Name, ErrBadRecord)
	}
	return e, nil
}

// groupValue is the value of key version 3.
type groupValue struct {
	epoch int32
	hash  int64 // tag 0
}

func (v groupValue) append(b []byte) []byte {
	b = appendInt32(b, v.epoch)
	if v.hash == 0 {
		return append(b, 0)
	}
	return binary.BigEndian.AppendUint64(append(b, 1, 0, 8), uint64(v.hash))
}

func readGroup(r *reader) groupValue {
	v := groupValue{epoch: r.int32()}
	r.tags(func(tag uint64, r *reader) {
		if tag == 0 {
			v.hash = r.int64()
		}
	})
	return v
}

// old is the value of key version 4: it is only known to be there.
type old []byte

func (v old) append(b []byte) []byte { return append(b, v...) }

// targetEpochValue is the value of key version 6.
type targetEpochValue int32

func (v targetEpochValue) append(b []byte) []byte { return append(appendInt32(b, int32(v)), 0) }

func readTargetEpoch(r *reader) targetEpochValue {
	v := targetEpochValue(r.int32())
	r.tags(nil)
	return v
}

// target is the value of key version 7.
type target set

func (v target) append(b []byte) []byte { return append(appendPartitions(b, set(v)), 0) }

func (a current) append(b []byte) []byte {
	b = appendInt32(b, a.memberEpoch)
	b = appendInt32(b, a.previous)
	b = append(b, byte(a.state))
	b = appendPartitions(b, a.assigned)
	b = appendPartitions(b, a.revoking)
	return append(b, 0)
}

func readCurrent(r *reader) current {
	a := current{memberEpoch: r.int32(), previous: r.int32(), state: r.int8()}
	if a.state < stable || a.state > unreleased {
		a.state = unknown
	}
	a.assigned = r.partitions()
	a.revoking = r.partitions()
	r.tags(nil)
	return a
}

// meta is what a member said of itself: the value of key version 5. Topics are
// sorted. Texts that may be null are "" then.
type meta struct {
	instance, rack       string
	clientID, clientHost string
	topics               []string
	regex                string
	rebalanceTimeoutMs   int32
	assignor             string
	classic              bool // it speaks the classic protocol: found in Kafka's records alone
}

func (m meta) append(b []byte) []byte {
	b = appendNullable(b, m.instance)
	b = appendNullable(b, m.rack)
	b = appendString(b, m.clientID)
	b = appendString(b, m.clientHost)
	b = appendStrings(b, m.topics)
	b = appendNullable(b, m.regex)
	b = appendInt32(b, m.rebalanceTimeoutMs)
	b = appendNullable(b, m.assignor)
	return append(b, 0)
}

func readMeta(r *reader) meta {
	m := meta{
		instance: r.string(), rack: r.string(), clientID: r.string(), clientHost: r.string(),
		topics: sorted(r.strings()), regex: r.string(), rebalanceTimeoutMs: r.int32(),
		assignor: r.string(),
	}
	r.tags(func(tag uint64, r *reader) { m.classic = m.classic || tag == 0 })
	return m
}

// regexValue is the value of key version 16. Topics are sorted.
type regexValue struct {
	topics    []string
	version   int64 // of the metadata
	timestamp int64 // ms since the Unix epoch
}

func (v regexValue) append(b []byte) []byte {
	b = appendStrings(b, v.topics)
	b = binary.BigEndian.AppendUint64(b, uint64(v.version))
	b = binary.BigEndian.AppendUint64(b, uint64(v.timestamp))
	return append(b, 0)
}

func readRegex(r *reader) regexValue {
	v := regexValue{topics: sorted(r.strings()), version: r.int64(), timestamp: r.int64()}
	r.tags(nil)
	return v
}
