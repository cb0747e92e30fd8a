package txns

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
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
	r := reader{b: key}
	if version := r.int16(); r.err == nil && version != keyVersion {
		return "", fmt.Errorf("version %d: %w", version, ErrUnknownKey)
	}
	transactionalID = r.text(false)
	if err := r.end(); err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	return transactionalID, nil
}

func encodeKey(transactionalID string) []byte {
	b := binary.BigEndian.AppendUint16(nil, keyVersion)
	return appendString(b, transactionalID, false)
}

// flexible reports whether the record needs version 1, which Kafka before 3.5
// cannot read.
func (m *meta) flexible() bool {
	return m.v2 || m.previous != messages.NoProducerID || m.next != messages.NoProducerID
}

func (m *meta) encodeValue() []byte {
	compact := m.flexible()
	version := uint16(valueVersion0)
	if compact {
		version = valueVersion1
	}
	b := binary.BigEndian.AppendUint16(nil, version)
	b = binary.BigEndian.AppendUint64(b, uint64(m.producer))
	b = binary.BigEndian.AppendUint16(b, uint16(m.epoch))
	b = binary.BigEndian.AppendUint32(b, uint32(m.timeoutMs))
	b = append(b, byte(m.state))
	b = m.appendPartitions(b, compact)
	b = binary.BigEndian.AppendUint64(b, uint64(m.updatedMs))
	b = binary.BigEndian.AppendUint64(b, uint64(m.startedMs))
	if compact {
		b = m.appendTags(b)
	}
	return b
}

func (m *meta) appendPartitions(b []byte, compact bool) []byte {
	if m.state == txn.Empty {
		return appendLength(b, -1, compact)
	}
	topics := 0
	for i, p := range m.partitions {
		if i == 0 || p.Topic != m.partitions[i-1].Topic {
			topics++
		}
	}
	b = appendLength(b, topics, compact)
	for rest := m.partitions; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Topic == rest[0].Topic {
			n++
		}
		b = appendString(b, rest[0].Topic, compact)
		b = appendLength(b, n, compact)
		for _, p := range rest[:n] {
			b = binary.BigEndian.AppendUint32(b, uint32(p.Partition))
		}
		if compact {
			b = append(b, 0) // no tagged fields
		}
		rest = rest[n:]
	}
	return b
}

func (m *meta) appendTags(b []byte) []byte {
	n := 0
	var tags []byte
	if m.previous != messages.NoProducerID {
		n++
		tags = binary.BigEndian.AppendUint64(append(tags, tagPrevious, 8), uint64(m.previous))
	}
	if m.next != messages.NoProducerID {
		n++
		tags = binary.BigEndian.AppendUint64(append(tags, tagNext, 8), uint64(m.next))
	}
	if m.v2 {
		n++
		tags = binary.BigEndian.AppendUint16(append(tags, tagClientVersion, 2), clientVersion2)
	}
	return append(append(b, byte(n)), tags...)
}

// parseValue reads what encodeValue or Kafka wrote. Errors wrap ErrDamaged.
func parseValue(b []byte) (*meta, error) {
	r := reader{b: b}
	version := r.int16()
	if r.err == nil && version != valueVersion0 && version != valueVersion1 {
		return nil, fmt.Errorf("value of version %d, 1 is the last that is known: %w",
			version, ErrDamaged)
	}
	compact := version == valueVersion1
	m := &meta{
		producer: messages.ProducerID(r.int64()), epoch: messages.ProducerEpoch(r.int16()),
		timeoutMs: r.int32(), state: txn.State(r.int8()),
		previous: messages.NoProducerID, next: messages.NoProducerID, last: noEpoch,
	}
	m.partitions = r.partitions(compact)
	m.updatedMs, m.startedMs = messages.Timestamp(r.int64()), messages.Timestamp(r.int64())
	if compact {
		r.tags(m.readTag)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	return m, m.check()
}

// readTag reads a tagged field of the value; other tags are those of later
// versions and mean nothing here.
func (m *meta) readTag(tag uint64, r *reader) {
	switch tag {
	case tagPrevious:
		m.previous = messages.ProducerID(r.int64())
	case tagNext:
		m.next = messages.ProducerID(r.int64())
	case tagClientVersion:
		m.v2 = r.int16() >= clientVersion2
	case tagNextEpoch:
		r.int16()
	default:
		r.b = nil
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

func appendLength(b []byte, n int, compact bool) []byte {
	if compact {
		return binary.AppendUvarint(b, uint64(n+1))
	}
	return binary.BigEndian.AppendUint32(b, uint32(int32(n)))
}

func appendString(b []byte, s string, compact bool) []byte {
	if compact {
		return append(binary.AppendUvarint(b, uint64(len(s)+1)), s...)
	}
	invariant.That(len(s) <= 1<<15-1, "a string of %d bytes is in a record", len(s))
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}
