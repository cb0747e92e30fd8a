package coordinator

import (
	"maps"
	"slices"
	"sync"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// txnEnds knows which members of a shard hold offsets of transactions that are not
// over, so that they can be told of their markers. Its methods may be called by any
// goroutine.
type txnEnds struct {
	mu   sync.Mutex
	open map[messages.ProducerID]map[string]bool
	late []*group.TxnEnded // that came while the partition was being replayed
	// replaying: ends of transactions go to late.
	replaying bool
}

// shut forgets everything until the partition is replayed.
func (e *txnEnds) shut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.replaying, e.late = true, nil
	e.open = map[messages.ProducerID]map[string]bool{}
}

// loaded takes over what the replay found and returns the ends that came meanwhile.
func (e *txnEnds) loaded(open map[messages.ProducerID]map[string]bool) (late []*group.TxnEnded) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open, e.replaying = open, false
	late, e.late = e.late, nil
	return late
}

// begun notes that a member's offsets are in the log as part of a transaction. It is
// called in the order of the log, as ended is: a marker that was written before, or
// is written again, does not end a transaction that comes after it.
func (e *txnEnds) begun(producer messages.ProducerID, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open[producer] == nil {
		e.open[producer] = map[string]bool{}
	}
	e.open[producer][id] = true
}

// ended returns the members that are to be told, by id.
func (e *txnEnds) ended(m *group.TxnEnded) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.replaying {
		e.late = append(e.late, m)
		return nil
	}
	ids := slices.Sorted(maps.Keys(e.open[m.Producer]))
	delete(e.open, m.Producer)
	return ids
}
