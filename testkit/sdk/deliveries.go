package sdk

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/troupelog/troupe/clientlib"
)

// violationsMax bounds what Check reports; the rest is counted.
const violationsMax = 10

// Deliveries is which records the members of a group were given, in which order, and
// under which assignment. It is safe for concurrent use.
type Deliveries struct {
	mu      sync.Mutex
	parts   map[clientlib.Partition]*delivered
	holders map[holder]*holding // what members own, or owned last
	running map[lane]holder     // handlers at work
	all     []*holding
	wrong   []string
	more    int
}

// Again is how many records were delivered that had been delivered before: to a member
// that lost the partition, perhaps without knowing it then, or to one that gave it back
// or has it still.
type Again struct{ AfterLoss, AfterRevocation int }

// holder is a member in its relation to a partition.
type holder struct {
	member    string
	partition clientlib.Partition
}

// holding is one time of owning a partition.
type holding struct {
	lost  bool
	again int              // records of it that were delivered to others
	last  map[string]int64 // the newest offset of each key
}

// lane is what is handled one after the other.
type lane struct {
	partition clientlib.Partition
	key       string
}

// delivered is what has been delivered of a partition.
type delivered struct {
	by    []*holding       // by offset: who had it last; nil: nobody
	count int              // of offsets that somebody had
	first map[string]int64 // the newest offset of each key that was delivered at all
}

// NewDeliveries begins a record without a delivery.
func NewDeliveries() *Deliveries {
	return &Deliveries{parts: map[clientlib.Partition]*delivered{},
		holders: map[holder]*holding{}, running: map[lane]holder{}}
}

// Assigned notes that a member owns partitions from now on.
func (d *Deliveries) Assigned(member string, ps []clientlib.Partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range ps {
		d.hold(holder{member, p})
	}
}

func (d *Deliveries) hold(who holder) *holding {
	h := &holding{last: map[string]int64{}}
	d.holders[who] = h
	d.all = append(d.all, h)
	return h
}

// Lost notes that partitions were taken from a member that had not been asked.
func (d *Deliveries) Lost(member string, ps []clientlib.Partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range ps {
		if h := d.holders[holder{member, p}]; h != nil {
			h.lost = true
		}
	}
}

// Begin notes that a member's handler is called for a record. The end must be noted by
// calling what it returns.
func (d *Deliveries) Begin(member string, r *clientlib.Record) (end func()) {
	at := clientlib.Partition{Topic: r.Topic, Index: r.Partition}
	who, key, offset := holder{member, at}, string(r.Key), r.Offset
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.holders[who]
	if h == nil {
		d.add("%s got offset %d of %v, which it was not assigned", member, offset, at)
		h = d.hold(who)
	}
	if last, ok := h.last[key]; ok && offset <= last {
		d.add("backwards: %s got offset %d of %v, key %s, after %d", member, offset, at, key, last)
	}
	h.last[key] = offset
	d.deliver(at, key, offset, h, member)
	same := lane{at, key}
	if other, busy := d.running[same]; busy && other == who {
		d.add("at once: %s handled two records of key %s of %v", member, key, at)
	}
	d.running[same] = who
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.running[same] == who {
			delete(d.running, same)
		}
	}
}

func (d *Deliveries) deliver(
	at clientlib.Partition, key string, offset int64, h *holding, member string,
) {
	p := d.parts[at]
	if p == nil {
		p = &delivered{first: map[string]int64{}}
		d.parts[at] = p
	}
	for int64(len(p.by)) <= offset {
		p.by = append(p.by, nil)
	}
	before := p.by[offset]
	if before == nil {
		p.count++
	}
	switch newest, known := p.first[key]; {
	case before == nil && known && offset < newest:
		d.add("skipped: offset %d of %v, key %s, came to %s after %d had been handled",
			offset, at, key, member, newest)
	case before == nil:
		p.first[key] = offset
	case before != h:
		before.again++
	} // else it is backwards, and noted
	p.by[offset] = h
}

func (d *Deliveries) add(format string, args ...any) {
	if len(d.wrong) == violationsMax {
		d.more++
		return
	}
	d.wrong = append(d.wrong, fmt.Sprintf(format, args...))
}

// Delivered returns how many different records were delivered.
func (d *Deliveries) Delivered() (records int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.parts {
		records += p.count
	}
	return records
}

// Has reports whether a record was delivered.
func (d *Deliveries) Has(at clientlib.Partition, offset int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.parts[at]
	return p != nil && offset < int64(len(p.by)) && p.by[offset] != nil
}

// Again returns what was delivered again up to now.
func (d *Deliveries) Again() (a Again) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.all {
		if h.lost {
			a.AfterLoss += h.again
		} else {
			a.AfterRevocation += h.again
		}
	}
	return a
}

// Check returns an error that lists what is wrong unless
//
//   - while a member owned a partition, the records of each key came to it in their order,
//     none twice, and one at a time;
//   - no record came first when a later one of its key had been delivered;
//   - members got records of partitions only that they were assigned.
func (d *Deliveries) Check() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.wrong) == 0 {
		return nil
	}
	lines := strings.Join(d.wrong, "\n")
	if d.more > 0 {
		lines += fmt.Sprintf("\nand %d more", d.more)
	}
	return errors.New(lines)
}
