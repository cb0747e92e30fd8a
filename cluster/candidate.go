package cluster

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/registry"
)

// ControllerLock is the part of the registry that says who is controller.
// registry.Consul has it.
type ControllerLock interface {
	Campaign(ctx context.Context, node messages.NodeID) (registry.Lease, error)
	Watch(ctx context.Context, f func(registry.Holder)) error
	Depose(ctx context.Context, h registry.Holder) error
}

// CandidateConfig says how a node takes part in the election of controllers.
type CandidateConfig struct {
	Lock ControllerLock
	// Dead reports whether a member does not answer when its process itself is
	// asked: it is dead, stands still, or is cut off from here. A controller that is
	// deposed wrongly costs a change of controllers, and no data. Nil: nobody is
	// found dead before Consul says so.
	Dead func(ctx context.Context, m Member) bool
	// Elected is called when this node becomes controller, after the view says
	// so: the controller's actor must run now.
	Elected func()
	Log     *slog.Logger // nil: nobody
}

// Bounds of a candidate.
const (
	// campaignJitter spreads the campaigns of the nodes, so that they do not all
	// ask at the same moment.
	campaignJitter = 20 * time.Millisecond
	campaignLimit  = 5 * time.Second
	probeLimit     = 2 * time.Second
)

// Candidate keeps a node's view of who is controller, campaigns when nobody is,
// and deposes a controller that is found dead.
type Candidate struct {
	lookup   *Lookup
	cfg      CandidateConfig
	holders  chan registry.Holder // newest that was not looked at yet
	suspects chan messages.NodeID
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// StartCandidate lets the node of lookup take part until Stop. The node must be
// registered by then, or its lock does not depend on its health.
func StartCandidate(lookup *Lookup, cfg CandidateConfig) *Candidate {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Elected == nil {
		cfg.Elected = func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Candidate{lookup: lookup, cfg: cfg, cancel: cancel,
		holders: make(chan registry.Holder, 1), suspects: make(chan messages.NodeID, suspectsMax)}
	c.running.Go(func() {
		err := cfg.Lock.Watch(ctx, c.holds)
		if err != nil && ctx.Err() == nil && !errors.Is(err, registry.ErrClosed) {
			cfg.Log.Error("controller lock is not watched any more", slog.Any("error", err))
		}
	})
	c.running.Go(func() { c.run(ctx) })
	return c
}

// Stop ends the candidacy. A controllership stays until its Store is closed.
func (c *Candidate) Stop() {
	c.cancel()
	c.running.Wait()
}

// Suspect has the controller probed if it is this node, and deposed if it is
// dead. It returns at once.
func (c *Candidate) Suspect(n messages.NodeID) {
	select {
	case c.suspects <- n:
	default: // as many suspicions are waiting already
	}
}

// holds takes a holder from the watch, in place of one not looked at yet.
func (c *Candidate) holds(h registry.Holder) {
	select {
	case <-c.holders:
	default:
	}
	c.holders <- h // only this goroutine puts anything in
}

func (c *Candidate) run(ctx context.Context) {
	now := registry.Holder{Node: messages.NoNode}
	campaign := time.NewTimer(time.Hour)
	campaign.Stop()
	defer campaign.Stop()
	retry := retryMin
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-c.holders:
			c.follow(now, h)
			now, retry = h, retryMin
			if h.Node == messages.NoNode {
				campaign.Reset(rand.N(campaignJitter))
			} else {
				campaign.Stop()
			}
		case n := <-c.suspects:
			if n == now.Node && n != c.lookup.Self() {
				c.depose(ctx, now)
			}
		case <-campaign.C:
			if !c.campaign(ctx) {
				campaign.Reset(retry + rand.N(campaignJitter))
				retry = min(2*retry, retryMax)
			}
		}
	}
}

// follow makes h the controller of the view.
func (c *Candidate) follow(before, h registry.Holder) {
	if before.Node == h.Node && h.Node != messages.NoNode {
		return // it campaigned again
	}
	c.lookup.Update(func(v *View) { v.Controller = h.Node })
	c.cfg.Log.Info("controller changed", slog.Int("controller", int(h.Node)),
		slog.Int64("epoch", int64(h.Epoch)))
	if h.Node == c.lookup.Self() {
		c.cfg.Elected()
	}
}

// campaign reports whether somebody is controller now; the watch says who.
func (c *Candidate) campaign(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, campaignLimit)
	defer cancel()
	_, err := c.cfg.Lock.Campaign(ctx, c.lookup.Self())
	if err != nil && !errors.Is(err, registry.ErrHeld) {
		c.cfg.Log.Warn("campaign for the controller lock failed", slog.Any("error", err))
		return false
	}
	return true
}

// depose ends the controllership of h if its node is dead.
func (c *Candidate) depose(ctx context.Context, h registry.Holder) {
	m := c.lookup.View().Member(h.Node)
	if c.cfg.Dead == nil || m == nil {
		return
	}
	probing, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	if !c.cfg.Dead(probing, *m) {
		return
	}
	c.cfg.Log.Warn("controller is dead and is deposed", slog.Int("controller", int(h.Node)),
		slog.Int64("epoch", int64(h.Epoch)))
	deposing, cancelDepose := context.WithTimeout(ctx, campaignLimit)
	defer cancelDepose()
	if err := c.cfg.Lock.Depose(deposing, h); err != nil {
		c.cfg.Log.Warn("controller could not be deposed", slog.Any("error", err))
	}
}
