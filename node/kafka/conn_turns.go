package kafka

import (
	"sync"
	"time"

	"github.com/troupelog/troupe/messages/data"
)

// turnsMax is how many partitions the reader runs itself; workers run what is more.
const turnsMax = 8

// turnsWait is how long the others wait for the partition that the reader runs. Its disk
// is slow then or stands still, and theirs may be another: workers run them, and the
// writer sends the answers that the reader would send.
const turnsWait = 5 * time.Millisecond

// turns are the partitions that a connection's appends woke. They handle nothing, for
// other clients neither, until somebody runs them. The reader adds to them and runs
// them.
type turns struct {
	mu   sync.Mutex
	list []data.Turn // oldest first
	slow func()      // called, from any goroutine, when the reader is stuck in one
	late *time.Timer // for what waits too long; nil until it is needed
}

// add is what appends call (data.Append.Turns).
func (t *turns) add(turn data.Turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, turn)
}

// run runs all of them, or leaves them to workers. None is left, whatever happens.
func (t *turns) run() {
	if t.leave(turnsMax) == 0 {
		return
	}
	defer t.leave(0)
	if t.late == nil {
		t.late = time.AfterFunc(turnsWait, t.stuck)
	} else {
		t.late.Reset(turnsWait)
	}
	defer t.late.Stop()
	for turn := t.next(); turn != nil; turn = t.next() {
		turn.Take()
	}
}

// stuck leaves to workers what waits for the reader. It may come too late and find what
// was added since, or nothing.
func (t *turns) stuck() {
	t.leave(0)
	t.slow()
}

// next takes out the oldest; nil if there is none.
func (t *turns) next() data.Turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) == 0 {
		return nil
	}
	turn := t.list[0]
	kept := copy(t.list, t.list[1:])
	t.list[kept] = nil
	t.list = t.list[:kept]
	return turn
}

// leave leaves to workers all but the oldest, at most most of them. It returns how many
// those are.
func (t *turns) leave(most int) int {
	for {
		turn, kept := t.last(most)
		if turn == nil {
			return kept
		}
		turn.Leave()
	}
}

// last takes out the youngest if there are more than most; nil otherwise.
func (t *turns) last(most int) (turn data.Turn, kept int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kept = len(t.list); kept <= most {
		return nil, kept
	}
	kept--
	turn, t.list[kept] = t.list[kept], nil
	t.list = t.list[:kept]
	return turn, kept
}
