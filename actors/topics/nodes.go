package topics

import (
	"fmt"
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// Register decides that a node is alive, with this process as its incarnation.
// epoch becomes its epoch: the version this plan will be committed as.
//
// What the node led goes to another in-sync replica, or stays under a new leader
// epoch if there is none: what its earlier life had not made durable may be gone,
// and clients that read it must be able to tell (KIP-320). It returns to the
// in-sync sets by fetching. Leaderless partitions that it has all of get it as
// their leader. A replica that lost records is out of the in-sync and eligible
// ones at once (KIP-966), unless it is the only one the partition has.
//
// The same incarnation may register again and again: only its address and rack
// are taken over, and the epoch stays. It fails with messages.ErrDuplicateNode if
// a live node of other data has the id, and messages.ErrInvalidRequest if the
// node could not be reached.
func (p *Plan) Register(r messages.Registration, epoch messages.NodeEpoch) error {
	n := r.Node
	if n.ID < 0 || n.Host == "" || n.Port < 0 || n.Port > 65535 {
		return fmt.Errorf("node %d at %q port %d: a node needs an id from 0 on and an address: %w",
			n.ID, n.Host, n.Port, messages.ErrInvalidRequest)
	}
	n.Epoch, n.Fenced, n.Leaving, n.Draining = epoch, false, false, false
	unclean := r.Unclean
	if old := p.node(n.ID); old != nil {
		known := old.Directory != "" && n.Directory != ""
		other := known && !messages.SharesData(old.Directory, n.Directory)
		again := n.Incarnation != "" && old.Incarnation == n.Incarnation
		n.Draining = old.Draining
		switch {
		case !old.Fenced && other && !again:
			return fmt.Errorf("node %d is alive at %s:%d with other data: stop it, or give this "+
				"node an id of its own: %w", n.ID, old.Host, old.Port, messages.ErrDuplicateNode)
		case !old.Fenced && !old.Leaving && again:
			n.Epoch = old.Epoch
			p.putNode(n)
			return nil
		}
		unclean = unclean || known && messages.LacksData(old.Directory, n.Directory)
	}
	p.putNode(n)
	p.rejoin(n.ID, func(id messages.PartitionID) bool {
		return unclean || slices.Contains(r.Lost, id)
	})
	return nil
}

// rejoin decides what the new registration of a node means to its replicas.
func (p *Plan) rejoin(n messages.NodeID, lost func(messages.PartitionID) bool) {
	p.each(p.all(), func(t *messages.Topic, i int, old *messages.Partition) *change {
		inSync, eligible := slices.Contains(old.ISR, n), slices.Contains(old.ELR, n)
		leaderless := old.Leader == messages.NoNode && slices.Contains(old.Replicas, n)
		if !inSync && !eligible && !leaderless {
			return nil
		}
		c := p.begin(t, old)
		c.renewed = n
		others := func(r messages.NodeID) bool { return r != n && p.mayLead(r) }
		switch {
		case lost(messages.PartitionID{Topic: t.ID, Partition: int32(i)}) && !c.only(n):
			c.lost(n)
		case inSync && slices.ContainsFunc(old.ISR, others):
			c.next.ISR = without(c.next.ISR, n)
		}
		return c
	})
}

// only reports whether a partition has no other replica, but for those being
// added that have not caught up.
func (c *change) only(n messages.NodeID) bool {
	return !slices.ContainsFunc(c.next.Replicas, func(r messages.NodeID) bool {
		return r != n && (c.has(r) || !slices.Contains(c.next.Adding, r))
	})
}

// Fence decides that a node is dead or not to be trusted: it is out of every
// in-sync set, and what it led is led by others. Where no one can, the partition
// is leaderless and the node stays eligible: it leads again when it is back.
//
// docs/flows/replication.md: leader 2.
func (p *Plan) Fence(n messages.NodeID) {
	node := p.node(n)
	if node == nil || node.Fenced {
		return
	}
	fenced := *node
	fenced.Fenced = true
	p.putNode(fenced)
	p.each(p.all(), func(t *messages.Topic, _ int, old *messages.Partition) *change {
		if !slices.Contains(old.ISR, n) && old.Leader != n {
			return nil
		}
		c := p.begin(t, old)
		c.next.ISR = without(c.next.ISR, n)
		return c
	})
}

// Heal puts right what a plan left behind of which only a part was stored: dead
// nodes that are in sync, in-sync replicas without a leader. The controller asks
// for it when it has loaded its state.
func (p *Plan) Heal() {
	p.each(p.all(), func(t *messages.Topic, _ int, old *messages.Partition) *change {
		dead := func(n messages.NodeID) bool { return !p.alive(n) }
		led := old.Leader != messages.NoNode && slices.Contains(old.ISR, old.Leader)
		if !slices.ContainsFunc(old.ISR, dead) && led == (len(old.ISR) > 0) {
			return nil
		}
		c := p.begin(t, old)
		c.next.ISR = slices.DeleteFunc(slices.Clone(old.ISR), dead)
		return c
	})
}

// Leave decides on a controlled shutdown: the node's leaderships go to other
// in-sync replicas where there are any, and it is out of those in-sync sets, so
// that no one waits for it. It returns how many partitions are worth waiting for:
// the node leads them still, and another live replica may yet catch up and take
// over. What has no such replica is leaderless until the node is back. Asking
// again tries again.
func (p *Plan) Leave(n messages.NodeID) (leads int) {
	node := p.node(n)
	if node == nil || node.Fenced {
		return 0
	}
	if !node.Leaving {
		leaving := *node
		leaving.Leaving = true
		p.putNode(leaving)
	}
	p.each(p.all(), func(t *messages.Topic, _ int, old *messages.Partition) *change {
		switch {
		case !slices.Contains(old.ISR, n):
			return nil
		case slices.ContainsFunc(old.ISR, p.mayLead): // not n, now
			c := p.begin(t, old)
			c.next.ISR = without(c.next.ISR, n)
			return c
		case old.Leader == n && slices.ContainsFunc(old.Replicas, p.mayLead):
			leads++
		}
		return nil
	})
	return leads
}

// drainSetting is Node.Draining as a setting of the node, through which clients
// of Kafka's protocol see and change it: the two are never apart.
const drainSetting = "node.drain"

// SetDraining decides whether a node is to be emptied. Balance does the work. It
// fails with messages.ErrUnknownNode.
func (p *Plan) SetDraining(n messages.NodeID, on bool) error {
	if p.node(n) == nil {
		return fmt.Errorf("node %d: %w", n, messages.ErrUnknownNode)
	}
	p.setDraining(n, on)
	if (p.nodeConfigs()[n][drainSetting] == "true") != on {
		all := p.ownConfigs()
		own := maps.Clone(all[n])
		if own == nil {
			own = messages.Config{}
		}
		if own[drainSetting] = "true"; !on {
			delete(own, drainSetting)
		}
		all[n], p.configs = own, all
	}
	return nil
}

func (p *Plan) setDraining(n messages.NodeID, on bool) {
	if node := p.node(n); node.Draining != on {
		changed := *node
		changed.Draining = on
		p.putNode(changed)
	}
}

// Unregister decides to forget a node. It fails with messages.ErrUnknownNode, and
// with messages.ErrInvalidRequest while the node lives or has replicas.
func (p *Plan) Unregister(n messages.NodeID) error {
	node := p.node(n)
	if node == nil {
		return fmt.Errorf("node %d: %w", n, messages.ErrUnknownNode)
	}
	if !node.Fenced {
		return fmt.Errorf("node %d is alive: stop it first: %w", n, messages.ErrInvalidRequest)
	}
	for _, t := range p.all() {
		for i := range t.Partitions {
			if slices.Contains(t.Partitions[i].Replicas, n) {
				return fmt.Errorf("node %d has a replica of %s-%d: drain it first: %w",
					n, t.Name, i, messages.ErrInvalidRequest)
			}
		}
	}
	// The next node of that id is another one.
	if err := p.SetDraining(n, false); err != nil {
		return err
	}
	p.nodes = slices.DeleteFunc(slices.Clone(p.nodeSet()),
		func(o messages.Node) bool { return o.ID == n })
	return nil
}

// each lets f decide about every partition of some topics; f returns nil for one
// that it does not touch. It sees the partitions as they were.
func (p *Plan) each(
	topics []*messages.Topic, f func(*messages.Topic, int, *messages.Partition) *change,
) {
	for _, t := range topics {
		for i := range t.Partitions {
			if c := f(t, i, &t.Partitions[i]); c != nil {
				if next, changed := c.settle(); changed {
					p.set(t, i, next)
				}
			}
		}
	}
}

// nodeSet returns the nodes as the plan leaves them, by id.
func (p *Plan) nodeSet() []messages.Node {
	if p.nodes != nil {
		return p.nodes
	}
	return p.state.image.Nodes
}

// node returns a registered node as the plan leaves it, or nil.
func (p *Plan) node(id messages.NodeID) *messages.Node {
	nodes := p.nodeSet()
	i, ok := slices.BinarySearchFunc(nodes, id, compareNode)
	if !ok {
		return nil
	}
	return &nodes[i]
}

func compareNode(n messages.Node, id messages.NodeID) int { return int(n.ID) - int(id) }

func (p *Plan) putNode(n messages.Node) {
	if old := p.node(n.ID); old != nil && *old == n {
		return
	}
	nodes := slices.Clone(p.nodeSet())
	i, ok := slices.BinarySearchFunc(nodes, n.ID, compareNode)
	if ok {
		nodes[i] = n
	} else {
		nodes = slices.Insert(nodes, i, n)
	}
	p.nodes = nodes
}

func (p *Plan) mayLead(id messages.NodeID) bool {
	n := p.node(id)
	return n != nil && n.MayLead()
}

func (p *Plan) alive(id messages.NodeID) bool {
	n := p.node(id)
	return n != nil && !n.Fenced
}

// usable returns the nodes that take new replicas.
func (p *Plan) usable() []messages.Node {
	return slices.DeleteFunc(slices.Clone(p.nodeSet()), func(n messages.Node) bool {
		return !n.Usable()
	})
}

// ReserveProducerIDs decides to hand the next block of producer ids to a node
// and returns its first; the block has ProducerIDBlock ids.
func (p *Plan) ReserveProducerIDs() messages.ProducerID {
	first := p.nextID
	p.nextID += ProducerIDBlock
	return first
}
