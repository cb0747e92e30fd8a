package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/netio"
	"github.com/troupelog/troupe/node/door"
)

// conn is one client connection. Two goroutines serve it:
//
//   - the reader takes frames off the socket, guards and decodes them, gives
//     each its place in the pipeline, and runs handlers one after the other.
//     Produce and Fetch it only starts. Before it waits for anything it runs the
//     partitions that its Produces woke and sends the small answers that stand
//     (settle), so that a batch usually needs no other goroutine;
//   - the writer sends all other answers, in the order of the requests, and what is
//     left of those that the client did not take at once.
//
// A Fetch is sent by whoever finishes it, if its answer is the next to leave
// (finishNow): by the reader, or by the goroutine that parked it.
//
// A parked Fetch has a goroutine of its own until it is answered, and so has each
// producer whose transaction's coordinator is being asked (00_produce_txn.go). The
// connection ends when the reader does: the client is gone, sent something
// impossible, was idle too long, or the node stops. The writer then still sends
// the answers of what was under way, and parked Fetches answer at once.
type conn struct {
	s    *Server
	nc   net.Conn
	info connInfo
	log  *slog.Logger
	pipe *pipeline

	out   *netio.Sender
	turns turns           // what the appends started
	post  func(data.Turn) // adds to turns; made once
	lent  int             // bytes of the appends that turns wait to handle
	open  bool            // the reader's: the pipeline is tended, or there are turns
	ready []*exchange     // the reader's, to send; empty
	small []byte          // the reader's, of sendSelfMax bytes; nil until it is needed

	ctx     context.Context         // ends when the connection is torn down
	stop    context.CancelCauseFunc // ends ctx
	hurry   chan struct{}           // the reader's; closed: what is parked answers now
	parks   bool                    // the reader's: a Fetch was parked under hurry
	fetches sync.WaitGroup          // goroutines of parked Fetches
	txns    door.TxnAsks            // questions to transaction coordinators
	active  atomic.Int64            // when something was last sent, Unix nanoseconds
}

// Reasons why a connection ends that are nobody's failure.
var (
	errIdle     = errors.New("idle for longer than connections.max.idle.ms")
	errDraining = errors.New("the node stops")
	errClosed   = door.ErrClosed
)

// Reasons why a connection is rejected.
var (
	errUnsupported = errors.New("not served")
	errMalformed   = errors.New("malformed request")
	errOversized   = errors.New("request size out of bounds")
)

// rejections are the errors that count as such.
var rejections = []struct {
	err    error
	reason string
}{
	{errUnsupported, rejectedUnsupported},
	{errMalformed, rejectedMalformed},
	{errOversized, rejectedOversized},
	{errIdle, rejectedIdle},
	{os.ErrDeadlineExceeded, rejectedSlow},
}

func (s *Server) newConn(nc net.Conn, l Listener) *conn {
	c := &conn{
		s:  s,
		nc: nc,
		info: connInfo{
			Remote:         nc.RemoteAddr().String(),
			Listener:       l.Name,
			AdvertisedHost: l.AdvertisedHost,
			AdvertisedPort: l.AdvertisedPort,
		},
		hurry: make(chan struct{}),
	}
	if c.info.AdvertisedHost == "" {
		c.info.AdvertisedHost = hostOf(nc.LocalAddr())
	}
	c.log = s.config.Log.With("remote", c.info.Remote)
	c.pipe = newPipeline(s.config.MaxInFlight, s.config.ConnectionMaxBytes, c.drop)
	c.out = netio.NewSender(nc, &s.buffers, s.config.WriteTimeout, sendfileMin)
	c.post, c.turns.slow = c.turns.add, c.pipe.untend
	c.ctx, c.stop = context.WithCancelCause(s.ctx)
	c.txns.Coordinators, c.txns.Context = s.coordinators, c.ctx
	c.txns.Failed = func(cause any) { c.failed("transaction", cause) }
	return c
}

// hostOf returns the host of an address, "" if it has none.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	return host
}

// serve runs the connection until it is closed.
func (c *conn) serve() {
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer c.recover("writer")
		c.write()
	}()
	reason := c.readAll()
	close(c.hurry)
	c.pipe.close()
	<-written
	c.stop(errClosed)
	_ = c.nc.Close() // the last word was sent, or nobody listens
	c.pipe.abandon()
	c.fetches.Wait()
	c.txns.Close()
	c.account(reason)
}

