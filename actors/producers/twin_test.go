package producers

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
)

func resummed(b []byte) []byte {
	b = slices.Clone(b)
	sum := crc32.Checksum(b[snapshotSummedFrom:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[2:], sum)
	return b
}

// entry is a batch or marker in the twin's log.
type entry struct {
	h      record.Header
	marker *record.Marker
}

// twin decides by reading the whole log each time: slow and obvious.
type twin struct {
	log []entry
}

func (tw *twin) of(id messages.ProducerID) (all []entry) {
	for _, e := range tw.log {
		if e.h.ProducerID == id {
			all = append(all, e)
		}
	}
	return all
}

// openSince returns where the producer's open transaction began.
func openSince(all []entry) (messages.Offset, bool) {
	first, open := messages.Offset(0), false
	for _, e := range all {
		switch {
		case e.marker != nil:
			open = false
		case e.h.Transactional() && !open:
			first, open = e.h.BaseOffset, true
		}
	}
	return first, open
}

func (tw *twin) decide(h record.Header) (Verdict, error) {
	own := Verdict{BaseOffset: h.BaseOffset, LastOffset: h.LastOffset(), Timestamp: h.MaxTimestamp}
	if h.ProducerID < 0 {
		return own, nil
	}
	all := tw.of(h.ProducerID)
	if len(all) == 0 {
		if len(tw.log) == 0 && h.BaseSequence != 0 {
			return Verdict{}, messages.ErrOutOfOrderSequence
		}
		return own, nil
	}
	epoch := all[len(all)-1].h.ProducerEpoch
	var sent []record.Header // in this epoch, in order
	for _, e := range all {
		if e.marker == nil && e.h.ProducerEpoch == epoch {
			sent = append(sent, e.h)
		}
	}
	if h.ProducerEpoch == epoch {
		for _, old := range sent[max(0, len(sent)-5):] {
			if old.BaseSequence == h.BaseSequence && old.Count == h.Count {
				return Verdict{Duplicate: true, BaseOffset: old.BaseOffset,
					LastOffset: old.LastOffset(), Timestamp: old.MaxTimestamp}, nil
			}
		}
	}
	expected := messages.Sequence(0)
	if h.ProducerEpoch == epoch && len(sent) > 0 {
		// In 64 bits, then cut: 2147483647 is followed by 0.
		last := sent[len(sent)-1]
		expected = messages.Sequence((int64(last.BaseSequence) + int64(last.Count)) % (1 << 31))
	}
	_, open := openSince(all)
	switch {
	case h.ProducerEpoch < epoch:
		return Verdict{}, messages.ErrInvalidProducerEpoch
	case h.BaseSequence != expected:
		return Verdict{}, messages.ErrOutOfOrderSequence
	case open && !h.Transactional():
		return Verdict{}, messages.ErrInvalidTxnState
	}
	return own, nil
}

func (tw *twin) decideMarker(h record.Header, m record.Marker) error {
	coordinator := int32(-1)
	for _, e := range tw.of(h.ProducerID) {
		if h.ProducerEpoch < e.h.ProducerEpoch {
			return messages.ErrInvalidProducerEpoch
		}
		if e.marker != nil {
			coordinator = e.marker.CoordinatorEpoch
		}
	}
	if m.CoordinatorEpoch < coordinator {
		return txn.ErrCoordinatorFenced
	}
	return nil
}

// lastStable is the first offset of a transaction without a marker below hw.
func (tw *twin) lastStable(hw messages.Offset) messages.Offset {
	below := twin{}
	for _, e := range tw.log {
		if e.marker == nil || e.h.BaseOffset < hw {
			below.log = append(below.log, e)
		}
	}
	stable := hw
	for _, e := range below.log {
		if first, open := openSince(below.of(e.h.ProducerID)); open {
			stable = min(stable, first)
		}
	}
	return stable
}

// world drives a State and its twin with the same random traffic.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	state *State
	twin  twin
	end   messages.Offset
	hw    messages.Offset
}

// next makes up a batch that is mostly, not always, the expected one.
func (w *world) next(base messages.Offset) record.Header {
	if w.rng.IntN(8) == 0 {
		return plain(base)
	}
	id := messages.ProducerID(w.rng.IntN(3))
	all := w.twin.of(id)
	h := record.Header{ProducerID: id, BaseOffset: base, Count: 1 + int32(w.rng.IntN(3)),
		MaxTimestamp: messages.Timestamp(w.rng.IntN(1000))}
	h.LastOffsetDelta = h.Count - 1
	if len(all) == 0 {
		h.BaseSequence = messages.Sequence([]int32{0, 0, 0, 5, 1<<31 - 4}[w.rng.IntN(5)])
	} else {
		last := all[len(all)-1].h
		h.ProducerEpoch = last.ProducerEpoch + messages.ProducerEpoch(pick(w.rng, 20, 0, -1, 1))
		switch again := all[w.rng.IntN(len(all))].h; {
		case w.rng.IntN(5) == 0 && again.BaseSequence >= 0: // sent again
			h.BaseSequence, h.Count = again.BaseSequence, again.Count
			h.LastOffsetDelta = again.LastOffsetDelta
		case h.ProducerEpoch == last.ProducerEpoch && last.BaseSequence >= 0:
			next := int64(last.BaseSequence) + int64(last.Count) + int64(pick(w.rng, 12, 0, -1, 1))
			h.BaseSequence = messages.Sequence(max(0, next) % (1 << 31))
		}
		if _, open := openSince(all); open != (w.rng.IntN(10) == 0) {
			h.Attributes |= transactional
		}
	}
	if w.rng.IntN(4) == 0 {
		h.Attributes |= transactional
	}
	return h
}

