package groups

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

// The records of __consumer_offsets are Kafka's, byte for byte. A key begins with
// a version, which says what it is the key of; all integers are big endian, a
// string has its length in 2 bytes before it, bytes and arrays in 4:
//
//	0, 1  version 2 | group string | topic string | partition 4
//	2     version 2 | group string
//	3...  version 2 | group string | ... of a consumer group (KIP-848)
//
// The value of an offset, by its own version:
//
//	0     version 2 | offset 8 | metadata string | commit time 8
//	1     version 2 | offset 8 | metadata string | commit time 8 | expiry time 8
//	2     as 0
//	3     version 2 | offset 8 | leader epoch 4 | metadata string | commit time 8
//	4     as 3, with a compact string and tagged fields; tag 0 is the topic's id
//
// Written are 1 if the offset expires at a time of its own, 4 if the topic's id is
// known, else 3. No value is a tombstone.
const (
	oldOffsetKey     int16 = 0
	offsetKey        int16 = 1
	metadataKey      int16 = 2
	firstConsumerKey int16 = 3
	lastConsumerKey  int16 = 8
	consumerRegexKey int16 = 16

	expiringOffsetValue int16 = 1
	epochOffsetValue    int16 = 3
	flexibleOffsetValue int16 = 4
	topicIDTag                = 0
)

// Errors of records; they name what is wrong.
var (
	// ErrUnknownKey: a key of a kind that is not known here, which a newer version
	// or another type of group has written. The record can be left alone.
	ErrUnknownKey = errors.New("record key of __consumer_offsets is of an unknown kind")
	// ErrDamaged: the record is not one that was ever written.
	ErrDamaged = errors.New("record of __consumer_offsets is damaged")
)

// Key says what a record of __consumer_offsets is about.
type Key struct {
	Version int16 // its kind
	Group   string
	// Of a committed offset.
	Topic     string
	Partition int32
}

// ParseKey reads a record's key. For records of consumer groups it says the group
// alone. Errors wrap ErrUnknownKey or ErrDamaged.
func ParseKey(key []byte) (Key, error) {
	r := &reader{b: key}
	k := Key{Version: r.int16()}
	switch {
	case r.err != nil:
		return Key{}, fmt.Errorf("key of %d bytes: %w", len(key), r.err)
	case k.isOffset():
		k.Group, k.Topic, k.Partition = r.string(false), r.string(false), r.int32()
	case k.Version == metadataKey:
		k.Group = r.string(false)
	case k.isConsumer():
		k.Group = r.string(false)
		r.b = nil // the rest is for the consumer group to read
	default:
		return Key{}, fmt.Errorf("key of version %d: %w", k.Version, ErrUnknownKey)
	}
	if err := r.end(); err != nil {
		return Key{}, fmt.Errorf("key of version %d: %w", k.Version, err)
	}
	return k, nil
}

func (k Key) isOffset() bool { return k.Version == oldOffsetKey || k.Version == offsetKey }

func (k Key) isConsumer() bool {
	return k.Version >= firstConsumerKey && k.Version <= lastConsumerKey ||
		k.Version == consumerRegexKey
}

func (k Key) partition() messages.TopicPartition {
	return messages.TopicPartition{Topic: k.Topic, Partition: k.Partition}
}

// offsetRecord is the record of a committed offset of group id.
func offsetRecord(id string, o *group.Offset) coord.Record {
	tp := messages.TopicPartition{Topic: o.Topic, Partition: o.Partition}
	return coord.Record{Key: appendOffsetKey(id, tp), Value: appendOffsetValue(o)}
}

// offsetTombstone is the record that forgets an offset of group id.
func offsetTombstone(id string, tp messages.TopicPartition) coord.Record {
	return coord.Record{Key: appendOffsetKey(id, tp)}
}

func appendOffsetKey(id string, tp messages.TopicPartition) []byte {
	b := make([]byte, 0, 2+2+len(id)+2+len(tp.Topic)+4)
	b = binary.BigEndian.AppendUint16(b, uint16(offsetKey))
	b = appendString(b, id)
	b = appendString(b, tp.Topic)
	return binary.BigEndian.AppendUint32(b, uint32(tp.Partition))
}

func appendOffsetValue(o *group.Offset) []byte {
	version := epochOffsetValue
	switch {
	case o.ExpireMs != messages.NoTimestamp:
		version = expiringOffsetValue
	case !o.TopicID.IsZero():
		version = flexibleOffsetValue
	}
	b := make([]byte, 0, 2+8+4+3+len(o.Metadata)+8+8+3+len(o.TopicID))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint64(b, uint64(o.Offset))
	if version >= epochOffsetValue {
		b = binary.BigEndian.AppendUint32(b, uint32(o.Epoch))
	}
	if version == flexibleOffsetValue {
		b = binary.AppendUvarint(b, uint64(len(o.Metadata))+1)
		b = append(b, o.Metadata...)
	} else {
		b = appendString(b, o.Metadata)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(o.CommitMs))
	switch version {
	case expiringOffsetValue:
		b = binary.BigEndian.AppendUint64(b, uint64(o.ExpireMs))
	case flexibleOffsetValue:
		b = append(b, 1, topicIDTag, byte(len(o.TopicID)))
		b = append(b, o.TopicID[:]...)
	}
	return b
}

// parseOffsetValue reads the value of a committed offset of tp.
func parseOffsetValue(tp messages.TopicPartition, value []byte) (group.Offset, error) {
	o := group.Offset{
		Topic: tp.Topic, Partition: tp.Partition,
		Epoch: messages.NoEpoch, ExpireMs: messages.NoTimestamp,
	}
	r := &reader{b: value}
	version := r.int16()
	if version < 0 || version > flexibleOffsetValue {
		r.fail("offset of version %d", version)
	}
	flexible := version >= flexibleOffsetValue
	o.Offset = messages.Offset(r.int64())
	if version >= epochOffsetValue {
		o.Epoch = messages.LeaderEpoch(r.int32())
	}
	o.Metadata = r.string(flexible)
	o.CommitMs = messages.Timestamp(r.int64())
	if version == expiringOffsetValue {
		o.ExpireMs = messages.Timestamp(r.int64())
	}
	r.tags(flexible, func(tag int, v *reader) {
		if tag == topicIDTag {
			copy(o.TopicID[:], v.take(len(o.TopicID)))
		}
	})
	if err := r.end(); err != nil {
		return group.Offset{}, fmt.Errorf("offset of %s: %w", tp, err)
	}
	return o, nil
}

// maxString is the longest string that a record can hold, in bytes.
const maxString = math.MaxInt16

// appendString appends a string with its length; the caller has checked that it
// is no longer than maxString.
func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendBytes(b, v []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}
