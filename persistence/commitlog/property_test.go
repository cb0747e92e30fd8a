package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// twinBatch is a batch as the slow twin remembers it.
type twinBatch struct {
	base, next messages.Offset
	epoch      messages.LeaderEpoch
	bytes      []byte
}

// listState is a State that remembers the base of every batch: nothing can be
// observed twice, or left out, without being seen.
type listState struct{ seen []messages.Offset }

func (s *listState) Reset() { s.seen = nil }

func (s *listState) Observe(h record.Header) error {
	if n := len(s.seen); n > 0 && h.BaseOffset <= s.seen[n-1] {
		return fmt.Errorf("batch %d observed after %d", h.BaseOffset, s.seen[n-1])
	}
	s.seen = append(s.seen, h.BaseOffset)
	return nil
}

func (s *listState) ObserveMarker(h record.Header, _ bool, _ int32) error {
	return s.Observe(h)
}

func (s *listState) TakeAborted() []data.EndedTxn { return nil }

func (s *listState) Open() []data.OpenTxn { return nil }

func (s *listState) Vanished(messages.ProducerID) {}

func (s *listState) Snapshot() []byte {
	b := []byte{1} // so that zeros are no snapshot
	for _, o := range s.seen {
		b = binary.BigEndian.AppendUint64(b, uint64(o))
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func (s *listState) Restore(b []byte) error {
	if len(b) < 5 || b[0] != 1 ||
		crc32.ChecksumIEEE(b[:len(b)-4]) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return errors.New("torn snapshot")
	}
	for b = b[1 : len(b)-4]; len(b) > 0; b = b[8:] {
		s.seen = append(s.seen, messages.Offset(binary.BigEndian.Uint64(b)))
	}
	return nil
}

// heldView is a View that stays out while the log changes.
type heldView struct {
	view messages.View
	want []byte
}

// world is a Log beside its slow twin, under random operations.
type world struct {
	t     *testing.T
	r     *rand.Rand
	disk  *vfs.Mem
	log   *Log
	state *listState
	held  []heldView

	batches   []twinBatch
	start     messages.Offset
	epoch     messages.LeaderEpoch
	highest   messages.Offset // log start: deleted segments may come back after a power cut
	saved     messages.Offset // the recovery point the node has on disk
	savedFrom messages.Offset // and the log start
}

func (w *world) end() messages.Offset {
	if n := len(w.batches); n > 0 {
		return w.batches[n-1].next
	}
	return w.log.End()
}

func (w *world) open(clean bool) Recovery {
	w.t.Helper()
	o := testOptions()
	o.Config.SegmentBytes = 2048
	o.State, o.Clean = w.state, clean
	o.RecoveryPoint, o.LogStart = w.saved, w.savedFrom
	l, rec, err := Open(w.disk, testDir, o)
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	w.log = l
	return rec
}

func (w *world) append() {
	var bs []record.Batch
	next := w.log.End()
	for range 1 + w.r.IntN(4) {
		n := 1 + w.r.IntN(3)
		b := batch(w.t, next, w.epoch, n, 1+w.r.IntN(300), noon.Add(time.Duration(next)*time.Second))
		next = b.NextOffset()
		bs = append(bs, b)
	}
	if err := w.log.Append(noon, bs); err != nil {
		w.t.Fatalf("append: %v", err)
	}
	for _, b := range bs {
		w.batches = append(w.batches, twinBatch{b.BaseOffset, b.NextOffset(), b.LeaderEpoch, b.Bytes})
		w.state.seen = append(w.state.seen, b.BaseOffset)
	}
}

func (w *world) truncate() {
	if len(w.batches) == 0 {
		return
	}
	to := w.start + messages.Offset(w.r.Int64N(int64(w.log.End()-w.start)+1))
	if err := w.log.TruncateTo(to); err != nil {
		w.t.Fatalf("truncate to %d: %v", to, err)
	}
	for len(w.batches) > 0 && w.batches[len(w.batches)-1].next > to {
		to = min(to, w.batches[len(w.batches)-1].base)
		w.batches = w.batches[:len(w.batches)-1]
	}
	if to = max(to, w.start); to == w.start {
		w.batches = nil
	}
	if w.log.End() != to {
		w.t.Fatalf("truncated to %d, ends at %d", to, w.log.End())
	}
	w.epoch = max(w.epoch, 0) + 1
}

func (w *world) advance() {
	to := w.start + messages.Offset(w.r.Int64N(int64(w.log.End()-w.start)/3+1))
	if _, err := w.log.AdvanceStart(to); err != nil {
		w.t.Fatal(err)
	}
	w.start = w.log.Start()
	w.savedFrom = w.start
}

func (w *world) retain() {
	c := testConfig()
	c.SegmentBytes = 2048
	c.RetentionBytes = 6000
	w.log.SetConfig(c)
	if _, err := w.log.Retain(noon, w.log.End()); err != nil {
		w.t.Fatal(err)
	}
	if w.r.IntN(2) == 0 {
		w.savedFrom = w.log.Start()
	}
	w.start = w.log.Start()
}

func (w *world) hold() {
	if w.log.End() == w.start || len(w.held) > 5 {
		return
	}
	from := w.start + messages.Offset(w.r.Int64N(int64(w.log.End()-w.start)))
	v, err := w.log.Read(from, w.log.End(), 1+w.r.IntN(20000), true)
	if err != nil {
		w.t.Fatal(err)
	}
	var want []byte
	for _, b := range w.batches {
		if b.next > from && len(want) < v.Bytes {
			want = append(want, b.bytes...)
		}
	}
	w.held = append(w.held, heldView{v, want})
}

func (w *world) letGo(all bool) {
	for len(w.held) > 0 && (all || w.r.IntN(2) == 0) {
		h := w.held[0]
		w.held = w.held[1:]
		got, err := h.view.AppendTo(nil)
		if err != nil || !bytes.Equal(got, h.want) {
			w.t.Fatalf("a view of %d bytes changed while it was out (%v)", len(h.want), err)
		}
		h.view.Release()
	}
}

// restart ends this life of the log and begins the next.
func (w *world) restart() {
	durable := w.log.Durable()
	kind := w.r.IntN(4)
	switch kind {
	case 0:
		w.letGo(true)
		if err := w.log.Close(); err != nil {
			w.t.Fatalf("close: %v", err)
		}
		durable = w.end()
	case 1:
		w.disk = w.crash(vfs.KeepAll)
		durable = w.end()
	case 2:
		w.disk = w.crash(vfs.LoseUnsynced)
	case 3:
		w.disk = w.crash(vfs.Torn)
	}
	w.letGo(true)
	w.log.Abandon()
	end := w.end()
	rec := w.open(kind == 0)
	if rec.Damaged {
		w.t.Fatalf("restart %d: damage was found where there is none: %+v", kind, rec)
	}
	if w.log.End() < durable || w.log.End() > end {
		w.t.Fatalf("restart %d: log had %d, durable %d, has %d: %+v", kind, end, durable,
			w.log.End(), rec)
	}
	for len(w.batches) > 0 && w.batches[len(w.batches)-1].next > w.log.End() {
		w.batches = w.batches[:len(w.batches)-1]
	}
	w.start = max(w.savedFrom, w.log.Start())
	if w.log.Start() != w.start {
		w.t.Fatalf("log starts at %d, want %d", w.log.Start(), w.start)
	}
	w.epoch = max(w.epoch, w.log.LatestEpoch())
	if w.log.End() == w.start {
		w.batches = nil // the rest of the last one lies below the start
	}
}

func (w *world) crash(mode vfs.CrashMode) *vfs.Mem { return w.disk.CrashClone(w.r.Uint64(), mode) }

// check compares log and twin.
func (w *world) check() {
	w.t.Helper()
	l := w.log
	if len(w.batches) > 0 && l.End() != w.end() {
		w.t.Fatalf("log ends at %d, twin at %d", l.End(), w.end())
	}
	if l.Durable() > l.End() || l.Start() > l.End() || l.Start() != w.start {
		w.t.Fatalf("start %d (twin %d) durable %d end %d", l.Start(), w.start, l.Durable(), l.End())
	}
	var want []byte
	for _, b := range w.batches {
		if b.next > w.start {
			want = append(want, b.bytes...)
			if got := l.EpochAt(max(b.base, w.start)); got != b.epoch {
				w.t.Fatalf("epoch of %d is %d, want %d", b.base, got, b.epoch)
			}
		}
	}
	if got := readAll(w.t, l, w.start); !bytes.Equal(got, want) {
		w.t.Fatalf("log has %d bytes from %d on, twin %d", len(got), w.start, len(want))
	}
	known := map[messages.Offset]bool{}
	for _, o := range w.state.seen {
		known[o] = true
	}
	w.highest = max(w.highest, w.start)
	for _, b := range w.batches {
		if b.base >= w.highest && !known[b.base] {
			w.t.Fatalf("the producers' state lacks the batch at %d", b.base)
		}
	}
	if n := len(w.state.seen); n > 0 && w.state.seen[n-1] >= l.End() {
		w.t.Fatalf("the producers' state knows of %d, log ends at %d", w.state.seen[n-1], l.End())
	}
}

func (w *world) step() {
	switch k := w.r.IntN(40); {
	case k < 18:
		w.append()
	case k < 20:
		w.epoch++
		if err := w.log.AssignEpoch(w.epoch, w.log.End()); err != nil {
			w.t.Fatal(err)
		}
	case k < 21:
		if err := w.log.Roll(noon); err != nil {
			w.t.Fatal(err)
		}
	case k < 25:
		mustFlush(w.t, w.log)
	case k < 27:
		w.saved = w.log.Durable() // the checkpoint the node writes now and then
	case k < 29:
		w.truncate()
	case k < 30:
		w.advance()
	case k < 31:
		w.retain()
	case k < 32:
		w.log.Idle()
	case k < 35:
		w.hold()
	case k < 37:
		w.letGo(false)
	default:
		w.restart()
	}
}

func TestALogEqualsItsSlowTwinThroughCrashes(t *testing.T) {
	rounds, steps := 60, 120
	if testing.Short() {
		rounds = 10
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := &world{t: t, r: rand.New(rand.NewPCG(seed, 7)), disk: newMem(t), state: &listState{}}
			w.open(false)
			for range steps {
				w.step()
				w.check()
			}
			w.letGo(true)
			w.log.Abandon()
		})
	}
}

