package topics

import (
	"slices"

	"github.com/troupelog/troupe/messages"
)

// Health counts what is not as it should be.
type Health struct {
	Partitions      int
	UnderReplicated int // fewer in-sync replicas than replicas
	UnderMinISR     int // acks=all is refused
	Leaderless      int // nobody leads: neither read nor written
	Offline         int // of Leaderless: no replica is on a live node
	Reassigning     int
	NotPreferred    int // led, but not by the first replica
}

// Health looks at every partition.
func (s *State) Health() Health {
	var h Health
	p := s.Plan()
	count := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	for _, t := range s.image.Topics() {
		r := p.rules(t)
		for i := range t.Partitions {
			part := &t.Partitions[i]
			leaderless := part.Leader == messages.NoNode
			h.Partitions++
			count(&h.UnderReplicated, len(without(part.Target(), part.ISR...)) > 0)
			count(&h.UnderMinISR, len(part.ISR) < r.effective(part))
			count(&h.Leaderless, leaderless)
			count(&h.Offline, leaderless && !slices.ContainsFunc(part.Replicas, p.alive))
			count(&h.Reassigning, part.Reassigning())
			count(&h.NotPreferred, !leaderless && part.Leader != part.Replicas[0])
		}
	}
	return h
}
