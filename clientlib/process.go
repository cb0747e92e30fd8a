package clientlib

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Process calls handler for the records that the consumer gets, until ctx ends: then it
// lets handlers end what was begun, commits it (unless CommitInterval is less than 0: then
// nothing is committed but by Commit, without records), and returns nil. It returns an
// error if the consumer ends or is closed, if a record keeps failing and cannot go to a
// dead-letter topic, and if the last commit fails.
//
// A handler that returns nil has handled the record. Each is handled at least once: again
// after a crash, so it is best if that does no harm. Topic, Partition and Offset tell a
// record from all others, and whether it was handled before. One that returns an error, or
// panics, is called again as Retry says, and meanwhile those of the record's Order wait,
// and no others. After the last attempt the record goes to the dead-letter topic, with
// headers that say where it is from and why (ConsumerConfig.DeadLetter), and Config.Logger
// and ConsumerStats tell of it. It counts as handled once it is there: until then it is
// tried again. Errors that wrap ErrDecode or are Permanent are not tried again. A record
// that is in a dead-letter topic already does not go to another one: Process returns the
// error.
//
// At most Concurrency handlers run at the same time. A partition of which many records
// wait is not read on until they are fewer; others are. Positions are committed up to the
// first record of the partition that is not handled. When Process ends, or another member
// gets a partition, the records up to the last one that was begun are handled and
// committed first, so that none is handled twice, and the rest is left to whoever reads
// next. This takes no more than 10 seconds and the handlers that run then; what is to be
// tried again is not waited for. The context of a handler ends when its partition is taken
// away, after which what it returns does not count, and 10 seconds after that of Process.
//
// One of Process, ProcessBatches and ProcessTransactions runs at a time: a second one
// returns ErrInvalidRequest, as does Poll meanwhile. Records that were read and not
// handled when Process returns are read again by the next one.
func (c *Consumer) Process(
	ctx context.Context, handler func(ctx context.Context, r *Record) error,
) error {
	if handler == nil {
		return fmt.Errorf("no handler: %w", ErrConfig)
	}
	p := c.processor(processOptions{one: handler, order: c.cfg.Order})
	return c.exclusively(ctx, p.run)
}

// ProcessBatches is Process for handlers that take several records at a time: the next
// ones of one partition in their order, at most 500. A partition's next batch waits until
// the one before is handled; up to Concurrency partitions are handled at the same time.
//
// A batch whose handler fails is tried again as a whole. After the last attempt, and at
// once if the error is Permanent or wraps ErrDecode, handler is called once for each of
// its records alone, in order, and those that fail again go to the dead-letter topic.
func (c *Consumer) ProcessBatches(
	ctx context.Context, handler func(ctx context.Context, records []*Record) error,
) error {
	if handler == nil {
		return fmt.Errorf("no handler: %w", ErrConfig)
	}
	p := c.processor(processOptions{many: handler, order: ByPartition})
	return c.exclusively(ctx, p.run)
}

// Permanent returns an error that a handler gives back for a record that would fail again
// however often it is tried: it is not. It wraps err; nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ cause error }

func (e *permanentError) Error() string { return e.cause.Error() }

func (e *permanentError) Unwrap() error { return e.cause }

// permanent says whether it is of no use to try again.
func permanent(err error) bool {
	var p *permanentError
	return errors.Is(err, ErrDecode) || errors.As(err, &p)
}

// guarded makes a panic of a handler an error that says where it was.
func guarded(call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return call()
}

// panicError is the panic of a handler. Its text goes into a header, its stack does not.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.value) }

// Unwrap returns what the handler panicked with, if that is an error.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}
