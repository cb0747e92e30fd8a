package clientlib

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Serializer makes payloads of values, and values of payloads. Its methods are called by
// several goroutines at the same time. A nil payload is never handed to Decode.
type Serializer[T any] interface {
	Encode(value T) ([]byte, error)
	Decode(payload []byte) (T, error)
}

// SerializerOf returns a Serializer of two functions.
func SerializerOf[T any](
	encode func(value T) ([]byte, error), decode func(payload []byte) (T, error),
) Serializer[T] {
	return functions[T]{encode, decode}
}

type functions[T any] struct {
	encode func(T) ([]byte, error)
	decode func([]byte) (T, error)
}

func (f functions[T]) Encode(value T) ([]byte, error) { return f.encode(value) }

func (f functions[T]) Decode(payload []byte) (T, error) { return f.decode(payload) }

// String has text as payload, as it stands.
func String() Serializer[string] {
	return SerializerOf(
		func(s string) ([]byte, error) { return []byte(s), nil },
		func(b []byte) (string, error) { return string(b), nil })
}

// JSON has payloads of encoding/json.
func JSON[T any]() Serializer[T] {
	return SerializerOf(
		func(value T) ([]byte, error) { return json.Marshal(value) },
		func(b []byte) (value T, err error) {
			err = json.Unmarshal(b, &value)
			return value, err
		})
}

// Protobuf has payloads in Protocol Buffers' binary format, without the prefix that some
// schema registries want. T is a pointer to a generated message.
func Protobuf[T proto.Message]() Serializer[T] {
	return SerializerOf(
		func(value T) ([]byte, error) { return proto.Marshal(value) },
		func(b []byte) (T, error) {
			var none T
			value, ok := none.ProtoReflect().Type().New().Interface().(T)
			if !ok {
				return none, fmt.Errorf("%T is no generated message: %w", none, ErrConfig)
			}
			return value, proto.Unmarshal(b, value)
		})
}
