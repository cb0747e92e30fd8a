package producers

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
)

// The log rebuilds a State through this interface.
var _ interface {
	Reset()
	Restore(snapshot []byte) error
	Observe(h record.Header) error
	ObserveMarker(h record.Header, commit bool, coordinatorEpoch int32) error
	Snapshot() []byte
} = (*State)(nil)

const amy messages.ProducerID = 7

// batch is the header of a batch of producer amy.
func batch(epoch messages.ProducerEpoch, first messages.Sequence, count int32,
	base messages.Offset) record.Header {
	return record.Header{
		ProducerID: amy, ProducerEpoch: epoch, BaseSequence: first, BaseOffset: base,
		LastOffsetDelta: count - 1, Count: count, MaxTimestamp: messages.Timestamp(1000 + base),
	}
}

const (
	transactional = 0x10
	control       = 0x20
)

func inTxn(h record.Header) record.Header {
	h.Attributes |= transactional
	return h
}

func marker(id messages.ProducerID, epoch messages.ProducerEpoch,
	at messages.Offset) record.Header {
	return record.Header{
		ProducerID: id, ProducerEpoch: epoch, BaseSequence: messages.NoSequence, BaseOffset: at,
		Count: 1, Attributes: transactional | control, MaxTimestamp: messages.Timestamp(1000 + at),
	}
}

func plain(base messages.Offset) record.Header {
	return record.Header{ProducerID: messages.NoProducerID, ProducerEpoch: -1,
		BaseSequence: messages.NoSequence, BaseOffset: base, Count: 1}
}

func TestCheck(t *testing.T) {
	fill := func(n int) (all []record.Header) { // batches of one record, sequences from 0
		for i := range n {
			all = append(all, batch(0, messages.Sequence(i), 1, messages.Offset(100+i)))
		}
		return all
	}
	for _, tt := range []struct {
		name  string
		given []record.Header
		when  record.Header
		dup   messages.Offset // base offset of the original, 0: no duplicate
		err   error
	}{
		{name: "a batch without a producer id is always appended", when: plain(0)},
		{name: "sequence 0 begins an empty partition", when: batch(0, 0, 3, 0)},
		{name: "another sequence cannot begin an empty partition",
			when: batch(0, 4, 1, 0), err: messages.ErrOutOfOrderSequence},
		{name: "any sequence begins a partition that held records", when: batch(3, 40, 1, 9)},
		{name: "the next sequence is appended", given: fill(2), when: batch(0, 2, 5, 102)},
		{name: "a gap is refused",
			given: fill(2), when: batch(0, 3, 1, 102), err: messages.ErrOutOfOrderSequence},
		{name: "the last batch is a duplicate", given: fill(2), when: batch(0, 1, 1, 102), dup: 101},
		{name: "the fifth last batch is a duplicate",
			given: fill(6), when: batch(0, 1, 1, 106), dup: 101},
		{name: "the sixth last batch is out of order",
			given: fill(6), when: batch(0, 0, 1, 106), err: messages.ErrOutOfOrderSequence},
		{name: "the same first sequence with more records is out of order",
			given: fill(2), when: batch(0, 1, 2, 102), err: messages.ErrOutOfOrderSequence},
		{name: "an older epoch is fenced",
			given: []record.Header{batch(5, 0, 1, 100)}, when: batch(4, 0, 1, 101),
			err: messages.ErrInvalidProducerEpoch},
		{name: "a duplicate of an older epoch is fenced",
			given: []record.Header{batch(4, 0, 1, 100), batch(5, 0, 1, 101)}, when: batch(4, 0, 1, 102),
			err: messages.ErrInvalidProducerEpoch},
		{name: "a newer epoch begins at sequence 0",
			given: []record.Header{batch(4, 0, 9, 100)}, when: batch(5, 0, 1, 109)},
		{name: "a newer epoch cannot go on with the old sequences",
			given: []record.Header{batch(4, 0, 9, 100)}, when: batch(5, 9, 1, 109),
			err: messages.ErrOutOfOrderSequence},
		{name: "after the last sequence comes 0",
			given: []record.Header{batch(0, math.MaxInt32, 1, 100)}, when: batch(0, 0, 1, 101)},
		{name: "after the last sequence comes no negative one",
			given: []record.Header{batch(0, math.MaxInt32, 1, 100)}, when: batch(0, 1, 1, 101),
			err: messages.ErrOutOfOrderSequence},
		{name: "a batch may wrap in its middle",
			given: []record.Header{batch(0, math.MaxInt32-1, 4, 100)}, when: batch(0, 2, 1, 104)},
		{name: "a batch that wraps is recognised",
			given: []record.Header{batch(0, math.MaxInt32-1, 4, 100)},
			when:  batch(0, math.MaxInt32-1, 4, 104), dup: 100},
		{name: "an open transaction takes transactional batches",
			given: []record.Header{inTxn(batch(0, 0, 1, 100))}, when: inTxn(batch(0, 1, 1, 101))},
		{name: "an open transaction takes no other batches of its producer",
			given: []record.Header{inTxn(batch(0, 0, 1, 100))}, when: batch(0, 1, 1, 101),
			err: messages.ErrInvalidTxnState},
		{name: "a coordinator's batch without a sequence is appended",
			given: fill(2), when: inTxn(batch(0, messages.NoSequence, 1, 102))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New()
			for _, h := range tt.given {
				s.Apply(h)
			}
			before := s.Snapshot()
			v, err := s.Check(tt.when)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got error %v, want %v", err, tt.err)
			}
			if err == nil && v.Duplicate != (tt.dup != 0) {
				t.Fatalf("got %+v", v)
			}
			if v.Duplicate && (v.BaseOffset != tt.dup || v.Timestamp != messages.Timestamp(1000+tt.dup) ||
				v.LastOffset != tt.dup+messages.Offset(tt.when.LastOffsetDelta)) {
				t.Errorf("original is %+v, want the one at %d", v, tt.dup)
			}
			if err == nil && !v.Duplicate && v.BaseOffset != tt.when.BaseOffset {
				t.Errorf("appended at %d, not %d", v.BaseOffset, tt.when.BaseOffset)
			}
			if !slices.Equal(before, s.Snapshot()) {
				t.Error("checking changed the state")
			}
		})
	}
}

