package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/persistence/registry"
)

// How long a controller waits before it tries again to become one: after a
// failure, twice as long each time, and while another node is.
const (
	loadRetry    = 200 * time.Millisecond
	loadRetryMax = 2 * time.Second
	heldRetry    = time.Second
)

// registryTimeout bounds one registry operation.
const registryTimeout = 10 * time.Second

// Bounds of one registry transaction, below those of the stores. A topic's
// entries are never split.
const (
	commitOps   = 60
	commitBytes = 256 << 10
)

// Outbox is what a controller does to the world. Calls must not block and must
// not call back.
type Outbox interface {
	// Push sends a delta to a node that the controller has heard from. It may
	// get lost.
	Push(to messages.NodeID, d *messages.Delta)
	// Probe asks a node directly whether it is alive; Controller.Probed gets the
	// outcome.
	Probe(n messages.NodeID, epoch messages.NodeEpoch)
}

// ControllerConfig is what a controller needs of its node.
type ControllerConfig struct {
	Self     messages.NodeID
	Store    registry.Store
	Defaults func() topics.Defaults
	// ClusterID returns the id of a cluster whose registry is new.
	ClusterID func() string
	Settings  func(name string) string
	// Members returns the nodes that the membership shows as alive. Nil: the
	// node is a cluster of its own, where nobody is ever fenced or moved to.
	Members func() []messages.NodeID
	Log     zerolog.Logger
}

// Controller owns the cluster's metadata. It decides with topics.State, stores
// each decision in the registry, which refuses it once a higher controller epoch
// is known, and then tells every node.
type Controller struct {
	cfg   ControllerConfig
	out   Outbox
	log   zerolog.Logger
	state *topics.State // nil: not controller now
	lease registry.Lease
	id    string // of the cluster
	past  history

	failures  int       // to load, one after the other
	loadAt    time.Time // when to try to become controller; zero: it is, or never was told to
	ticked    time.Time // the last look at the sessions
	balanceAt time.Time
	sessions  map[messages.NodeID]*session // of the nodes that are not fenced
}

// NewController returns a controller that does nothing before Load.
func NewController(cfg ControllerConfig, out Outbox) *Controller {
	return &Controller{cfg: cfg, out: out, log: cfg.Log,
		sessions: map[messages.NodeID]*session{}}
}

// number reads a setting that is a whole number; settings were checked when they
// were set.
func (c *Controller) number(name string) int64 { return number(c.cfg.Settings, name) }

func number(settings func(string) string, name string) int64 {
	n, err := strconv.ParseInt(settings(name), 10, 64)
	invariant.That(err == nil, "setting %s is not a number: %v", name, err)
	return n
}

func millis(settings func(string) string, name string) time.Duration {
	return time.Duration(number(settings, name)) * time.Millisecond
}

// Active reports whether it is controller, as far as it knows.
func (c *Controller) Active() bool { return c.state != nil }

// Due is when Tick wants to be called; zero: not before something happens.
func (c *Controller) Due() time.Time {
	switch {
	case c.state == nil:
		return c.loadAt
	case c.cfg.Members == nil:
		return time.Time{}
	}
	due := c.ticked.Add(c.tick())
	if c.balanceAt.Before(due) {
		due = c.balanceAt
	}
	return due
}

// Tick does what time brings about.
func (c *Controller) Tick(now time.Time) {
	switch {
	case c.state == nil:
		if !c.loadAt.IsZero() && !now.Before(c.loadAt) {
			c.Load(now)
		}
	case c.cfg.Members != nil:
		c.checkSessions(now)
		if c.state != nil && !now.Before(c.balanceAt) {
			c.balance(now)
		}
	}
}

// Load becomes controller and reads the registry. Until then commands are
// answered with messages.ErrNotController.
func (c *Controller) Load(now time.Time) {
	c.state, c.past = nil, history{}
	if err := c.tryLoad(); err != nil {
		if errors.Is(err, registry.ErrHeld) {
			c.loadAt = now.Add(heldRetry)
			c.log.Info().Err(err).Msg("another node is controller")
			return
		}
		c.loadAt = now.Add(min(loadRetryMax, loadRetry<<min(c.failures, 10)))
		level := zerolog.ErrorLevel
		if c.failures > 0 { // said already
			level = zerolog.DebugLevel
		}
		c.failures++
		c.log.WithLevel(level).Err(err).Msg("controller cannot load the registry, retrying")
		return
	}
	c.loadAt, c.failures = time.Time{}, 0
	im := c.state.Image()
	c.log.Info().Int64("epoch", int64(c.lease.Epoch)).Int("topics", im.TopicCount()).
		Int64("version", int64(im.Version)).Msg("controller is active")
	p := c.state.Plan()
	p.Heal()
	if err := c.commit(now, p); err != nil {
		return // logged; it loads again
	}
	c.meetNodes(now)
}

