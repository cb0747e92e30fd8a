package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

const dir = "p"

func newMem(t testing.TB) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	if err := m.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	return m
}

func testLimits() Limits { return Limits{Bytes: 1 << 20, IndexInterval: 300} }

func batch(t testing.TB, base messages.Offset, size int, at messages.Timestamp) record.Batch {
	t.Helper()
	bu := record.NewBuilder(record.Compression{})
	bu.Append(at, nil, make([]byte, size))
	b, err := bu.Build()
	if err != nil {
		t.Fatal(err)
	}
	b.Stamp(base, 0)
	return b
}

// filled returns a segment of n batches of about 100 bytes from base on.
func filled(t testing.TB, fsys vfs.FS, c *Cache, base messages.Offset, n int) *Segment {
	t.Helper()
	s, err := Create(fsys, dir, base, c, testLimits())
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		bs := []record.Batch{batch(t, s.Next(), 30, messages.Timestamp(1000+s.Next()))}
		if err := s.Write(bs); err != nil {
			t.Fatal(err)
		}
		s.Commit(bs)
	}
	return s
}

func find(t *testing.T, s *Segment, offset messages.Offset) messages.Offset {
	t.Helper()
	r, err := s.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	pos, err := r.Find(offset)
	if err != nil {
		t.Fatal(err)
	}
	if pos == r.Size() {
		return messages.NoOffset
	}
	h, err := r.Header(pos)
	if err != nil {
		t.Fatal(err)
	}
	return h.BaseOffset
}

func TestIndexesAreKafkas(t *testing.T) {
	m := newMem(t)
	s := filled(t, m, NewCache(4), 100, 20)
	if err := s.Seal(120); err != nil {
		t.Fatal(err)
	}
	b, err := vfs.ReadFile(m, FileName(dir, 100, IndexSuffix))
	if err != nil {
		t.Fatal(err)
	}
	size := int(s.Size()) / 20
	// The first entry comes with the batch that follows more than 300 bytes.
	per := int32(300/size + 1)
	want := []OffsetEntry{}
	for i := per; i < 20; i += per {
		want = append(want, OffsetEntry{Offset: i, Position: i * int32(size)})
	}
	entries, err := DecodeOffsets(b, 20, s.Size())
	if err != nil || !slices.Equal(entries, want) {
		t.Errorf("offset index %v, want %v (%v)", entries, want, err)
	}
	b, err = vfs.ReadFile(m, FileName(dir, 100, TimeIndexSuffix))
	if err != nil {
		t.Fatal(err)
	}
	times, err := DecodeTimes(b, 20)
	if err != nil || len(times) != len(want)+1 || times[len(times)-1] != (TimeEntry{1119, 19}) {
		t.Errorf("time index %v: %v", times, err)
	}
}

func TestASealedSegmentIsFoundWithDamagedOrMissingIndexes(t *testing.T) {
	for _, suffix := range []string{IndexSuffix, TimeIndexSuffix} {
		for harm, change := range map[string]func(f vfs.File, size int64) error{
			"none":  func(vfs.File, int64) error { return nil },
			"empty": func(f vfs.File, _ int64) error { return f.Truncate(0) },
			"cut":   func(f vfs.File, size int64) error { return f.Truncate(size - 3) },
			"zeros": func(f vfs.File, size int64) error {
				_, err := f.WriteAt(make([]byte, size), 0)
				return err
			},
			"elsewhere": func(f vfs.File, size int64) error {
				_, err := f.WriteAt([]byte{9}, size-1)
				return err
			},
		} {
			t.Run(suffix+" "+harm, func(t *testing.T) {
				m := newMem(t)
				s := filled(t, m, NewCache(4), 100, 50)
				if err := s.Seal(150); err != nil {
					t.Fatal(err)
				}
				f, err := m.OpenWrite(FileName(dir, 100, suffix))
				if err != nil {
					t.Fatal(err)
				}
				size, _ := f.Size()
				if err := change(f, size); err != nil {
					t.Fatal(err)
				}
				f.Close()
				again := OpenSealed(m, dir, 100, 150, s.Size(), NewCache(4))
				again.Limits = testLimits()
				for o := messages.Offset(100); o < 150; o++ {
					if got := find(t, again, o); got != o {
						t.Fatalf("offset %d found at %d", o, got)
					}
				}
				if largest, err := again.LargestTimestamp(); err != nil || largest.Timestamp != 1149 {
					t.Errorf("largest timestamp %+v: %v", largest, err)
				}
			})
		}
	}
}

