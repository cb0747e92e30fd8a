package placement

import (
	"slices"

	"github.com/troupelog/troupe/messages"
)

// Partition is one partition as far as its place matters.
type Partition struct {
	// Topic numbers the topics from 0 on: partitions of one topic are best spread too.
	Topic int
	// Replicas are those it will have when what is under way is done.
	Replicas []messages.NodeID
	// Pinned: it counts, and must not be moved now.
	Pinned bool
}

// Move gives a partition, by its index, other replicas or another order of them.
type Move struct {
	Partition int
	Replicas  []messages.NodeID
	// Copies: a node must get a copy. Otherwise only the order changed.
	Copies bool
}

// Balance returns the next moves towards a cluster where draining nodes hold
// nothing, partitions are spread over racks as far as those allow, and usable
// nodes have equal numbers of replicas and of preferred leaders, give or take one:
// at most `copies` moves that copy data and `orders` that do not, in this order of
// urgency. Replicas on nodes that are fenced or leaving stay where they are: such
// nodes are expected back.
//
// It is deterministic, and made again and again it comes to an end: each move
// takes a replica off a draining node, or puts a partition on one more rack, or
// makes the numbers of replicas more even, or those of leaders, and never undoes
// what stands before it in this list.
func Balance(nodes []messages.Node, parts []Partition, copies, orders int) []Move {
	b := newBalancer(nodes, parts)
	if len(b.usable) == 0 {
		return nil
	}
	b.copies, b.orders = copies, orders
	b.drain()
	b.spreadRacks()
	b.spreadReplicas()
	b.spreadLeaders()
	return b.result()
}

// Drain returns only those moves of Balance that empty draining nodes: everything
// else stays where somebody put it.
func Drain(nodes []messages.Node, parts []Partition, copies, orders int) []Move {
	b := newBalancer(nodes, parts)
	if len(b.usable) == 0 {
		return nil
	}
	b.copies, b.orders = copies, orders
	b.drain()
	return b.result()
}

// balancer holds the assignment as the moves so far leave it. Usable nodes are
// known by their index in usable.
type balancer struct {
	usable   []messages.Node
	rack     map[messages.NodeID]string
	racks    int // distinct ones of the usable nodes
	draining map[messages.NodeID]bool
	parts    []Partition
	replicas []int   // by usable node
	leaders  []int   // by usable node: partitions whose first replica it is
	byTopic  [][]int // replicas by topic and usable node
	copied   map[int]bool
	ordered  map[int]bool
	copies   int // moves left
	orders   int
}

func newBalancer(nodes []messages.Node, parts []Partition) *balancer {
	b := &balancer{
		rack:     map[messages.NodeID]string{},
		draining: map[messages.NodeID]bool{},
		parts:    slices.Clone(parts),
		copied:   map[int]bool{},
		ordered:  map[int]bool{},
	}
	for _, n := range nodes {
		b.rack[n.ID] = n.Rack
		b.draining[n.ID] = n.Draining
		if n.Usable() {
			b.usable = append(b.usable, n)
		}
	}
	slices.SortFunc(b.usable, func(x, y messages.Node) int { return int(x.ID) - int(y.ID) })
	b.racks = rackCount(b.usable)
	b.replicas, b.leaders = make([]int, len(b.usable)), make([]int, len(b.usable))
	for i := range b.parts {
		for len(b.byTopic) <= b.parts[i].Topic {
			b.byTopic = append(b.byTopic, make([]int, len(b.usable)))
		}
		b.count(i, 1)
	}
	return b
}

// count adds a partition to the sums, or takes it off them.
func (b *balancer) count(part, sign int) {
	p := &b.parts[part]
	for pos, r := range p.Replicas {
		if u := b.index(r); u >= 0 {
			b.replicas[u] += sign
			b.byTopic[p.Topic][u] += sign
			if pos == 0 {
				b.leaders[u] += sign
			}
		}
	}
}

// index returns a usable node's index, or -1.
func (b *balancer) index(id messages.NodeID) int {
	i, ok := slices.BinarySearchFunc(b.usable, id,
		func(n messages.Node, id messages.NodeID) int { return int(n.ID) - int(id) })
	if !ok {
		return -1
	}
	return i
}

// put gives a partition other replicas.
func (b *balancer) put(part int, replicas []messages.NodeID) {
	b.count(part, -1)
	b.parts[part].Replicas = replicas
	b.count(part, 1)
}

