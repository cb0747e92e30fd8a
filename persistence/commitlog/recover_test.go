package commitlog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

func TestAFollowersGapsSurviveACrash(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	next := messages.Offset(0)
	for i := range 60 {
		b := batch(t, next, 1, 3, 100, noon)
		mustAppend(t, l, b)
		next = b.NextOffset() + messages.Offset(i%3*10)
	}
	want := readAll(t, l, 0)
	end := l.End()
	again, rec := mustOpen(t, m.CrashClone(1, vfs.KeepAll), testOptions())
	if again.End() != end || !bytes.Equal(readAll(t, again, 0), want) || rec.Reason != "" {
		t.Errorf("log ends at %d, had %d: %+v", again.End(), end, rec)
	}
	v, err := again.Read(end-40, end, 1<<20, true) // an offset that may lie in a gap
	if err != nil || v.Bytes == 0 {
		t.Errorf("read: %d bytes, %v", v.Bytes, err)
	}
	v.Release()
	if r, err := Verify(m, testDir); err != nil || len(r.Problems) > 0 {
		t.Errorf("verify: %+v %v", r.Problems, err)
	}
}

// Gaps must not hide what a power cut took: the log ends before the first record
// that is missing, and has all that was durable.
func TestAPowerCutInALogWithGapsLeavesAPrefix(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := newMem(t)
		l, _ := mustOpen(t, m, testOptions())
		next := messages.Offset(0)
		for range 20 + r.IntN(40) {
			b := batch(t, next+messages.Offset(r.IntN(3)*r.IntN(10)), 1, 3, 100, noon)
			mustAppend(t, l, b)
			next = b.NextOffset()
			switch r.IntN(12) {
			case 0:
				mustFlush(t, l)
			case 1:
				if err := l.TruncateTo(max(next-20, 0)); err != nil {
					t.Fatal(err)
				}
				next = l.End()
			}
		}
		want, durable := readAll(t, l, l.Start()), l.Durable()
		for _, mode := range []vfs.CrashMode{vfs.KeepAll, vfs.LoseUnsynced, vfs.Torn, vfs.Torn} {
			o := testOptions()
			o.RecoveryPoint = durable
			again, rec := mustOpen(t, m.CrashClone(seed+uint64(mode)*1000, mode), o)
			got := readAll(t, again, again.Start())
			if !bytes.HasPrefix(want, got) || again.End() < durable || rec.Damaged ||
				mode == vfs.KeepAll && again.End() != l.End() {
				t.Fatalf("seed %d, mode %d: log is %d to %d, was %d to %d, durable to %d: %+v",
					seed, mode, again.Start(), again.End(), l.Start(), l.End(), durable, rec)
			}
		}
	}
}

// A follower of a compacted log may have nothing to copy up to somewhere in the
// middle: its log starts where the leader's does all the same, and a crash takes
// nothing of it.
func TestALogThatBeginsWithAGapStartsBeforeIt(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		m := newMem(t)
		l, _ := mustOpen(t, m, testOptions())
		if restarted {
			if err := l.TruncateFullyAndStartAt(0); err != nil {
				t.Fatal(err)
			}
		}
		mustAppend(t, l, batch(t, 100, 1, 3, 100, noon))
		fill(t, l, 200, 3, 100)
		want, end := readAll(t, l, 0), l.End()
		again, rec := mustOpen(t, m.CrashClone(1, vfs.KeepAll), testOptions())
		if again.Start() != 0 || again.End() != end || !bytes.Equal(readAll(t, again, 0), want) {
			t.Errorf("log is %d to %d, was 0 to %d: %+v", again.Start(), again.End(), end, rec)
		}
	}
}

// A log of several segments, all synced, with a flipped bit in the second one.
func TestDamageBelowTheRecoveryPointIsReportedAndWhatFollowsIsKeptAside(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 200, 5, 100)
	mustFlush(t, l)
	want := readAll(t, l, 0)
	second := l.state.Load().segments[1]
	edit(t, m, second.Name(), func(f vfs.File, size int64) error {
		_, err := f.WriteAt([]byte{0x55, 0xaa}, size-20)
		return err
	})
	crashed := m.CrashClone(1, vfs.KeepAll)

	// Scanned from its start, the log ends before the damage.
	again, rec := mustOpen(t, crashed, testOptions())
	got := readAll(t, again, 0)
	if !bytes.HasPrefix(want, got) || again.End() < second.Base() || again.End() >= second.Next() {
		t.Errorf("log ends at %d", again.End())
	}
	if rec.Damaged || !strings.Contains(rec.Reason, "crc") || rec.TruncatedAt != again.End() ||
		rec.TruncatedBytes < int64(len(want)-len(got)) {
		t.Errorf("recovery %+v", rec)
	}

	// If the whole log is said to be synced, only its last segment is looked at.
	crashed = m.CrashClone(1, vfs.KeepAll)
	o := testOptions()
	o.RecoveryPoint = 200
	again, rec = mustOpen(t, crashed, o)
	if again.End() != 200 || rec.Reason != "" {
		t.Errorf("log ends at %d: %+v", again.End(), rec)
	}
	again.Abandon()

	// A recovery point inside the damaged segment: what is lost had been synced.
	crashed = m.CrashClone(1, vfs.KeepAll)
	o.RecoveryPoint = second.Next() - 1
	again, rec = mustOpen(t, crashed, o)
	if !rec.Damaged || len(rec.SetAside) == 0 {
		t.Errorf("recovery %+v", rec)
	}
	for _, name := range rec.SetAside {
		if _, err := crashed.Stat(name); err != nil {
			t.Errorf("%s was not kept: %v", name, err)
		}
	}
	fill(t, again, 300, 5, 100)
	mustBatches(t, readAll(t, again, 0))
}

