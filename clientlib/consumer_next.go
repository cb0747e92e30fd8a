package clientlib

import (
	"context"
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// takeBytes is about how many bytes of records are taken at once.
const takeBytes = 1 << 20

// taken are records of one part that next is about to give out.
type taken struct {
	p       *part
	life    int
	a       *answer
	done    bool // the answer has no more
	records int  // how many they are
	bytes   int
	next    int64 // behind them, and what nobody sees
	epoch   int32
	shown   int64 // behind the last of them; 0: there are none
	err     error
}

// next returns at least one record, those of a partition in the order of their offsets,
// or an error: of ctx, ErrClosed, what ended the consumer, or what is wrong with one
// partition, which is tried again. It marks nothing as handled.
func (c *Consumer) next(ctx context.Context) ([]*Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := c.over(); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err // also if there are records: a loop must come to an end
		}
		records, err := c.take()
		if err != nil || len(records) > 0 {
			return records, err
		}
		if len(c.queue) > 0 {
			continue // all that was taken is of no use any more
		}
		if err := c.wait(ctx, &c.ready); err != nil {
			return nil, err
		}
	}
}

// take decodes answers until there are enough records, without mu, and gives out what is
// still the consumer's after that. mu is held, but not meanwhile.
func (c *Consumer) take() ([]*Record, error) {
	var all []taken
	var records []*Record
	for size := 0; size < takeBytes; {
		p := c.dequeue()
		if p == nil {
			break
		}
		if p.err != nil && len(all) > 0 {
			c.enqueue(p)
			break
		}
		if p.err != nil {
			err := p.err
			p.err = nil
			c.enqueue(p)
			return nil, err
		}
		p.busy = true
		t := taken{p: p, life: p.life, a: p.answers[0], next: p.cur.Position()}
		c.mu.Unlock()
		records = t.decode(records, takeBytes-size)
		c.mu.Lock()
		size += t.bytes
		all = append(all, t)
	}
	at := 0
	kept := records[:0]
	for i := range all {
		mine := records[at : at+all[i].records]
		at += all[i].records
		if c.give(&all[i]) {
			kept = append(kept, mine...)
		}
	}
	clear(records[len(kept):])
	return kept, nil
}

// give ends the taking of an answer. It reports whether the records are to be given out:
// not if the part was moved or taken away meanwhile. mu is held.
func (c *Consumer) give(t *taken) bool {
	p := t.p
	p.busy = false
	defer c.enqueue(p)
	if t.life != p.life || p.gone || p.revoking {
		if t.life == p.life {
			c.void(p) // the answer is used up
		}
		return false
	}
	p.cur.Given(t.next, t.epoch, t.shown)
	if t.records > 0 && !p.out {
		p.out = true
		c.given = append(c.given, p)
	}
	c.stats.Records += int64(t.records)
	c.stats.Bytes += int64(t.bytes)
	if t.err != nil {
		c.void(p)
		c.blame(p, t.next, t.err)
		p.cur.Reread(time.Now())
		c.touch(p)
	} else if t.done {
		c.consumed(p, t.a)
	}
	return true
}

// consumed takes the first answer out of the buffer. mu is held.
func (c *Consumer) consumed(p *part, a *answer) {
	p.answers[0] = nil
	p.answers = p.answers[1:]
	p.buffered -= a.size
	c.buffered -= a.size
	if p.starved {
		p.starved = false
		c.touch(p)
	}
	c.fed()
}

// decode appends records to out until there are enough bytes of them or the answer has no
// more.
func (t *taken) decode(out []*Record, enough int) []*Record {
	before := len(out)
	t.epoch = int32(messages.NoEpoch)
	for t.bytes < enough {
		from := t.next
		b, ok, err := t.a.batches.Next(messages.Offset(from))
		if err != nil {
			t.err = fmt.Errorf("%w: %w", ErrCorrupt, err)
			break
		}
		if !ok {
			t.done, t.next, t.epoch = true, max(t.a.next, t.next), t.a.epoch
			break
		}
		grown, bytes, err := appendRecords(out, &b, t.p.Topic, t.p.Index, from)
		if err != nil {
			t.err = fmt.Errorf("batch at offset %d: %w: %w", b.BaseOffset, ErrCorrupt, err)
			break
		}
		if len(grown) > len(out) {
			t.shown = grown[len(grown)-1].Offset + 1
		}
		out = grown
		t.bytes += bytes
		t.next, t.epoch = int64(b.NextOffset()), int32(b.LeaderEpoch)
	}
	t.records = len(out) - before
	return out
}

// appendRecords appends the records of a batch, which is not compressed, from an offset
// on. Their keys and values are those of the batch; the records are in one piece of
// memory. If there is an error, out is as it was.
func appendRecords(out []*Record, b *record.Batch, topic string, index int32, from int64) (
	_ []*Record, bytes int, err error,
) {
	slab := make([]Record, 0, b.Count)
	var headers []Header
	for r, err := range record.Records(b, 0) {
		if err != nil {
			return out, 0, err
		}
		if int64(r.Offset) < from {
			continue
		}
		slab = append(slab, Record{
			Topic: topic, Partition: index, Offset: int64(r.Offset),
			Time: time.UnixMilli(int64(r.Timestamp)),
			Key:  r.Key, Value: r.Value, epoch: int32(b.LeaderEpoch),
		})
		bytes += len(r.Key) + len(r.Value)
		if r.HeaderCount > 0 {
			s := &slab[len(slab)-1]
			headers, s.Headers = appendHeaders(headers, r)
		}
	}
	if out == nil {
		out = make([]*Record, 0, len(slab))
	}
	for i := range slab {
		out = append(out, &slab[i])
	}
	return out, bytes, nil
}

// appendHeaders puts the headers of a record behind those of the records before it, in
// memory that they share. Names that are those of the record before are not made anew.
func appendHeaders(all []Header, r *record.Record) (_, mine []Header) {
	n := r.HeaderCount
	last := all[max(len(all)-n, 0):]
	if cap(all)-len(all) < n {
		all = make([]Header, 0, max(64, n))
	}
	at := len(all)
	for h := range r.RecordHeaders() {
		i := len(all) - at
		if i < len(last) && last[i].Key == string(h.Key) {
			all = append(all, Header{Key: last[i].Key, Value: h.Value})
		} else {
			all = append(all, Header{Key: string(h.Key), Value: h.Value})
		}
	}
	return all, all[at:len(all):len(all)]
}