// replace puts usable node u in the place of a replica.
func (b *balancer) replace(part, pos, u int) {
	next := slices.Clone(b.parts[part].Replicas)
	next[pos] = b.usable[u].ID
	b.put(part, next)
	b.copied[part] = true
	b.copies--
}

// prefer puts the replica at pos first.
func (b *balancer) prefer(part, pos int) {
	next := slices.Clone(b.parts[part].Replicas)
	next[0], next[pos] = next[pos], next[0]
	b.put(part, next)
	b.ordered[part] = true
	b.orders--
}

// movable: one move per partition at a time, or the first would be undone
// half-way.
func (b *balancer) movable(part int) bool {
	return !b.parts[part].Pinned && !b.copied[part]
}

// racksWith counts the racks of a partition if the replica at pos were on
// another node; pos -1 leaves it as it is.
func (b *balancer) racksWith(part, pos int, on messages.NodeID) int {
	replicas := b.parts[part].Replicas
	at := func(i int) string {
		if i == pos {
			return b.rack[on]
		}
		return b.rack[replicas[i]]
	}
	n := 0
	for i := range replicas {
		fresh := true
		for j := range i {
			fresh = fresh && at(j) != at(i)
		}
		if fresh {
			n++
		}
	}
	return n
}

// better finds the usable node that best replaces the replica at pos: on as many
// racks as possible, then with the fewest replicas of all, then of the topic. It
// returns -1 if none can without the partition being on fewer than atLeast racks.
func (b *balancer) better(part, pos, atLeast int) int {
	best, bestRacks := -1, atLeast
	p := &b.parts[part]
	for u := range b.usable {
		id := b.usable[u].ID
		if slices.Contains(p.Replicas, id) {
			continue
		}
		racks := b.racksWith(part, pos, id)
		if racks < bestRacks {
			continue
		}
		if best < 0 || racks > bestRacks || b.less(u, best, p.Topic) {
			best, bestRacks = u, racks
		}
	}
	return best
}

func (b *balancer) less(u, v, topic int) bool {
	if b.replicas[u] != b.replicas[v] {
		return b.replicas[u] < b.replicas[v]
	}
	return b.byTopic[topic][u] < b.byTopic[topic][v]
}

// drain empties draining nodes. A replica that has nowhere to go stays, but is no
// preferred leader.
func (b *balancer) drain() {
	for part := range b.parts {
		for pos, r := range b.parts[part].Replicas {
			if !b.draining[r] || !b.movable(part) {
				continue
			}
			if u := b.better(part, pos, 0); u >= 0 {
				if b.copies > 0 {
					b.replace(part, pos, u)
				}
				continue
			}
			if pos == 0 && b.orders > 0 {
				if to := b.leastLeading(part); to > 0 {
					b.prefer(part, to)
				}
				break // the others stand elsewhere now; the next step sees to them
			}
		}
	}
}

// leastLeading finds the replica of a partition on the usable node that leads
// the fewest, or returns 0.
func (b *balancer) leastLeading(part int) int {
	best, least := 0, 0
	for pos, r := range b.parts[part].Replicas {
		if u := b.index(r); u >= 0 && (best == 0 || b.leaders[u] < least) {
			best, least = pos, b.leaders[u]
		}
	}
	return best
}

// spreadRacks puts partitions on more racks where there are more.
func (b *balancer) spreadRacks() {
	if b.racks < 2 {
		return
	}
	for part := range b.parts {
		replicas := b.parts[part].Replicas
		racks := b.racksWith(part, -1, 0)
		if racks >= min(len(replicas), b.racks) {
			continue
		}
		for pos := len(replicas) - 1; pos >= 0 && b.copies > 0 && b.movable(part); pos-- {
			if b.index(replicas[pos]) < 0 {
				continue
			}
			if u := b.better(part, pos, racks+1); u >= 0 {
				b.replace(part, pos, u)
			}
		}
	}
}

// result lists the partitions that changed, by index.
func (b *balancer) result() []Move {
	var moves []Move
	for part := range b.parts {
		if b.copied[part] || b.ordered[part] {
			moves = append(moves, Move{
				Partition: part, Replicas: b.parts[part].Replicas, Copies: b.copied[part],
			})
		}
	}
	return moves
}