func TestZerosAtTheEndAreTheNormalEnd(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 20, 5, 100)
	name := l.state.Load().segments[0].Name()
	before, err := m.Stat(name)
	if err != nil || before.Size() <= l.Size() {
		t.Fatalf("no space is reserved: %v", err)
	}
	for reserved, left := range map[int64]bool{before.Size(): true, l.Size() + 128<<10: false} {
		crashed := m.CrashClone(1, vfs.KeepAll)
		reserve(t, crashed, name, reserved)
		faulty := vfs.NewFaulty(crashed, 1)
		faulty.Record(vfs.OpTruncate | vfs.OpSync)
		again, rec := mustOpen(t, faulty, testOptions())
		if rec.Reason != "" || rec.TruncatedBytes != 0 || again.End() != 20 {
			t.Errorf("recovery %+v", rec)
		}
		if done := faulty.Recorded(); left != (len(done) == 0) {
			t.Errorf("of %d reserved bytes: %q", reserved, done)
		}
		after, err := crashed.Stat(name)
		if err != nil || left && after.Size() != reserved || !left && after.Size() != again.Size() {
			t.Errorf("%d bytes of %d used are left: %v", after.Size(), again.Size(), err)
		}
		if names := fileNames(t, crashed); len(names) != 3 {
			t.Errorf("files %q", names)
		}
		fill(t, again, 30, 5, 100)
		mustBatches(t, readAll(t, again, 0))
	}
}

func TestRecoveryCutsWhatWasWrittenBehindTheZeros(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 20, 5, 100)
	name := l.state.Load().segments[0].Name()
	f, err := m.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	// As after a power cut that kept the last of the pages of a write.
	if _, err := f.WriteAt([]byte{1}, l.Size()+1000); err != nil {
		t.Fatal(err)
	}
	again, rec := mustOpen(t, m.CrashClone(1, vfs.KeepAll), testOptions())
	if rec.Reason != "" || again.End() != 20 {
		t.Errorf("recovery %+v", rec)
	}
	if after, err := again.fsys.Stat(name); err != nil || after.Size() != again.Size() {
		t.Errorf("%d bytes of %d used are left: %v", after.Size(), again.Size(), err)
	}
}

func reserve(t *testing.T, m *vfs.Mem, name string, size int64) {
	t.Helper()
	f, err := m.OpenWrite(name)
	if err == nil {
		err = errors.Join(f.Allocate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenRemovesLeftoversAndLeavesUnknownFilesAlone(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 20, 5, 100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	gone := []string{
		"00000000000000000007.log" + segment.DeletedSuffix, "leader-epoch-checkpoint.tmp",
		"00000000000000000999.index", "00000000000000000999.timeindex",
	}
	kept := []string{"notes.txt", "12.log", "thesis.tmp", "hair.cleaned", "notes.deleted"}
	for _, name := range append(gone, kept...) {
		if err := segment.WriteFile(m, testDir+"/"+name, []byte("x"), true); err != nil {
			t.Fatal(err)
		}
	}
	again, _ := mustOpen(t, m, testOptions())
	mustBatches(t, readAll(t, again, 0))
	names := strings.Join(fileNames(t, m), " ") + " "
	for _, name := range gone {
		if strings.Contains(names, name+" ") {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range kept {
		if !strings.Contains(names, name+" ") {
			t.Errorf("%s is gone", name)
		}
	}
}

// What was acknowledged under larger limits is not damage under smaller ones.
func TestSmallerLimitsCutNoLargerBatchOff(t *testing.T) {
	mem := newMem(t)
	o := testOptions()
	o.Config.SegmentBytes = 4 << 20
	l, _ := mustOpen(t, mem, o)
	mustAppend(t, l, batch(t, 0, 0, 1, 2<<20, noon), batch(t, 1, 0, 1, 10, noon))
	l.Abandon()
	o.Config.SegmentBytes = 1 << 20
	l, rec := mustOpen(t, mem, o)
	if l.End() != 2 || rec.Reason != "" {
		t.Errorf("the log ends at %d: %+v", l.End(), rec)
	}
}

// A power cut may take the cut that a roll made at the end of the segment before: the
// file then has its reserved space again, and a segment behind it.
func TestReservedSpaceInFrontOfASegmentIsCutDurably(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 20, 5, 100)
	if err := l.Roll(noon); err != nil {
		t.Fatal(err)
	}
	sealed := l.state.Load().segments[l.Segments()-2]
	fill(t, l, l.End()+5, 5, 100)
	crashed := m.CrashClone(1, vfs.KeepAll)
	reserve(t, crashed, sealed.Name(), sealed.Size()+4000)

	faulty := vfs.NewFaulty(crashed, 1)
	faulty.Inject(vfs.Rule{Ops: vfs.OpTruncate, Err: vfs.ErrIO, Times: 1})
	if _, _, err := Open(faulty, testDir, testOptions()); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("opened a log that ends with zeros in front of a segment: %v", err)
	}
	faulty.Record(vfs.OpTruncate | vfs.OpSync)
	again, rec := mustOpen(t, faulty, testOptions())
	if rec.Reason != "" || again.End() != l.End() {
		t.Errorf("recovery %+v, end %d", rec, again.End())
	}
	if done := faulty.Recorded(); len(done) < 2 {
		t.Errorf("the cut is not durable: %q", done)
	}
	mustBatches(t, readAll(t, again, 0))
}