func TestTheCacheBoundsOpenFilesAndSparesThoseInUse(t *testing.T) {
	m := newMem(t)
	c := NewCache(4)
	var all []*Segment
	for i := range 12 {
		s := filled(t, m, c, messages.Offset(i*10), 10)
		if err := s.Seal(s.Next()); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if c.Open() > 4 {
		t.Errorf("%d files are open", c.Open())
	}
	var held []*Reader
	for _, s := range all[:6] {
		r, err := s.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, r)
	}
	if c.Open() < 6 {
		t.Errorf("%d files are open, 6 in use", c.Open())
	}
	for i, s := range all {
		if got := find(t, s, messages.Offset(i*10+5)); got != messages.Offset(i*10+5) {
			t.Errorf("segment %d: found %d", i, got)
		}
	}
	for i, r := range held {
		if b, err := r.Batch(0); err != nil || b.BaseOffset != messages.Offset(i*10) {
			t.Errorf("held reader %d: %v", i, err)
		}
		r.Release()
	}
	if c.Open() > 4 {
		t.Errorf("%d files are open after their release", c.Open())
	}
	for _, s := range all {
		s.Abandon()
	}
	if c.Open() != 0 {
		t.Errorf("%d files are open after all were abandoned", c.Open())
	}
	if _, err := all[0].Acquire(); !errors.Is(err, ErrRetired) {
		t.Errorf("acquire after abandon: %v", err)
	}
}

func TestSpaceIsReservedInGrowingSteps(t *testing.T) {
	m := newMem(t)
	faulty := vfs.NewFaulty(m, 1)
	faulty.Record(vfs.OpAllocate)
	l := testLimits()
	s, err := Create(faulty, dir, 0, NewCache(4), l)
	if err != nil {
		t.Fatal(err)
	}
	for s.Size() < 500<<10 {
		bs := []record.Batch{batch(t, s.Next(), 10000, 1)}
		if err := s.Write(bs); err != nil {
			t.Fatal(err)
		}
		s.Commit(bs)
	}
	want := []string{"allocate p/00000000000000000000.log 4096"}
	for kib := 12; kib <= 768; kib *= 2 { // 10 KB need three of the first steps
		want = append(want, fmt.Sprintf("allocate p/00000000000000000000.log %d", kib<<10))
	}
	if got := faulty.Recorded(); !slices.Equal(got, want) {
		t.Errorf("allocations %q", got)
	}
	full := faulty.Inject(vfs.Rule{Ops: vfs.OpAllocate, Nth: 1, Err: vfs.ErrNoSpace})
	before := s.Size()
	for s.Size() < 800<<10 { // the step fails, what is needed does not
		bs := []record.Batch{batch(t, s.Next(), 10000, 1)}
		if err := s.Write(bs); err != nil {
			t.Fatal(err)
		}
		s.Commit(bs)
	}
	if full.Fired() != 1 || s.Size() <= before {
		t.Errorf("fired %d, size %d", full.Fired(), s.Size())
	}
}

func TestWritesAreGatheredWithinBounds(t *testing.T) {
	faulty := vfs.NewFaulty(newMem(t), 1)
	faulty.Record(vfs.OpWritev)
	s, err := Create(faulty, dir, 0, NewCache(4), testLimits())
	if err != nil {
		t.Fatal(err)
	}
	var bs []record.Batch
	for next := messages.Offset(0); next < 200; next++ {
		size := 10
		if next > 150 {
			size = 60 << 10
		}
		if next > 160 {
			size = 1
		}
		bs = append(bs, batch(t, next, size, 1))
	}
	var want []byte
	for _, b := range bs {
		want = append(want, b.Bytes...)
	}
	if err := s.Write(bs); err != nil {
		t.Fatal(err)
	}
	if s.Size() != 0 {
		t.Error("visible before the commit")
	}
	s.Commit(bs)
	r, err := s.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	got, err := r.Bytes(0, r.Size())
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes: %v", err)
	}
	if n := len(faulty.Recorded()); n < 200/gatherBuffers || n > 10 {
		t.Errorf("%d writes", n)
	}
}

