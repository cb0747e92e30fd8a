package clientlib

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

func TestFlushTellsOfRecordsThatNobodyAskedAbout(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	w.fate = func(*wire.ClientAppend) (bool, error) { return false, messages.ErrInvalidRecord }
	p := w.producer(ProducerConfig{Topic: "orders", Linger: time.Hour})
	for range 3 {
		if err := p.Send(soon(t), text("", "x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(soon(t)); !errors.Is(err, ErrInvalidRecord) ||
		!strings.Contains(err.Error(), "3 records") {
		t.Errorf("the first flush: %v", err)
	}
	if err := p.Flush(soon(t)); err != nil {
		t.Errorf("the second: %v", err)
	}
	if s := p.Stats(); s.Errors != 3 {
		t.Errorf("%+v", s)
	}
}

func TestCloseFailsWhatIsNotAcknowledged(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	w.lead("orders", 0, messages.NoNode)
	p := w.producer(ProducerConfig{Topic: "orders", BufferBytes: 100})
	f := p.Go(soon(t), text("", strings.Repeat("x", 80)))
	waits := make(chan error)
	go func() { waits <- p.Send(soon(t), text("", strings.Repeat("x", 80)), nil) }()
	p.grace = 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(soon(t), 10*time.Millisecond)
	defer cancel()
	if err := p.Close(ctx); !errors.Is(err, ErrClosed) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closing: %v", err)
	}
	if err := f.Wait(soon(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("the record on its way: %v", err)
	}
	if err := <-waits; !errors.Is(err, ErrClosed) {
		t.Errorf("the one that waits for room: %v", err)
	}
	if err := p.Send(soon(t), text("", "x"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := p.Close(soon(t)); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if err := p.Flush(soon(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("flushing: %v", err)
	}
}

func TestCloseFlushes(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	p := w.producer(ProducerConfig{Topic: "orders", Linger: time.Hour})
	f := p.Go(soon(t), text("", "x"))
	if err := p.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	<-f.Done()
	if err := f.Wait(soon(t)); err != nil || len(w.stored("orders", 0)) != 1 {
		t.Errorf("%v", err)
	}
}

func TestCloseTellsOfRecordsWithoutACallbackToo(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	w.lead("orders", 0, messages.NoNode)
	p := w.producer(ProducerConfig{Topic: "orders"})
	p.grace = 0
	if err := p.Send(soon(t), text("", "x"), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(soon(t))
	cancel()
	if err := p.Close(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("closing: %v", err)
	}
}

func TestCloseFlushesAlthoughItsContextHasEnded(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	p := w.producer(ProducerConfig{Topic: "orders", Linger: time.Hour})
	if err := p.Send(soon(t), text("", "x"), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(soon(t))
	cancel()
	if err := p.Close(ctx); err != nil || len(w.stored("orders", 0)) != 1 {
		t.Errorf("%v; %d records are there", err, len(w.stored("orders", 0)))
	}
}

func TestWhoWaitsForAProducerIDEndsWithTheClient(t *testing.T) {
	for _, cfg := range []ProducerConfig{{}, {TransactionalID: "bank"}} {
		w := newProducerWorld(t)
		asked := make(chan struct{}, 100)
		w.ask = func(*wire.ClientRequest) (bool, *wire.ClientResponse, error) {
			asked <- struct{}{}
			return true, nil, messages.ErrUnavailable
		}
		c := w.client()
		ends := make(chan error, 1)
		go func() { _, err := c.NewProducer(context.Background(), cfg); ends <- err }()
		<-asked
		if err := c.Close(soon(t)); err != nil {
			t.Fatal(err)
		}
		if err := <-ends; !errors.Is(err, ErrClosed) || errors.Is(err, ErrUnavailable) {
			t.Errorf("%q: %v", cfg.TransactionalID, err)
		}
	}
}
