package testkit

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// violationsMax bounds what Check reports; the rest is counted.
const violationsMax = 10

// History is what happened to records on their way through a log: what was sent,
// what was acknowledged, and what was read. A value names a record, so values
// must be unique. It is safe for concurrent use.
type History struct {
	mu    sync.Mutex
	sends map[place][]string // in the order they were sent
	acks  map[string]Position
	reads map[place][]read // in the order they were read
	seen  map[Position]string
	loose map[string]place // sent in no order
	wrong violations
}

type place struct {
	topic     string
	partition int32
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.topic, q.topic), cmp.Compare(p.partition, q.partition))
}

type read struct {
	value  string
	offset int64
}

// Position is where a record is.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

func (p Position) place() place { return place{p.Topic, p.Partition} }

// NewHistory returns an empty history.
func NewHistory() *History {
	return &History{
		sends: map[place][]string{},
		acks:  map[string]Position{},
		reads: map[place][]read{},
		seen:  map[Position]string{},
		loose: map[string]place{},
	}
}

// Send notes that a record is about to be sent. The order of the calls for one
// partition is the order its records must keep.
func (h *History) Send(topic string, partition int32, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := place{topic, partition}
	h.sends[p] = append(h.sends[p], value)
}

// SendLoose is Send for a record whose order among the others does not matter:
// one of another producer.
func (h *History) SendLoose(topic string, partition int32, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loose[value] = place{topic, partition}
}

// Ack notes that the broker has acknowledged a record.
func (h *History) Ack(value string, at Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acks[value] = at
}

// Seen notes that a consumer got a record while the log was written and the
// cluster suffered. What was seen must be there in the complete reading, too.
// highWatermark is what the broker said in the same answer: who sees a record at
// it or above has seen what may still be taken back.
func (h *History) Seen(value string, at Position, highWatermark int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at.Offset >= highWatermark {
		h.wrong.add("uncommitted: %q was read at %v, above the high watermark %d",
			value, at, highWatermark)
	}
	if first, twice := h.seen[at]; twice && first != value {
		h.wrong.add("changed: %q was read at %v, where %q had been", value, at, first)
	}
	h.seen[at] = value
}

// Wrong notes what else went wrong; Check reports it.
func (h *History) Wrong(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong.add(format, args...)
}

// Read notes that a consumer got a record in the complete reading that Check
// looks at.
func (h *History) Read(value string, at Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads[at.place()] = append(h.reads[at.place()], read{value, at.Offset})
}

// Counts returns how many records were sent, acknowledged and read.
func (h *History) Counts() (sent, acked, read int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sends {
		sent += len(s)
	}
	for _, r := range h.reads {
		read += len(r)
	}
	return sent + len(h.loose), len(h.acks), read
}

// Acked returns where the records are that were acknowledged up to now.
func (h *History) Acked() []Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.acks))
}

// Check compares a complete reading of the log with what was promised to an
// idempotent producer. It returns an error that lists what is wrong unless
//
//   - every acknowledged record was read, at the offset it was given;
//   - no record was read twice, and none that was never sent;
//   - the records of a partition came in the order they were sent, at rising
//     offsets;
//   - what was seen while the log was written is still there, in its place, and
//     was below the high watermark then;
//   - nobody noted anything Wrong.
//
// A record that was sent and never acknowledged may be there or not.
func (h *History) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := h.wrong
	found.lines = slices.Clone(found.lines)
	got := map[string]Position{}
	for p, reads := range h.reads {
		h.checkPartition(p, reads, got, &found)
	}
	for value, want := range h.acks {
		at, ok := got[value]
		switch {
		case !ok:
			found.add("lost: %q was acknowledged at %v", value, want)
		case at != want:
			found.add("moved: %q was acknowledged at %v and read at %v", value, want, at)
		}
	}
	for at, value := range h.seen {
		if got[value] != at {
			found.add("vanished: %q was read at %v and is not there any more", value, at)
		}
	}
	return found.err()
}

// Tally counts the records that were acknowledged and do not stand in the
// complete reading, and those that stand in it more than once.
func (h *History) Tally() (lost, doubled int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	count := map[string]int{}
	for _, reads := range h.reads {
		for _, r := range reads {
			if count[r.value]++; count[r.value] == 2 {
				doubled++
			}
		}
	}
	for value := range h.acks {
		if count[value] == 0 {
			lost++
		}
	}
	return lost, doubled
}

func (h *History) checkPartition(p place, reads []read, got map[string]Position, v *violations) {
	rank := map[string]int{}
	for i, value := range h.sends[p] {
		rank[value] = i
	}
	last, lastOffset := -1, int64(-1)
	for _, r := range reads {
		at := Position{p.topic, p.partition, r.offset}
		if r.offset <= lastOffset {
			v.add("offset %d of %s-%d came after %d", r.offset, p.topic, p.partition, lastOffset)
		}
		lastOffset = r.offset
		if first, twice := got[r.value]; twice {
			v.add("twice: %q was read at %v and %v", r.value, first, at)
			continue
		}
		got[r.value] = at
		if h.loose[r.value] == p {
			continue
		}
		n, sent := rank[r.value]
		switch {
		case !sent:
			v.add("invented: %q at %v was never sent there", r.value, at)
		case n < last:
			v.add("reordered: %q at %v was sent before the record in front of it", r.value, at)
		default:
			last = n
		}
	}
}

// violations collects the first few of many.
type violations struct {
	lines []string
	more  int
}

func (v *violations) add(format string, args ...any) {
	if len(v.lines) == violationsMax {
		v.more++
		return
	}
	v.lines = append(v.lines, fmt.Sprintf(format, args...))
}

func (v *violations) err() error {
	if len(v.lines) == 0 {
		return nil
	}
	if v.more > 0 {
		v.lines = append(v.lines, fmt.Sprintf("and %d more", v.more))
	}
	return errors.New(strings.Join(v.lines, "\n"))
}
