//go:build linux

package raw

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// Produce sends batches with up to Window requests under way on each connection, each of
// which goes round its partitions. Latencies are from sending a request to its answer.
func (d *Driver) Produce(ctx context.Context) (Outcome, error) {
	var end time.Time
	count := int64(1) << 40
	if d.load.Bytes > 0 {
		count = max(1, d.load.Bytes/int64(d.batch.Plain))
	}
	if d.load.For > 0 {
		end = time.Now().Add(d.load.For)
	}
	return d.produce(ctx, count, end)
}

// warmBatches are sent on a connection before what is counted, at least.
const warmBatches = 16

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

// produce sends so many batches, whoever of the connections has time for them.
func (d *Driver) produce(ctx context.Context, count int64, end time.Time) (Outcome, error) {
	var left atomic.Int64
	left.Store(count)
	producers := map[*lane]*producer{}
	for _, l := range d.lanes {
		if room := int(min(count, latenciesMax)); cap(l.latencies) < room {
			l.latencies = make([]time.Duration, 0, room)
		}
		producers[l] = newProducer(d, l)
	}
	return d.onEach(ctx, func(l *lane) error { return producers[l].run(&left, end) })
}

// latenciesMax is how many latencies of a connection have their place in advance.
const latenciesMax = 1 << 18

// producer is a connection that produces. Its frames share the batch and have heads of
// their own, so one system call sends as many as there is room for.
type producer struct {
	*lane
	batch   Batch
	window  int
	heads   [][]byte
	vectors net.Buffers // heads and batches of what is being sent
	store   net.Buffers // memory of vectors
	turn    int         // whose of the partitions it is
	answers answers

	// Of the requests under way, in a ring: when they were sent, and the place of their
	// partition in partitions.
	began  []time.Time
	to     []int
	oldest int
	flying int
}

func newProducer(d *Driver, l *lane) *producer {
	p := &producer{lane: l, batch: d.batch, window: d.load.Window,
		store: make(net.Buffers, 2*d.load.Window), began: make([]time.Time, d.load.Window),
		to: make([]int, d.load.Window)}
	for range d.load.Window {
		p.heads = append(p.heads, produceHead(d.load.Topic, d.load.Acks, len(d.batch.Bytes)))
	}
	p.answers = newAnswers(d.load.Topic, d.load.Window)
	return p
}

// run sends what it can take from left until there is none, or until the end, and waits
// for the answers.
func (p *producer) run(left *atomic.Int64, end time.Time) error {
	now := time.Now()
	for {
		n := p.window - p.flying
		if !end.IsZero() && now.After(end) {
			n = 0
		}
		if n > 0 {
			n -= int(max(0, min(int64(n), -left.Add(-int64(n)))))
		}
		if n > 0 {
			if err := p.send(n, now); err != nil {
				return err
			}
		}
		if p.flying == 0 {
			return nil
		}
		n, err := p.answers.read(p.conn)
		if err != nil {
			return fmt.Errorf("after %d answers: %w", p.requests, err)
		}
		if n > p.flying {
			return fmt.Errorf("%d answers to %d requests", n, p.flying)
		}
		now = time.Now()
		for range n {
			p.answered(now)
		}
	}
}

// send writes n requests at once, to the next partitions by turns.
func (p *producer) send(n int, now time.Time) error {
	p.vectors = p.store[:0]
	for range n {
		i := (p.oldest + p.flying) % p.window
		setProducePartition(p.heads[i], p.partitions[p.turn])
		p.vectors = append(p.vectors, p.heads[i], p.batch.Bytes)
		p.began[i], p.to[i] = now, p.turn
		p.turn = (p.turn + 1) % len(p.partitions)
		p.flying++
	}
	_, err := p.vectors.WriteTo(p.conn)
	return err
}

func (p *producer) answered(now time.Time) {
	p.latencies = append(p.latencies, now.Sub(p.began[p.oldest]))
	p.sent[p.to[p.oldest]]++
	p.requests++
	p.bytes += int64(p.batch.Plain)
	p.oldest = (p.oldest + 1) % p.window
	p.flying--
}

// answers reads answers of one size, as many at once as there are.
type answers struct {
	size    int // of an answer with its size field
	errorAt []int
	buffer  []byte
	have    int
}

func newAnswers(topic string, window int) answers {
	size, errorAt := ProduceAnswer(topic)
	return answers{size: 4 + size, errorAt: []int{errorAt}, buffer: make([]byte, window*(4+size))}
}

// read returns how many answers came, one at least, all of them without an error code.
func (a *answers) read(c *net.TCPConn) (int, error) {
	for a.have < a.size {
		n, err := c.Read(a.buffer[a.have:])
		if a.have += n; err != nil {
			return 0, err
		}
	}
	count := a.have / a.size
	for i := range count {
		answer := a.buffer[i*a.size : (i+1)*a.size]
		if got := int(binary.BigEndian.Uint32(answer)); got != a.size-4 {
			return 0, fmt.Errorf("answer of %d bytes, expected %d", got, a.size-4)
		}
		for _, at := range a.errorAt {
			if err := answerError(answer[4:], at); err != nil {
				return 0, err
			}
		}
	}
	a.have = copy(a.buffer, a.buffer[count*a.size:a.have])
	return count, nil
}
