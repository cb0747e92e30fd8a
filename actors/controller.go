package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors/alarm"
	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/persistence/registry"
)

// probeTimeout is how long a suspected node has for its answer.
const probeTimeout = 500 * time.Millisecond

// ControllerConfig is what the controller needs besides the Env.
type ControllerConfig struct {
	Store    registry.Store
	Defaults func() topics.Defaults
	// ClusterID returns the id of a cluster whose registry is new.
	ClusterID func() string
	// Members returns the nodes that the membership shows as alive, Probe asks
	// one directly, until ctx ends. Both are nil in a cluster of one.
	Members func() []messages.NodeID
	Probe   func(ctx context.Context, n messages.NodeID) control.Outcome
}

// controller is the shell around control.Controller.
type controller struct {
	env   *Env
	cfg   ControllerConfig
	self  *actor.PID
	body  *control.Controller
	alarm alarm.Alarm
	// agents are where nodes hear from the controller.
	agents map[messages.NodeID]*actor.PID
	// pushed is the delta pushed last and its wire form, to encode it once.
	pushed  *messages.Delta
	encoded *wire.NodeCommand
	// probing ends the probes under way when the controller stops.
	probing context.Context
	stop    context.CancelFunc
}

// probed is how a probe ended.
type probed struct {
	node    messages.NodeID
	epoch   messages.NodeEpoch
	outcome control.Outcome
}

// NewController returns how to make the controller.
func NewController(env *Env, cfg ControllerConfig) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		c := &controller{env: env, cfg: cfg, agents: map[messages.NodeID]*actor.PID{}}
		c.probing, c.stop = context.WithCancel(context.Background())
		c.body = control.NewController(control.ControllerConfig{
			Self: env.Self, Store: cfg.Store, Defaults: cfg.Defaults, ClusterID: cfg.ClusterID,
			Settings: env.Settings, Members: cfg.Members,
			Log: env.Log.With().Str("actor", KindController).Logger(),
		}, c)
		return c
	}, env.Props(KindController)...)
}

// Receive implements actor.Actor.
func (c *controller) Receive(ctx actor.Context) {
	now := time.Now()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		c.self = ctx.Self()
		c.body.Load(now)
	case *actor.Restarting, *actor.Stopping:
		c.alarm.Stop()
		c.stop()
		return
	case alarm.Ring:
		c.alarm.Rang(m)
		c.body.Tick(now)
	case probed:
		c.body.Probed(now, m.node, m.epoch, m.outcome)
	case *toController:
		m.reply(c.handle(now, m.command, ctx.Sender()))
	case *wire.ControllerRequest:
		c.request(now, m, ctx.Sender())
	default:
		return
	}
	c.alarm.Set(c.env.Root, c.self, now, c.body.Due())
}

// request answers what came from another node.
func (c *controller) request(now time.Time, m *wire.ControllerRequest, sender *actor.PID) {
	answer := &control.Answer{FirstID: messages.NoProducerID}
	command, err := control.DecodeCommand(m)
	if err != nil {
		answer.Err = err
	} else {
		answer = c.handle(now, command, sender)
	}
	if sender != nil {
		c.env.Root.Send(sender, control.EncodeAnswer(m.GetRequestId(), answer))
	}
}

func (c *controller) handle(
	now time.Time, command control.Command, sender *actor.PID,
) *control.Answer {
	if sender != nil {
		switch m := command.(type) {
		case *control.Heartbeat:
			c.agents[m.Node] = sender
		case *control.Register:
			c.agents[m.Registration.Node.ID] = sender
		}
	}
	return c.body.Handle(now, command)
}

// Push implements control.Outbox.
func (c *controller) Push(to messages.NodeID, d *messages.Delta) {
	pid := c.agents[to]
	switch {
	case pid == nil: // its first heartbeat to this activation will come
	case pid.Address == c.self.Address:
		c.env.Root.Send(pid, d)
	default:
		if c.pushed != d {
			c.pushed = d
			c.encoded = &wire.NodeCommand{
				Command: &wire.NodeCommand_Metadata{Metadata: wire.FromDelta(d)}}
		}
		c.env.Root.Send(pid, c.encoded)
	}
}

// Probe implements control.Outbox. The goroutine ends with the probe, which has a
// deadline.
func (c *controller) Probe(n messages.NodeID, epoch messages.NodeEpoch) {
	root, self, probe := c.env.Root, c.self, c.cfg.Probe
	ctx, cancel := context.WithTimeout(c.probing, probeTimeout)
	go func() {
		defer cancel()
		outcome := probe(ctx, n)
		if ctx.Err() != context.Canceled {
			root.Send(self, probed{n, epoch, outcome})
		}
	}()
}