func (c *Controller) tryLoad() error {
	deadline, cancel := context.WithTimeout(context.Background(), registryTimeout)
	defer cancel()
	lease, err := c.cfg.Store.Campaign(deadline, c.cfg.Self)
	if err != nil {
		return fmt.Errorf("taking the controller lock: %w", err)
	}
	stored, err := c.cfg.Store.Read(deadline)
	if err != nil {
		return fmt.Errorf("reading the registry: %w", err)
	}
	entries := make([]wire.Entry, len(stored.Entries))
	for i, e := range stored.Entries {
		entries[i] = wire.Entry{Key: e.Key, Value: e.Value}
	}
	contents, err := wire.Decode(entries)
	if err != nil {
		return fmt.Errorf("the registry is damaged: %w", err)
	}
	version := stored.Version
	if contents.ClusterID == "" {
		contents.ClusterID = c.cfg.ClusterID()
		cluster := wire.ClusterEntry(contents.ClusterID, 1)
		if version, err = c.cfg.Store.Commit(deadline, lease, ops([]wire.Entry{cluster})); err != nil {
			return fmt.Errorf("naming the cluster: %w", err)
		}
	}
	image, ok := messages.NewImage().Apply(contents.Snapshot(version, lease.Epoch, c.cfg.Self))
	if !ok {
		return errors.New("the registry's version does not make a snapshot")
	}
	c.lease, c.id = lease, contents.ClusterID
	c.state = topics.New(image, contents.NextProducerID, c.cfg.Defaults())
	return nil
}

func ops(entries []wire.Entry) []registry.Op {
	out := make([]registry.Op, len(entries))
	for i, e := range entries {
		out[i] = registry.Op{Key: e.Key, Value: e.Value}
	}
	return out
}

// commit makes a plan durable, adopts it and tells the nodes. A failure leaves
// the outcome unknown (a transaction may have got through), so the controller
// loads afresh.
func (c *Controller) commit(now time.Time, p *topics.Plan) error {
	if p.Empty() {
		return nil
	}
	deadline, cancel := context.WithTimeout(context.Background(), registryTimeout)
	defer cancel()
	version := c.state.Image().Version
	for _, batch := range batches(c.entries(p)) {
		v, err := c.cfg.Store.Commit(deadline, c.lease, ops(batch))
		if err != nil {
			return c.lost(now, err)
		}
		version = v
	}
	before := c.state.Image()
	d := p.Delta(version, c.cfg.Self, c.lease.Epoch, c.id)
	c.state.Adopt(p, d)
	if d.From == d.To {
		return nil // everything is as it was
	}
	c.past.add(d)
	for _, n := range before.Nodes {
		if s := c.sessions[n.ID]; s != nil && s.met {
			c.out.Push(n.ID, d)
		}
	}
	if d.Nodes != nil {
		c.followNodes(now)
	}
	return nil
}

// batches joins groups into transactions.
func batches(groups [][]wire.Entry) [][]wire.Entry {
	var out [][]wire.Entry
	size := 0
	for _, g := range groups {
		bytes := 0
		for _, e := range g {
			bytes += len(e.Key) + len(e.Value)
		}
		last := len(out) - 1
		if last < 0 || len(out[last])+len(g) > commitOps || size+bytes > commitBytes {
			out, size = append(out, nil), 0
			last++
		}
		out[last] = append(out[last], g...)
		size += bytes
	}
	return out
}

// lost ends this controllership after a write that failed.
func (c *Controller) lost(now time.Time, err error) error {
	c.state, c.loadAt = nil, now
	if errors.Is(err, messages.ErrFencedController) {
		c.log.Warn().Err(err).Msg("another controller was elected")
		return err // a part of the plan may have got through before
	}
	c.log.Error().Err(err).Msg("metadata write failed, loading the registry again")
	if c.cfg.Members == nil {
		return err // of the disk: asking again would not help
	}
	return fmt.Errorf("%w: %w", messages.ErrUnavailable, err)
}

// entries returns the registry records of a plan, in groups that must be
// written together. Nodes come last: if only a part gets through, the plan that
// fences or registers the node is made again.
func (c *Controller) entries(p *topics.Plan) [][]wire.Entry {
	before := c.state.Image()
	d := p.Delta(before.Version, c.cfg.Self, c.lease.Epoch, c.id)
	var groups [][]wire.Entry
	// Deletions first: a topic that is created again in the same plan has the
	// same name, and names are unique in the registry.
	for _, id := range d.Removed {
		groups = append(groups, wire.TopicEntries(before.TopicByID(id), nil))
	}
	for _, t := range d.Topics {
		groups = append(groups, wire.TopicEntries(before.TopicByID(t.ID), t))
	}
	for id := range d.NodeConfigs {
		groups = append(groups, []wire.Entry{wire.NodeConfigEntry(id, d.NodeConfigs[id])})
	}
	if next, changed := p.NextProducerID(); changed {
		groups = append(groups, []wire.Entry{
			wire.ProducerIDsEntry(next-topics.ProducerIDBlock, topics.ProducerIDBlock)})
	}
	if d.Nodes == nil {
		return groups
	}
	stays := map[messages.NodeID]bool{}
	for _, n := range d.Nodes {
		stays[n.ID] = true
		if old := before.Node(n.ID); old == nil || *old != n {
			groups = append(groups, []wire.Entry{wire.NodeEntry(n)})
		}
	}
	for _, n := range before.Nodes {
		if !stays[n.ID] {
			groups = append(groups, []wire.Entry{{Key: wire.NodeKey(n.ID)}})
		}
	}
	return groups
}
