package wire

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoiface"
)

// Records are most of what clients and gateways send each other, so they are not copied
// where that can be avoided: what is unmarshalled refers to the bytes it was unmarshalled
// from, which must not change any more, and FetchedInPlace is marshalled where the records
// lie.
func init() {
	refer(&ClientRequest{}, appendField, func(m proto.Message, records []byte) {
		m.(*ClientRequest).GetAppend().Records = records
	})
	refer(&ClientResponse{}, fetchedField, func(m proto.Message, records []byte) {
		m.(*ClientResponse).GetFetched().Records = records
	})
}

// The fields in which records are. They come last where they are written by programs of
// this module.
const (
	appendField  = 20 // of ClientRequest
	fetchedField = 21 // of ClientResponse
	recordsField = 15 // of both of these
)

// recordsLeast is how many bytes of records are worth the trouble.
const recordsLeast = 1 << 10

// refer has messages of a type unmarshalled without a copy of their records, which are at
// their end. set puts them in their place.
func refer(of proto.Message, field protowire.Number, set func(m proto.Message, records []byte)) {
	methods := of.ProtoReflect().ProtoMethods() // those of all messages of the type
	copying := methods.Unmarshal
	methods.Unmarshal = func(in protoiface.UnmarshalInput) (protoiface.UnmarshalOutput, error) {
		head, records := split(in.Buf, field)
		if records == nil {
			return copying(in)
		}
		in.Buf = head
		out, err := copying(in)
		if err == nil {
			set(in.Message.Interface(), records)
		}
		return out, err
	}
}

// split returns the records at the end of a message, and the message without them; nil if
// they are not there, or small.
func split(b []byte, field protowire.Number) (head, records []byte) {
	body := last(b, field)
	if records = last(body, recordsField); len(records) < recordsLeast {
		return nil, nil
	}
	rest := len(body) - protowire.SizeTag(recordsField) - protowire.SizeBytes(len(records))
	before := len(b) - protowire.SizeTag(field) - protowire.SizeBytes(len(body))
	if rest < 0 || before < 0 { // lengths with more bytes than they need
		return nil, nil
	}
	head = append(make([]byte, 0, before+rest+2*binary.MaxVarintLen64), b[:before]...)
	head = protowire.AppendTag(head, field, protowire.BytesType)
	return protowire.AppendBytes(head, body[:rest]), records
}

// last returns the content of a field if it is the last one of a message.
func last(b []byte, field protowire.Number) []byte {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil
		}
		b = b[n:]
		if number == field && kind == protowire.BytesType {
			if v, n := protowire.ConsumeBytes(b); n == len(b) {
				return v
			}
		}
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return nil
		}
		b = b[n:]
	}
	return nil
}

// HeadRoom is how many bytes in front of its records a FetchedInPlace needs, but for
// aborted transactions.
const HeadRoom = 128

// FetchedInPlace is a ClientResponse with a ClientFetched, without an error, whose records
// are not in it: they are in Memory from HeadRoom on. Marshalling it writes what comes
// before them into Memory, and what comes of it lies there, too. It is marshalled once.
type FetchedInPlace struct {
	*ClientResponse
	Memory []byte
}

// ProtoReflect makes it a message of the type ClientResponse.
func (x FetchedInPlace) ProtoReflect() protoreflect.Message {
	return inPlace{x.ClientResponse.ProtoReflect(), x}
}

type inPlace struct {
	protoreflect.Message
	of FetchedInPlace
}

// ProtoMethods is what the protobuf library marshals with.
func (m inPlace) ProtoMethods() *protoiface.Methods {
	return &protoiface.Methods{
		Marshal: func(in protoiface.MarshalInput) (protoiface.MarshalOutput, error) {
			b, err := m.of.marshal()
			if len(in.Buf) > 0 {
				b = append(in.Buf, b...)
			}
			return protoiface.MarshalOutput{Buf: b}, err
		},
	}
}

// marshal puts what comes before the records in front of them. They are the last field.
func (x FetchedInPlace) marshal() ([]byte, error) {
	records := x.Memory[HeadRoom:]
	var space [2 * HeadRoom]byte
	fields, err := proto.MarshalOptions{}.MarshalAppend(space[:0:HeadRoom], x.GetFetched())
	if err != nil {
		return nil, err
	}
	size := len(fields)
	if len(records) > 0 {
		size += protowire.SizeTag(recordsField) + protowire.SizeBytes(len(records))
	}
	head, err := proto.MarshalOptions{}.MarshalAppend(space[HeadRoom:HeadRoom],
		&ClientResponse{RequestId: x.RequestId})
	if err != nil {
		return nil, err
	}
	head = protowire.AppendTag(head, fetchedField, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(size))
	head = append(head, fields...)
	if len(records) > 0 {
		head = protowire.AppendTag(head, recordsField, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(len(records)))
	}
	if len(head) > HeadRoom { // many aborted transactions
		return append(head, records...), nil
	}
	from := HeadRoom - len(head)
	copy(x.Memory[from:], head)
	return x.Memory[from:], nil
}
