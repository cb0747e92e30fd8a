package groups

import (
	"errors"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/primitive"
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
	r := primitive.NewReader(key, ErrDamaged)
	k := Key{Version: r.Int16()}
	switch {
	case r.Err() != nil:
		return Key{}, fmt.Errorf("key of %d bytes: %w", len(key), r.Err())
	case k.isOffset():
		k.Group, k.Topic, k.Partition = r.Text(), r.Text(), r.Int32()
	case k.Version == metadataKey:
		k.Group = r.Text()
	case k.isConsumer():
		k.Group = r.Text()
		r.Rest() // is for the consumer group to read
	default:
		return Key{}, fmt.Errorf("key of version %d: %w", k.Version, ErrUnknownKey)
	}
	if err := r.End(); err != nil {
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
	b = primitive.AppendInt16(b, offsetKey)
	b = primitive.Classic.AppendText(b, id)
	b = primitive.Classic.AppendText(b, tp.Topic)
	return primitive.AppendInt32(b, tp.Partition)
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
	enc := primitive.Encoding(version >= flexibleOffsetValue)
	b = primitive.AppendInt16(b, version)
	b = primitive.AppendInt64(b, int64(o.Offset))
	if version >= epochOffsetValue {
		b = primitive.AppendInt32(b, int32(o.Epoch))
	}
	b = enc.AppendText(b, o.Metadata)
	b = primitive.AppendInt64(b, int64(o.CommitMs))
	switch version {
	case expiringOffsetValue:
		b = primitive.AppendInt64(b, int64(o.ExpireMs))
	case flexibleOffsetValue:
		b = primitive.AppendTag(enc.AppendTags(b, 1), topicIDTag, len(o.TopicID))
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
	r := primitive.NewReader(value, ErrDamaged)
	version := r.Int16()
	if version < 0 || version > flexibleOffsetValue {
		r.Fail("offset of version %d", version)
	}
	r.SetEncoding(version >= flexibleOffsetValue)
	o.Offset = messages.Offset(r.Int64())
	if version >= epochOffsetValue {
		o.Epoch = messages.LeaderEpoch(r.Int32())
	}
	o.Metadata = r.Text()
	o.CommitMs = messages.Timestamp(r.Int64())
	if version == expiringOffsetValue {
		o.ExpireMs = messages.Timestamp(r.Int64())
	}
	r.Tags(func(tag int, field *primitive.Reader) {
		if tag == topicIDTag {
			copy(o.TopicID[:], field.Take(len(o.TopicID)))
		}
	})
	if err := r.End(); err != nil {
		return group.Offset{}, fmt.Errorf("offset of %s: %w", tp, err)
	}
	return o, nil
}
