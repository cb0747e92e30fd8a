package clientlib

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Client is a program's connection to a cluster. Dial makes it; producers, consumers and
// the administration are made of it. Any goroutine may call its methods.
type Client struct {
	cfg  Config
	link cluster
	stop func(context.Context) error // of the link

	mu     sync.Mutex
	closed bool
	open   map[closer]struct{} // what was made of the client and is not closed
}

// closer is what the client closes before it closes itself: a Producer, a Consumer.
type closer interface {
	Close(ctx context.Context) error
}

// newClient returns a Client over a link that stop ends.
func newClient(cfg Config, link cluster, stop func(context.Context) error) *Client {
	return &Client{cfg: cfg, link: link, stop: stop, open: map[closer]struct{}{}}
}

// register has Close close x. Who makes something of the client that runs on calls it
// last, and closes what was made if it fails: with ErrClosed.
func (c *Client) register(x closer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("the client: %w", ErrClosed)
	}
	c.open[x] = struct{}{}
	return nil
}

// forget is told by x that it is closed. It may be called twice, and by Close of x while
// the client closes it.
func (c *Client) forget(x closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, x)
}

// Close closes the producers and consumers of the client, which may wait until ctx ends
// for what they have under way, says goodbye to the nodes, and stops. Everything is given
// back even if ctx ends before. Calls that wait end with ErrClosed. A second call does
// nothing.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	open := make([]closer, 0, len(c.open))
	for x := range c.open {
		open = append(open, x)
	}
	c.mu.Unlock()
	errs := make([]error, len(open)+1)
	var closing sync.WaitGroup
	for i, x := range open {
		closing.Go(func() { errs[i] = x.Close(ctx) })
	}
	closing.Wait()
	errs[len(open)] = c.stop(ctx)
	return errors.Join(errs...)
}
