package transport

import (
	"math"
	"unicode/utf8"

	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that others are spared
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// aliasMin is from how many bytes on a payload is handed over instead of copied: below
// it, one more buffer costs more than the copy.
const aliasMin = 2 << 10

// codec reads and writes the batches of messages of Proto.Actor's remote. What crosses
// are the same bytes as with gRPC's own codec, so peers may have either; but that one
// copies each payload once more on its way out and once more on its way in.
//
// Payloads of aliasMin bytes and more are not copied on their way out, and when they are
// written their memory is used for others (Buffer): nobody else may have it. That holds
// for what the remote hands over, which it has just marshalled itself. What comes in is
// the receiver's own, each large payload in memory of its own, so that one that is kept
// does not keep those that came with it.
//
// All that is not a batch, or not as Proto.Actor writes it, is left to gRPC's own codec.
// A codec has no state: any number of goroutines may use it.
type codec struct{}

func stock() encoding.CodecV2 { return encoding.GetCodecV2("proto") }

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if msg, ok := v.(*remote.RemoteMessage); ok {
		if batch, ok := msg.MessageType.(*remote.RemoteMessage_MessageBatch); ok {
			if out, ok := marshal(batch.MessageBatch); ok {
				return out, nil
			}
		}
	}
	return stock().Marshal(v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	if msg, ok := v.(*remote.RemoteMessage); ok {
		if batch, ok := unmarshal(data); ok {
			proto.Reset(msg)
			msg.MessageType = &remote.RemoteMessage_MessageBatch{MessageBatch: batch}
			return nil
		}
	}
	return stock().Unmarshal(data, v)
}

// The fields, as Proto.Actor's remote.proto numbers them.
const (
	fieldBatch = 1 // of RemoteMessage

	fieldTypeNames = 1 // of MessageBatch
	fieldTargets   = 2
	fieldEnvelopes = 3
	fieldSenders   = 4

	fieldTypeID          = 1 // of MessageEnvelope
	fieldData            = 2
	fieldTarget          = 3
	fieldSender          = 4
	fieldSerializerID    = 5
	fieldHeader          = 6
	fieldTargetRequestID = 7
	fieldSenderRequestID = 8
)

// marshal returns the wire format of a RemoteMessage with that batch, or not ok if the
// codec of gRPC has to say what is wrong with it.
func marshal(b *remote.MessageBatch) (out mem.BufferSlice, ok bool) {
	size, small, ok := measure(b)
	if !ok {
		return nil, false
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(small)
	w := &writer{buf: (*buf)[:0]}
	w.tag(fieldBatch, size)
	for _, s := range b.TypeNames {
		w.text(fieldTypeNames, s)
	}
	for _, s := range b.Targets {
		w.text(fieldTargets, s)
	}
	for _, e := range b.Envelopes {
		w.envelope(e)
	}
	for _, p := range b.Senders {
		w.message(fieldSenders, p)
	}
	if w.failed || len(w.buf) > len(*buf) {
		pool.Put(buf) // a message that changes while it is sent; nothing refers to buf yet
		return nil, false
	}
	*buf = w.buf
	return w.slices(mem.NewBuffer(buf, pool)), true
}

// measure returns how many bytes the batch has, and how many bytes of the whole have a
// place in the writer's own buffer.
func measure(b *remote.MessageBatch) (size, small int, ok bool) {
	aliased := 0
	for _, names := range [...][]string{b.TypeNames, b.Targets} {
		for _, s := range names {
			if !utf8.ValidString(s) {
				return 0, 0, false
			}
			size += field(len(s))
		}
	}
	for _, e := range b.Envelopes {
		if e == nil || len(e.ProtoReflect().GetUnknown()) > 0 {
			return 0, 0, false
		}
		size += field(envelopeSize(e))
		if len(e.MessageData) >= aliasMin {
			aliased += len(e.MessageData)
		}
	}
	for _, p := range b.Senders {
		if p == nil {
			return 0, 0, false
		}
		size += field(proto.Size(p))
	}
	if size > math.MaxInt32 || len(b.ProtoReflect().GetUnknown()) > 0 {
		return 0, 0, false
	}
	return size, field(size) - aliased, true
}

// field is how many bytes a field of n bytes has with its tag and length; all numbers of
// fields are below 16.
func field(n int) int { return 1 + protowire.SizeBytes(n) }

func number(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func envelopeSize(e *remote.MessageEnvelope) int {
	size := number(uint64(e.TypeId)) + number(uint64(e.Target)) + number(uint64(e.Sender)) +
		number(uint64(e.SerializerId)) + number(uint64(e.TargetRequestId)) +
		number(uint64(e.SenderRequestId))
	if len(e.MessageData) > 0 {
		size += field(len(e.MessageData))
	}
	if e.MessageHeader != nil {
		size += field(proto.Size(e.MessageHeader))
	}
	return size
}

// writer builds the wire format: in buf what is small, and between it the payloads that
// stay where they are.
type writer struct {
	buf    []byte
	cuts   []cut
	failed bool
}

// cut is a payload, and how much of buf comes before it.
type cut struct {
	at      int
	payload []byte
}

func (w *writer) tag(number protowire.Number, size int) {
	w.buf = protowire.AppendTag(w.buf, number, protowire.BytesType)
	w.buf = protowire.AppendVarint(w.buf, uint64(size))
}

func (w *writer) text(number protowire.Number, s string) {
	w.tag(number, len(s))
	w.buf = append(w.buf, s...)
}

func (w *writer) number(number protowire.Number, v uint64) {
	if v != 0 {
		w.buf = protowire.AppendTag(w.buf, number, protowire.VarintType)
		w.buf = protowire.AppendVarint(w.buf, v)
	}
}

func (w *writer) message(number protowire.Number, m proto.Message) {
	w.tag(number, proto.Size(m))
	buf, err := proto.MarshalOptions{}.MarshalAppend(w.buf, m)
	if err != nil {
		w.failed = true
		return
	}
	w.buf = buf
}

func (w *writer) envelope(e *remote.MessageEnvelope) {
	w.tag(fieldEnvelopes, envelopeSize(e))
	w.number(fieldTypeID, uint64(e.TypeId))
	switch n := len(e.MessageData); {
	case n >= aliasMin:
		w.tag(fieldData, n)
		w.cuts = append(w.cuts, cut{len(w.buf), e.MessageData})
	case n > 0:
		w.tag(fieldData, n)
		w.buf = append(w.buf, e.MessageData...)
	}
	w.number(fieldTarget, uint64(e.Target))
	w.number(fieldSender, uint64(e.Sender))
	w.number(fieldSerializerID, uint64(e.SerializerId))
	if e.MessageHeader != nil {
		w.message(fieldHeader, e.MessageHeader)
	}
	w.number(fieldTargetRequestID, uint64(e.TargetRequestId))
	w.number(fieldSenderRequestID, uint64(e.SenderRequestId))
}

// slices puts the pieces together. They share own, which is free when all are.
func (w *writer) slices(own mem.Buffer) mem.BufferSlice {
	if len(w.cuts) == 0 {
		return mem.BufferSlice{own}
	}
	out := make(mem.BufferSlice, 0, 2*len(w.cuts)+1)
	from := 0
	for i := range w.cuts {
		c := &w.cuts[i]
		out = append(out, own.Slice(from, c.at), mem.NewBuffer(&c.payload, &buffers))
		from = c.at
	}
	if from < own.Len() {
		out = append(out, own.Slice(from, own.Len()))
	}
	own.Free()
	return out
}
