package bulk

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/netio"
)

// followerConn is the connection of a follower's node, seen from the leader's. Its
// reader hands requests to the handler and never waits for anything but the
// socket; its writer sends what was answered, many answers at once.
type followerConn struct {
	s      *Server
	node   messages.NodeID
	number uint64
	nc     net.Conn
	over   chan struct{} // closed: the handler was told, nothing follows

	heard  atomic.Bool // something arrived since the last check
	silent int         // checks in a row without; under Server.mu

	mu      sync.Mutex
	queue   []answer // to send, oldest first; never longer than pending
	pending int      // read and not yet with the writer; at most MaxPending
	pong    bool     // owed
	reason  error    // why the connection ended; nil: it did not
	wake    chan struct{}
}

// answer waits to be sent. It is a copy: what a handler replies with is its own
// but for the View.
type answer struct {
	id uint64
	f  data.ReplicaFetched
}

// request is a fetch that came in.
type request struct {
	q        data.ReplicaFetch
	id       uint64
	conn     *followerConn
	answered atomic.Bool
}

func newFollowerConn(s *Server, node messages.NodeID, number uint64, nc net.Conn) *followerConn {
	return &followerConn{s: s, node: node, number: number, nc: nc,
		over: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// reply answers the request.
func (r *request) reply(f *data.ReplicaFetched) {
	invariant.That(!r.answered.Swap(true), "fetch %d of node %d was answered twice",
		r.id, r.conn.node)
	r.conn.answer(r.id, f)
}

// answer queues an answer, or drops it if the connection is gone.
func (c *followerConn) answer(id uint64, f *data.ReplicaFetched) {
	c.mu.Lock()
	if c.reason != nil {
		c.mu.Unlock()
		v := f.View
		v.Release()
		return
	}
	c.queue = append(c.queue, answer{id, *f})
	c.mu.Unlock()
	signal(c.wake)
}

// end closes the connection; the first reason counts.
func (c *followerConn) end(reason error) {
	c.mu.Lock()
	if c.reason == nil {
		c.reason = reason
	}
	c.mu.Unlock()
	_ = socketOf(c.nc).Close() // TLS would say good-bye first, and may block
	signal(c.wake)
}

// check counts the checks without a word of the peer, which pings all the time.
func (c *followerConn) check(limit int) {
	if c.heard.Swap(false) {
		c.silent = 0
		return
	}
	if c.silent++; c.silent >= limit {
		c.end(errSilent)
	}
}

// serve runs the connection. When it returns, every View was released and those
// of answers to come will be.
func (c *followerConn) serve() error {
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	c.end(c.readAll())
	<-written
	c.mu.Lock()
	queue := c.queue
	c.queue = nil
	c.mu.Unlock()
	release(queue)
	return c.reason // settled
}

func release(answers []answer) {
	for i := range answers {
		answers[i].f.View.Release()
	}
	clear(answers)
}

// heeded is a connection that notes when something arrives.
type heeded struct {
	net.Conn
	heard *atomic.Bool
}

// Read implements io.Reader.
func (h heeded) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if n > 0 {
		h.heard.Store(true)
	}
	return n, err
}

// readAll is the reader.
func (c *followerConn) readAll() error {
	r := bufio.NewReaderSize(heeded{c.nc, &c.heard}, readBuffer)
	var head [frameHead]byte
	var fields [fetchFields]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		size, kind, err := frameSize(head[:])
		switch {
		case err != nil:
			return err
		case kind == typePing && size == 0:
			c.mu.Lock()
			c.pong = true
			c.mu.Unlock()
			signal(c.wake)
		case kind == typeFetch && size == fetchFields:
			if _, err := io.ReadFull(r, fields[:]); err != nil {
				return err
			}
			if err := c.fetch(fields[:]); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: type %d of %d bytes from a follower", errMalformed, kind, size)
		}
	}
}

// fetch hands one request to the handler.
func (c *followerConn) fetch(fields []byte) error {
	r := &request{conn: c}
	id, err := parseFetch(fields, &r.q)
	if err != nil {
		return err
	}
	r.id, r.q.Follower = id, c.node
	c.mu.Lock()
	full := c.pending >= c.s.limits.pending
	if !full {
		c.pending++
	}
	c.mu.Unlock()
	if full {
		return fmt.Errorf("%w: %d", errTooMany, c.s.limits.pending)
	}
	c.s.handler.Fetch(&r.q, r.reply)
	return nil
}

// write is the writer.
func (c *followerConn) write() {
	out := netio.NewSender(c.nc, &c.s.buffers, c.s.limits.write, fileMin)
	defer out.Rest()
	var head []byte
	var batch []answer
	for {
		var pong, more bool
		batch, pong, more = c.take(batch)
		if !more {
			return
		}
		var err error
		if pong {
			head = appendEmpty(head[:0], typePong)
			err = out.Copy(head)
		}
		if err == nil {
			head, err = c.send(out, batch, head)
		}
		if err != nil {
			c.end(err)
		}
		out.Rest()
		release(batch)
		if cap(batch) > maxKept {
			batch = nil
		}
	}
}

// maxKept is how long an empty queue may be, in answers, before it is made anew.
const maxKept = 4096

// take waits for something to send and swaps the queue for an empty slice. more
// is false when the connection is over.
func (c *followerConn) take(empty []answer) (queue []answer, pong, more bool) {
	for {
		c.mu.Lock()
		if c.reason != nil {
			c.mu.Unlock()
			return nil, false, false
		}
		if len(c.queue) > 0 || c.pong {
			queue, pong = c.queue, c.pong
			c.queue, c.pong = empty[:0], false
			c.pending -= len(queue)
			c.mu.Unlock()
			return queue, pong, true
		}
		c.mu.Unlock()
		<-c.wake
	}
}

// send sends answers and releases what has left. The rest is the caller's.
//
// docs/flows/replication.md: 4.
func (c *followerConn) send(out *netio.Sender, batch []answer, head []byte) ([]byte, error) {
	left := 0 // below it, all has left
	for i := range batch {
		a := &batch[i]
		n := bytesOf(&a.f.View)
		if n > c.s.config.MaxRecords {
			a.f.View.Release()
			a.f.Err = fmt.Errorf("%d bytes of records, at most %d fit one answer: %w",
				n, c.s.config.MaxRecords, messages.ErrBatchTooLarge)
			n = 0
		}
		head = appendFetched(head[:0], a.id, &a.f, n)
		if err := out.Copy(head); err != nil {
			return head, err
		}
		if err := out.View(&a.f.View, 0); err != nil {
			return head, fmt.Errorf("answer of %d bytes: %w", n, err)
		}
		if out.Gathered() == 0 {
			release(batch[left : i+1])
			left = i + 1
		}
	}
	return head, out.Flush()
}

// bytesOf adds up the extents: a frame must be as long as it says.
func bytesOf(v *messages.View) int {
	n := 0
	for i := range v.Extents {
		if e := &v.Extents[i]; e.Mem != nil {
			n += len(e.Mem)
		} else {
			n += e.Len
		}
	}
	return n
}
