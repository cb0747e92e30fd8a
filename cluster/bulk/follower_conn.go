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
	// sending: a goroutine writes to the connection, or rest waits to be the next
	// that is written.
	sending bool
	rest    []byte // of an answer that direct sent in part

	// direct sends a small answer from the goroutine that has it, when nothing else
	// is being sent; nil: not on this connection. What follows belongs to who set
	// sending.
	direct *netio.Direct
	head   []byte
	pieces [][]byte
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
	return &followerConn{s: s, node: node, number: number, nc: nc, direct: netio.NewDirect(nc),
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
	if c.direct != nil && !c.sending && len(c.queue) == 0 && c.small(&f.View) {
		c.sending = true
		c.pending--
		c.mu.Unlock()
		c.sendNow(id, f)
		return
	}
	c.queue = append(c.queue, answer{id, *f})
	c.mu.Unlock()
	signal(c.wake)
}

// directMax bounds what is sent by the goroutine that answers, in bytes. Above it
// the copy into the socket costs more than waking the writer, and would keep the
// partition's actor from its work.
const directMax = 8 << 10

// small reports whether an answer's records may be sent directly: they are few, and
// in memory.
func (c *followerConn) small(v *messages.View) bool {
	for i := range v.Extents {
		if v.Extents[i].Mem == nil {
			return false
		}
	}
	return bytesOf(v) <= min(directMax, c.s.config.MaxRecords)
}

// sendNow sends a small answer at once. What the socket has no room for is left to
// the writer. The caller has set sending.
func (c *followerConn) sendNow(id uint64, f *data.ReplicaFetched) {
	v := f.View
	size := bytesOf(&v)
	c.head = appendFetched(c.head[:0], id, f, size)
	c.pieces = append(c.pieces[:0], c.head)
	size += len(c.head)
	for i := range v.Extents {
		c.pieces = append(c.pieces, v.Extents[i].Mem)
	}
	n, err := c.direct.Write(c.pieces)
	if err == nil && n < size {
		c.leave(n)
	}
	clear(c.pieces)
	v.Release()
	switch {
	case err != nil:
		c.end(err)
	case n == size:
		c.sent()
	}
}

// leave hands what is left of pieces, beyond the first n bytes, to the writer.
func (c *followerConn) leave(n int) {
	c.mu.Lock()
	c.rest = c.rest[:0]
	for _, p := range c.pieces {
		skip := min(n, len(p))
		n -= skip
		c.rest = append(c.rest, p[skip:]...)
	}
	c.mu.Unlock()
	signal(c.wake)
}

// sent says that a goroutine has sent what it had to.
func (c *followerConn) sent() {
	c.mu.Lock()
	c.sending = false
	more := len(c.queue) > 0 || c.pong
	c.mu.Unlock()
	if more {
		signal(c.wake)
	}
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
		var more bool
		batch, head, more = c.take(batch, head[:0])
		if !more {
			return
		}
		err := out.Copy(head)
		if err == nil {
			head, err = c.send(out, batch, head)
		}
		if err != nil {
			c.end(err)
		}
		out.Rest()
		release(batch)
		c.sent()
		if cap(batch) > maxKept {
			batch = nil
		}
	}
}

// maxKept is how long an empty queue may be, in answers, before it is made anew.
const maxKept = 4096

// take waits for something to send: bytes, appended to head, and after them
// answers, for which an empty slice is taken in return. more is false when the
// connection is over.
func (c *followerConn) take(empty []answer, head []byte) (
	queue []answer, bytes []byte, more bool,
) {
	for {
		c.mu.Lock()
		if c.reason != nil {
			c.mu.Unlock()
			return nil, head, false
		}
		if len(c.rest) > 0 || !c.sending && (len(c.queue) > 0 || c.pong) {
			head, c.rest = append(head, c.rest...), c.rest[:0]
			if c.pong {
				head, c.pong = appendEmpty(head, typePong), false
			}
			queue, c.queue = c.queue, empty[:0]
			c.pending -= len(queue)
			c.sending = true
			c.mu.Unlock()
			return queue, head, true
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
