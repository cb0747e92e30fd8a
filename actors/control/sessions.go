package control

import (
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
)

// missedBeats is how many heartbeats a node may be silent for before it is probed.
const missedBeats = 3

// probeLost is when a probe without an outcome is believed to have none.
const probeLost = 5 * time.Second

// session is what a controller knows of the life of a node that is not fenced.
type session struct {
	epoch   messages.NodeEpoch
	heard   time.Time                // its last heartbeat, or when waiting for one began
	version messages.MetadataVersion // newest it said it had applied
	met     bool                     // it was heard by this controller
	member  bool                     // the membership has shown it
	probing bool
	probed  time.Time // when the latest probe began
	// left is the version in which its leaderships had moved away; 0: it does
	// not leave, or they have not.
	left messages.MetadataVersion
}

// Outcome is how a probe of a node ended.
type Outcome int8

// The outcomes of a probe.
const (
	Alive   Outcome = iota // it answered
	Silent                 // no answer in time
	Refused                // nothing listens there: the process is gone
)

// tick is how often the sessions are looked at.
func (c *Controller) tick() time.Duration {
	return max(time.Millisecond, millis(c.cfg.Settings, "broker.heartbeat.interval.ms")/2)
}

// meetNodes starts the sessions of a new controllership. Nodes have a full
// session timeout to be heard; those that died together with the last controller
// are found by a probe at once.
func (c *Controller) meetNodes(now time.Time) {
	clear(c.sessions)
	c.ticked, c.balanceAt = now, now.Add(balanceDelay)
	c.followNodes(now)
	if c.cfg.Members == nil {
		return
	}
	for _, n := range c.state.Image().Live() {
		if n.ID != c.cfg.Self {
			c.probe(now, n.ID)
		}
	}
}

// followNodes keeps one session for each registration that is in force.
func (c *Controller) followNodes(now time.Time) {
	live := map[messages.NodeID]bool{}
	for _, n := range c.state.Image().Nodes {
		if n.Fenced {
			continue
		}
		live[n.ID] = true
		if s := c.sessions[n.ID]; s == nil || s.epoch != n.Epoch {
			c.sessions[n.ID] = &session{epoch: n.Epoch, heard: now}
		}
	}
	for id := range c.sessions {
		if !live[id] {
			delete(c.sessions, id)
		}
	}
}

// register takes a node into the cluster, or finds that the same life of it is in.
func (c *Controller) register(now time.Time, r *messages.Registration, a *Answer) {
	p := c.state.Plan()
	epoch := messages.NodeEpoch(c.state.Image().Version + 1)
	if a.Err = p.Register(*r, epoch); a.Err != nil {
		return
	}
	if !p.Empty() {
		if a.Err = c.commit(now, p); a.Err != nil {
			return
		}
		c.log.Info().Int32("node", int32(r.Node.ID)).Str("host", r.Node.Host).
			Int32("port", r.Node.Port).Bool("unclean", r.Unclean).Int("lost", len(r.Lost)).
			Msg("node registered")
		c.balanceSoon(now)
	}
	a.Snapshot = snapshot(c.state.Image())
	if s := c.sessions[r.Node.ID]; s != nil {
		s.met, s.heard, s.probing = true, now, false
	}
}

// heartbeat keeps a node's session, and answers with the metadata that it lacks.
func (c *Controller) heartbeat(now time.Time, h *messages.Heartbeat, a *Answer) {
	im := c.state.Image()
	if h.Version > im.Version {
		// Somebody wrote under a newer epoch: this one is an activation too many.
		a.Err = c.lost(now, fmt.Errorf("node %d has metadata version %d, this controller %d: %w",
			h.Node, h.Version, im.Version, messages.ErrFencedController))
		return
	}
	if a.Err = c.checkEpoch(h.Node, h.Epoch); a.Err != nil {
		return
	}
	s := c.sessions[h.Node]
	first := !s.met
	s.met, s.heard, s.version = true, now, h.Version
	a.Heartbeat = &messages.HeartbeatReply{}
	if h.Leave {
		if a.Heartbeat.MayStop, a.Err = c.leave(now, h.Node, s); a.Err != nil {
			return
		}
	}
	a.Heartbeat.Update = c.update(h.Version, first)
}

// update is what takes a node from a version to the newest one. A node that is
// heard for the first time learns of the controller even if nothing else is new.
func (c *Controller) update(v messages.MetadataVersion, first bool) *messages.Delta {
	im := c.state.Image()
	switch {
	case v < im.Version:
		if d := c.past.since(v); d != nil {
			return d
		}
		return snapshot(im)
	case first:
		return &messages.Delta{From: v, To: v, ControllerEpoch: im.ControllerEpoch,
			Controller: im.Controller, ClusterID: im.ClusterID}
	}
	return nil
}

