package txns

import (
	"errors"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/primitive"
	"github.com/troupelog/troupe/messages/txn"
)

// Records of __transaction_state, as Kafka writes them. All numbers are big
// endian; the key's version is the record type, too.
//
//	key    version i16 = 0 | transactional id: string
//	value  version i16 = 0 or 1 | producer id i64 | epoch i16 | timeout ms i32 | state i8 |
//	       [topic: string, [partition i32]], null in Empty | updated ms i64 | started ms i64
//
// In version 1, strings and arrays have compact lengths, each topic ends with
// tagged fields, and so does the value: 0 previous producer id i64, 1 next
// producer id i64, 2 client's transaction version i16, 3 next producer epoch
// i16 (KIP-939, which is not there: read and dropped).
const (
	keyVersion    = 0
	valueVersion0 = 0
	valueVersion1 = 1

	tagPrevious, tagNext, tagClientVersion, tagNextEpoch = 0, 1, 2, 3

	clientVersion2 = 2 // transaction.version with which the epoch rises at each end
)

var (
	// ErrUnknownKey: the key is of a type that this version does not know.
	ErrUnknownKey = errors.New("unknown key of a record of __transaction_state")
	// ErrDamaged: the record is not one that a coordinator writes.
	ErrDamaged = errors.New("damaged record of __transaction_state")
)

// ParseKey returns the transactional id that a record of __transaction_state is
// about. Errors wrap ErrUnknownKey, which loaders skip, or ErrDamaged.
func ParseKey(key []byte) (transactionalID string, err error) {
	r := primitive.NewReader(key, ErrDamaged)
	if version := r.Int16(); r.Err() == nil && version != keyVersion {
		return "", fmt.Errorf("version %d: %w", version, ErrUnknownKey)
	}
	transactionalID = r.Text()
	if err := r.End(); err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	return transactionalID, nil
}

func encodeKey(transactionalID string) []byte {
	return primitive.Classic.AppendText(primitive.AppendInt16(nil, keyVersion), transactionalID)
}

// flexible reports whether the record needs version 1, which Kafka before 3.5
// cannot read.
func (m *meta) flexible() bool {
	return m.v2 || m.previous != messages.NoProducerID || m.next != messages.NoProducerID
}

func (m *meta) encodeValue() []byte {
	enc := primitive.Encoding(m.flexible())
	version := int16(valueVersion0)
	if enc == primitive.Flexible {
		version = valueVersion1
	}
	b := primitive.AppendInt16(nil, version)
	b = primitive.AppendInt64(b, int64(m.producer))
	b = primitive.AppendInt16(b, int16(m.epoch))
	b = primitive.AppendInt32(b, m.timeoutMs)
	b = append(b, byte(m.state))
	b = m.appendPartitions(b, enc)
	b = primitive.AppendInt64(b, int64(m.updatedMs))
	b = primitive.AppendInt64(b, int64(m.startedMs))
	if enc == primitive.Flexible {
		b = m.appendTags(b)
	}
	return b
}

func (m *meta) appendPartitions(b []byte, enc primitive.Encoding) []byte {
	if m.state == txn.Empty {
		return enc.AppendCount(b, -1)
	}
	topics := 0
	for i, p := range m.partitions {
		if i == 0 || p.Topic != m.partitions[i-1].Topic {
			topics++
		}
	}
	b = enc.AppendCount(b, topics)
	for rest := m.partitions; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Topic == rest[0].Topic {
			n++
		}
		b = enc.AppendText(b, rest[0].Topic)
		b = enc.AppendCount(b, n)
		for _, p := range rest[:n] {
			b = primitive.AppendInt32(b, p.Partition)
		}
		b = enc.AppendTags(b, 0)
		rest = rest[n:]
	}
	return b
}

func (m *meta) appendTags(b []byte) []byte {
	n := 0
	var tags []byte
	if m.previous != messages.NoProducerID {
		n++
		tags = primitive.AppendInt64(primitive.AppendTag(tags, tagPrevious, 8), int64(m.previous))
	}
	if m.next != messages.NoProducerID {
		n++
		tags = primitive.AppendInt64(primitive.AppendTag(tags, tagNext, 8), int64(m.next))
	}
	if m.v2 {
		n++
		tags = primitive.AppendInt16(primitive.AppendTag(tags, tagClientVersion, 2), clientVersion2)
	}
	return append(primitive.Flexible.AppendTags(b, n), tags...)
}

// parseValue reads what encodeValue or Kafka wrote. Errors wrap ErrDamaged.
func parseValue(b []byte) (*meta, error) {
	r := primitive.NewReader(b, ErrDamaged)
	version := r.Int16()
	if version != valueVersion0 && version != valueVersion1 {
		return nil, fmt.Errorf("value of version %d, 1 is the last that is known: %w",
			version, ErrDamaged)
	}
	r.SetEncoding(version == valueVersion1)
	m := &meta{
		producer: messages.ProducerID(r.Int64()), epoch: messages.ProducerEpoch(r.Int16()),
		timeoutMs: r.Int32(), state: txn.State(r.Int8()),
		previous: messages.NoProducerID, next: messages.NoProducerID, last: noEpoch,
	}
	m.partitions = readPartitions(r)
	m.updatedMs, m.startedMs = messages.Timestamp(r.Int64()), messages.Timestamp(r.Int64())
	r.Tags(m.readTag)
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	return m, m.check()
}

// readPartitions reads the partitions of a transaction.
func readPartitions(r *primitive.Reader) []messages.TopicPartition {
	const least = 1 + 1 + 1 // name, length, tags; more in version 0
	var all []messages.TopicPartition
	for range r.Count(least) {
		topic := r.Text()
		for range r.Count(4) {
			p := messages.TopicPartition{Topic: topic, Partition: r.Int32()}
			if p.Partition < 0 {
				r.Fail("partition %d of topic %q", p.Partition, topic)
			}
			all = append(all, p)
		}
		r.Tags(nil)
		if r.Err() != nil {
			return nil
		}
	}
	return sortedSet(all)
}

// readTag reads a tagged field of the value; other tags are those of later
// versions and mean nothing here.
func (m *meta) readTag(tag int, r *primitive.Reader) {
	switch tag {
	case tagPrevious:
		m.previous = messages.ProducerID(r.Int64())
	case tagNext:
		m.next = messages.ProducerID(r.Int64())
	case tagClientVersion:
		m.v2 = r.Int16() >= clientVersion2
	case tagNextEpoch:
		r.Int16()
	}
}

// check makes sure of what the machine relies on. Kafka names the producer id in
// use as the previous one, too, when it has not changed; that says nothing.
func (m *meta) check() error {
	if m.previous == m.producer {
		m.previous = messages.NoProducerID
	}
	switch {
	case m.state < txn.Empty || m.state > txn.CompleteAbort:
		return fmt.Errorf("state %d is never written: %w", int8(m.state), ErrDamaged)
	case m.producer < 0 || m.epoch < 0:
		return fmt.Errorf("producer %d, epoch %d: %w", m.producer, m.epoch, ErrDamaged)
	case m.previous < messages.NoProducerID || m.next < messages.NoProducerID:
		return fmt.Errorf("producer ids %d and %d: %w", m.previous, m.next, ErrDamaged)
	case m.next != messages.NoProducerID && !m.prepared():
		return fmt.Errorf("a next producer id in state %v: %w", m.state, ErrDamaged)
	case m.state != txn.Ongoing && !m.prepared():
		m.partitions = nil
	}
	return nil
}
