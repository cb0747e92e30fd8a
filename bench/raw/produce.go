//go:build linux

package raw

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

const (
	// warmBatches are sent on a connection before what is counted, at least.
	warmBatches = 16

	// latenciesMax is how many latencies of a connection have their place in advance.
	latenciesMax = 1 << 18

	endless = 1 << 40 // batches
)

// Warm sends every partition a batch, so that what brokers do for the first one is
// behind them, and some more.
func (d *Driver) Warm(ctx context.Context) error {
	_, err := d.onEach(ctx, func(l *lane) error {
		var left atomic.Int64
		left.Store(int64(max(warmBatches, len(l.partitions))))
		return newProducer(d, l).run(&left, time.Time{})
	})
	return err
}

// Produce sends batches with up to Window requests under way on each connection, each of
// which goes round its partitions; who of the connections has room sends the next batch.
// Latencies are from sending a request to its answer.
func (d *Driver) Produce(ctx context.Context) (Outcome, error) {
	var left atomic.Int64
	left.Store(d.count())
	producers := map[*lane]*producer{}
	for _, l := range d.lanes {
		l.expect(d.count())
		producers[l] = newProducer(d, l)
	}
	var end time.Time
	if d.load.For > 0 {
		end = time.Now().Add(d.load.For)
	}
	return d.onEach(ctx, func(l *lane) error { return producers[l].run(&left, end) })
}

// count is how many batches the load has, by its bytes.
func (d *Driver) count() int64 {
	if d.load.Bytes == 0 {
		return endless
	}
	return max(1, d.load.Bytes/int64(d.batch.Plain))
}

// expect makes room for latencies.
func (l *lane) expect(count int64) {
	if room := int(min(count, latenciesMax)); cap(l.latencies) < room {
		l.latencies = make([]time.Duration, 0, room)
	}
}

// producer is a connection that produces. Its frames share the batch and have heads of
// their own, so one system call sends as many as there is room for.
type producer struct {
	*lane
	loop
	batch   Batch
	heads   [][]byte    // by the place in the loop's ring
	vectors net.Buffers // heads and batches of what is being sent
	store   net.Buffers // memory of vectors
	turn    int         // whose of the partitions it is
}

func newProducer(d *Driver, l *lane) *producer {
	p := &producer{lane: l, batch: d.batch, store: make(net.Buffers, 0, 2*d.load.Window)}
	for range d.load.Window {
		p.heads = append(p.heads, produceHead(d.load.Topic, d.load.Acks, len(d.batch.Bytes)))
	}
	p.loop = newLoop(l.conn, d.load.Window, produceAnswers(d.load.Topic, d.load.Window))
	return p
}

func produceAnswers(topic string, window int) answers {
	size, errorAt := ProduceAnswer(topic)
	return newAnswers(size, []int{errorAt}, window)
}

// run sends what it can take from left until there is none, or until the end, and waits
// for the answers.
func (p *producer) run(left *atomic.Int64, end time.Time) error {
	return p.loop.run(func(room int, now time.Time) error {
		if !end.IsZero() && now.After(end) {
			return nil
		}
		return p.send(take(left, room), now)
	}, func(turn int, took time.Duration) {
		p.latencies = append(p.latencies, took)
		p.acknowledged(turn, p.batch)
	})
}

// take takes up to n of what is left.
func take(left *atomic.Int64, n int) int {
	missing := -left.Add(-int64(n))
	return n - int(max(0, min(int64(n), missing)))
}

// send writes n requests at once, to the next partitions by turns.
func (p *producer) send(n int, now time.Time) error {
	if n == 0 {
		return nil
	}
	p.vectors = p.store[:0]
	for range n {
		head := p.heads[p.next()]
		setProducePartition(head, p.partitions[p.turn])
		p.vectors = append(p.vectors, head, p.batch.Bytes)
		p.push(p.turn, now)
		p.turn = (p.turn + 1) % len(p.partitions)
	}
	_, err := p.vectors.WriteTo(p.lane.conn)
	return err
}

// acknowledged counts a batch in the partition whose turn it was.
func (l *lane) acknowledged(turn int, b Batch) {
	l.sent[turn]++
	l.requests++
	l.bytes += int64(b.Plain)
}