// leave moves the leaderships of a node away. It may stop once all that can move
// has moved and every live node knows; it is fenced then, so that nobody waits
// for it.
func (c *Controller) leave(now time.Time, n messages.NodeID, s *session) (bool, error) {
	if c.cfg.Members == nil {
		return true, nil
	}
	p := c.state.Plan()
	waits := p.Leave(n)
	moves := !p.Empty()
	if err := c.commit(now, p); err != nil {
		return false, err
	}
	if moves || s.left == 0 {
		s.left = c.state.Image().Version
	}
	if waits > 0 {
		return false, nil
	}
	for id, o := range c.sessions {
		if id != n && o.met && o.version < s.left && now.Sub(o.heard) < c.silence() {
			return false, nil
		}
	}
	return true, c.fence(now, []messages.NodeID{n}, "it is stopped")
}

// silence is how long a node may be silent before it is probed.
func (c *Controller) silence() time.Duration {
	return missedBeats * millis(c.cfg.Settings, "broker.heartbeat.interval.ms")
}

// checkSessions fences the nodes that the membership dropped or that were not
// heard for too long, and probes those that have been silent for some time.
func (c *Controller) checkSessions(now time.Time) {
	late := now.Sub(c.ticked) - c.tick()
	c.ticked = now
	if late > c.silence()/2 {
		// This process stood still, or the clock jumped: what nodes sent
		// meanwhile waits behind this call.
		for _, s := range c.sessions {
			s.heard = now
		}
		return
	}
	members := c.cfg.Members()
	timeout := max(c.silence(), millis(c.cfg.Settings, "broker.session.timeout.ms"))
	var dropped, expired []messages.NodeID
	for _, n := range c.state.Image().Nodes {
		s := c.sessions[n.ID]
		if s == nil || n.ID == c.cfg.Self { // this process is alive
			continue
		}
		shown := slices.Contains(members, n.ID)
		silent := now.Sub(s.heard)
		switch {
		case s.member && !shown:
			dropped = append(dropped, n.ID)
		case silent >= timeout:
			expired = append(expired, n.ID)
		case silent >= c.silence() && now.Sub(s.probed) >= c.silence():
			c.probe(now, n.ID)
		}
		s.member = shown
	}
	if c.fence(now, dropped, "the membership dropped it") == nil && c.state != nil {
		_ = c.fence(now, expired, "no heartbeat within broker.session.timeout.ms") // logged
	}
}

// suspect has a node probed that somebody holds for dead.
func (c *Controller) suspect(now time.Time, m *messages.Suspicion) {
	s := c.sessions[m.Suspect]
	current := s != nil && (s.epoch == m.Epoch || m.Epoch == messages.NoNodeEpoch)
	if current && c.cfg.Members != nil && m.Suspect != c.cfg.Self {
		c.probe(now, m.Suspect)
	}
}

func (c *Controller) probe(now time.Time, n messages.NodeID) {
	if s := c.sessions[n]; !s.probing || now.Sub(s.probed) >= probeLost {
		s.probing, s.probed = true, now
		c.out.Probe(n, s.epoch)
	}
}

// Probed is the outcome of a probe. A node whose process is gone is fenced at
// once; one that does not answer, unless it was heard meanwhile.
func (c *Controller) Probed(
	now time.Time, n messages.NodeID, epoch messages.NodeEpoch, outcome Outcome,
) {
	s := c.sessions[n]
	if c.state == nil || s == nil || s.epoch != epoch || !s.probing {
		return
	}
	s.probing = false
	switch {
	case outcome == Refused:
		_ = c.fence(now, []messages.NodeID{n}, "its process is gone") // logged
	case outcome == Silent && !s.heard.After(s.probed):
		_ = c.fence(now, []messages.NodeID{n}, "it does not answer a probe") // logged
	}
}

// fence takes nodes out of every in-sync set and elects other leaders: one plan.
//
// docs/flows/replication.md: leader 1.
func (c *Controller) fence(now time.Time, nodes []messages.NodeID, why string) error {
	p := c.state.Plan()
	for _, n := range nodes {
		p.Fence(n)
	}
	if p.Empty() {
		return nil
	}
	for _, n := range nodes {
		c.log.Warn().Int32("node", int32(n)).Str("reason", why).Msg("node is fenced")
	}
	return c.commit(now, p)
}
