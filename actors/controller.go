package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/persistence/registry"
)

// Commands to the controller. Reply is called once, on the controller's
// goroutine, after the outcome is durable; it must not block.
type (
	createTopics struct {
		topics       []messages.CreateTopic
		ids          []messages.TopicID // one per topic
		validateOnly bool
		reply        func(adminResult)
	}
	deleteTopics struct {
		topics []messages.TopicRef
		reply  func(adminResult)
	}
	createPartitions struct {
		topics       []messages.CreatePartitions
		validateOnly bool
		reply        func(adminResult)
	}
	alterConfigs struct {
		reqs         []messages.AlterConfigs
		validateOnly bool
		reply        func(adminResult)
	}
	reserveProducerIDs struct {
		reply func(first messages.ProducerID, err error)
	}
	registerNode struct {
		node  messages.Node
		agent *actor.PID // gets registered, then every delta
	}
	// needSnapshot is a node's agent asking for all metadata, after it started or
	// found a gap between deltas.
	needSnapshot struct {
		agent *actor.PID
	}
)

// adminResult is the outcome of an admin command. Version is the metadata
// version that shows it.
type adminResult struct {
	version messages.MetadataVersion
	topics  []messages.TopicResult
	errs    []error
	err     error // of the command as a whole
}

// loadRetry is how long a controller waits before it tries again to become one.
const loadRetry = 200 * time.Millisecond

// registryTimeout bounds one registry operation.
const registryTimeout = 10 * time.Second

// maxOps is how many registry operations go into one transaction.
const maxOps = 60

// ControllerConfig is what the controller needs besides the Env.
type ControllerConfig struct {
	Store    registry.Store
	Defaults func() topics.Defaults
	// ClusterID returns the id of a cluster whose registry is new.
	ClusterID func() string
}

// controller owns the cluster's metadata. It decides with topics.State, stores
// each decision in the registry in one transaction that the registry refuses
// once a higher controller epoch is known, and then tells every node.
type controller struct {
	env    *Env
	cfg    ControllerConfig
	log    zerolog.Logger
	state  *topics.State
	lease  registry.Lease
	id     string // of the cluster
	agents map[string]*actor.PID
}

type retryLoad struct{}

// NewController returns how to make the controller.
func NewController(env *Env, cfg ControllerConfig) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		return &controller{env: env, cfg: cfg, agents: map[string]*actor.PID{},
			log: env.Log.With().Str("actor", KindController).Logger()}
	}, env.props(KindController)...)
}

func (c *controller) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		c.load(ctx)
	case retryLoad:
		c.load(ctx)
	case *createTopics:
		c.createTopics(ctx, m)
	case *deleteTopics:
		c.deleteTopics(ctx, m)
	case *createPartitions:
		c.createPartitions(ctx, m)
	case *alterConfigs:
		c.alterConfigs(ctx, m)
	case *reserveProducerIDs:
		c.reserveProducerIDs(ctx, m)
	case *registerNode:
		c.registerNode(ctx, m)
	case *needSnapshot:
		c.sendSnapshot(ctx, m.agent)
	}
}

// load becomes controller and reads the registry. Until then commands are
// answered with messages.ErrNotController, which callers retry.
func (c *controller) load(ctx actor.Context) {
	if err := c.tryLoad(); err != nil {
		c.state = nil
		c.log.Error().Err(err).Msg("controller cannot load the registry, retrying")
		self, root := ctx.Self(), c.env.Root
		time.AfterFunc(loadRetry, func() { root.Send(self, retryLoad{}) })
		return
	}
	im := c.state.Image()
	c.log.Info().Int64("epoch", int64(c.lease.Epoch)).Int("topics", im.TopicCount()).
		Int64("version", int64(im.Version)).Msg("controller is active")
	for _, agent := range c.agents {
		c.sendSnapshot(ctx, agent)
	}
}

