package bulk

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/netio"
)

// link is an established connection to a leader's node. The peer's goroutine reads
// it, a goroutine of its own writes.
type link struct {
	peer *peer
	nc   net.Conn

	// direct sends a fetch from the goroutine that asks, when nothing else is being
	// sent; nil: not on this connection.
	direct *netio.Direct
	frame  []byte    // of direct, used again
	pieces [1][]byte // of direct
	// sending: a goroutine writes to the connection, or rest waits to be the next
	// that is written. Under peer.mu.
	sending bool
	rest    []byte // of a frame that direct sent in part; the writer's while sending

	useful atomic.Bool // it brought something
	heard  atomic.Bool // something arrived since the last check
	full   atomic.Bool // the reader waits for the budget: the peer cannot be heard

	// These belong to who calls check.
	checks int // in all
	silent int // in a row without a word
	unused int // in a row without a fetch

	once   sync.Once
	reason error         // set before gone is closed
	gone   chan struct{} // closed: the connection ended
	wake   chan struct{} // capacity 1: there is something to send
	ping   atomic.Bool   // a ping is to be sent
}

func newLink(p *peer, nc net.Conn) *link {
	return &link{peer: p, nc: nc, direct: netio.NewDirect(nc),
		gone: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// end closes the connection; the first reason counts.
func (l *link) end(reason error) {
	l.once.Do(func() {
		l.reason = reason
		close(l.gone)
		_ = socketOf(l.nc).Close() // TLS would say good-bye first, and may block
	})
}

// check counts silence and sends pings. It reports false when it ended the
// connection.
func (l *link) check(limits *limits, used bool) bool {
	if l.checks++; l.checks%limits.ping == 0 {
		l.ping.Store(true)
		signal(l.wake)
	}
	if l.silent++; l.heard.Swap(false) || l.full.Load() {
		l.silent = 0
	}
	if l.unused++; used {
		l.unused = 0
	}
	switch {
	case l.silent >= limits.silent:
		l.end(errSilent)
	case l.unused >= limits.idle:
		l.end(errUnused)
	default:
		return true
	}
	return false
}

// serve runs the connection and returns why it ended.
func (l *link) serve() error {
	written := make(chan struct{})
	go func() {
		defer close(written)
		l.write()
	}()
	signal(l.wake) // for what waited for the connection
	l.end(l.readAll())
	<-written
	l.peer.unlink(l)
	return l.reason
}

// write is the writer: it sends what came together in one go.
func (l *link) write() {
	var calls []*call
	var b []byte
	for {
		select {
		case <-l.wake:
		case <-l.gone:
			return
		}
		var ok bool
		if calls, b, ok = l.peer.take(l, calls, b[:0]); !ok {
			continue
		}
		for _, c := range calls {
			b = appendFetch(b, c.id, c.q)
		}
		clear(calls)
		err := l.nc.SetWriteDeadline(time.Now().Add(l.peer.pool.limits.write))
		if err == nil {
			_, err = l.nc.Write(b)
		}
		if err != nil {
			l.end(err)
			return
		}
		l.peer.sent(l)
		if cap(calls) > maxKept {
			calls, b = nil, nil
		}
	}
}

// send sends one fetch at once, for the goroutine that asks. What the socket has
// no room for is left to the writer. The caller has set sending.
func (l *link) send(c *call) {
	l.frame = appendFetch(l.frame[:0], c.id, c.q)
	l.pieces[0] = l.frame
	n, err := l.direct.Write(l.pieces[:])
	switch {
	case err != nil:
		l.end(err) // the reader's goroutine answers the fetch
	case n < len(l.frame):
		l.peer.left(l, l.frame[n:])
	default:
		l.peer.sent(l)
	}
}

// readAll is the reader.
func (l *link) readAll() error {
	r := bufio.NewReaderSize(heeded{l.nc, &l.heard}, answerBuffer)
	var head [frameHead]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		size, kind, err := frameSize(head[:])
		if err != nil {
			return err
		}
		l.useful.Store(true)
		switch {
		case kind == typePong && size == 0:
		case kind == typeFetched && size >= fetchedFields:
			if err := l.readFetched(r, size); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: type %d of %d bytes from a leader", errMalformed, kind, size)
		}
	}
}

// readFetched reads an answer and gives it to who waits for it.
func (l *link) readFetched(r *bufio.Reader, size int) error {
	p := l.peer
	var fields [fetchedFields]byte
	if _, err := io.ReadFull(r, fields[:]); err != nil {
		return err
	}
	f, err := parseFetched(fields[:], size, p.pool.config.MaxRecords)
	if err != nil {
		return err
	}
	if !p.waits(f.id) {
		return fmt.Errorf("%w: an answer to fetch %d, which is not under way", errMalformed, f.id)
	}
	if f.text > 0 {
		text := make([]byte, f.text)
		if _, err := io.ReadFull(r, text); err != nil {
			return err
		}
		f.fail(text)
	} else {
		f.fail(nil)
	}
	answer := &received{ReplicaFetched: f.ReplicaFetched}
	if f.records > 0 {
		if err := l.readRecords(r, answer, f.records); err != nil {
			return err
		}
	}
	p.answered(f.id).done(&answer.ReplicaFetched)
	return nil
}

func (l *link) readRecords(r io.Reader, to *received, n int) error {
	p := l.peer
	size := int64(netio.SizeFor(n))
	if !p.budget.tryTake(size) {
		l.full.Store(true)
		ok := p.budget.take(size, l.gone)
		l.full.Store(false)
		if !ok {
			return l.reason
		}
	}
	to.peer, to.size, to.buffer = p, size, p.pool.buffers.Get(n)
	to.Records = to.buffer.B[:n:n]
	to.ReplicaFetched.Release = to.release
	if _, err := io.ReadFull(r, to.Records); err != nil {
		to.release()
		return err
	}
	return nil
}

// received is an answer with what it holds.
type received struct {
	data.ReplicaFetched
	peer     *peer
	buffer   *netio.Buffer
	size     int64 // of the budget
	released atomic.Bool
}

func (r *received) release() {
	invariant.That(!r.released.Swap(true), "records of an answer were released twice")
	r.peer.pool.buffers.Put(r.buffer)
	r.buffer = nil
	r.peer.budget.give(r.size)
}
