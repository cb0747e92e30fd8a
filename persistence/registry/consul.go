package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/troupelog/troupe/messages"
)

// ErrRegressed means that the metadata is older than it was before: Consul came
// back without its data, or with an old copy. Nothing is read from it or written
// to it until it has caught up.
var ErrRegressed = errors.New("metadata store went back in time")

// Hopeless reports whether asking the store again would bring the same answer:
// Consul refuses the request, or what is stored this version must not touch.
func Hopeless(err error) bool {
	var status api.StatusError
	if errors.As(err, &status) {
		return status.Code/100 == 4 && status.Code != http.StatusTooManyRequests
	}
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNewerFormat)
}

// Bounds of the calls to Consul.
const (
	// watchWait is how long a watch may be parked. One that was told an index
	// from before a restart of the server hears nothing until it is over.
	watchWait = 10 * time.Second
	// watchGrace is how much later than that an answer may come before the
	// agent counts as hung.
	watchGrace = 5 * time.Second
	retryMin   = 50 * time.Millisecond
	retryMax   = 2 * time.Second
	// campaignTries bounds how often a campaign starts over when the lock
	// changed hands meanwhile.
	campaignTries = 4
	closeTimeout  = 2 * time.Second
)

// ConsulConfig says how to reach the metadata of a cluster in Consul.
type ConsulConfig struct {
	// API is how to reach Consul: address, TLS, token, namespace. See ConsulAPI.
	API *api.Config
	// Cluster is the name of the cluster; its keys are under "troupe/NAME/".
	Cluster string
	// Service returns the id of the service as which this node is registered with
	// the same agent, or "" while it is not. The controllership ends when the
	// check of that service fails. Without a service it ends some 20 s after the
	// process, the least that Consul has to offer.
	Service func() string
	// Log gets what a watch cannot return as an error; nil: nobody.
	Log *slog.Logger
}

// Consul is a Store in Consul's key-value service, for a cluster of several
// nodes. Under "troupe/NAME/" it keeps
//
//	lock      who is controller; locked by that node's session
//	state     format, version and controller epoch
//	data/K    the record with key K; its flags are the revision
//	blobs/U   values that do not fit in a transaction together with the others
//	node-ids/N  the data directory that node id N was given to
//
// A Commit is one transaction that first checks that the lock is held by the
// session of its Lease and that state is as the Lease left it, so a controller
// that was replaced changes nothing, however late its request arrives.
//
// It remembers the newest version and epoch it has seen and does not follow
// Consul back behind them.
type Consul struct {
	cfg    ConsulConfig
	client *api.Client
	prefix string
	closed chan struct{}
	once   sync.Once
	owned  sync.WaitGroup // goroutines that renew sessions

	mu      sync.Mutex // one Campaign or Commit at a time; guards session
	session *session   // nil: none yet, or known to be gone

	seenMu sync.Mutex
	seen   sighting // the newest of each
}

var _ Store = (*Consul)(nil)

// clusterName is what fits into a key, a path and a service name.
var clusterName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckClusterName returns why a string cannot be the name of a cluster.
func CheckClusterName(name string) error {
	if !clusterName.MatchString(name) {
		return fmt.Errorf("cluster name %q: use 1 to 64 letters, digits, dots, dashes and "+
			"underscores, a letter or digit first", name)
	}
	return nil
}

// ConsulAPI returns how to reach Consul at addr: HOST:PORT, or a URL with http,
// https or unix. An empty addr and everything else come from Consul's own
// environment variables (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_CACERT,
// CONSUL_NAMESPACE and so on), as for the consul command.
func ConsulAPI(addr string) *api.Config {
	cfg := api.DefaultConfig()
	if addr != "" {
		cfg.Address = addr
	}
	return cfg
}

