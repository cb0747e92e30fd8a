package commitlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// txnEntry is a batch as the twin of a log with transactions remembers it.
type txnEntry struct {
	base, next messages.Offset
	producer   messages.ProducerID // NoProducerID: in no transaction
	marker     bool
	commit     bool
}

// txnWorld is a log with transactions beside the list of what is in it.
type txnWorld struct {
	t       *testing.T
	r       *rand.Rand
	disk    *vfs.Mem
	log     *Log
	state   *producers.State
	entries []txnEntry
	epoch   messages.LeaderEpoch
	saved   messages.Offset // the recovery point the node has on disk
	from    messages.Offset // and the log start

	compacted int
	mark      messages.Offset // nothing below it is truncated
}

func (w *txnWorld) options(clean bool) Options {
	o := testOptions()
	o.Config.SegmentBytes = 1500
	o.State, o.Clean = w.state, clean
	o.RecoveryPoint, o.LogStart = w.saved, w.from
	return o
}

func (w *txnWorld) open(clean bool) {
	w.t.Helper()
	w.state = producers.New()
	l, rec, err := Open(w.disk, testDir, w.options(clean))
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	if rec.Damaged {
		w.t.Fatalf("damage was found where there is none: %+v", rec)
	}
	w.log = l
}

func (w *txnWorld) build(base messages.Offset) (record.Batch, txnEntry) {
	e := txnEntry{base: base, producer: messages.NoProducerID}
	bu := record.NewBuilder(record.Compression{})
	for i := range 1 + w.r.IntN(3) {
		// Keys that nobody else has: compaction takes only what was aborted.
		key := fmt.Appendf(nil, "%d", base+messages.Offset(i))
		bu.Append(messages.Timestamp(noon.UnixMilli()), key, make([]byte, w.r.IntN(60)))
	}
	id, kind := messages.ProducerID(w.r.IntN(4)), w.r.IntN(6)
	if kind > 0 {
		e.producer = id
		bu.Producer(id, 0, messages.NoSequence).Transactional()
	}
	b, err := bu.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	if kind > 3 {
		e.marker, e.commit = true, w.r.IntN(3) == 0
		b = record.EndTxnMarker(record.Marker{Commit: e.commit}, id, 0, 0)
	}
	b.Stamp(base, w.epoch)
	e.next = b.NextOffset()
	return b, e
}

// append is what a leader or follower does with new batches.
func (w *txnWorld) append() {
	var batches []record.Batch
	var entries []txnEntry
	next := w.log.End()
	for range 1 + w.r.IntN(6) {
		b, e := w.build(next)
		batches, entries, next = append(batches, b), append(entries, e), e.next
	}
	if err := w.log.Append(noon, batches); err != nil {
		w.t.Fatal(err)
	}
	for i, e := range entries {
		if e.marker {
			_ = w.state.ObserveMarker(batches[i].Header, e.commit, 0)
		} else {
			_ = w.state.Observe(batches[i].Header)
		}
	}
	if err := w.log.AddAborted(w.state.TakeAborted()); err != nil {
		w.t.Fatal(err)
	}
	w.entries = append(w.entries, entries...)
}

func (w *txnWorld) truncate() {
	least := max(w.log.Start(), w.mark)
	to := least + messages.Offset(w.r.Int64N(int64(w.log.End()-least)+1))
	if err := w.log.TruncateTo(to); err != nil {
		w.t.Fatal(err)
	}
	w.cut()
	w.epoch++
}

// cut makes the twin end where the log does.
func (w *txnWorld) cut() {
	for n := len(w.entries); n > 0 && w.entries[n-1].next > w.log.End(); n-- {
		w.entries = w.entries[:n-1]
	}
}

