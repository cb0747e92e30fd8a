package admin

import (
	"net"
	"sync"
)

// limit returns a listener that has at most max connections open; Accept waits
// for one of them to close.
func limit(ln net.Listener, max int) net.Listener {
	return &limited{
		Listener: ln,
		slots:    make(chan struct{}, max),
		closed:   make(chan struct{}),
	}
}

type limited struct {
	net.Listener
	slots  chan struct{} // holds one element per open connection
	closed chan struct{} // ends a waiting Accept
	once   sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: conn, free: func() { <-l.slots }}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once sync.Once
	free func()
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.free)
	return err
}
