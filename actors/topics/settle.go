package topics

import (
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
)

// rules are the settings of a topic that decide who may lead its partitions.
type rules struct {
	minISR  int
	unclean bool
}

// rules returns the settings of a topic as the plan leaves them.
func (p *Plan) rules(t *messages.Topic) rules {
	r, known := p.ruled[t.ID]
	if !known {
		r = p.findRules(t)
		p.ruled[t.ID] = r
	}
	return r
}

// findRules computes them. A node may have a min.insync.replicas of its own: the
// lowest counts, because any of them may lead and acknowledge by it.
func (p *Plan) findRules(t *messages.Topic) rules {
	all := p.nodeConfigs()
	d := configs.DurabilityOf(func(name string) string {
		if v, ok := all[messages.NoNode][name]; ok {
			return v
		}
		if p.state.defaults.Setting != nil {
			return p.state.defaults.Setting(name)
		}
		return ""
	}, t.Configs)
	r := rules{minISR: d.MinInsyncReplicas, unclean: d.UncleanLeaderElection}
	for _, node := range slices.Sorted(maps.Keys(all)) {
		own := func(name string) string { return all[node][name] }
		if node != messages.NoNode && own("min.insync.replicas") != "" {
			r.minISR = min(r.minISR, configs.DurabilityOf(own, t.Configs).MinInsyncReplicas)
		}
	}
	return r
}

// reconsider settles partitions after the rules of their topics changed from
// before. With a lower min.insync.replicas a high watermark that stood still may
// move on, so that no one outside the in-sync set is eligible any more. With a
// higher one, proposals under way are void: a leader that does not know of it
// would go on acknowledging what those that it drops, who are eligible now, lack.
// With unclean elections a leaderless partition gets a leader.
func (p *Plan) reconsider(topics []*messages.Topic, before map[messages.TopicID]rules) {
	clear(p.ruled)
	p.each(topics, func(t *messages.Topic, _ int, old *messages.Partition) *change {
		c := p.begin(t, old)
		c.void = old.Leader != messages.NoNode &&
			c.rules.effective(old) > before[t.ID].effective(old)
		return c
	})
}

// allRules returns the rules of topics.
func (p *Plan) allRules(topics []*messages.Topic) map[messages.TopicID]rules {
	all := map[messages.TopicID]rules{}
	for _, t := range topics {
		all[t.ID] = p.rules(t)
	}
	return all
}

func (p *Plan) nodeConfigs() map[messages.NodeID]messages.Config {
	if p.configs != nil {
		return p.configs
	}
	return p.state.image.NodeConfigs
}

// effective is the least number of in-sync replicas with which a partition
// acknowledges and moves its high watermark: no more than it has replicas.
func (r rules) effective(part *messages.Partition) int {
	return min(r.minISR, len(part.Target()))
}

// change is a change to one partition that is being decided.
type change struct {
	plan  *Plan
	rules rules
	old   *messages.Partition
	// next is the partition afterwards. Its ELR is, until settle cuts it down,
	// everyone who has all that was acknowledged.
	next messages.Partition
	// preferred moves the leadership to the first replica if that one is in sync.
	preferred bool
	// renewed is a node that was registered again: if it leads, then under a new
	// epoch.
	renewed messages.NodeID
	// void makes proposals under way void even if nothing else changes.
	void bool
}

// begin starts a change of a partition of t.
func (p *Plan) begin(t *messages.Topic, old *messages.Partition) *change {
	c := &change{plan: p, rules: p.rules(t), old: old, next: *old, renewed: messages.NoNode}
	c.next.ELR = with(old.ISR, old.ELR)
	return c
}

// lost says that a replica no longer has all it acknowledged.
func (c *change) lost(n messages.NodeID) {
	c.next.ISR, c.next.ELR = without(c.next.ISR, n), without(c.next.ELR, n)
}

// settle makes a partition of which the replicas, the in-sync set or the nodes
// changed whole again: a reassignment that is done is completed, the eligible
// replicas follow from the in-sync ones, the best leader is elected, and epochs
// grow. changed is false when all is as it was.
func (c *change) settle() (next messages.Partition, changed bool) {
	c.complete()
	c.cutELR()
	c.elect()
	if c.next.Reassigning() { // the election may have filled an empty in-sync set
		c.complete()
		c.cutELR()
		c.elect()
	}
	old, n := c.old, &c.next
	if sameNodes(n.ISR, old.ISR) {
		n.ISR = old.ISR
	}
	taken := slices.ContainsFunc(old.Replicas, func(r messages.NodeID) bool {
		return !slices.Contains(n.Replicas, r)
	})
	renewed := n.Leader != messages.NoNode && n.Leader == c.renewed
	// A replica that was taken away must stop fetching: the epoch tells it.
	if n.Leader != old.Leader || renewed || taken {
		n.LeaderEpoch = old.LeaderEpoch + 1
	}
	if !c.void && n.LeaderEpoch == old.LeaderEpoch && slices.Equal(n.Replicas, old.Replicas) &&
		slices.Equal(n.ISR, old.ISR) && sameNodes(n.ELR, old.ELR) &&
		slices.Equal(n.Adding, old.Adding) && slices.Equal(n.Removing, old.Removing) {
		return *old, false
	}
	n.PartitionEpoch = old.PartitionEpoch + 1
	return *n, true
}

// complete ends a reassignment once every added replica is in sync, unless only
// replicas that it takes away are.
func (c *change) complete() {
	n := &c.next
	if !n.Reassigning() {
		return
	}
	for _, r := range n.Adding {
		if !slices.Contains(n.ISR, r) {
			return
		}
	}
	left := without(n.ISR, n.Removing...)
	if len(left) == 0 {
		return
	}
	n.Replicas, n.ISR = n.Target(), left
	n.Adding, n.Removing = nil, nil
}

// cutELR leaves those eligible who are replicas outside the in-sync set, and no
// one once the in-sync set is large enough to move the high watermark on.
func (c *change) cutELR() {
	n := &c.next
	candidates := n.ELR
	n.ELR = nil
	if len(n.ISR) >= c.rules.effective(n) {
		return
	}
	for _, r := range n.Replicas {
		if slices.Contains(candidates, r) && !slices.Contains(n.ISR, r) {
			n.ELR = append(n.ELR, r)
		}
	}
}

// with returns the union of two lists, in their order.
func with(a, b []messages.NodeID) []messages.NodeID {
	out := slices.Clone(a)
	for _, n := range b {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// without returns a list that lacks some nodes; the list itself is not changed.
func without(list []messages.NodeID, gone ...messages.NodeID) []messages.NodeID {
	return slices.DeleteFunc(slices.Clone(list), func(n messages.NodeID) bool {
		return slices.Contains(gone, n)
	})
}

// sameNodes reports whether two lists have the same nodes in any order.
func sameNodes(a, b []messages.NodeID) bool {
	return len(a) == len(b) && len(without(a, b...)) == 0
}