func TestABatchIsDecidedInTheLightOfThoseBeforeItInThePlan(t *testing.T) {
	s := New()
	p := s.Plan()
	decide := func(h record.Header) Verdict {
		t.Helper()
		v, err := p.Decide(h, Verification{})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	decide(batch(0, 0, 2, 0))
	decide(batch(0, 2, 2, 2))
	if v := decide(batch(0, 0, 2, 4)); !v.Duplicate || v.BaseOffset != 0 || v.LastOffset != 1 {
		t.Errorf("the repeated batch is judged %+v", v)
	}
	_, err := p.Decide(batch(0, 5, 1, 4), Verification{})
	if !errors.Is(err, messages.ErrOutOfOrderSequence) {
		t.Errorf("got %v for a gap", err)
	}
	decide(batch(0, 4, 1, 4))
	if s.Len() != 0 {
		t.Error("the state changed before the commit")
	}
	p.Commit()
	if v, err := s.Check(batch(0, 2, 2, 5)); err != nil || !v.Duplicate || v.BaseOffset != 2 {
		t.Errorf("after the commit: %+v, %v", v, err)
	}
}

func TestADroppedPlanNeverHappened(t *testing.T) {
	s := New()
	if _, err := s.Plan().Decide(batch(0, 0, 1, 0), Verification{}); err != nil {
		t.Fatal(err)
	}
	s.plan.Reset()
	if v, err := s.Check(batch(0, 0, 1, 0)); err != nil || v.Duplicate {
		t.Errorf("got %+v, %v", v, err)
	}
	s.Plan().Commit()
	if s.Len() != 0 {
		t.Error("an empty plan changed the state")
	}
}

func TestTransactions(t *testing.T) {
	const bob messages.ProducerID = 8
	s := New()
	of := func(id messages.ProducerID, h record.Header) record.Header {
		h.ProducerID = id
		return inTxn(h)
	}
	stable := func(hw, want messages.Offset) {
		t.Helper()
		s.AdvanceHighWatermark(hw)
		if got := s.LastStable(hw); got != want {
			t.Fatalf("at high watermark %d the last stable offset is %d, want %d", hw, got, want)
		}
	}
	stable(10, 10)
	s.Apply(of(amy, batch(0, 0, 2, 10))) // 10, 11
	s.Apply(of(bob, batch(0, 0, 1, 12))) // 12
	s.Apply(of(amy, batch(0, 2, 1, 13)))
	stable(14, 10)
	if first, ok := s.FirstUndecided(); !ok || first != 10 {
		t.Errorf("first undecided is %d, %t", first, ok)
	}
	_ = s.ObserveMarker(marker(amy, 0, 14), false, 3)
	if first, _ := s.FirstUndecided(); first != 12 {
		t.Errorf("first undecided is %d", first)
	}
	// The marker at 14 is not replicated yet, so nobody may act on it.
	stable(14, 10)
	stable(15, 12)
	_ = s.ObserveMarker(marker(bob, 0, 15), true, 3)
	stable(16, 16)

	want := []EndedTxn{{Producer: amy, First: 10, Marker: 14, LastStable: 12}}
	if got := s.TakeAborted(); !slices.Equal(got, want) {
		t.Errorf("aborted: %+v, want %+v", got, want)
	}
	if got := s.TakeAborted(); len(got) != 0 {
		t.Errorf("aborted twice: %+v", got)
	}
	t.Run("a marker without a transaction changes no offset", func(t *testing.T) {
		_ = s.ObserveMarker(marker(amy, 0, 16), false, 3)
		stable(17, 17)
		if got := s.TakeAborted(); len(got) != 0 {
			t.Errorf("aborted: %+v", got)
		}
	})
	t.Run("a marker of a newer epoch lets sequences begin at 0", func(t *testing.T) {
		_ = s.ObserveMarker(marker(amy, 1, 17), true, 3)
		_, err := s.Check(of(amy, batch(1, 3, 1, 18)))
		if !errors.Is(err, messages.ErrOutOfOrderSequence) {
			t.Errorf("sequence 3: %v", err)
		}
		if _, err := s.Check(of(amy, batch(1, 0, 1, 18))); err != nil {
			t.Errorf("sequence 0: %v", err)
		}
		_, err = s.Check(of(amy, batch(0, 3, 1, 18)))
		if !errors.Is(err, messages.ErrInvalidProducerEpoch) {
			t.Errorf("old epoch: %v", err)
		}
	})
}

func TestMarkersAreDecidedLikeBatches(t *testing.T) {
	s := New()
	p := s.Plan()
	if _, err := p.Decide(inTxn(batch(2, 0, 1, 0)), Verification{}); err != nil {
		t.Fatal(err)
	}
	fourth, third := record.Marker{CoordinatorEpoch: 4}, record.Marker{CoordinatorEpoch: 3}
	if _, err := p.DecideMarker(marker(amy, 1, 1), fourth, false); !errors.Is(err,
		messages.ErrInvalidProducerEpoch) {
		t.Errorf("marker of an old producer epoch: %v", err)
	}
	if _, err := p.DecideMarker(marker(amy, 2, 1), fourth, false); err != nil {
		t.Fatal(err)
	}
	if _, err := p.DecideMarker(marker(amy, 2, 2), third, false); !errors.Is(err,
		txn.ErrCoordinatorFenced) {
		t.Errorf("marker of an old coordinator: %v", err)
	}
	// The transaction has ended within the plan.
	if _, err := p.Decide(batch(2, 1, 1, 2), Verification{}); err != nil {
		t.Fatal(err)
	}
	p.Commit()
	want := []EndedTxn{{Producer: amy, First: 0, Marker: 1, LastStable: 2}}
	if got := s.TakeAborted(); !slices.Equal(got, want) {
		t.Errorf("aborted: %+v", got)
	}
	got := s.Producers()
	if len(got) != 1 || got[0].CoordinatorEpoch != 4 || got[0].LastSequence != 1 {
		t.Errorf("producers: %+v", got)
	}
}

func TestExpire(t *testing.T) {
	const day = 86_400_000
	s := New()
	s.Apply(batch(0, 0, 1, 0)) // its own timestamps are of 1970
	idle := batch(0, 0, 1, 1)
	idle.ProducerID = 8
	s.Apply(idle)
	open := inTxn(batch(0, 0, 1, 2))
	open.ProducerID = 9
	s.Apply(open)

	const noon messages.Timestamp = 1_700_000_000_000
	if n := s.Expire(noon, day); n != 0 {
		t.Fatalf("%d producers expired though none was seen idle", n)
	}
	s.Apply(batch(0, 1, 1, 3))
	if n := s.Expire(noon+day-1, day); n != 0 {
		t.Fatalf("%d producers expired a millisecond early", n)
	}
	if n := s.Expire(noon+day, day); n != 1 || s.producers[8] != nil {
		t.Fatalf("%d producers expired, want the idle one", n)
	}
	if n := s.Expire(noon-day, day); n != 0 {
		t.Fatalf("%d producers expired when the clock went back", n)
	}
	if n := s.Expire(noon+10*day, day); n != 1 || s.producers[9] == nil {
		t.Fatalf("%d producers expired; the open transaction must stay", n)
	}
}

func TestASnapshotKeepsTheWholeWindow(t *testing.T) {
	s := New()
	for i := range 7 {
		s.Apply(inTxn(batch(2, messages.Sequence(i*2), 2, messages.Offset(i*2))))
	}
	r := New()
	if err := r.Restore(s.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		again := inTxn(batch(2, messages.Sequence(i*2), 2, 14))
		v, err := r.Check(again)
		if i < 2 != (err != nil) || err == nil && (!v.Duplicate || v.BaseOffset != messages.Offset(i*2)) {
			t.Errorf("batch %d: %+v, %v", i, v, err)
		}
	}
	if first, ok := r.FirstUndecided(); !ok || first != 0 {
		t.Errorf("open transaction begins at %d, %t", first, ok)
	}
}

func TestRestoreRefusesWhatIsNoSnapshot(t *testing.T) {
	s := New()
	s.Apply(batch(0, 0, 1, 0))
	good := s.Snapshot()
	for _, tt := range []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"nothing", func([]byte) []byte { return nil }},
		{"a cut header", func(b []byte) []byte { return b[:9] }},
		{"a cut entry", func(b []byte) []byte { return b[:len(b)-1] }},
		{"bytes behind the end", func(b []byte) []byte { return append(b, 0) }},
		{"another version", func(b []byte) []byte { b[1] = 2; return b }},
		{"a flipped bit", func(b []byte) []byte { b[20] ^= 1; return b }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := s.Restore(tt.damage(slices.Clone(good))); !errors.Is(err, ErrCorruptSnapshot) {
				t.Errorf("got %v", err)
			}
			if s.Len() != 0 || s.Snapshot() != nil {
				t.Error("the state is not empty")
			}
		})
	}
}

