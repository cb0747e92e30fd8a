package clientlib

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/batches"
	"github.com/troupelog/troupe/clientlib/internal/cursor"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/wire"
)

const (
	// parkTime is how long a fetch waits at the leader for records, answerTime how much
	// longer for the answer; searchTime is for questions that do not park.
	parkTime   = 10 * time.Second
	answerTime = 5 * time.Second
	searchTime = 10 * time.Second
)

// question is a request to the leader of a partition.
type question struct {
	p    *part
	ask  cursor.Ask
	to   messages.NodeID
	req  *wire.ClientRequest
	wait time.Duration
}

// fetchLoop sends what parts have to ask: each has one question at most under way, parked
// at its leader while there is nothing to read.
func (c *Consumer) fetchLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var qs []question
	for {
		c.mu.Lock()
		var at time.Time
		qs, at = c.questions(qs[:0], time.Now())
		c.mu.Unlock()
		for _, q := range qs {
			c.link.Send(q.to, q.req, q.wait, func(resp *wire.ClientResponse, err error) {
				c.answered(q, resp, err)
			})
		}
		clear(qs)
		wait := time.Hour
		if !at.IsZero() {
			wait = time.Until(at)
		}
		timer.Reset(wait)
		select {
		case <-c.ctx.Done():
			return
		case <-c.wakeFetcher:
		case <-timer.C:
		}
	}
}

// questions appends what is to be asked now to qs. at is when there may be more to ask;
// zero: after something has happened. mu is held.
func (c *Consumer) questions(qs []question, now time.Time) (_ []question, at time.Time) {
	for _, p := range c.delayed {
		p.delayed = false
		if !p.dirty {
			p.dirty = true
			c.dirty = append(c.dirty, p)
		}
	}
	c.delayed = c.delayed[:0]
	for _, p := range c.dirty {
		p.dirty = false
		leader := leaderOf(p.topic.route, p.Index)
		if p.idle() || leader.Node == messages.NoNode || !c.room(p) {
			continue
		}
		ask, later, ok := p.cur.Ask(now)
		if ok {
			qs = append(qs, c.question(p, ask, leader.Node, leader.Epoch))
		} else if !later.IsZero() {
			p.delayed = true
			c.delayed = append(c.delayed, p)
			if at.IsZero() || later.Before(at) {
				at = later
			}
		}
	}
	clear(c.dirty)
	c.dirty = c.dirty[:0]
	return qs, at
}

func (c *Consumer) question(
	p *part, ask cursor.Ask, to messages.NodeID, epoch messages.LeaderEpoch,
) question {
	q := question{p: p, ask: ask, to: to, req: &wire.ClientRequest{}}
	if ask.Search {
		q.wait = searchTime
		q.req.Command = &wire.ClientRequest_ListOffsets{ListOffsets: &wire.ClientListOffsets{
			Topic:         p.Topic,
			Partitions:    []*wire.ClientTimeOf{{Partition: p.Index, Timestamp: ask.Time}},
			ReadCommitted: !c.cfg.ReadUncommitted,
		}}
		return q
	}
	bytes, _ := c.answerBytes()
	q.wait = parkTime + answerTime
	q.req.Command = &wire.ClientRequest_Fetch{Fetch: &wire.ClientFetch{
		Topic: p.Topic, TopicId: p.id[:], Partition: p.Index,
		Offset: ask.Offset, LastEpoch: ask.Epoch, LeaderEpoch: int32(epoch),
		MaxBytes: int32(bytes), WaitMs: uint32(parkTime.Milliseconds()),
		ReadCommitted: !c.cfg.ReadUncommitted,
	}}
	return q
}

