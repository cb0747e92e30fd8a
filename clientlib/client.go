package clientlib

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
)

// dialTimeout is Config.DialTimeout if nothing is set.
const dialTimeout = 10 * time.Second

var _ cluster = (*link.Link)(nil)

// Client is a program's connection to a cluster. Dial makes it; producers, consumers and
// the administration are made of it. Any goroutine may call its methods.
type Client struct {
	cfg  Config
	link cluster
	stop func(context.Context) error // of the link

	life context.Context // ends when Close begins
	end  context.CancelFunc

	mu     sync.Mutex
	closed bool
	open   map[closer]struct{} // what was made of the client and is not closed
}

// closer is what the client closes before it closes itself: a Producer, a Consumer.
type closer interface {
	Close(ctx context.Context) error
}

// Dial connects to a cluster and returns once one of its nodes has answered. It tries
// again until ctx ends or Config.DialTimeout is over, and then fails with ErrUnavailable
// and what was tried. It fails at once with ErrConfig for settings that cannot be, and with
// ErrUnavailable if none of Config.Nodes has a host name that is known, or none of them can
// be a node. Close the Client when it is not needed any more.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.DialTimeout < 0 {
		return nil, fmt.Errorf("DialTimeout %v is less than nothing: %w", cfg.DialTimeout, ErrConfig)
	}
	if _, ok := ctx.Deadline(); !ok {
		timeout := cfg.DialTimeout
		if timeout == 0 {
			timeout = dialTimeout
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("within %v", timeout))
		defer cancel()
	}
	settings := link.Config{Nodes: cfg.Nodes, Consul: cfg.Consul, Cluster: cfg.Cluster,
		ClientID: cfg.ClientID, Listen: cfg.Listen, Advertise: cfg.Advertise, TLS: cfg.TLS,
		Logger: cfg.Logger}
	if cfg.Embedded != nil {
		settings.Actors = cfg.Embedded.Actors()
		if settings.Actors == nil {
			return nil, fmt.Errorf("the embedded node does not run: start it first: %w", ErrConfig)
		}
	}
	if settings.ClientID == "" {
		settings.ClientID = filepath.Base(os.Args[0])
	}
	l, err := link.Open(ctx, settings)
	if errors.Is(err, messages.ErrInvalidRequest) {
		return nil, fmt.Errorf("dial: %w: %w", ErrConfig, err)
	}
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return newClient(cfg, l, l.Close), nil
}

// newClient returns a Client over a link that stop ends.
func newClient(cfg Config, link cluster, stop func(context.Context) error) *Client {
	c := &Client{cfg: cfg, link: link, stop: stop, open: map[closer]struct{}{}}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

// over is ErrClosed once Close has begun.
func (c *Client) over() error {
	if c.life.Err() != nil {
		return fmt.Errorf("the client: %w", ErrClosed)
	}
	return nil
}

// during returns a context that ends with ctx, and with life.
func during(life, ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(life, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// register has Close close x. Who makes something of the client that runs on calls it
// last, and closes what was made if it fails: with ErrClosed.
func (c *Client) register(x closer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.over(); err != nil {
		return err
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

// Close closes the producers and consumers of the client, which may wait until ctx ends,
// and some seconds longer, for what they have under way, says goodbye to the nodes, and
// stops. Everything is given back even if ctx ends before. Calls that wait end with
// ErrClosed, and so does every later one. A second call does nothing.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.end()
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
