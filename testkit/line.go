package testkit

import (
	"context"
	"errors"
	"net"
	"sync"
)

// errCut is what a client sees of a line that was cut.
var errCut = errors.New("the client's line was cut")

// line is the connections of one client, so that a test can make the client die or
// fall silent: a process that is killed closes them, one that is frozen keeps them
// open and says nothing.
type line struct {
	dialer net.Dialer

	mu    sync.Mutex
	cut   bool
	gate  chan struct{} // closed while bytes flow
	conns map[*lineConn]struct{}
}

func newLine() *line {
	l := &line{gate: make(chan struct{}), conns: map[*lineConn]struct{}{}}
	close(l.gate)
	return l
}

// dial is for kgo.Dialer.
func (l *line) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := l.dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &lineConn{Conn: conn, line: l, closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.Join(errCut, conn.Close())
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// Cut closes all connections and makes no new ones.
func (l *line) Cut() {
	l.mu.Lock()
	l.cut = true
	conns := l.conns
	l.conns = map[*lineConn]struct{}{}
	l.mu.Unlock()
	for c := range conns {
		_ = c.Close() // the client hears of it as an error of its reads
	}
}

// Hush holds back all bytes, in both directions, until Speak.
func (l *line) Hush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gate = make(chan struct{})
}

// Speak lets the bytes flow again.
func (l *line) Speak() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.gate)
}

func (l *line) forget(c *lineConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// lineConn is a connection that waits at the gate of its line.
type lineConn struct {
	net.Conn
	line   *line
	once   sync.Once
	closed chan struct{}
}

func (c *lineConn) pass() error {
	c.line.mu.Lock()
	gate := c.line.gate
	c.line.mu.Unlock()
	select {
	case <-gate:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

// Read takes the bytes first and then waits: what came in while the line was
// silent is there when it speaks again.
func (c *lineConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if gated := c.pass(); gated != nil {
		return 0, gated
	}
	return n, err
}

func (c *lineConn) Write(b []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *lineConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.line.forget(c)
	return c.Conn.Close()
}