func (w *txnWorld) restart() {
	kind, durable := w.r.IntN(4), w.log.Durable()
	switch kind {
	case 0:
		if err := w.log.Close(); err != nil {
			w.t.Fatal(err)
		}
		if w.r.IntN(2) == 0 { // and the machine goes, too
			w.disk = w.disk.CrashClone(w.r.Uint64(), vfs.LoseUnsynced)
		}
	case 1:
		w.disk = w.disk.CrashClone(w.r.Uint64(), vfs.KeepAll)
	case 2:
		w.disk = w.disk.CrashClone(w.r.Uint64(), vfs.LoseUnsynced)
	case 3:
		w.disk = w.disk.CrashClone(w.r.Uint64(), vfs.Torn)
	}
	w.log.Abandon()
	w.open(kind == 0)
	if w.log.End() < durable {
		w.t.Fatalf("restart %d: the log ends at %d, durable was %d", kind, w.log.End(), durable)
	}
	w.cut()
	w.epoch = max(w.epoch, w.log.LatestEpoch())
}

// outcomes says of every entry whether its records are aborted, and where the
// first undecided transaction begins.
func (w *txnWorld) outcomes() (aborted []bool, stable messages.Offset) {
	aborted = make([]bool, len(w.entries))
	open := map[messages.ProducerID][]int{}
	for i, e := range w.entries {
		switch {
		case e.marker:
			for _, k := range open[e.producer] {
				aborted[k] = !e.commit
			}
			delete(open, e.producer)
		case e.producer >= 0:
			open[e.producer] = append(open[e.producer], i)
		}
	}
	stable = w.log.End()
	for _, of := range open {
		stable = min(stable, w.entries[of[0]].base)
	}
	return aborted, stable
}

// consume reads as a read_committed consumer does, and returns the bases of the
// batches whose records it shows.
func (w *txnWorld) consume(from, limit messages.Offset) (shown []messages.Offset) {
	for from < limit {
		view, aborted, err := w.log.ReadCommitted(from, limit, 1+w.r.IntN(2000), true)
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := view.AppendTo(nil)
		view.Release()
		if err != nil {
			w.t.Fatal(err)
		}
		if len(b) == 0 && w.compacted > 0 {
			break // the rest was compacted away
		}
		slices.SortFunc(aborted,
			func(a, b data.AbortedTxn) int { return int(a.FirstOffset - b.FirstOffset) })
		skip := map[messages.ProducerID]bool{}
		for _, b := range mustBatches(w.t, b) {
			for len(aborted) > 0 && aborted[0].FirstOffset <= b.LastOffset() {
				skip[aborted[0].Producer] = true
				aborted = aborted[1:]
			}
			switch m, ok, _ := record.ParseMarker(&b); {
			case ok && !m.Commit:
				delete(skip, b.ProducerID)
			case !b.Control() && b.Count > 0 && (!b.Transactional() || !skip[b.ProducerID]):
				shown = append(shown, b.BaseOffset)
			}
			from = b.NextOffset()
		}
	}
	return shown
}

func (w *txnWorld) check() {
	w.t.Helper()
	aborted, stable := w.outcomes()
	start, end := w.log.Start(), w.log.End()
	w.state.AdvanceHighWatermark(end)
	got := max(w.state.LastStable(end), start)
	if stable >= start && got != stable || stable < start && got < start {
		w.t.Fatalf("last stable offset of a log from %d to %d is %d, twin says %d",
			start, end, got, stable)
	}
	limit := min(got, max(stable, start))
	if limit <= start {
		return
	}
	from := start + messages.Offset(w.r.Int64N(int64(limit-start)))
	var want []messages.Offset
	for i, e := range w.entries {
		if e.next > from && e.next <= limit && !e.marker && !aborted[i] {
			want = append(want, e.base)
		}
	}
	if shown := w.consume(from, limit); !slices.Equal(shown, want) {
		w.t.Fatalf("a consumer of %d to %d sees %v, want %v", from, limit, shown, want)
	}
}