// flipOrCut damages one file at random and says whether it was a log file.
func flipOrCut(t *testing.T, r *rand.Rand, disk *vfs.Mem) (damaged string) {
	names := fileNames(t, disk)
	name := names[r.IntN(len(names))]
	f, err := disk.OpenWrite(testDir + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, _ := f.Size()
	if size == 0 {
		return name
	}
	at := r.Int64N(size)
	if r.IntN(2) == 0 {
		if err := f.Truncate(at); err != nil {
			t.Fatal(err)
		}
		return name
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << r.IntN(8)
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	return name
}

// Whatever happened to the files, opening a log that was not closed cleanly
// never panics, serves only batches that were appended, in order and without a
// hole, and drops none that lies before the damage.
func TestDamagedFilesNeverPanicNorServeBadBatches(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 11))
		disk := newMem(t)
		l, _ := mustOpen(t, disk, testOptions())
		if err := l.AssignEpoch(1, 0); err != nil {
			t.Fatal(err)
		}
		fill(t, l, 60, 3, 100+r.IntN(200))
		want := readAll(t, l, 0)
		offsets := bases(mustBatches(t, want))
		if r.IntN(2) == 0 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		disk = disk.CrashClone(seed, vfs.KeepAll)
		damaged := flipOrCut(t, r, disk)
		o := testOptions()
		again, rec, err := Open(disk, testDir, o)
		if err != nil {
			if damaged != MetadataFile || !errors.Is(err, ErrBadMetadata) && !errors.Is(err, ErrWrongTopic) {
				t.Errorf("seed %d: %s damaged: %v", seed, damaged, err)
			}
			continue
		}
		got := readAll(t, again, again.Start())
		if !bytes.HasPrefix(want, got) {
			t.Errorf("seed %d: %s damaged, other bytes are served: %+v", seed, damaged, rec)
		}
		if base, suffix, _ := segment.ParseFileName(damaged); suffix != segment.LogSuffix {
			if damaged != epochFile && len(got) != len(want) {
				t.Errorf("seed %d: %s damaged, records are lost: %+v", seed, damaged, rec)
			}
		} else if again.End() < base {
			t.Errorf("seed %d: %s damaged, log ends at %d of %d", seed, damaged, again.End(),
				offsets[len(offsets)-1])
		}
		again.Abandon()
	}
}
