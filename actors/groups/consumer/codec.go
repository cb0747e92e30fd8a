package consumer

import (
	"cmp"
	"fmt"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/primitive"
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
	r := primitive.NewReader(b, ErrBadRecord)
	k := Key{Version: r.Int16()}
	if r.Err() != nil || !Owns(k.Version) {
		return Key{}, fmt.Errorf("key of version %d is not of a consumer group: %w",
			k.Version, ErrBadRecord)
	}
	k.Group = r.Text()
	if hasName(k.Version) {
		k.Name = r.Text()
	}
	if err := r.End(); err != nil {
		return Key{}, fmt.Errorf("key of version %d: %w", k.Version, err)
	}
	return k, nil
}

// Append appends the key as it stands in the log. Texts are at most MaxText bytes
// long, as they are where they come from.
func (k Key) Append(b []byte) []byte {
	b = primitive.AppendInt16(b, k.Version)
	b = primitive.Classic.AppendText(b, k.Group)
	if hasName(k.Version) {
		b = primitive.Classic.AppendText(b, k.Name)
	}
	return b
}

// enc is how values are encoded.
const enc = primitive.Flexible

// value is the value of a record; nil is a tombstone. All are of version 0.
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
	r := primitive.NewReader(b, ErrBadRecord)
	r.SetEncoding(enc)
	if v := r.Int16(); v != 0 {
		return e, fmt.Errorf("value of key version %d has version %d, 0 is known: %w",
			k.Version, v, ErrBadRecord)
	}
	switch k.Version {
	case keyGroup:
		e.value = readGroup(r)
	case keyPartitions:
		e.value = old(r.Rest())
	case keyMember:
		e.value = readMeta(r)
	case keyTargetEpoch:
		e.value = readTargetEpoch(r)
	case keyTarget:
		e.value = target(readPartitions(r))
		r.Tags(nil)
	case keyCurrent:
		e.value = readCurrent(r)
	case keyRegex:
		e.value = readRegex(r)
	default:
		r.Fail("no such key")
	}
	if err := r.End(); err != nil {
		return event{key: k}, fmt.Errorf("value of key version %d of group %q, %q: %w",
			k.Version, k.Group, k.Name, err)
	}
	return e, nil
}

// groupValue is the value of key version 3.
type groupValue struct {
	epoch int32
	hash  int64 // tag 0
}

func (v groupValue) append(b []byte) []byte {
	b = primitive.AppendInt32(b, v.epoch)
	if v.hash == 0 {
		return enc.AppendTags(b, 0)
	}
	return primitive.AppendInt64(primitive.AppendTag(enc.AppendTags(b, 1), 0, 8), v.hash)
}

func readGroup(r *primitive.Reader) groupValue {
	v := groupValue{epoch: r.Int32()}
	r.Tags(func(tag int, r *primitive.Reader) {
		if tag == 0 {
			v.hash = r.Int64()
		}
	})
	return v
}

// old is the value of key version 4: it is only known to be there.
type old []byte

func (v old) append(b []byte) []byte { return append(b, v...) }

// targetEpochValue is the value of key version 6.
type targetEpochValue int32

func (v targetEpochValue) append(b []byte) []byte {
	return enc.AppendTags(primitive.AppendInt32(b, int32(v)), 0)
}

func readTargetEpoch(r *primitive.Reader) targetEpochValue {
	v := targetEpochValue(r.Int32())
	r.Tags(nil)
	return v
}

// target is the value of key version 7.
type target set

func (v target) append(b []byte) []byte {
	return enc.AppendTags(appendPartitions(b, set(v)), 0)
}

func (a current) append(b []byte) []byte {
	b = primitive.AppendInt32(b, a.memberEpoch)
	b = primitive.AppendInt32(b, a.previous)
	b = append(b, byte(a.state))
	b = appendPartitions(b, a.assigned)
	b = appendPartitions(b, a.revoking)
	return enc.AppendTags(b, 0)
}

func readCurrent(r *primitive.Reader) current {
	a := current{memberEpoch: r.Int32(), previous: r.Int32(), state: r.Int8()}
	if a.state < stable || a.state > unreleased {
		a.state = unknown
	}
	a.assigned = readPartitions(r)
	a.revoking = readPartitions(r)
	r.Tags(nil)
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
	b = enc.AppendNullableText(b, m.instance)
	b = enc.AppendNullableText(b, m.rack)
	b = enc.AppendText(b, m.clientID)
	b = enc.AppendText(b, m.clientHost)
	b = enc.AppendTexts(b, m.topics)
	b = enc.AppendNullableText(b, m.regex)
	b = primitive.AppendInt32(b, m.rebalanceTimeoutMs)
	b = enc.AppendNullableText(b, m.assignor)
	return enc.AppendTags(b, 0)
}

func readMeta(r *primitive.Reader) meta {
	m := meta{
		instance: r.NullableText(), rack: r.NullableText(), clientID: r.Text(), clientHost: r.Text(),
		topics: sorted(r.Texts()), regex: r.NullableText(), rebalanceTimeoutMs: r.Int32(),
		assignor: r.NullableText(),
	}
	r.Tags(func(tag int, r *primitive.Reader) { m.classic = m.classic || tag == 0 })
	return m
}

// regexValue is the value of key version 16. Topics are sorted.
type regexValue struct {
	topics    []string
	version   int64 // of the metadata
	timestamp int64 // ms since the Unix epoch
}

func (v regexValue) append(b []byte) []byte {
	b = enc.AppendTexts(b, v.topics)
	b = primitive.AppendInt64(b, v.version)
	b = primitive.AppendInt64(b, v.timestamp)
	return enc.AppendTags(b, 0)
}

func readRegex(r *primitive.Reader) regexValue {
	v := regexValue{topics: sorted(r.Texts()), version: r.Int64(), timestamp: r.Int64()}
	r.Tags(nil)
	return v
}
