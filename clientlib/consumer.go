package clientlib

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/troupelog/troupe/clientlib/internal/cursor"
	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/clientlib/internal/member"
	"github.com/troupelog/troupe/messages/group"
)

// Consumer reads records: as a member of a group, or from partitions that it was told.
// (*Client).NewConsumer makes it. It fetches ahead of who takes the records: one goroutine
// at a time calls Poll, or Process. All other methods may be called by any goroutine.
//
// While the consumer is open it stays a member of its group, whether records are taken or
// not. Partitions that another member gets are given up once what was taken of them is
// handled, 45 seconds after they were asked for at the latest; a member that needs more
// than a minute for it loses them.
//
// OnAssigned, OnRevoked and OnLost are called by a goroutine of the consumer that holds no
// lock. They may call Commit, Seek, Assigned and Stats, and neither Poll nor Close, which
// wait for them.
type Consumer struct {
	client *Client
	link   cluster
	cfg    ConsumerConfig
	log    *slog.Logger

	ctx        context.Context // of everything that goes on in the background
	cancel     context.CancelFunc
	background sync.WaitGroup // the loops, but for the one that rebalances
	rebalances rebalancer
	committing chan struct{} // holds one who commits
	closing    chan struct{} // closed when Close begins
	closed     chan struct{} // closed when Close is done
	unheard    bool          // the last heartbeat failed; of heartLoop

	wakeFetcher, wakeLocator, wakeHeart, wakeRebalancer signal

	processing atomic.Bool // somebody does, with hooks, and says what is handled

	mishaps mishaps      // of Process
	missing atomic.Int32 // topics that did not exist when the consumer was made

	mu sync.Mutex
	// draining and lost are set by hooks.
	draining func(ctx context.Context, ps []Partition)
	lost     func(ps []Partition)

	parts    map[Partition]*part
	topics   map[string]*topicWatch
	dirty    []*part // may have something to ask
	delayed  []*part // may have something to ask later
	queue    []*part // has something to give out
	given    []*part // had something in what next returned last
	buffered int     // bytes
	starved  bool    // somebody waits for room in the buffer
	ended    error   // why there is nothing more to read; nil: there is
	machine  *member.Machine
	stats    ConsumerStats
	ready    bell // there may be something for next
	news     bell // something else has changed
}

// ConsumerStats are what a consumer has done so far, and how it is.
type ConsumerStats struct {
	// Records and Bytes of keys and values were given to the program: returned by Poll, or
	// taken by Process, which takes some before it hands them to the handler. Fetches were
	// answered with records.
	Records, Bytes, Fetches int64
	// Commits were made of the positions of one or more partitions; Rebalances gave the
	// consumer partitions or took them away.
	Commits, Rebalances int64
	// Failures are calls of the handler of Process that failed, Retries how often records,
	// or batches of them, were put back to be handled again, DeadLetters the records that
	// were written to a dead-letter topic.
	Failures, Retries, DeadLetters int64
	// Buffered are bytes that were fetched and not taken, as they came.
	Buffered int64
	// Lag is how many records lie behind those that were given to the program, in all
	// partitions, as far as was heard of with the last fetches.
	Lag int64
}

// NewConsumer makes a consumer, which begins to read at once: before anybody calls Poll or
// Process it is on its way into its group. Of cfg.Topics those that do not exist are told
// to Config.Logger and waited for: they are read once somebody makes them. ctx bounds the
// check that the topics of cfg.Partitions exist. Errors: ErrConfig, ErrClosed, and for
// cfg.Partitions ErrUnknownTopic and the error of ctx.
//
// Close the consumer: one that crashed, or was forgotten, stays in its group until its
// session times out (group.consumer.session.timeout.ms of the nodes, 45 seconds), and its
// partitions are read by nobody until then.
func (c *Client) NewConsumer(ctx context.Context, cfg ConsumerConfig) (*Consumer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := c.over(); err != nil {
		return nil, err
	}
	routes := map[string]*link.Route{}
	for _, p := range cfg.Partitions {
		if routes[p.Topic] == nil {
			route, err := c.link.Route(ctx, p.Topic, false)
			if err != nil {
				return nil, about("topic", p.Topic, err)
			}
			routes[p.Topic] = route
		}
		if n := len(routes[p.Topic].Partitions); int(p.Index) >= n {
			return nil, fmt.Errorf("partition %d of topic %q, which has %d: %w",
				p.Index, p.Topic, n, ErrUnknownTopic)
		}
	}
	consumer := newConsumer(c, cfg.filled())
	consumer.start(routes)
	if err := c.register(consumer); err != nil {
		return nil, errors.Join(err, consumer.Close(ctx))
	}
	return consumer, nil
}

