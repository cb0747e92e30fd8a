package placement

import (
	"slices"
)

// hop takes something of one partition from one usable node to another: a
// replica, or the first place.
type hop struct {
	part     int // -1: there is no such hop
	from, to int
}

// spreadReplicas makes the numbers of replicas equal. A replica goes from the
// fullest node to the emptiest one, or, where racks do not allow that, along a
// chain of nodes, each of which passes on one.
func (b *balancer) spreadReplicas() {
	for b.copies > 0 {
		path := b.path(b.replicas, b.copies, b.replicaHop)
		if path == nil {
			return
		}
		for _, h := range path {
			pos := slices.Index(b.parts[h.part].Replicas, b.usable[h.from].ID)
			b.replace(h.part, pos, h.to)
		}
	}
}

// spreadLeaders makes the numbers of preferred leaders equal, without any copy.
func (b *balancer) spreadLeaders() {
	for b.orders > 0 {
		path := b.path(b.leaders, b.orders, b.leaderHop)
		if path == nil {
			return
		}
		for _, h := range path {
			pos := slices.Index(b.parts[h.part].Replicas, b.usable[h.to].ID)
			b.prefer(h.part, pos)
		}
	}
}

// replicaHop finds the partition whose replica best moves from one node to
// another: not to fewer racks, best of a topic that the one has more of than the
// other, and its leader only if that evens leaders out.
func (b *balancer) replicaHop(from, to int) int {
	best, bestScore := -1, 0
	wantLeader := b.leaders[from]-b.leaders[to] >= 2
	source, target := b.usable[from].ID, b.usable[to].ID
	for part := range b.parts {
		p := &b.parts[part]
		pos := slices.Index(p.Replicas, source)
		if pos < 0 || !b.movable(part) || slices.Contains(p.Replicas, target) {
			continue
		}
		score := 2 * (b.byTopic[p.Topic][from] - b.byTopic[p.Topic][to])
		if (pos == 0) == wantLeader {
			score++
		}
		if best >= 0 && score <= bestScore {
			continue
		}
		if b.racks > 1 && b.racksWith(part, pos, target) < b.racksWith(part, -1, 0) {
			continue
		}
		best, bestScore = part, score
	}
	return best
}

// leaderHop finds a partition that the one node leads and the other has too.
func (b *balancer) leaderHop(from, to int) int {
	source, target := b.usable[from].ID, b.usable[to].ID
	for part := range b.parts {
		p := &b.parts[part]
		if p.Replicas[0] == source && !p.Pinned && !b.copied[part] && !b.ordered[part] &&
			slices.Contains(p.Replicas, target) {
			return part
		}
	}
	return -1
}

// path finds the shortest chain of hops, no longer than longest, from a node to
// one that has at least two less; between the most unequal nodes first. nil means
// that there is none: the sums are as even as can be.
func (b *balancer) path(sums []int, longest int, find func(from, to int) int) []hop {
	order := make([]int, len(sums)) // nodes from the fullest to the emptiest
	for u := range order {
		order[u] = u
	}
	slices.SortStableFunc(order, func(x, y int) int { return sums[y] - sums[x] })
	last := len(order) - 1
	if sums[order[0]]-sums[order[last]] < 2 {
		return nil
	}
	if part := find(order[0], order[last]); part >= 0 { // as good as always
		return []hop{{part, order[0], order[last]}}
	}
	edges := b.edges(find)
	for _, from := range order {
		for i := last; i >= 0 && sums[from]-sums[order[i]] >= 2; i-- {
			if p := shortest(edges, from, order[i]); p != nil && len(p) <= longest {
				return p
			}
		}
	}
	return nil
}

// edges finds a hop between any two nodes.
func (b *balancer) edges(find func(from, to int) int) [][]hop {
	edges := make([][]hop, len(b.usable))
	for from := range edges {
		edges[from] = make([]hop, len(b.usable))
		for to := range edges[from] {
			edges[from][to] = hop{-1, from, to}
			if from != to {
				edges[from][to].part = find(from, to)
			}
		}
	}
	return edges
}

// shortest is a search in breadth. A chain that would need one partition twice is
// none.
func shortest(edges [][]hop, from, to int) []hop {
	came := map[int]hop{}
	queue := []int{from}
	for len(queue) > 0 && queue[0] != to {
		u := queue[0]
		queue = queue[1:]
		for v, h := range edges[u] {
			if _, seen := came[v]; h.part >= 0 && v != from && !seen {
				came[v] = h
				queue = append(queue, v)
			}
		}
	}
	if len(queue) == 0 {
		return nil
	}
	var path []hop
	for u := to; u != from; u = came[u].from {
		if slices.ContainsFunc(path, func(h hop) bool { return h.part == came[u].part }) {
			return nil
		}
		path = append(path, came[u])
	}
	return path
}
