package coordinator

import (
	"fmt"
	"iter"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/record"
)

// inflateMax bounds the records of one batch of an internal topic, decompressed.
// Troupe writes them as they are; a copy from Kafka may be compressed.
const inflateMax = 256 << 20

// replayer takes in the batches of a partition of an internal topic, in order,
// and makes the machines that they speak of.
type replayer struct {
	driver driver
	// machines by group or transactional id; open are those with records of a
	// transaction that has no marker yet.
	machines map[string]coord.Machine
	open     map[messages.ProducerID]map[string]bool
	skipped  int // records that this version does not know
	records  int
}

// driver is what tells one kind of coordinator from another.
type driver interface {
	// owner says whose record that is. ok is false for one this version does not
	// know.
	owner(key []byte) (id string, ok bool, err error)
	machine(id string) coord.Machine
}

// ender is a machine that holds records of transactions back until they end.
type ender interface {
	ReplayEnd(producer messages.ProducerID, commit bool)
}

func newReplayer(d driver) *replayer {
	return &replayer{driver: d, machines: map[string]coord.Machine{},
		open: map[messages.ProducerID]map[string]bool{}}
}

// take takes in whole batches and returns the offset after them.
func (r *replayer) take(b []byte, next messages.Offset) (messages.Offset, error) {
	for len(b) > 0 {
		batch, rest, err := record.Split(b)
		if err != nil {
			return next, err
		}
		if batch.Control() {
			err = r.marker(&batch)
		} else {
			err = r.batch(&batch)
		}
		if err != nil {
			return next, fmt.Errorf("batch at offset %d: %w", batch.BaseOffset, err)
		}
		next, b = batch.NextOffset(), rest
	}
	return next, nil
}

func (r *replayer) batch(b *record.Batch) error {
	for rec, err := range records(b) {
		if err != nil {
			return err
		}
		r.records++
		id, ok, err := r.driver.owner(rec.Key)
		if err != nil {
			return err
		}
		if !ok {
			r.skipped++
			continue
		}
		m := r.machines[id]
		if m == nil {
			m = r.driver.machine(id)
			r.machines[id] = m
		}
		if err := m.Replay(rec); err != nil {
			return fmt.Errorf("record of %q: %w", id, err)
		}
		if rec.Producer != messages.NoProducerID {
			if r.open[rec.Producer] == nil {
				r.open[rec.Producer] = map[string]bool{}
			}
			r.open[rec.Producer][id] = true
		}
	}
	return nil
}

// records yields the records of a batch as machines see them. The bytes are
// copies.
func records(b *record.Batch) iter.Seq2[coord.Replayed, error] {
	return func(yield func(coord.Replayed, error) bool) {
		for rec, err := range record.Records(b, inflateMax) {
			if err != nil {
				yield(coord.Replayed{}, err)
				return
			}
			out := coord.Replayed{Timestamp: rec.Timestamp, Producer: messages.NoProducerID}
			out.Key, out.Value = clone(rec.Key), clone(rec.Value)
			if b.Transactional() {
				out.Producer, out.Epoch = b.ProducerID, b.ProducerEpoch
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// clone keeps null null and empty empty.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

func (r *replayer) marker(b *record.Batch) error {
	m, ok, err := record.ParseMarker(b)
	if err != nil || !ok {
		return err
	}
	for id := range r.open[b.ProducerID] {
		if e, ok := r.machines[id].(ender); ok {
			e.ReplayEnd(b.ProducerID, m.Commit)
		}
	}
	delete(r.open, b.ProducerID)
	return nil
}

// drop forgets machines that ended up with nothing to remember.
func (r *replayer) drop() {
	for id, m := range r.machines {
		if m.Empty() {
			delete(r.machines, id)
		}
	}
}
