package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	checkEvery = 64   // records between two looks at the clock
	valueCount = 1024 // different values, of which no codec could make less
)

func (l *load) values() [][]byte {
	r := rand.New(rand.NewPCG(1, 1))
	values := make([][]byte, valueCount)
	for i := range values {
		values[i] = make([]byte, l.recordBytes)
		for j := range values[i] {
			values[i][j] = byte(r.Uint32())
		}
	}
	return values
}

// produce writes as fast as it can, with a window of records that are not acknowledged,
// which is how nats.go writes much. It ends when all are.
func (l *load) produce(ctx context.Context, js jetstream.JetStream) (result, error) {
	values, subjects := l.values(), l.subjects()
	pending := make(chan jetstream.PubAckFuture, l.window)
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { failed <- confirm(pending) })
	sent, began := int64(0), time.Now()
	more := func() bool {
		if l.records > 0 {
			return sent < l.records
		}
		return sent%checkEvery != 0 || time.Since(began) < l.while
	}
	var err error
	for ; more() && err == nil && ctx.Err() == nil; sent++ {
		var f jetstream.PubAckFuture
		m := &nats.Msg{Subject: subjects[sent%int64(l.partitions)], Data: values[sent%valueCount]}
		// It fails only after long when the window is full, so that nothing is lost.
		if f, err = js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err == nil {
			pending <- f
		}
	}
	close(pending)
	wg.Wait()
	if err == nil {
		err = <-failed
	}
	if err == nil {
		err = ctx.Err()
	}
	return l.result(sent, time.Since(began)), err
}

// confirm waits for all acknowledgements, in the order of the records.
func confirm(pending <-chan jetstream.PubAckFuture) error {
	var failed error
	for f := range pending {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			if failed == nil {
				failed = fmt.Errorf("%w: %w", errFailed, err)
			}
		}
	}
	return failed
}
