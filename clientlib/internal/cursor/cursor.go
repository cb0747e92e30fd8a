// Package cursor decides where a reader of one partition is: where it begins, what it asks
// the leader next, what an answer means, how far records were given out, handled and
// committed.
//
// A Cursor reads no clock, waits for nothing and starts no goroutine; times come in as
// arguments. It owns the positions, and not the records. Package clientlib sends what it
// asks, keeps what is fetched, and is alone to use it.
package cursor

import (
	"errors"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/wire"
)

// Start is a place in a partition: an offset, or what is found by a time.
type Start struct {
	// ByTime: Value is milliseconds, or Latest or Earliest. Else it is an offset.
	ByTime bool
	Value  int64
}

// Times with a meaning, as in Kafka.
const (
	Latest   int64 = -1
	Earliest int64 = -2
)

// Waits after the first failure in a row, and at most.
const (
	backoffMin = 50 * time.Millisecond
	backoffMax = time.Second
)

// Cursor is one reader of one partition. Its owner calls one method at a time.
//
// Invariants: committed, once known to this cursor, and handled never fall between two
// moves; handled <= given <= fetch. There is at most one question under way whose answer
// counts.
type Cursor struct {
	start Start // where to go when the position is gone
	state state
	seek  Start // where to, while it is not found

	fetch, given, handled place
	shown                 int64 // the offset after the last record that was given out
	committed             int64 // NoOffset: not known

	high int64 // high watermark as last heard; -1: not heard of

	turn     uint32 // counts questions; an answer to another one is late
	asking   bool
	failures int
	retryAt  time.Time
}

// place is an offset and the leader epoch of the record before it.
type place struct {
	offset int64
	epoch  int32
}

type state int8

const (
	uncommitted state = iota // the committed offset is not looked up yet
	searching                // seek is to be found
	reading
)

const noEpoch = int32(messages.NoEpoch)

// New returns a cursor that begins at the committed offset of a group, of which Committed
// has to be told, and at start if there is none.
func New(start Start) *Cursor {
	return &Cursor{start: start, committed: int64(messages.NoOffset), high: -1}
}

// Seek moves the reader. What was asked and given out before does not count any more. It
// reports whether the place is known already, and not to be asked for.
func (c *Cursor) Seek(to Start) bool {
	c.turn++
	c.asking, c.failures, c.retryAt = false, 0, time.Time{}
	c.committed = int64(messages.NoOffset)
	if to.ByTime {
		c.state, c.seek = searching, to
		return false
	}
	c.at(place{max(to.Value, 0), noEpoch})
	return true
}

// at is where the reader goes on.
func (c *Cursor) at(p place) {
	c.state = reading
	c.fetch, c.given, c.handled, c.shown = p, p, p, p.offset
}

// Uncommitted reports that the committed offset is not looked up yet.
func (c *Cursor) Uncommitted() bool { return c.state == uncommitted }

// Known reports that the position is known.
func (c *Cursor) Known() bool { return c.state == reading }

// Committed tells of the committed offset of the group; less than 0: there is none. It is
// ignored if the reader was moved meanwhile.
func (c *Cursor) Committed(offset int64, epoch int32) {
	if c.state != uncommitted {
		return
	}
	if offset < 0 {
		c.Seek(c.start)
		return
	}
	c.at(place{offset, epoch})
	c.committed = offset
}

// Ask is what to ask the leader.
type Ask struct {
	Turn uint32
	// Search: ask for the offset of that time; else fetch from Offset, with the epoch of
	// the record before.
	Search bool
	Time   int64
	Offset int64
	Epoch  int32
}

// Ask returns what to ask now. If there is nothing, at is when there may be; zero: only
// after something happened.
func (c *Cursor) Ask(now time.Time) (a Ask, at time.Time, ok bool) {
	if c.asking || c.state == uncommitted {
		return Ask{}, time.Time{}, false
	}
	if now.Before(c.retryAt) {
		return Ask{}, c.retryAt, false
	}
	c.turn++
	c.asking = true
	a = Ask{Turn: c.turn, Offset: c.fetch.offset, Epoch: c.fetch.epoch}
	if c.state == searching {
		a.Search, a.Time = true, c.seek.Value
	}
	return a, time.Time{}, true
}

// Interrupt has the question under way not count, and the next one asked at once: the
// leader is another one.
func (c *Cursor) Interrupt() {
	c.turn++
	c.asking, c.retryAt = false, time.Time{}
}

// answered reports whether an answer counts.
func (c *Cursor) answered(turn uint32) bool {
	if !c.asking || turn != c.turn {
		return false
	}
	c.asking = false
	return true
}

// Found answers a search; less than 0: there is no record that late.
func (c *Cursor) Found(turn uint32, offset int64) {
	if !c.answered(turn) {
		return
	}
	invariant.That(c.state == searching, "an offset was found that nobody searches")
	if offset < 0 {
		c.seek = Start{ByTime: true, Value: Latest}
		return
	}
	c.at(place{offset, noEpoch})
}

// Fetched is an answer to a fetch.
type Fetched struct {
	High int64 // high watermark
	// Next is the offset after the records and Epoch of the last one; Next is 0 if there
	// are none.
	Next  int64
	Epoch int32
	// Diverging: the log of the leader is another one from End on, where epoch EndEpoch
	// ends.
	Diverging bool
	End       int64
	EndEpoch  int32
}