func newConsumer(client *Client, cfg ConsumerConfig) *Consumer {
	c := &Consumer{
		client: client, link: client.link, cfg: cfg, log: client.cfg.Logger,
		committing: make(chan struct{}, 1),
		closing:    make(chan struct{}), closed: make(chan struct{}),
		wakeFetcher: newSignal(), wakeLocator: newSignal(),
		wakeHeart: newSignal(), wakeRebalancer: newSignal(),
		parts: map[Partition]*part{}, topics: map[string]*topicWatch{},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if cfg.membership() {
		c.machine = member.New(member.Config{
			Group: cfg.Group, ID: newUUID(), Instance: cfg.InstanceID,
			Topics: cfg.Topics, Pattern: cfg.Pattern, RebalanceTimeout: rebalanceTimeout,
		})
	}
	return c
}

// start begins to read. routes are those of cfg.Partitions.
func (c *Consumer) start(routes map[string]*link.Route) {
	c.background.Go(c.fetchLoop)
	if c.cfg.Group != "" && c.cfg.CommitInterval > 0 {
		c.background.Go(c.commitLoop)
	}
	if c.cfg.membership() {
		c.background.Go(c.heartLoop)
		c.background.Go(c.locateLoop)
		c.background.Go(c.lookForTopics)
		c.background.Go(func() { c.tellIfIdle(idlePatience) })
		c.rebalances.start(c)
		return
	}
	ps := make([]member.Partition, len(c.cfg.Partitions))
	for i, p := range c.cfg.Partitions {
		ps[i] = member.Partition{ID: routes[p.Topic].ID, Topic: p.Topic, Index: p.Index}
	}
	c.mu.Lock()
	c.add(ps)
	for _, p := range c.cfg.Partitions {
		part := c.parts[p.Partition]
		part.cur = *cursor.New(p.Start.place())
		c.seek(part, p.Start)
	}
	c.activate(ps)
	c.mu.Unlock()
	c.watch(ps)
}

// Poll returns the next records, at least one of them, those of a partition in the order
// of their offsets. It says that the records of the Poll before are handled, which has
// them committed soon, unless ConsumerConfig.CommitInterval is less than 0. The records
// are the caller's; how many there are is bounded by about a megabyte of keys and values,
// or by one batch of a producer.
//
// Errors are that of ctx, ErrClosed, what ended the consumer (ErrFenced, ErrGroupFull,
// ErrConfig), or what is wrong with one partition, which it names: ErrCorrupt, and what a
// node says. Poll may be called again after an error: records are never left out.
func (c *Consumer) Poll(ctx context.Context) ([]*Record, error) {
	if c.processing.Load() {
		return nil, fmt.Errorf("the consumer's records go to Process while it runs: %w",
			ErrInvalidRequest)
	}
	c.mu.Lock()
	for _, p := range c.given {
		p.out = false
		if c.cfg.CommitInterval >= 0 {
			p.cur.HandledAll()
		}
	}
	c.given = c.given[:0]
	c.news.ring()
	c.mu.Unlock()
	return c.next(ctx)
}

// Seek moves the consumer to other places in partitions that are assigned to it, and
// returns once these are found. What was taken before and is handled later does not count
// any more. Errors: ErrNotAssigned, ErrClosed, and that of ctx.
func (c *Consumer) Seek(ctx context.Context, positions ...Position) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.over(); err != nil {
		return err
	}
	for _, to := range positions {
		if p := c.parts[to.Partition]; p == nil || p.revoking {
			return notAssigned(to.Partition)
		}
	}
	for _, to := range positions {
		c.seek(c.parts[to.Partition], to.Start)
	}
	for _, to := range positions {
		for {
			p := c.parts[to.Partition]
			if err := c.over(); err != nil {
				return err
			}
			if p == nil {
				return notAssigned(to.Partition)
			}
			if p.cur.Known() {
				break
			}
			if err := c.wait(ctx, &c.news); err != nil {
				return err
			}
		}
	}
	return nil
}

// Assigned returns the partitions that the consumer reads now, in no order.
func (c *Consumer) Assigned() []Partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	ps := make([]Partition, 0, len(c.parts))
	for at := range c.parts {
		ps = append(ps, at)
	}
	return ps
}

// Stats returns what the consumer has done so far.
func (c *Consumer) Stats() ConsumerStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Buffered = int64(c.buffered)
	s.Failures, s.Retries = c.mishaps.failures.Load(), c.mishaps.retries.Load()
	s.DeadLetters = c.mishaps.deadLetters.Load()
	for _, p := range c.parts {
		s.Lag += p.cur.Lag()
	}
	return s
}

// over returns why there is nothing more to read, or nil. mu is held.
func (c *Consumer) over() error {
	select {
	case <-c.closing:
		return fmt.Errorf("consumer: %w", ErrClosed)
	default:
		return c.ended
	}
}

func notAssigned(p Partition) error {
	return fmt.Errorf("partition %d of topic %q: %w", p.Index, p.Topic, ErrNotAssigned)
}

// hooks has draining called before partitions are given up: it returns once what was
// handed out of them is handled, or ctx ends. lost is called when they were taken away,
// after next hands out no more of them. One goroutine calls both. Nil: whoever takes
// records calls Poll.
func (c *Consumer) hooks(
	draining func(ctx context.Context, ps []Partition), lost func(ps []Partition),
) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining, c.lost = draining, lost
	for _, p := range c.given {
		p.out = false
	}
	c.given = c.given[:0]
	c.news.ring()
}

// member is who commits.
func (c *Consumer) member() groupMember {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.memberNow()
}

func (c *Consumer) memberNow() groupMember {
	if c.machine == nil {
		return groupMember{epoch: group.NoGeneration}
	}
	id := c.machine.ID()
	epoch, ok := c.machine.Epoch()
	if !ok {
		epoch = group.EpochJoin // refused
	}
	return groupMember{id: id, instance: c.cfg.InstanceID, epoch: epoch}
}