// OpenConsul returns a Store. It does not ask Consul anything yet, so Consul may
// be down; it fails for a configuration that can never work.
func OpenConsul(cfg ConsulConfig) (*Consul, error) {
	if err := CheckClusterName(cfg.Cluster); err != nil {
		return nil, err
	}
	client, err := api.NewClient(cfg.API)
	if err != nil {
		return nil, fmt.Errorf("settings for Consul: %w", err)
	}
	if cfg.Service == nil {
		cfg.Service = func() string { return "" }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Consul{cfg: cfg, client: client, prefix: "troupe/" + cfg.Cluster + "/",
		closed: make(chan struct{})}, nil
}

// Campaign implements Store. The lock of an earlier life of the same node is
// taken away from it.
func (c *Consul) Campaign(ctx context.Context, node messages.NodeID) (Lease, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := usable(ctx, c.closed); err != nil {
		return Lease{}, err
	}
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	var err error
	for range campaignTries {
		var lease Lease
		lease, err = c.campaign(ctx, node)
		if !errors.Is(err, errRaced) {
			return lease, err
		}
	}
	return Lease{}, err
}

// errRaced means that a campaign has to look again.
var errRaced = errors.New("the controller lock changed hands meanwhile")

func (c *Consul) campaign(ctx context.Context, node messages.NodeID) (Lease, error) {
	st, err := c.readState(ctx)
	if err != nil {
		return Lease{}, err
	}
	held, err := c.readLock(ctx)
	if err != nil {
		return Lease{}, err
	}
	if held.session != "" && held.Node != node {
		return Lease{}, &HeldError{Holder: held.Holder}
	}
	if held.session != "" && (c.session == nil || held.session != c.session.id) {
		if err := c.destroy(ctx, held.session); err != nil {
			return Lease{}, err
		}
	}
	if err := c.ensureSession(ctx); err != nil {
		return Lease{}, err
	}
	next := Holder{Node: node, Epoch: max(st.Epoch, held.Epoch) + 1}
	st.Epoch = next.Epoch
	ok, resp, err := c.txn(ctx, []*api.KVTxnOp{
		{Verb: api.KVLock, Key: c.lockKey(), Value: encodeJSON(lockRecord(next)),
			Session: c.session.id},
		{Verb: api.KVCAS, Key: c.stateKey(), Value: encodeJSON(st), Index: st.index},
	})
	if err != nil {
		return Lease{}, c.explain("campaign for the controller lock", err)
	}
	if !ok {
		// The session ended meanwhile, somebody else has won, or the lock is still
		// closed, as it is for a moment after it was taken from a session.
		return Lease{}, errors.Join(errRaced, c.pause(ctx, 2*lockDelay))
	}
	st.index = indexOf(resp, c.stateKey())
	c.saw(sighting{st.Version, st.Epoch})
	t := &tenure{store: c, session: c.session.id, state: st}
	if err := c.sweep(ctx, t); err != nil {
		return Lease{}, err
	}
	return Lease{Node: node, Epoch: next.Epoch, token: t}, nil
}

// Holder implements Store.
func (c *Consul) Holder(ctx context.Context) (Holder, error) {
	nobody := Holder{Node: messages.NoNode}
	if err := usable(ctx, c.closed); err != nil {
		return nobody, err
	}
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	held, err := c.readLock(ctx)
	if err != nil {
		return nobody, err
	}
	return held.holder(), nil
}

// Depose ends the controllership of h if h still is the controller: the caller
// has found out that its node is dead. The lock is free at once then. Deposing
// somebody who is not the controller any more does nothing.
func (c *Consul) Depose(ctx context.Context, h Holder) error {
	if err := usable(ctx, c.closed); err != nil {
		return err
	}
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	held, err := c.readLock(ctx)
	if err != nil || held.session == "" || held.Holder != h {
		return err
	}
	return c.destroy(ctx, held.session)
}

// Watch implements Store. It goes on while Consul does not answer, and does not
// tell of holders older than one seen before.
func (c *Consul) Watch(ctx context.Context, f func(Holder)) error {
	if err := usable(ctx, c.closed); err != nil {
		return err
	}
	open, cancel := c.whileOpen(ctx)
	defer cancel()
	var told *Holder
	var index uint64
	retry := retryMin
	for {
		held, next, err := c.awaitLock(open, index)
		if err := usable(ctx, c.closed); err != nil {
			return err
		}
		if err != nil {
			if retry == retryMin {
				c.cfg.Log.Warn("controller lock cannot be watched", slog.Any("error", err))
			}
			_ = c.pause(open, retry)
			index, retry = 0, min(2*retry, retryMax)
			continue
		}
		index, retry = next, retryMin
		if h := held.holder(); told == nil || h != *told {
			told = &h
			f(h)
		}
	}
}

// Close implements Store. When Consul does not answer, the controllership ends
// with the node's service instead.
func (c *Consul) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.session != nil {
			ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
			defer cancel()
			c.session.drop()
			if err := c.destroy(ctx, c.session.id); err != nil {
				c.cfg.Log.Warn("controller lock is left to expire", slog.Any("error", err))
			}
		}
		c.owned.Wait()
		c.cfg.API.HttpClient.CloseIdleConnections() // they have goroutines; NewClient set it
	})
	return nil
}

// whileOpen returns a context that ends with ctx or the store.
func (c *Consul) whileOpen(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		select {
		case <-c.closed:
			cancel()
		case <-done:
		}
	}()
	var once sync.Once
	return ctx, func() {
		once.Do(func() { close(done) })
		cancel()
	}
}

func (c *Consul) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// explain says what could not be done and, where it is known, the remedy.
func (c *Consul) explain(what string, err error) error {
	var status api.StatusError
	if errors.As(err, &status) && status.Code == 403 {
		return fmt.Errorf("%s: Consul at %s refuses the token: it needs key_prefix %q write and "+
			"session_prefix \"\" write; set CONSUL_HTTP_TOKEN: %w",
			what, c.cfg.API.Address, c.prefix, err)
	}
	return fmt.Errorf("%s: Consul at %s: %w", what, c.cfg.API.Address, err)
}
