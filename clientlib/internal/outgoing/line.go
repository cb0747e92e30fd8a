package outgoing

import (
	"fmt"
	"math"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
)

// idleMost is how long a leader surely remembers a producer that says nothing.
const idleMost = 10 * time.Minute

// Line is the way of batches to one partition. Make one with NewLine. It has one owner
// and is not safe for concurrent use.
type Line[T any] struct {
	mode     Mode
	queue    []*Batch[T] // from the oldest that is not finished on
	finished []*Batch[T]
	flying   int // of queue

	id    messages.ProducerID
	epoch messages.ProducerEpoch
	next  messages.Sequence
	// proven is when the leader last took a batch under this epoch. Before the first, and
	// if it may have forgotten the producer since, it would take any number.
	proven time.Time

	halted  bool      // nothing is sent until what is under way is back
	recount bool      // then the epoch rises and the numbers begin at 0
	lost    bool      // then another producer id is needed
	until   time.Time // nothing is sent before
	rounds  int       // of failures without a success
	given   error     // given up: nothing is sent again
}

// NewLine returns a Line without batches. Other than in Plain mode nothing is sent before
// Identify is called.
func NewLine[T any](mode Mode) *Line[T] {
	return &Line[T]{mode: mode, id: messages.NoProducerID, epoch: -1}
}

// Nameless reports whether the line needs a producer id.
func (l *Line[T]) Nameless() bool { return l.mode != Plain && l.id == messages.NoProducerID }

// Identify gives the line a producer id and an epoch under which nothing was sent to this
// partition yet. Nothing may be under way. It ends what Abandon began.
func (l *Line[T]) Identify(id messages.ProducerID, epoch messages.ProducerEpoch) {
	invariant.That(l.flying == 0, "%d batches are under way under epoch %d", l.flying, l.epoch)
	l.id, l.epoch, l.given = id, epoch, nil
	l.renumber()
}

// renumber begins to count at 0.
func (l *Line[T]) renumber() {
	l.next, l.proven = 0, time.Time{}
	for _, b := range l.queue {
		b.numbered, b.doubt = false, false
	}
}

// Add puts a batch behind the others.
func (l *Line[T]) Add(b *Batch[T]) {
	b.state, b.ID, b.Epoch, b.Base = waiting, messages.NoProducerID, -1, messages.NoSequence
	l.queue = append(l.queue, b)
	if l.given != nil {
		l.fail(b, l.given)
		l.settle()
	}
}

// Busy reports whether there are batches that are not finished.
func (l *Line[T]) Busy() bool { return len(l.queue) > 0 }

// Last returns the batch behind all others that are not finished, nil if there is none.
func (l *Line[T]) Last() *Batch[T] {
	if len(l.queue) == 0 {
		return nil
	}
	return l.queue[len(l.queue)-1]
}

// Idle reports whether a batch that were added now would be sent at once.
func (l *Line[T]) Idle(now time.Time) bool {
	if len(l.queue) > 0 && l.queue[len(l.queue)-1].state == waiting {
		return false
	}
	return !l.held(now) && len(l.queue) < l.window(now)
}

func (l *Line[T]) held(now time.Time) bool {
	return l.halted && l.flying > 0 || now.Before(l.until)
}

// window is how many batches may be under way.
func (l *Line[T]) window(now time.Time) int {
	if l.mode == Idempotent && (l.proven.IsZero() || now.Sub(l.proven) > idleMost) {
		return 1 // a second one might be taken without the first
	}
	return Window
}

// Next returns the batch to send now, nil if there is none. It counts as under way until
// Answered is called with it.
func (l *Line[T]) Next(now time.Time) *Batch[T] {
	if l.Nameless() || l.held(now) {
		return nil
	}
	for _, b := range l.queue[:min(len(l.queue), l.window(now))] {
		if b.state != waiting {
			continue
		}
		if !b.Ready {
			return nil
		}
		l.number(b)
		b.state = flying
		b.Tries++
		l.flying++
		return b
	}
	return nil
}

func (l *Line[T]) number(b *Batch[T]) {
	if l.mode == Plain || b.numbered {
		return
	}
	b.ID, b.Epoch, b.Base, b.numbered = l.id, l.epoch, l.next, true
	l.next = messages.Sequence((int64(l.next) + int64(b.Records)) & math.MaxInt32)
}

// Answered tells what became of a batch that Next returned.
func (l *Line[T]) Answered(b *Batch[T], a Answer) {
	if b.state != flying {
		return // dropped
	}
	l.flying--
	b.state = waiting
	b.last = a.Err
	switch m := a.means(); {
	case m == acked:
		b.state = done
		l.rounds, l.proven = 0, a.At
	case l.given != nil:
		l.fail(b, l.given)
	case m == unsent:
		l.again(&a)
	case m == passing:
		b.doubt = true
		l.again(&a)
	case m == outOfOrder && l.mode != Plain:
		l.misfit(b, &a)
	case m == fenced && l.mode == Idempotent:
		l.lost = true
		l.again(&a)
	default:
		l.refuse(b, m)
	}
	l.settle()
}

