package clientlib

import (
	"context"
	"fmt"
)

// Typed writes and reads records with values of type T:
//
//	orders := clientlib.Typed[Order]{Value: clientlib.JSON[Order]()}
//	err := orders.Produce(ctx, producer, &clientlib.Record{Topic: "orders"}, Order{ID: 7})
//	err = orders.Process(ctx, consumer,
//		func(ctx context.Context, m clientlib.Message[Order]) error {
//			fmt.Println(m.Value.ID, m.Offset)
//			return nil
//		})
type Typed[T any] struct {
	// Value makes payloads of values, and values of payloads. It must be set; without it
	// everything fails with ErrConfig.
	Value Serializer[T]
}

var errNoSerializer = fmt.Errorf("Typed.Value is not set: name a Serializer: %w", ErrConfig)

// Message is a record with its value. A record whose Record.Value is nil, which deletes
// its key in compacted topics, is a message too: its Value is the zero one.
type Message[T any] struct {
	*Record
	// Value is what the payload says.
	Value T
}

// Sender is a Producer or a Transaction.
type Sender interface {
	Send(ctx context.Context, r *Record, done func(*Record, error)) error
	Produce(ctx context.Context, records ...*Record) error
}

// Produce sends a record with value as its payload and waits until it is acknowledged. It
// fails as Encode and Producer.Produce do.
func (t Typed[T]) Produce(ctx context.Context, to Sender, r *Record, value T) error {
	if err := t.Encode(r, value); err != nil {
		return err
	}
	return to.Produce(ctx, r)
}

// Send sends a record with value as its payload and does not wait. It fails as Encode and
// Producer.Send do.
func (t Typed[T]) Send(
	ctx context.Context, to Sender, r *Record, value T, done func(*Record, error),
) error {
	if err := t.Encode(r, value); err != nil {
		return err
	}
	return to.Send(ctx, r, done)
}

// Encode sets the record's Value to the payload of value.
func (t Typed[T]) Encode(r *Record, value T) error {
	if r == nil {
		return errNoRecord
	}
	if t.Value == nil {
		return errNoSerializer
	}
	payload, err := t.Value.Encode(value)
	if err != nil {
		return fmt.Errorf("encoding a value for topic %q: %w", r.Topic, err)
	}
	if payload == nil {
		payload = []byte{} // nil would delete the key
	}
	r.Value = payload
	return nil
}

// Decode reads the record's payload. Errors wrap ErrDecode.
func (t Typed[T]) Decode(r *Record) (Message[T], error) {
	m := Message[T]{Record: r}
	switch {
	case r == nil:
		return m, errNoRecord
	case t.Value == nil:
		return m, errNoSerializer
	case r.Value == nil:
		return m, nil
	}
	value, err := t.Value.Decode(r.Value)
	if err != nil {
		return m, fmt.Errorf("topic %q, partition %d, offset %d: %w: %w",
			r.Topic, r.Partition, r.Offset, ErrDecode, err)
	}
	m.Value = value
	return m, nil
}

// Process is (*Consumer).Process with decoded messages. A record that cannot be decoded
// goes to the dead-letter topic without being tried again; with NoDeadLetter, Process
// returns the error, which wraps ErrDecode.
func (t Typed[T]) Process(
	ctx context.Context, c *Consumer, handler func(ctx context.Context, m Message[T]) error,
) error {
	switch {
	case handler == nil:
		return fmt.Errorf("no handler: %w", ErrConfig)
	case t.Value == nil:
		return errNoSerializer
	}
	return c.Process(ctx, t.handler(handler))
}

func (t Typed[T]) handler(
	handler func(ctx context.Context, m Message[T]) error,
) func(ctx context.Context, r *Record) error {
	return func(ctx context.Context, r *Record) error {
		m, err := t.Decode(r)
		if err != nil {
			return err
		}
		return handler(ctx, m)
	}
}
