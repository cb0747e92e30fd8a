package groups

import (
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/primitive"
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
	return primitive.Classic.AppendText(primitive.AppendInt16(b, metadataKey), id)
}

func appendMetadata(m *metadata) []byte {
	const enc = primitive.Classic
	b := primitive.AppendInt16(nil, metadataValue)
	b = enc.AppendText(b, m.protocolType)
	b = primitive.AppendInt32(b, m.generation)
	b = enc.AppendNullableText(b, m.protocol)
	b = enc.AppendNullableText(b, m.leader)
	b = primitive.AppendInt64(b, int64(m.since))
	b = enc.AppendCount(b, len(m.members))
	for i := range m.members {
		b = appendMember(b, &m.members[i])
	}
	return b
}

func appendMember(b []byte, m *memberMetadata) []byte {
	const enc = primitive.Classic
	b = enc.AppendText(b, m.id)
	b = enc.AppendNullableText(b, m.instance)
	b = enc.AppendText(b, m.clientID)
	b = enc.AppendText(b, m.clientHost)
	b = primitive.AppendInt32(b, m.rebalanceMs)
	b = primitive.AppendInt32(b, m.sessionMs)
	b = enc.AppendBytes(b, m.subscription)
	return enc.AppendBytes(b, m.assignment)
}

// parseMetadata reads the value of a classic group, of version 0 to 4.
func parseMetadata(value []byte) (*metadata, error) {
	r := primitive.NewReader(value, ErrDamaged)
	version := r.Int16()
	if version < 0 || version > flexibleMetadataValue {
		r.Fail("version %d", version)
	}
	r.SetEncoding(version >= flexibleMetadataValue)
	m := &metadata{since: messages.NoTimestamp}
	m.protocolType = r.Text()
	m.generation = r.Int32()
	m.protocol = r.NullableText()
	m.leader = r.NullableText()
	if version >= 2 {
		m.since = messages.Timestamp(r.Int64())
	}
	const least = 1 + 1 + 1 + 1 + 4 + 4 + 1 + 1 + 1 // a member of version 4; others have more
	for n := r.Count(least); n > 0 && r.Err() == nil; n-- {
		m.members = append(m.members, parseMember(r, version))
	}
	r.Tags(nil)
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("metadata of a group: %w", err)
	}
	return m, nil
}

func parseMember(r *primitive.Reader, version int16) memberMetadata {
	m := memberMetadata{rebalanceMs: -1}
	m.id = r.Text()
	if version >= 3 {
		m.instance = r.NullableText()
	}
	m.clientID = r.Text()
	m.clientHost = r.Text()
	if version >= 1 {
		m.rebalanceMs = r.Int32()
	}
	m.sessionMs = r.Int32()
	m.subscription = r.Bytes()
	m.assignment = r.Bytes()
	r.Tags(nil)
	return m
}