// compact runs a compaction, which takes aborted records and in the end markers.
func (w *txnWorld) compact() {
	mustFlush(w.t, w.log)
	end := w.log.End()
	w.mark = end // what is compacted by stays as it is
	w.state.AdvanceHighWatermark(end)
	out, err := w.log.PrepareCompaction(CompactOptions{Now: noon.Add(time.Hour), Watermark: end,
		Stable: w.state.LastStable(end), MapBytes: 1 << 20,
		Retention: time.Duration(w.r.IntN(2)) * time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	for c := out.Compaction; c != nil && c.More(); {
		if err := c.Clean(nil); err != nil {
			w.t.Fatal(err)
		}
		if err := w.log.Swap(c); err != nil {
			w.t.Fatal(err)
		}
		w.compacted++
	}
}

func (w *txnWorld) step() {
	switch k := w.r.IntN(40); {
	case k < 22:
		w.append()
	case k < 24:
		if err := w.log.Roll(noon); err != nil {
			w.t.Fatal(err)
		}
	case k < 27:
		mustFlush(w.t, w.log)
	case k < 29:
		w.saved = w.log.Durable()
	case k < 31:
		w.truncate()
	case k < 33:
		to := w.log.Start() + messages.Offset(w.r.Int64N(int64(w.log.End()-w.log.Start())/4+1))
		if _, err := w.log.AdvanceStart(to); err != nil {
			w.t.Fatal(err)
		}
		w.from = w.log.Start()
	case k < 35:
		w.log.Idle()
	case k < 37:
		w.compact()
	default:
		w.restart()
	}
}

func TestReadCommittedShowsWhatWasCommittedThroughCrashesAndTruncations(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	compacted := 0
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := &txnWorld{t: t, r: rand.New(rand.NewPCG(seed, 3)), disk: newMem(t)}
			w.open(false)
			for range 120 {
				w.step()
				w.check()
			}
			w.log.Abandon()
			compacted += w.compacted
		})
	}
	if compacted < rounds {
		t.Errorf("%d compactions in %d rounds", compacted, rounds)
	}
}

// abort appends a transaction of one batch and its abort marker.
func abort(t testing.TB, l *Log, s *producers.State, id messages.ProducerID) {
	t.Helper()
	bu := record.NewBuilder(record.Compression{}).
		Producer(id, 0, messages.NoSequence).Transactional()
	bu.Append(messages.Timestamp(noon.UnixMilli()), nil, make([]byte, 100))
	b, err := bu.Build()
	if err != nil {
		t.Fatal(err)
	}
	b.Stamp(l.End(), 0)
	m := record.EndTxnMarker(record.Marker{}, id, 0, 0)
	m.Stamp(b.NextOffset(), 0)
	if err := l.Append(noon, batchesOf(b, m)); err != nil {
		t.Fatal(err)
	}
	_ = s.Observe(b.Header)
	_ = s.ObserveMarker(m.Header, false, 0)
	if err := l.AddAborted(s.TakeAborted()); err != nil {
		t.Fatal(err)
	}
}

func txnOptions(s *producers.State) Options {
	o := testOptions()
	o.State = s
	return o
}