// account counts and logs the end of the connection.
func (c *conn) account(reason error) {
	if cause := context.Cause(c.ctx); !errors.Is(cause, errClosed) {
		reason = cause // the writer found out first
	}
	if !errors.Is(reason, errDraining) {
		for _, r := range rejections {
			if errors.Is(reason, r.err) {
				c.s.config.Metrics.ConnectionRejected(r.reason)
				break
			}
		}
	}
	c.log.Debug("Connection closed", "reason", reason)
}

// drain makes the reader stop at the end of the request it is at.
func (c *conn) drain() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

// abort tears the connection down at once.
func (c *conn) abort(reason error) {
	c.stop(reason)
	_ = c.nc.Close()
}

// recover turns a panic into the end of this connection alone: other clients
// must not suffer for a request that found a bug of ours.
func (c *conn) recover(where string) {
	if r := recover(); r != nil {
		c.failed(where, r)
	}
}

// failed ends the connection after a panic. It is called while that unwinds.
func (c *conn) failed(where string, cause any) {
	c.log.Error("Connection failed by a bug of ours", "where", where, "panic", cause,
		"stack", string(debug.Stack()))
	c.abort(fmt.Errorf("%s panicked: %v", where, cause))
}

// readAll is the reader. It returns why it ended.
func (c *conn) readAll() (reason error) {
	r := newFrameReader(c.nc, &c.s.buffers, c.s.budget, c.s.config.ReadTimeout, &c.s.draining,
		c.settle)
	defer r.close()
	defer c.settle() // with a panic on its way out, too
	defer c.recover("reader")
	for {
		if err := c.readOne(r); err != nil {
			return err
		}
	}
}

// readOne waits for a request and starts it or answers it.
func (c *conn) readOne(r *frameReader) error {
	if c.lent >= lentMax {
		c.settle()
	}
	if c.parks && c.pipe.pressed() {
		c.stopParking()
	}
	if err := c.pipe.admit(c.ctx, c.settle); err != nil {
		return err
	}
	n, err := c.awaitFrame(r)
	if err != nil {
		return err
	}
	mem := &requestMemory{pool: &c.s.buffers, pipe: c.pipe, claim: claim{from: c.s.budget}}
	if err := r.body(c.ctx, mem, n); err != nil {
		mem.release()
		return fmt.Errorf("request of %d bytes: %w", n, err)
	}
	return c.dispatch(mem)
}

// stopParking has parked Fetches answered now.
func (c *conn) stopParking() {
	close(c.hurry)
	c.hurry, c.parks = make(chan struct{}), false
}

// awaitFrame waits for the next frame and returns its size. A connection is
// idle when nothing was received or sent for Config.MaxIdle and nothing is
// under way.
func (c *conn) awaitFrame(r *frameReader) (int, error) {
	var since time.Time // when it began to wait, or something happened last
	deadline := func() time.Time {
		if since.IsZero() {
			since = time.Now()
		}
		return since.Add(c.s.config.MaxIdle)
	}
	for {
		n, err := r.size(deadline, c.maxRequestBytes())
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		now := time.Now()
		switch sent := time.Unix(0, c.active.Load()); {
		case c.s.draining.Load():
			return 0, errDraining
		case now.Before(deadline()): // an earlier one
		case !c.pipe.idle():
			since = now
		case sent.After(since):
			since = sent
		default:
			return 0, errIdle
		}
	}
}

// unauthenticatedMaxBytes bounds requests before the client has authenticated
// (sasl.server.max.receive.size).
const unauthenticatedMaxBytes = 512 << 10

// authenticated reports whether the client may speak to anything but the
// handshake. Listeners are PLAINTEXT, whose clients are authenticated as they
// connect.
func (c *conn) authenticated() bool { return true }

func (c *conn) maxRequestBytes() int {
	if !c.authenticated() {
		return min(unauthenticatedMaxBytes, c.s.config.MaxRequestBytes)
	}
	return c.s.config.MaxRequestBytes
}