func (c *controller) tryLoad() error {
	deadline, cancel := context.WithTimeout(context.Background(), registryTimeout)
	defer cancel()
	lease, err := c.cfg.Store.Campaign(deadline, c.env.Self)
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
	image, ok := messages.NewImage().Apply(contents.Snapshot(version, lease.Epoch, c.env.Self))
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
func (c *controller) commit(ctx actor.Context, p *topics.Plan) error {
	if p.Empty() {
		return nil
	}
	deadline, cancel := context.WithTimeout(context.Background(), registryTimeout)
	defer cancel()
	groups := c.entries(p)
	version := c.state.Image().Version
	for len(groups) > 0 {
		var batch []wire.Entry
		for len(groups) > 0 && (len(batch) == 0 || len(batch)+len(groups[0]) <= maxOps) {
			batch = append(batch, groups[0]...)
			groups = groups[1:]
		}
		v, err := c.cfg.Store.Commit(deadline, c.lease, ops(batch))
		if err != nil {
			return c.lost(ctx, err)
		}
		version = v
	}
	d := p.Delta(version, c.env.Self, c.lease.Epoch, c.id)
	c.state.Adopt(p, d)
	for _, agent := range c.agents {
		ctx.Send(agent, d)
	}
	return nil
}

// lost ends this controllership after a write that failed.
func (c *controller) lost(ctx actor.Context, err error) error {
	c.log.Error().Err(err).Msg("metadata write failed, loading the registry again")
	c.state = nil
	ctx.Send(ctx.Self(), retryLoad{})
	if errors.Is(err, messages.ErrFencedController) {
		return fmt.Errorf("%w: %w", messages.ErrNotController, err)
	}
	return err
}

// entries returns the registry records of a plan, in groups that must be
// written together.
func (c *controller) entries(p *topics.Plan) [][]wire.Entry {
	before := c.state.Image()
	d := p.Delta(before.Version, c.env.Self, c.lease.Epoch, c.id)
	var groups [][]wire.Entry
	// Deletions first: a topic that is created again in the same plan has the
	// same name, and names are unique in the registry.
	for _, id := range d.Removed {
		groups = append(groups, wire.TopicEntries(before.TopicByID(id), nil))
	}
	for _, t := range d.Topics {
		groups = append(groups, wire.TopicEntries(before.TopicByID(t.ID), t))
	}
	for _, n := range d.Nodes {
		if old := before.Node(n.ID); old == nil || *old != n {
			groups = append(groups, []wire.Entry{wire.NodeEntry(n)})
		}
	}
	for id := range d.NodeConfigs {
		groups = append(groups, []wire.Entry{wire.NodeConfigEntry(id, d.NodeConfigs[id])})
	}
	if next, changed := p.NextProducerID(); changed {
		groups = append(groups, []wire.Entry{
			wire.ProducerIDsEntry(next-topics.ProducerIDBlock, topics.ProducerIDBlock)})
	}
	return groups
}

func (c *controller) createTopics(ctx actor.Context, m *createTopics) {
	c.admin(ctx, m.validateOnly, m.reply, func(p *topics.Plan, r *adminResult) {
		for i, t := range m.topics {
			r.topics = append(r.topics, p.CreateTopic(t, m.ids[i]))
		}
	})
}

func (c *controller) deleteTopics(ctx actor.Context, m *deleteTopics) {
	c.admin(ctx, false, m.reply, func(p *topics.Plan, r *adminResult) {
		for _, t := range m.topics {
			r.topics = append(r.topics, p.DeleteTopic(t))
		}
	})
}

func (c *controller) createPartitions(ctx actor.Context, m *createPartitions) {
	c.admin(ctx, m.validateOnly, m.reply, func(p *topics.Plan, r *adminResult) {
		for _, t := range m.topics {
			r.topics = append(r.topics, p.CreatePartitions(t))
		}
	})
}

func (c *controller) alterConfigs(ctx actor.Context, m *alterConfigs) {
	c.admin(ctx, m.validateOnly, m.reply, func(p *topics.Plan, r *adminResult) {
		for _, a := range m.reqs {
			r.errs = append(r.errs, p.AlterConfigs(a))
		}
	})
}

// admin decides on a fresh plan, stores it unless only a check was asked for,
// and replies.
func (c *controller) admin(ctx actor.Context, validateOnly bool, reply func(adminResult),
	decide func(*topics.Plan, *adminResult)) {
	var r adminResult
	if c.state == nil {
		r.err = fmt.Errorf("the controller is loading: %w", messages.ErrNotController)
		reply(r)
		return
	}
	p := c.state.Plan()
	decide(p, &r)
	if !validateOnly {
		r.err = c.commit(ctx, p)
	}
	if c.state != nil {
		r.version = c.state.Image().Version
	}
	reply(r)
}

func (c *controller) reserveProducerIDs(ctx actor.Context, m *reserveProducerIDs) {
	if c.state == nil {
		m.reply(0, fmt.Errorf("the controller is loading: %w", messages.ErrNotController))
		return
	}
	p := c.state.Plan()
	first := p.ReserveProducerIDs()
	m.reply(first, c.commit(ctx, p))
}

// registerNode takes a node into the cluster. A node registers again until it
// sees itself in the metadata, so nothing is lost when this one fails.
func (c *controller) registerNode(ctx actor.Context, m *registerNode) {
	if c.state == nil {
		return
	}
	p := c.state.Plan()
	epoch := messages.NodeEpoch(c.state.Image().Version + 1)
	if err := p.Register(messages.Registration{Node: m.node}, epoch); err != nil {
		c.log.Error().Err(err).Int32("node", int32(m.node.ID)).Msg("registration refused")
		return
	}
	if err := c.commit(ctx, p); err != nil {
		return
	}
	c.agents[m.agent.Id] = m.agent
	ctx.Send(m.agent, &registered{snapshot: snapshotOf(c.state.Image())})
	c.log.Info().Int32("node", int32(m.node.ID)).Str("host", m.node.Host).Int32("port", m.node.Port).
		Msg("node registered")
}

// sendSnapshot sends all metadata to a node's agent, which gets every delta from then on.
func (c *controller) sendSnapshot(ctx actor.Context, agent *actor.PID) {
	c.agents[agent.Id] = agent
	if c.state == nil {
		return
	}
	ctx.Send(agent, snapshotOf(c.state.Image()))
}

func snapshotOf(im *messages.Image) *messages.Delta {
	nodes, configs := im.Nodes, im.NodeConfigs
	if nodes == nil {
		nodes = []messages.Node{}
	}
	if configs == nil {
		configs = map[messages.NodeID]messages.Config{}
	}
	return &messages.Delta{
		To: im.Version, ControllerEpoch: im.ControllerEpoch, Controller: im.Controller,
		ClusterID: im.ClusterID, Topics: im.Topics(), Nodes: nodes, NodeConfigs: configs, Snapshot: true,
	}
}