// Outcome is what an answer means for what was fetched.
type Outcome int8

const (
	// Late: the answer does not count, with all that is in it.
	Late Outcome = iota
	// Kept: what is in the answer follows what was fetched before.
	Kept
	// Again: there was nothing, and the same is asked again after a while.
	Again
	// Moved: the reader goes on elsewhere; what was fetched and not given out is void.
	Moved
	// Broken: there is something wrong that the user has to know of. The same is asked
	// again after a while.
	Broken
)

// Fetched takes note of an answer to a fetch.
func (c *Cursor) Fetched(turn uint32, f Fetched) Outcome {
	if !c.answered(turn) {
		return Late
	}
	c.failures = 0
	c.high = f.High
	if f.Diverging {
		handled, shown := c.handled, c.shown
		c.at(place{min(c.given.offset, max(f.End, 0)), f.EndEpoch})
		if handled.offset < c.handled.offset {
			c.handled = handled // what was given out may still be at work
			c.shown = min(shown, c.given.offset)
		}
		if c.committed > c.handled.offset {
			c.committed = int64(messages.NoOffset)
		}
		return Moved
	}
	if f.Next > c.fetch.offset {
		c.fetch = place{f.Next, f.Epoch}
	}
	return Kept
}

// Refused takes note that a question failed. An offset out of range moves the reader: to
// where it would have started without a position, but never ahead to the end unless that
// is where it starts.
func (c *Cursor) Refused(turn uint32, err error, now time.Time) Outcome {
	if !c.answered(turn) {
		return Late
	}
	if errors.Is(err, messages.ErrOffsetOutOfRange) && c.state == reading {
		c.state, c.seek = searching, c.start
		if !c.start.ByTime {
			c.seek = Start{ByTime: true, Value: Earliest}
		}
		c.committed = int64(messages.NoOffset)
		first := c.failures == 0
		c.fail(now)
		if first {
			c.retryAt = time.Time{}
		}
		return Moved
	}
	c.fail(now)
	if slices.ContainsFunc(lasting, func(e error) bool { return errors.Is(err, e) }) {
		return Broken
	}
	return Again
}

// lasting are errors that do not pass by themselves. All others do, or somebody else tells
// of them, as of topics that are deleted.
var lasting = []error{
	messages.ErrCorruptBatch, messages.ErrInvalidRecord, messages.ErrUnsupportedCompression,
	messages.ErrInvalidRequest, messages.ErrInvalidTopic, wire.ErrUnsupported,
}

func (c *Cursor) fail(now time.Time) {
	c.retryAt = now.Add(min(backoffMin<<min(c.failures, 10), backoffMax))
	c.failures++
}

// Reread has all that was not given out fetched again, after a while: it is damaged.
func (c *Cursor) Reread(now time.Time) {
	if c.state == reading {
		c.turn++
		c.asking = false
		c.fetch = c.given
		c.fail(now)
	}
}

// Given says that all up to next was given out, or is nothing that a reader sees; epoch is
// of the last record. shown is the offset after the last record that was given out now; 0:
// there was none.
func (c *Cursor) Given(next int64, epoch int32, shown int64) {
	invariant.That(c.state == reading && next >= c.given.offset && next <= c.fetch.offset,
		"given out up to %d, after %d, fetched up to %d", next, c.given.offset, c.fetch.offset)
	if next == c.given.offset {
		return
	}
	c.shown = max(c.shown, shown)
	c.given = place{next, epoch}
	c.pass()
}

// pass goes past what nobody sees, behind the last record that was given out and handled.
func (c *Cursor) pass() {
	if c.handled.offset >= c.shown {
		c.handled = c.given
	}
}

// Position is where the next record to give out is, at the earliest; -1: not known yet.
func (c *Cursor) Position() int64 {
	if c.state != reading {
		return int64(messages.NoOffset)
	}
	return c.given.offset
}

// Handled says that all below next is done. It reports whether that is news; what was not
// given out cannot be done.
func (c *Cursor) Handled(next int64, epoch int32) bool {
	if c.state != reading || next <= c.handled.offset || next > c.given.offset {
		return false
	}
	c.handled = place{next, epoch}
	c.pass()
	return true
}

// HandledAll is Handled of everything that was given out.
func (c *Cursor) HandledAll() bool { return c.Handled(c.given.offset, c.given.epoch) }

// Open reports that something that was given out is not handled.
func (c *Cursor) Open() bool { return c.state == reading && c.handled.offset < c.given.offset }

// ToCommit returns what is handled and not committed: the next offset, and the epoch of
// the record before it.
func (c *Cursor) ToCommit() (offset int64, epoch int32, ok bool) {
	ok = c.state == reading && c.handled.offset != c.committed
	return c.handled.offset, c.handled.epoch, ok
}

// CommittedAs takes note of a commit.
func (c *Cursor) CommittedAs(offset int64) {
	if c.state == reading && offset <= c.handled.offset && offset > c.committed {
		c.committed = offset
	}
}

// Lag is how many offsets there are behind the position, as far as is known.
func (c *Cursor) Lag() int64 {
	if c.state != reading {
		return 0
	}
	return max(c.high-c.given.offset, 0)
}