// dispatch decodes one request and hands it to who answers it. mem is its own
// from here on. An error ends the connection: the request cannot be answered.
func (c *conn) dispatch(mem *requestMemory) error {
	h, rest, err := parseHeader(mem.bytes)
	if err != nil {
		mem.release()
		return err
	}
	e := &exchange{header: h, started: time.Now(), bytesIn: len(mem.bytes) + 4}
	c.s.config.Metrics.BytesIn(e.bytesIn)
	a := c.s.apis.find(h.key)
	if a == nil || !a.serves(h.version) {
		mem.release()
		return c.unsupported(e)
	}
	body, memory, err := c.s.shapes[h.key][h.version-a.accepts].check(rest)
	if err != nil {
		mem.release()
		return fmt.Errorf("%s v%d from client %q: %w: %w",
			a.name, h.version, h.clientID, errMalformed, err)
	}
	mem.charge(int64(memory - len(rest)))
	req := kmsg.RequestForKey(h.key)
	req.SetVersion(h.version)
	if err := req.ReadFrom(body); err != nil {
		mem.release()
		return fmt.Errorf("%s v%d from client %q: %w: %w",
			a.name, h.version, h.clientID, errMalformed, err)
	}
	return c.start(a, e, req, mem)
}

// start takes the request's place in the order of answers and gets it going.
func (c *conn) start(a *api, e *exchange, req kmsg.Request, mem *requestMemory) error {
	if a.key == keyProduce {
		c.lent += len(mem.bytes)
		p := c.newProduce(e, req.(*kmsg.ProduceRequest), mem)
		e.produces = true
		c.push(e)
		p.dispatch()
		return nil
	}
	c.settle()
	c.push(e)
	// What comes behind a Produce on the same connection sees its effects, as
	// if the connection did one thing at a time.
	if err := c.pipe.awaitProduces(c.ctx, c.settle); err != nil {
		mem.release()
		c.pipe.finish(e, answer{fatal: true})
		return err
	}
	if a.key == keyFetch {
		mem.release() // nothing of a decoded Fetch refers to the frame
		c.fetch(e, req.(*kmsg.FetchRequest))
		return nil
	}
	defer mem.release()
	c.settle() // the handler may wait
	resp := a.serve(c.s, c.ctx, &call{req: req, version: e.header.version,
		clientID: e.header.clientID, conn: c.info})
	if resp == nil {
		c.pipe.finish(e, answer{fatal: true})
		return fmt.Errorf("%s v%d cannot be answered", a.name, e.header.version)
	}
	c.respond(e, resp)
	return nil
}

// unsupported ends the connection, as Kafka does: there is no error a client
// could parse for a key or version the broker does not know. ApiVersions is the
// exception, or clients could not find out (KIP-511).
func (c *conn) unsupported(e *exchange) error {
	if e.header.key == keyAPIVersions {
		c.push(e)
		c.respond(e, c.s.unsupportedAPIVersions())
		return nil
	}
	return fmt.Errorf("api key %d version %d from client %q: %w",
		e.header.key, e.header.version, e.header.clientID, errUnsupported)
}

// respond finishes the exchange with a response.
func (c *conn) respond(e *exchange, resp kmsg.Response) {
	c.respondWith(e, func(b []byte) []byte {
		if resp.IsFlexible() && resp.Key() != keyAPIVersions {
			b = append(b, 0)
		}
		return resp.AppendTo(b)
	})
}

// respondWith finishes the exchange with the response that encode appends after
// the correlation id: the header's tag section, if the version has one, and the
// body.
func (c *conn) respondWith(e *exchange, encode func([]byte) []byte) {
	buf := c.s.buffers.Get(netio.BufferMin)
	b := append(buf.B[:0], 0, 0, 0, 0)
	b = encode(binary.BigEndian.AppendUint32(b, uint32(e.header.correlation)))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.finish(e, answer{frame: c.s.buffers.Adopt(buf, b), head: b})
}

// finish charges an answer to the budgets and hands it to the writer.
func (c *conn) finish(e *exchange, a answer) {
	c.chargeAnswer(&a)
	c.pipe.finish(e, a)
}

func (c *conn) chargeAnswer(a *answer) {
	if a.frame != nil {
		n := int64(len(a.frame.B))
		c.s.budget.charge(n)
		c.pipe.charge(n)
	}
}