func mustAborted(t testing.TB, l *Log) []data.EndedTxn {
	t.Helper()
	all, err := l.Aborted(l.Start(), l.End())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestATransactionIndexThatIsDamagedIsMadeAgain(t *testing.T) {
	for _, name := range []string{"a sealed segment", "the active segment"} {
		t.Run(name, func(t *testing.T) {
			disk, s := newMem(t), producers.New()
			l, _ := mustOpen(t, disk, txnOptions(s))
			for i := range 40 {
				abort(t, l, s, messages.ProducerID(i%3))
			}
			want := mustAborted(t, l)
			if len(want) != 40 || l.Segments() < 3 {
				t.Fatalf("%d aborted in %d segments", len(want), l.Segments())
			}
			segments := l.state.Load().segments
			base := segments[1].Base()
			if name == "the active segment" {
				base = segments[len(segments)-1].Base()
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			file := segment.FileName(testDir, base, segment.TxnIndexSuffix)
			if err := segment.WriteFile(disk, file, []byte("damaged"), true); err != nil {
				t.Fatal(err)
			}
			for range 2 { // once more: it is repaired on disk, too
				o := txnOptions(producers.New())
				o.Clean = true
				l, _ = mustOpen(t, disk, o)
				if got := mustAborted(t, l); !slices.Equal(got, want) {
					t.Fatalf("got %v, want %v", got, want)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestTransactionIndexesGoWithTheirSegments(t *testing.T) {
	disk, s := newMem(t), producers.New()
	l, _ := mustOpen(t, disk, txnOptions(s))
	for l.Segments() < 6 {
		abort(t, l, s, 1)
	}
	bases := func() (all []messages.Offset) {
		for _, name := range fileNames(t, disk) {
			if base, suffix, ok := segment.ParseFileName(name); ok && suffix == segment.TxnIndexSuffix {
				all = append(all, base)
			}
		}
		return all
	}
	before := bases()
	if len(before) != 5 {
		t.Fatalf("%d segments, indexes %v", l.Segments(), before)
	}
	if _, err := l.AdvanceStart(before[2]); err != nil {
		t.Fatal(err)
	}
	if got := bases(); !slices.Equal(got, before[2:]) {
		t.Errorf("after the first were deleted: %v of %v", got, before)
	}
	if err := l.TruncateTo(before[3]); err != nil {
		t.Fatal(err)
	}
	if got := bases(); !slices.Equal(got, before[2:3]) {
		t.Errorf("after the last were truncated away: %v of %v", got, before)
	}
	if got := mustAborted(t, l); len(got) == 0 || got[len(got)-1].Marker >= l.End() {
		t.Errorf("the log ends at %d and has %v", l.End(), got)
	}
}

func TestRecordsAreNotDurableBeforeTheirTransactionIndexIsWritten(t *testing.T) {
	mem := newMem(t)
	disk, s := vfs.NewFaulty(mem, 1), producers.New()
	l, _ := mustOpen(t, disk, txnOptions(s))
	full := disk.Inject(vfs.Rule{Ops: vfs.OpCreate, Path: "*" + segment.TxnIndexSuffix,
		Err: vfs.ErrNoSpace})
	for l.Segments() < 2 {
		abort(t, l, s, 1)
	}
	abort(t, l, s, 1)
	want := mustAborted(t, l)
	mustFlush(t, l)
	if got := l.Durable(); got != 0 {
		t.Errorf("durable up to %d", got)
	}
	crashed, _ := mustOpen(t, mem.CrashClone(1, vfs.KeepAll), func() Options {
		o := txnOptions(producers.New())
		o.RecoveryPoint = l.Durable()
		return o
	}())
	if got := mustAborted(t, crashed); !slices.Equal(got, want) {
		t.Errorf("after a crash: %v, want %v", got, want)
	}
	full.Remove()
	mustFlush(t, l)
	if l.Durable() != l.End() {
		t.Errorf("durable up to %d of %d after there was room", l.Durable(), l.End())
	}
}

func TestALogRollsBeforeItsTransactionIndexIsTooLarge(t *testing.T) {
	s := producers.New()
	o := txnOptions(s)
	o.Config.SegmentBytes, o.Config.IndexMaxBytes = 1<<20, 4*segment.TxnEntrySize
	l, _ := mustOpen(t, newMem(t), o)
	for range 20 {
		abort(t, l, s, 1)
	}
	if l.Segments() < 4 {
		t.Errorf("%d segments", l.Segments())
	}
	if got := mustAborted(t, l); len(got) != 20 {
		t.Errorf("%d aborted", len(got))
	}
}

func TestReadingCommittedKeepsTheRulesOfReading(t *testing.T) {
	s := producers.New()
	l, _ := mustOpen(t, newMem(t), txnOptions(s))
	abort(t, l, s, 1)
	if _, _, err := l.ReadCommitted(9, 10, 100, true); !errors.Is(err, messages.ErrOffsetOutOfRange) {
		t.Errorf("above the end: %v", err)
	}
	view, none, err := l.ReadCommitted(2, 2, 100, true)
	if err != nil || view.Bytes != 0 || none != nil {
		t.Errorf("at the end: %v, %v, %v", view, none, err)
	}
	if err := l.Roll(noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	var aborted []data.AbortedTxn
	view, aborted, err = l.ReadCommitted(0, 2, 1<<20, true)
	if err != nil || len(aborted) != 1 || aborted[0] != (data.AbortedTxn{Producer: 1}) {
		t.Errorf("got %v, %v", aborted, err)
	}
	view.Release()
}
