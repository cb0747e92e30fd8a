package clientlib

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// benchLink takes every batch at once and stores nothing.
type benchLink struct {
	producerWorld
	route *link.Route
}

func (l *benchLink) Route(context.Context, string, bool) (*link.Route, error) {
	return l.route, nil
}

func (l *benchLink) Watch(string, func(*link.Route)) (cancel func()) { return func() {} }

func (l *benchLink) Send(_ messages.NodeID, _ *wire.ClientRequest, _ time.Duration,
	done func(*wire.ClientResponse, error)) {
	done(&wire.ClientResponse{Result: &wire.ClientResponse_Appended{
		Appended: &wire.ClientAppended{}}}, nil)
}

func benchProducer(tb testing.TB, cfg ProducerConfig) *Producer {
	l := &benchLink{route: &link.Route{Topic: "orders", Version: 1, MaxMessageBytes: 1 << 20,
		Partitions: make([]link.Leader, 6)}}
	c := newClient(Config{}, l, func(context.Context) error { return nil })
	p, err := c.NewProducer(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return p
}

func sendMany(tb testing.TB, p *Producer, n int, r *Record) {
	ctx := context.Background()
	var done atomic.Int64
	called := func(_ *Record, err error) {
		if err != nil {
			tb.Error(err)
		}
		done.Add(1)
	}
	for range n {
		if err := p.Send(ctx, r, called); err != nil {
			tb.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil || done.Load() != int64(n) {
		tb.Fatalf("%d of %d callbacks: %v", done.Load(), n, err)
	}
}

func BenchmarkSend(b *testing.B) {
	for _, bm := range []struct {
		name string
		cfg  ProducerConfig
		r    Record
	}{
		{"plain", ProducerConfig{}, Record{}},
		{"key", ProducerConfig{}, Record{Key: []byte("customer-7")}},
		{"headers", ProducerConfig{Headers: []Header{{Key: "from", Value: []byte("bench")}}},
			Record{Headers: []Header{{Key: "trace", Value: make([]byte, 16)}}}},
		{"lz4", ProducerConfig{Compression: LZ4}, Record{}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			p := benchProducer(b, bm.cfg)
			r := bm.r
			r.Topic, r.Value = "orders", make([]byte, 1000)
			b.SetBytes(1000)
			b.ReportAllocs()
			b.ResetTimer()
			sendMany(b, p, b.N, &r)
		})
	}
}

func TestSendingAllocatesNothingForARecord(t *testing.T) {
	p := benchProducer(t, ProducerConfig{})
	r := &Record{Topic: "orders", Key: []byte("customer-7"), Value: make([]byte, 1000),
		Headers: []Header{{Key: "trace", Value: make([]byte, 16)}}}
	const records = 20000
	sendMany(t, p, records, r) // fills the pools
	perRun := testing.AllocsPerRun(3, func() { sendMany(t, p, records, r) })
	if perRecord := perRun / records; perRecord > 0.2 {
		t.Errorf("%.2f allocations for each record", perRecord)
	}
}
