package transport

import (
	"bytes"
	"unicode/utf8"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// chunk is how much memory small payloads of one batch share at a time.
const chunk = 16 << 10

// unmarshal returns the batch of a RemoteMessage, or not ok if there is none in it, or
// anything that Proto.Actor does not write: then the codec of gRPC shall decide.
func unmarshal(data mem.BufferSlice) (*remote.MessageBatch, bool) {
	r := &reader{bufs: data, left: data.Len()}
	tag, size, ok := r.field()
	if !ok || tag != fieldBatch || size != r.left {
		return nil, false
	}
	batch := &remote.MessageBatch{}
	for r.left > 0 {
		tag, size, ok := r.field()
		if !ok {
			return nil, false
		}
		switch tag {
		case fieldTypeNames:
			batch.TypeNames, ok = r.text(batch.TypeNames, size)
		case fieldTargets:
			batch.Targets, ok = r.text(batch.Targets, size)
		case fieldEnvelopes:
			e := &remote.MessageEnvelope{}
			batch.Envelopes = append(batch.Envelopes, e)
			ok = r.envelope(e, r.left-size)
		case fieldSenders:
			pid := &actor.PID{}
			batch.Senders = append(batch.Senders, pid)
			ok = proto.Unmarshal(r.take(size), pid) == nil
		default:
			ok = false
		}
		if !ok {
			return nil, false
		}
	}
	return batch, true
}

// reader reads a wire format that lies in pieces. What it returns is copied from them.
type reader struct {
	bufs  mem.BufferSlice
	piece []byte // what is left of the one before bufs
	left  int    // bytes in all
	small []byte // memory for small payloads
	parts [][]byte
}

// envelope reads one that ends when end bytes are left.
func (r *reader) envelope(e *remote.MessageEnvelope, end int) bool {
	seen := 0 // fields, by bit: the last one of a kind counts, and two headers merge
	for r.left > end {
		tag, ok := r.varint()
		number := int(tag >> 3)
		if !ok || number > fieldSenderRequestID || seen&(1<<number) != 0 {
			return false
		}
		seen |= 1 << number
		if number == fieldData || number == fieldHeader {
			size, ok := r.varint()
			if !ok || tag&7 != uint64(protowire.BytesType) || r.left < end ||
				size > uint64(r.left-end) {
				return false
			}
			if number == fieldData {
				e.MessageData = r.take(int(size))
				continue
			}
			e.MessageHeader = &remote.MessageHeader{}
			if proto.Unmarshal(r.take(int(size)), e.MessageHeader) != nil {
				return false
			}
			continue
		}
		v, ok := r.varint()
		if !ok || tag&7 != uint64(protowire.VarintType) || !setNumber(e, number, v) {
			return false
		}
	}
	return r.left == end
}

// setNumber sets a field that is one.
func setNumber(e *remote.MessageEnvelope, number int, v uint64) bool {
	switch number {
	case fieldTypeID:
		e.TypeId = int32(v)
	case fieldTarget:
		e.Target = int32(v)
	case fieldSender:
		e.Sender = int32(v)
	case fieldSerializerID:
		e.SerializerId = int32(v)
	case fieldTargetRequestID:
		e.TargetRequestId = uint32(v)
	case fieldSenderRequestID:
		e.SenderRequestId = uint32(v)
	default:
		return false
	}
	return true
}

// field reads the tag and the size of a field that has one.
func (r *reader) field() (number uint64, size int, ok bool) {
	tag, ok := r.varint()
	if !ok || tag&7 != uint64(protowire.BytesType) {
		return 0, 0, false
	}
	n, ok := r.varint()
	if !ok || n > uint64(r.left) {
		return 0, 0, false
	}
	return tag >> 3, int(n), true
}

func (r *reader) text(into []string, size int) ([]string, bool) {
	s := string(r.peek(size))
	return append(into, s), utf8.ValidString(s)
}

func (r *reader) varint() (uint64, bool) {
	if !r.fill() {
		return 0, false
	}
	if v, n := protowire.ConsumeVarint(r.piece); n > 0 {
		r.piece, r.left = r.piece[n:], r.left-n
		return v, true
	}
	var buf [10]byte // it lies across pieces, or is none
	for i := range buf {
		if !r.fill() {
			return 0, false
		}
		buf[i] = r.piece[0]
		r.piece, r.left = r.piece[1:], r.left-1
		if buf[i] < 0x80 {
			v, n := protowire.ConsumeVarint(buf[:i+1])
			return v, n > 0
		}
	}
	return 0, false
}

// fill has piece start with the next byte, if there is one.
func (r *reader) fill() bool {
	for len(r.piece) == 0 {
		if len(r.bufs) == 0 {
			return false
		}
		r.piece, r.bufs = r.bufs[0].ReadOnlyData(), r.bufs[1:]
	}
	return true
}

// peek returns the next n bytes, of those that are left, until the data is given back.
func (r *reader) peek(n int) []byte {
	if r.fill() && n <= len(r.piece) {
		b := r.piece[:n]
		r.piece, r.left = r.piece[n:], r.left-n
		return b
	}
	return r.take(n)
}

// take returns a copy of the next n bytes, of those that are left. A large one has memory
// of its own.
func (r *reader) take(n int) []byte {
	r.parts = r.parts[:0]
	for need := n; need > 0 && r.fill(); {
		part := r.piece[:min(need, len(r.piece))]
		r.parts = append(r.parts, part)
		r.piece, r.left = r.piece[len(part):], r.left-len(part)
		need -= len(part)
	}
	switch {
	case n >= aliasMin && freed.Load():
		own := Buffer(n)[:0]
		for _, part := range r.parts {
			own = append(own, part...)
		}
		return own
	case n >= aliasMin:
		return bytes.Join(r.parts, nil) // which does not clear the memory first
	}
	if len(r.small)+n > cap(r.small) {
		r.small = make([]byte, 0, max(n, min(chunk, n+r.left)))
	}
	at := len(r.small)
	for _, part := range r.parts {
		r.small = append(r.small, part...)
	}
	return r.small[at:len(r.small):len(r.small)]
}