// pick returns usual, but one time in n one of the others.
func pick(rng *rand.Rand, n int, usual int, others ...int) int {
	if rng.IntN(n) > 0 {
		return usual
	}
	return others[rng.IntN(len(others))]
}

// gather decides a few batches and markers and commits them, or not.
func (w *world) gather() {
	p := w.state.Plan()
	saved, end := slices.Clone(w.twin.log), w.end
	for range w.rng.IntN(6) {
		if w.rng.IntN(6) == 0 {
			w.marker(p)
			continue
		}
		h := w.next(w.end)
		v, err := p.Decide(h, Verification{})
		want, wantErr := w.twin.decide(h)
		if v != want || (err == nil) != (wantErr == nil) || wantErr != nil && !errors.Is(err, wantErr) {
			w.t.Fatalf("batch %+v: state says %+v, %v; twin says %+v, %v", h, v, err, want, wantErr)
		}
		if err == nil && !v.Duplicate {
			w.twin.log = append(w.twin.log, entry{h: h})
			w.end = h.NextOffset()
		}
	}
	if w.rng.IntN(4) == 0 { // the append failed
		p.Reset()
		w.twin.log, w.end = saved, end
		return
	}
	p.Commit()
}

func (w *world) marker(p *Plan) {
	m := record.Marker{Commit: w.rng.IntN(2) == 0, CoordinatorEpoch: int32(len(w.twin.log) / 40)}
	m.CoordinatorEpoch -= int32(pick(w.rng, 8, 0, 1))
	id := messages.ProducerID(w.rng.IntN(3))
	h := marker(id, 0, w.end)
	if all := w.twin.of(id); len(all) > 0 {
		h.ProducerEpoch = all[len(all)-1].h.ProducerEpoch
		h.ProducerEpoch += messages.ProducerEpoch(pick(w.rng, 4, 0, -1, 1))
	}
	if h.ProducerEpoch < 0 {
		return
	}
	_, err := p.DecideMarker(h, m, false)
	want := w.twin.decideMarker(h, m)
	if (err == nil) != (want == nil) || want != nil && !errors.Is(err, want) {
		w.t.Fatalf("marker %+v: state says %v, twin says %v", h, err, want)
	}
	if err == nil {
		w.twin.log = append(w.twin.log, entry{h: h, marker: &m})
		w.end++
	}
}

// settle moves the high watermark and compares what readers may see.
func (w *world) settle() {
	w.hw += messages.Offset(w.rng.IntN(int(w.end-w.hw) + 1))
	w.state.AdvanceHighWatermark(w.hw)
	if got, want := w.state.LastStable(w.hw), w.twin.lastStable(w.hw); got != want {
		w.t.Fatalf("last stable offset at high watermark %d is %d, twin says %d", w.hw, got, want)
	}
}

// restart rebuilds the state from a snapshot of its past and the log after it.
func (w *world) restart() {
	at := w.rng.IntN(len(w.twin.log) + 1)
	past := New()
	replay(past, w.twin.log[:at])
	next := New()
	if snapshot := past.Snapshot(); snapshot != nil {
		if err := next.Restore(snapshot); err != nil {
			w.t.Fatal(err)
		}
	}
	replay(next, w.twin.log[at:])
	if !slices.Equal(next.Snapshot(), w.state.Snapshot()) {
		w.t.Fatalf("a restart from entry %d of %d leads to another state", at, len(w.twin.log))
	}
	w.state = next
	w.hw = w.end // what is read again was replicated
}

func replay(s *State, log []entry) {
	for _, e := range log {
		if e.marker != nil {
			_ = s.ObserveMarker(e.h, e.marker.Commit, e.marker.CoordinatorEpoch)
			continue
		}
		_ = s.Observe(e.h)
	}
}

func TestAStateDecidesLikeAReaderOfTheWholeLog(t *testing.T) {
	for seed := range uint64(300) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), state: New()}
		for range 40 {
			w.gather()
			w.settle()
			if w.rng.IntN(10) == 0 {
				w.restart()
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func BenchmarkDecideAndCommit(b *testing.B) {
	s := New()
	seq := messages.Sequence(0)
	b.ReportAllocs()
	for i := range b.N {
		p := s.Plan()
		if _, err := p.Decide(batch(0, seq, 1, messages.Offset(i)), Verification{}); err != nil {
			b.Fatal(err)
		}
		p.Commit()
		seq = (seq + 1) & 0x7fffffff
	}
}
