package kafka

import (
	"errors"
	"io"
	"time"

	"github.com/troupelog/troupe/netio"
)

// lentMax is how much the reader reads, in bytes, before it runs what its appends
// started: gathering more makes a write no cheaper.
const lentMax = 256 << 10

// turnsMax is how many partitions the reader runs itself; workers run what is more.
const turnsMax = 8

// sendfileMin is the size, in bytes, from which a file extent goes out by
// sendfile.
const sendfileMin = 64 << 10

// push gives a request its place. Only the reader calls it.
func (c *conn) push(e *exchange) {
	c.open = true
	c.pipe.push(e)
}

// settle does what the reader put off while it had more to read: it runs the
// partitions that its appends woke, and sends the answers that stand. The reader calls
// it before it waits for anything, because others may wait for both.
func (c *conn) settle() {
	if !c.open {
		return
	}
	c.open, c.lent = false, 0
	for len(c.turns) > turnsMax {
		last := len(c.turns) - 1
		t := c.turns[last]
		c.turns[last], c.turns = nil, c.turns[:last]
		t.Leave()
	}
	for i, t := range c.turns {
		c.turns[i] = nil
		t.Take()
	}
	c.turns = c.turns[:0]
	c.sendReady()
}

// sendReady sends answers from the reader, without waiting for the client to take
// them. What does not leave at once is the writer's.
func (c *conn) sendReady() {
	for {
		c.ready = c.pipe.leave(c.ready[:0])
		if len(c.ready) == 0 {
			return
		}
		if c.small == nil {
			c.small = make([]byte, 0, sendSelfMax)
		}
		b := c.small[:0]
		for _, e := range c.ready {
			b = append(b, e.answer.head...)
			c.drop(e)
		}
		var n int
		var err error
		if len(b) > 0 {
			n, err = c.out.TrySend(b)
		}
		c.count(c.ready, n)
		sent := len(c.ready)
		clear(c.ready)
		var rest []byte
		if n < len(b) && err == nil {
			rest = append(rest, b[n:]...)
		}
		c.pipe.sent(sent, rest)
		if err != nil {
			c.abort(err)
			return
		}
	}
}

// finishNow is finish for an answer that need not wait for the writer to wake up: if it
// may leave it is sent here, as far as the client takes it without waiting. The writer
// goes on with the rest.
func (c *conn) finishNow(e *exchange, a answer) {
	c.chargeAnswer(&a)
	if !c.pipe.claim(e, a) {
		c.pipe.finish(e, a)
		return
	}
	whole := true
	defer func() { // with a panic on its way out, too
		if whole {
			c.drop(e)
		}
		if c.pipe.unclaim(e, whole) {
			c.drop(e)
		}
	}()
	before := c.out.Sent()
	err := c.out.Try(func() error { return sendAnswer(c.out, &e.answer) })
	n := int(c.out.Sent() - before)
	switch {
	case errors.Is(err, netio.ErrFull):
		e.answer.left += n
		c.s.config.Metrics.BytesOut(n)
		whole = false
	case err != nil:
		c.abort(err)
	default:
		c.count([]*exchange{e}, n)
	}
}

// count reports answers that were sent.
func (c *conn) count(sent []*exchange, bytes int) {
	now := time.Now()
	c.active.Store(now.UnixNano())
	m := c.s.config.Metrics
	m.BytesOut(bytes)
	for _, e := range sent {
		m.Request(e.header.key, e.header.version, now.Sub(e.started))
	}
}

// write is the writer: it sends answers until the pipeline is drained.
func (c *conn) write() {
	var ready []*exchange
	for {
		var rest []byte
		ready, rest = c.pipe.take(c.ctx, ready[:0])
		if len(ready) == 0 && rest == nil {
			return
		}
		err := c.send(rest, ready)
		c.pipe.sent(len(ready), nil)
		clear(ready)
		if err != nil {
			if !errors.Is(err, io.EOF) && c.ctx.Err() == nil {
				c.log.Debug("Answer could not be sent", "error", err)
			}
			c.abort(err)
			return
		}
	}
}

// send sends rest and the answers of some exchanges and lets go of them, whatever
// happens.
func (c *conn) send(rest []byte, ready []*exchange) error {
	out := c.out
	before := out.Sent()
	defer func() {
		out.Rest()
		for _, e := range ready {
			c.drop(e)
		}
	}()
	if err := out.Memory(rest); err != nil {
		return err
	}
	var fatal bool
	for _, e := range ready {
		if e.answer.fatal {
			fatal = true
			break
		}
		if err := sendAnswer(out, &e.answer); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	c.count(ready, int(out.Sent()-before))
	if fatal {
		return errClosed
	}
	return nil
}

// sendAnswer sends what has not left of an answer. What it gathered may be left for
// Flush.
func sendAnswer(out *netio.Sender, a *answer) error {
	at, skip := 0, a.left
	memory := func(b []byte) error {
		n := min(skip, len(b))
		skip -= n
		return out.Memory(b[n:])
	}
	for _, c := range a.cuts {
		if err := memory(a.head[at:c.at]); err != nil {
			return err
		}
		at = c.at
		n := min(skip, a.views[c.view].Bytes)
		skip -= n
		if err := out.View(&a.views[c.view], n); err != nil {
			return err
		}
	}
	return memory(a.head[at:])
}

// drop lets go of an answer, sent or not.
func (c *conn) drop(e *exchange) {
	a := &e.answer
	for i := range a.views {
		a.views[i].Release()
	}
	if a.frame != nil {
		n := int64(len(a.frame.B))
		c.s.buffers.Put(a.frame)
		c.s.budget.charge(-n)
		c.pipe.charge(-n)
	}
	*a = answer{}
}
