package groups

import (
	"encoding/binary"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
)

// The value of a classic group, written in version 3; a nullable string has
// length -1 for null:
//
//	version 2 | protocol type string | generation 4 | protocol nullable string
//	| leader nullable string | since 8 (2+) | members array
//
// and of each member:
//
//	id string | instance id nullable string (3+) | client id string
//	| client host string | rebalance timeout 4 (1+) | session timeout 4
//	| subscription bytes | assignment bytes
//
// Version 4 is the flexible form of 3; it is read, in case Kafka wrote it.
const (
	metadataValue         int16 = 3
	flexibleMetadataValue int16 = 4
)

// metadata is what a record says of a classic group.
type metadata struct {
	protocolType string
	generation   int32
	protocol     string // "": none
	leader       string // "": none
	// since is when the group came into its state; NoTimestamp: not known.
	since   messages.Timestamp
	members []memberMetadata
}

// memberMetadata is what a record says of a member.
type memberMetadata struct {
	id           string
	instance     string // "": a dynamic member
	clientID     string
	clientHost   string
	rebalanceMs  int32 // -1: not known
	sessionMs    int32
	subscription []byte
	assignment   []byte
}

// metadataRecord is the record of the classic group id.
func metadataRecord(id string, m *metadata) coord.Record {
	return coord.Record{Key: appendMetadataKey(id), Value: appendMetadata(m)}
}

// metadataTombstone is the record that forgets the classic group id.
func metadataTombstone(id string) coord.Record { return coord.Record{Key: appendMetadataKey(id)} }

func appendMetadataKey(id string) []byte {
	b := make([]byte, 0, 2+2+len(id))
	b = binary.BigEndian.AppendUint16(b, uint16(metadataKey))
	return appendString(b, id)
}

func appendMetadata(m *metadata) []byte {
	var b []byte
	b = binary.BigEndian.AppendUint16(b, uint16(metadataValue))
	b = appendString(b, m.protocolType)
	b = binary.BigEndian.AppendUint32(b, uint32(m.generation))
	b = appendNullable(b, m.protocol)
	b = appendNullable(b, m.leader)
	b = binary.BigEndian.AppendUint64(b, uint64(m.since))
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.members)))
	for i := range m.members {
		b = appendMember(b, &m.members[i])
	}
	return b
}

func appendMember(b []byte, m *memberMetadata) []byte {
	b = appendString(b, m.id)
	b = appendNullable(b, m.instance)
	b = appendString(b, m.clientID)
	b = appendString(b, m.clientHost)
	b = binary.BigEndian.AppendUint32(b, uint32(m.rebalanceMs))
	b = binary.BigEndian.AppendUint32(b, uint32(m.sessionMs))
	b = appendBytes(b, m.subscription)
	return appendBytes(b, m.assignment)
}

// appendNullable appends a string that is null when it is empty.
func appendNullable(b []byte, s string) []byte {
	if s == "" {
		return append(b, 0xff, 0xff)
	}
	return appendString(b, s)
}

// parseMetadata reads the value of a classic group, of version 0 to 4.
func parseMetadata(value []byte) (*metadata, error) {
	r := &reader{b: value}
	version := r.int16()
	if version < 0 || version > flexibleMetadataValue {
		r.fail("version %d", version)
	}
	flexible := version >= flexibleMetadataValue
	m := &metadata{since: messages.NoTimestamp}
	m.protocolType = r.string(flexible)
	m.generation = r.int32()
	m.protocol, _ = r.nullableString(flexible)
	m.leader, _ = r.nullableString(flexible)
	if version >= 2 {
		m.since = messages.Timestamp(r.int64())
	}
	// No memory is taken for members that are announced but not there.
	for n := r.length(flexible, false); n > 0 && r.err == nil; n-- {
		m.members = append(m.members, parseMember(r, version))
	}
	r.tags(flexible, nil)
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("metadata of a group: %w", err)
	}
	return m, nil
}

func parseMember(r *reader, version int16) memberMetadata {
	flexible := version >= flexibleMetadataValue
	m := memberMetadata{rebalanceMs: -1}
	m.id = r.string(flexible)
	if version >= 3 {
		m.instance, _ = r.nullableString(flexible)
	}
	m.clientID = r.string(flexible)
	m.clientHost = r.string(flexible)
	if version >= 1 {
		m.rebalanceMs = r.int32()
	}
	m.sessionMs = r.int32()
	m.subscription = r.bytes(flexible)
	m.assignment = r.bytes(flexible)
	r.tags(flexible, nil)
	return m
}