// kafkaSnapshot is a .snapshot file laid out by hand from Kafka's schema: one
// producer, one batch of three records, no transaction.
func kafkaSnapshot() []byte {
	return []byte{
		0, 1, // version
		0x63, 0xe7, 0xa3, 0xee, // crc
		0, 0, 0, 1, // one entry
		0, 0, 0, 0, 0, 0, 0, 7, // producer id
		0, 2, // producer epoch
		0, 0, 0, 5, // last sequence
		0, 0, 0, 0, 0, 0, 0, 12, // last offset
		0, 0, 0, 2, // offset delta
		0, 0, 0, 0, 0, 0, 0, 99, // timestamp
		0xff, 0xff, 0xff, 0xff, // coordinator epoch
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // no transaction
	}
}

func TestASnapshotOfKafkaIsRead(t *testing.T) {
	s := New()
	if err := s.Restore(kafkaSnapshot()); err != nil {
		t.Fatal(err)
	}
	want := []Producer{{ID: 7, Epoch: 2, LastSequence: 5, LastTimestamp: 99, CoordinatorEpoch: -1,
		TxnFirst: messages.NoOffset}}
	if got := s.Producers(); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if v, err := s.Check(batch(2, 3, 3, 13)); err != nil || !v.Duplicate || v.BaseOffset != 10 {
		t.Errorf("the last batch is judged %+v, %v", v, err)
	}
	if !slices.Equal(s.Snapshot(), kafkaSnapshot()) {
		t.Error("the snapshot is written differently")
	}
}

func FuzzRestore(f *testing.F) {
	f.Add(kafkaSnapshot())
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	s := New()
	s.Apply(inTxn(batch(0, 0, 2, 0)))
	f.Add(s.Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= snapshotHeaderSize {
			b = resummed(b) // a fuzzer does not guess sums
		}
		s := New()
		if err := s.Restore(b); err != nil {
			if !errors.Is(err, ErrCorruptSnapshot) || s.Len() != 0 {
				t.Fatalf("error %v, %d producers", err, s.Len())
			}
			return
		}
		again := New()
		if snapshot := s.Snapshot(); snapshot != nil {
			if err := again.Restore(snapshot); err != nil {
				t.Fatalf("own snapshot: %v", err)
			}
		}
		if !slices.Equal(s.Producers(), again.Producers()) || !slices.Equal(s.open, again.open) {
			t.Fatal("the snapshot of a restored state restores another state")
		}
		s.Apply(inTxn(batch(1, 0, 1, 50)))
		_ = s.ObserveMarker(marker(amy, 1, 51), false, 0)
		s.LastStable(52)
	})
}