// answered takes note of an answer. The link calls it; it must not block.
func (c *Consumer) answered(q question, resp *wire.ClientResponse, err error) {
	now := time.Now()
	if q.ask.Search {
		c.found(q, resp, err, now)
		return
	}
	fetched := resp.GetFetched()
	if outdated(err) {
		c.link.Learn(q.p.Topic, q.p.Index, fetched.GetLeader())
	}
	f := cursor.Fetched{
		High: fetched.GetHighWatermark(),
		End:  fetched.GetDiverging().GetEnd(), EndEpoch: fetched.GetDiverging().GetEpoch(),
		Diverging: fetched.GetDiverging() != nil,
	}
	records := fetched.GetRecords()
	if err == nil && len(records) > 0 && !f.Diverging {
		size, next, epoch, bad := batches.Span(records)
		if bad == nil && int64(next) <= q.ask.Offset {
			bad = fmt.Errorf("records end at offset %d: %w", next, messages.ErrCorruptBatch)
		}
		if err = bad; err != nil {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		records, f.Next, f.Epoch = records[:size], int64(next), int32(epoch)
	}
	c.mu.Lock()
	var note string
	if err != nil {
		note = c.refused(q, err, now)
	} else {
		note = c.fetched(q, f, records, fetched.GetAborted())
	}
	at := q.p.cur.Position()
	c.mu.Unlock()
	if note != "" {
		c.log.Warn(note, "topic", q.p.Topic, "partition", q.p.Index,
			"asked", q.ask.Offset, "offset", at, "error", err)
	}
}

// fetched keeps an answer. It returns what is to be logged, if anything. mu is held.
func (c *Consumer) fetched(
	q question, f cursor.Fetched, records []byte, aborted []*wire.ClientAborted,
) (note string) {
	p := q.p
	switch p.cur.Fetched(q.ask.Turn, f) {
	case cursor.Late:
		return ""
	case cursor.Moved:
		c.void(p)
		note = "the log was cut by a change of leader, reading goes on at its new end"
	default:
		if len(records) > 0 {
			c.stats.Fetches++
			c.keep(p, f, records, aborted)
		}
	}
	c.touch(p)
	return note
}

// keep puts an answer into the buffer. mu is held.
func (c *Consumer) keep(
	p *part, f cursor.Fetched, records []byte, aborted []*wire.ClientAborted,
) {
	var txns []batches.Aborted
	if !c.cfg.ReadUncommitted && len(aborted) > 0 {
		txns = make([]batches.Aborted, len(aborted))
		for i, a := range aborted {
			txns[i] = batches.Aborted{
				Producer: messages.ProducerID(a.GetProducerId()),
				First:    messages.Offset(a.GetFirstOffset()),
			}
		}
	}
	p.answers = append(p.answers, &answer{
		batches: batches.NewReader(records, txns, record.InflateLimit),
		size:    len(records), next: f.Next, epoch: f.Epoch,
	})
	p.buffered += len(records)
	c.buffered += len(records)
	c.enqueue(p)
}

// refused takes note that a question failed. It returns what is to be logged, if anything.
// mu is held.
func (c *Consumer) refused(q question, err error, now time.Time) (note string) {
	p := q.p
	switch p.cur.Refused(q.ask.Turn, err, now) {
	case cursor.Late:
		return ""
	case cursor.Moved:
		c.void(p)
		note = "an offset is not in the log any more, reading goes on elsewhere"
	case cursor.Broken:
		c.blame(p, q.ask.Offset, err)
	case cursor.Kept, cursor.Again:
	}
	c.touch(p)
	return note
}

// blame has next return what is wrong with a part. mu is held.
func (c *Consumer) blame(p *part, offset int64, err error) {
	p.err = fmt.Errorf("partition %d of topic %q at offset %d: %w", p.Index, p.Topic, offset, err)
	c.enqueue(p)
}

// found takes note of the answer to a search.
func (c *Consumer) found(q question, resp *wire.ClientResponse, err error, now time.Time) {
	answers := resp.GetOffsets().GetPartitions()
	if err == nil && len(answers) != 1 {
		err = fmt.Errorf("%d answers about one partition: %w", len(answers), messages.ErrUnavailable)
	}
	if err == nil {
		err = wire.ToError(answers[0].GetError())
	}
	if outdated(err) {
		c.link.Learn(q.p.Topic, q.p.Index, nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.refused(q, err, now) // a search does not move
		return
	}
	q.p.cur.Found(q.ask.Turn, answers[0].GetOffset())
	c.touch(q.p)
	c.news.ring()
}