// again has what failed sent once more, in order.
func (l *Line[T]) again(a *Answer) {
	if !l.halted {
		l.rounds++
		l.until = a.At.Add(Backoff(l.rounds, a.Chance))
	}
	l.halted = true
}

// misfit handles a batch before which another one is missing.
func (l *Line[T]) misfit(b *Batch[T], a *Answer) {
	switch {
	case b != l.oldest():
		// That one failed, or will, and is sent again before b.
		l.again(a)
	case l.mode == Transactional:
		l.fail(b, a.Err)
	default:
		l.recount = true
		l.again(a)
	}
}

// refuse fails a batch that is not taken.
func (l *Line[T]) refuse(b *Batch[T], m meaning) {
	if m == refused && b.numbered && !b.doubt && l.lastNumbered() == b {
		l.next = b.Base // nobody has it: it is as if it had not been sent
	}
	l.fail(b, b.last)
}

func (l *Line[T]) lastNumbered() (last *Batch[T]) {
	for _, b := range l.queue {
		if b.numbered {
			last = b
		}
	}
	return last
}

func (l *Line[T]) oldest() *Batch[T] {
	for _, b := range l.queue {
		if b.state != done {
			return b
		}
	}
	return nil
}

func (l *Line[T]) fail(b *Batch[T], err error) {
	b.state, b.Err = done, err
}

// settle takes the finished batches from the front, and goes on once nothing is under
// way of a line that was halted.
func (l *Line[T]) settle() {
	if l.flying == 0 && l.halted {
		l.halted = false
		switch {
		case l.lost:
			l.dropDoubtful()
			l.leave()
		case l.recount && l.epoch == math.MaxInt16:
			l.leave()
		case l.recount:
			l.epoch++
			l.renumber()
		}
		l.lost, l.recount = false, false
	}
	n := 0
	for n < len(l.queue) && l.queue[n].state == done {
		n++
	}
	l.finished = append(l.finished, l.queue[:n]...)
	l.queue = append(l.queue[:0], l.queue[n:]...)
	clear(l.queue[len(l.queue):cap(l.queue)])
}

// leave gives the producer id up: Nameless tells that another one is needed.
func (l *Line[T]) leave() {
	l.id, l.epoch = messages.NoProducerID, -1
	l.renumber()
}

// dropDoubtful fails the batches that nobody can tell to be in the log or not: under
// another producer id they might be there twice.
func (l *Line[T]) dropDoubtful() {
	for _, b := range l.queue {
		if b.state == waiting && b.doubt {
			l.fail(b, b.last)
		}
	}
}

// Expire gives up the batches whose time has come and that are not under way.
func (l *Line[T]) Expire(now time.Time) {
	expired := false
	for _, b := range l.queue {
		if b.state != waiting || now.Before(b.Expires) {
			continue
		}
		expired = true
		switch {
		case b.last != nil:
			l.fail(b, fmt.Errorf("not acknowledged in time: %w: %w", messages.ErrRequestTimedOut, b.last))
		default:
			l.fail(b, fmt.Errorf("nobody leads or the way was not free: %w",
				messages.ErrRequestTimedOut))
		}
	}
	if expired {
		l.settle()
	}
}

// Wake ends the wait before the next try: another node leads.
func (l *Line[T]) Wake() { l.until = time.Time{} }

// Due is when Next or Expire may have something to do without having been called for
// another reason; zero: never.
func (l *Line[T]) Due(now time.Time) time.Time {
	for _, b := range l.queue {
		if b.state != waiting {
			continue
		}
		if l.until.After(now) && l.until.Before(b.Expires) {
			return l.until
		}
		return b.Expires
	}
	return time.Time{}
}

// Abandon gives up what waits, and whatever is added until Identify is called, with err.
// What is under way is not sent again.
func (l *Line[T]) Abandon(err error) {
	l.given = err
	for _, b := range l.queue {
		if b.state == waiting {
			l.fail(b, err)
		}
	}
	l.settle()
}

// Drop is Abandon for what is under way, too.
func (l *Line[T]) Drop(err error) {
	for _, b := range l.queue {
		if b.state == flying {
			l.flying--
			b.state = waiting
		}
	}
	l.Abandon(err)
}

// Finished returns the batches that are finished since the last call, in their order. The
// caller is done with the slice before it calls the Line again.
func (l *Line[T]) Finished() []*Batch[T] {
	f := l.finished
	l.finished = l.finished[:0]
	return f
}