func TestNamesAreReadAsTheyAreMade(t *testing.T) {
	for _, base := range []messages.Offset{0, 7, math.MaxInt64} {
		name := FileName("", base, LogSuffix)
		if got, suffix, ok := ParseFileName(name); !ok || got != base || suffix != LogSuffix {
			t.Errorf("%s: %d %s %v", name, got, suffix, ok)
		}
	}
	for _, name := range []string{"", "1.log", "00000000000000000000", "0000000000000000000x.log",
		"99999999999999999999.log", "-0000000000000000001.log"} {
		if _, _, ok := ParseFileName(name); ok {
			t.Errorf("%q is taken for a segment", name)
		}
	}
}

func TestAFaultInTheMappingIsAnErrorAndOtherPanicsAreNot(t *testing.T) {
	name := t.TempDir()
	fsys := vfs.OS{}
	s, err := Create(fsys, name, 0, NewCache(4), testLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abandon()
	for range 40 {
		bs := []record.Batch{batch(t, s.Next(), 10000, 1)}
		if err := s.Write(bs); err != nil {
			t.Fatal(err)
		}
		s.Commit(bs)
	}
	r, err := s.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	f, err := fsys.OpenWrite(s.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(0); err != nil { // as someone with a shell might
		t.Fatal(err)
	}
	var ioErr *IOError
	err = r.Walk(0, func(int64, record.Header) bool { return true })
	if !errors.As(err, &ioErr) {
		t.Errorf("a walk over a file that was cut: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic of another kind was swallowed")
		}
	}()
	_ = guard(r, func() error { panic("other") })
}

func FuzzOffsetIndex(f *testing.F) {
	f.Add(EncodeOffsets([]OffsetEntry{{3, 100}, {7, 900}}), int64(10), int64(1000))
	f.Add([]byte{1, 2, 3}, int64(10), int64(1000))
	f.Fuzz(func(t *testing.T, b []byte, next, size int64) {
		entries, err := DecodeOffsets(b, next, size)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Offset < 0 || int64(e.Offset) >= next || int64(e.Position) >= size {
				t.Errorf("entry %+v of a segment of %d offsets, %d bytes", e, next, size)
			}
		}
		if !bytes.Equal(EncodeOffsets(entries), b) {
			t.Error("encoded to other bytes")
		}
	})
}

func FuzzTimeIndex(f *testing.F) {
	f.Add(EncodeTimes([]TimeEntry{{1000, 1}, {2000, 7}}), int64(10))
	f.Add([]byte{1, 2, 3}, int64(10))
	f.Fuzz(func(t *testing.T, b []byte, next int64) {
		entries, err := DecodeTimes(b, next)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Offset < 0 || int64(e.Offset) >= next || e.Timestamp < 0 {
				t.Errorf("entry %+v of a segment of %d offsets", e, next)
			}
		}
		if !bytes.Equal(EncodeTimes(entries), b) {
			t.Error("encoded to other bytes")
		}
	})
}

// FuzzIndexFiles gives a sealed segment index files of any content: lookups
// still find every batch, because what does not fit the log is not believed.
func FuzzIndexFiles(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add(EncodeOffsets([]OffsetEntry{{4, 400}}), EncodeTimes([]TimeEntry{{1004, 4}}))
	f.Fuzz(func(t *testing.T, index, times []byte) {
		m := newMem(t)
		s := filled(t, m, NewCache(4), 100, 30)
		if err := s.Seal(130); err != nil {
			t.Fatal(err)
		}
		if err := WriteFile(m, FileName(dir, 100, IndexSuffix), index, false); err != nil {
			t.Fatal(err)
		}
		if err := WriteFile(m, FileName(dir, 100, TimeIndexSuffix), times, false); err != nil {
			t.Fatal(err)
		}
		again := OpenSealed(m, dir, 100, 130, s.Size(), NewCache(4))
		for o := messages.Offset(100); o < 130; o++ {
			if got := find(t, again, o); got != o {
				t.Fatalf("offset %d found at %d", o, got)
			}
		}
		again.Abandon()
	})
}
