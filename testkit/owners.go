package testkit

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Owners is who owned which partition of a group when, as the members themselves
// saw it: what they were assigned, gave back, or learned they had lost. Members are
// told apart by names; a static member that is restarted keeps its name. The order
// of the calls is the order of the events. It is safe for concurrent use.
type Owners struct {
	mu       sync.Mutex
	holdings map[place][]holding // in the order they began
	last     time.Time           // of the newest event
	lost     int                 // partitions that members learned they had lost
}

// holding is the time in which a member owned a partition.
type holding struct {
	member     string
	generation int32 // the classic generation, or the member's epoch
	from, to   time.Time
	end        ending
}

// ending is how a member ceased to own a partition.
type ending int

const (
	held    ending = iota // it has not
	revoked               // it gave it back because it was asked to, or left
	lost                  // the group had dropped it, and it found out afterwards
	died                  // it ended without a word
)

func (h *holding) String() string {
	to := "now"
	if h.end != held {
		to = h.to.Format("15:04:05.000")
	}
	return fmt.Sprintf("%s in generation %d (%s to %s)", h.member, h.generation,
		h.from.Format("15:04:05.000"), to)
}

// NewOwners returns a record without an event.
func NewOwners() *Owners { return &Owners{holdings: map[place][]holding{}} }

// Assigned notes that a member was given partitions under a generation.
func (o *Owners) Assigned(member string, generation int32, parts map[string][]int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.event(parts)
	for topic, partitions := range parts {
		for _, p := range partitions {
			at := place{topic, p}
			o.holdings[at] = append(o.holdings[at],
				holding{member: member, generation: generation, from: now})
		}
	}
}

// Revoked notes that a member gave partitions back.
func (o *Owners) Revoked(member string, parts map[string][]int32) {
	o.endAll(member, parts, revoked)
}

// Lost notes that a member found out that the group had dropped it.
func (o *Owners) Lost(member string, parts map[string][]int32) {
	o.endAll(member, parts, lost)
}

// Died notes that a member ended without a word: it owns nothing any more, but the
// group does not know that yet.
func (o *Owners) Died(member string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for at := range o.holdings {
		o.end(member, at, died, now)
	}
}

func (o *Owners) endAll(member string, parts map[string][]int32, how ending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.event(parts)
	for topic, partitions := range parts {
		for _, p := range partitions {
			o.end(member, place{topic, p}, how, now)
		}
	}
}

// event returns the time of an event, which counts if it is about partitions.
func (o *Owners) event(parts map[string][]int32) time.Time {
	now := time.Now()
	for _, partitions := range parts {
		if len(partitions) > 0 {
			o.last = now
		}
	}
	return now
}

func (o *Owners) end(member string, at place, how ending, now time.Time) {
	hs := o.holdings[at]
	for i := len(hs) - 1; i >= 0; i-- {
		if hs[i].member == member && hs[i].end == held {
			hs[i].end, hs[i].to = how, now
			if how == lost {
				o.lost++
			}
			return
		}
	}
}

// Holders returns the members that own a partition of a topic now.
func (o *Owners) Holders(topic string, partition int32) (members []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range o.holdings[place{topic, partition}] {
		if h.end == held {
			members = append(members, h.member)
		}
	}
	return members
}

// Shares returns how many partitions each member owns now; members that own none
// are not in it.
func (o *Owners) Shares() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	shares := map[string]int{}
	for _, hs := range o.holdings {
		for _, h := range hs {
			if h.end == held {
				shares[h.member]++
			}
		}
	}
	return shares
}

// Losses returns how many partitions members learned they had lost. Where nothing
// was harmed there should be none.
func (o *Owners) Losses() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost
}

// LastEvent returns when a partition was last given or taken.
func (o *Owners) LastEvent() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// Untouched returns the partitions of a topic whose one owner has not changed since
// a moment and is the owner now.
func (o *Owners) Untouched(topic string, since time.Time) (partitions []int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for at, hs := range o.holdings {
		last := hs[len(hs)-1]
		if at.topic == topic && last.end == held && last.from.Before(since) {
			partitions = append(partitions, at.partition)
		}
	}
	slices.Sort(partitions)
	return partitions
}

// Check returns an error that lists what is wrong unless
//
//   - no partition was given to two members under one generation;
//   - no partition was given to a member while another owned it, except where that
//     one had died or was about to find out that the group had dropped it: Kafka
//     cannot take anything from a member it does not hear of.
//
// Call it when members that were dropped have had the time to find out.
func (o *Owners) Check() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found violations
	places := slices.SortedFunc(maps.Keys(o.holdings), place.compare)
	for _, at := range places {
		hs := o.holdings[at]
		for i, later := range hs {
			for _, earlier := range hs[:i] {
				if earlier.member == later.member {
					continue
				}
				if earlier.generation == later.generation {
					found.add("shared: %s-%d was given to %v and to %v",
						at.topic, at.partition, &earlier, &later)
				}
				over := earlier.end != held && !earlier.to.After(later.from)
				if !over && earlier.end != lost && earlier.end != died {
					found.add("two owners: %s-%d was given to %v, while it belonged to %v",
						at.topic, at.partition, &later, &earlier)
				}
			}
		}
	}
	return found.err()
}
