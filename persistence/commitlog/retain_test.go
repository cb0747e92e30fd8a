package commitlog

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

func TestRetentionByTimeDeletesWholeSegmentsBelowTheHighWatermark(t *testing.T) {
	for _, tt := range []struct {
		name          string
		age           time.Duration
		now           time.Duration // after noon
		highWatermark messages.Offset
		wantStart     func(bases []messages.Offset) messages.Offset
	}{
		{"nothing is old enough", time.Hour, 0, 300,
			func(b []messages.Offset) messages.Offset { return 0 }},
		{"the negative age keeps all", -1, 1000 * time.Hour, 300,
			func(b []messages.Offset) messages.Offset { return 0 }},
		{"old ones go", 100 * time.Second, 300 * time.Second, 300,
			func(b []messages.Offset) messages.Offset {
				i := 0 // the records of offset o were written o seconds after noon
				for i+1 < len(b) && b[i+1] < 200 {
					i++
				}
				return b[i]
			}},
		{"the high watermark holds them", time.Second, 300 * time.Hour, 1,
			func(b []messages.Offset) messages.Offset { return 0 }},
		{"all go, and an empty segment stays", time.Second, 300 * time.Hour, 300,
			func(b []messages.Offset) messages.Offset { return 300 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMem(t)
			o := testOptions()
			o.Config.RetentionAge = tt.age
			l, _ := mustOpen(t, m, o)
			fill(t, l, 300, 1, 100)
			var starts []messages.Offset
			for _, s := range l.state.Load().segments {
				starts = append(starts, s.Base())
			}
			before := l.Segments()
			deleted, err := l.Retain(noon.Add(tt.now), tt.highWatermark)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.wantStart(starts)
			if l.Start() != want || l.End() != 300 {
				t.Errorf("log is %d to %d, want %d to 300", l.Start(), l.End(), want)
			}
			if want == 300 {
				before++ // the one that was rolled
			}
			if l.Segments() != before-deleted {
				t.Errorf("deleted %d of %d, %d left", deleted, before, l.Segments())
			}
			mustBatches(t, readAll(t, l, l.Start()))
			waitFor(t, func() bool { return l.files.Pending() == 0 })
			for _, name := range fileNames(t, m) {
				if base, _, ok := segment.ParseFileName(name); ok && base < want {
					t.Errorf("%s is still there", name)
				}
			}
		})
	}
}

func waitFor(t *testing.T, ready func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(time.Millisecond); !ready(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}

func TestRetentionBySizeKeepsAtLeastThatMuch(t *testing.T) {
	o := testOptions()
	o.Config.RetentionBytes = 10000
	l, _ := mustOpen(t, newMem(t), o)
	fill(t, l, 300, 1, 100)
	if _, err := l.Retain(noon, 300); err != nil {
		t.Fatal(err)
	}
	first := l.state.Load().segments[0].Size()
	if l.Size() < 10000 || l.Size()-first >= 10000 {
		t.Errorf("%d bytes are left, the first segment has %d", l.Size(), first)
	}
}

func TestTheStartAdvancesInsideASegmentAndSurvivesAReopen(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 300, 5, 100)
	if _, err := l.AdvanceStart(301); !errors.Is(err, messages.ErrOffsetOutOfRange) {
		t.Errorf("above the end: %v", err)
	}
	deleted, err := l.AdvanceStart(152)
	if err != nil || deleted == 0 || l.Start() != 152 {
		t.Errorf("deleted %d, start %d: %v", deleted, l.Start(), err)
	}
	if _, err := l.Read(151, 300, 100, true); !errors.Is(err, messages.ErrOffsetOutOfRange) {
		t.Errorf("read below the start: %v", err)
	}
	if got := bases(mustBatches(t, readAll(t, l, 152))); got[0] != 150 {
		t.Errorf("first batch at %d", got[0])
	}
	if _, err := l.AdvanceStart(300); err != nil || l.Segments() != 1 {
		t.Errorf("%d segments: %v", l.Segments(), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o := testOptions()
	o.Clean, o.LogStart = true, 300
	again, _ := mustOpen(t, m, o)
	if again.Start() != 300 || again.End() != 300 {
		t.Errorf("reopened as %d to %d", again.Start(), again.End())
	}
}

func TestAViewOutlivesTheDeletionOfItsSegment(t *testing.T) {
	for _, how := range []string{"retention", "truncation", "restart", "abandon"} {
		t.Run(how, func(t *testing.T) {
			m := newMem(t)
			l, _ := mustOpen(t, m, testOptions())
			fill(t, l, 100, 5, 100)
			want := readAll(t, l, 0)
			v, err := l.Read(0, 100, 1<<20, true)
			if err != nil {
				t.Fatal(err)
			}
			switch how {
			case "retention":
				_, err = l.AdvanceStart(100)
			case "truncation":
				err = l.TruncateTo(17)
				fill(t, l, 90, 5, 120)
			case "restart":
				err = l.TruncateFullyAndStartAt(1000)
			case "abandon":
				l.Abandon()
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := v.AppendTo(nil); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the view's bytes changed: %v", err)
			}
			v.Release()
			waitFor(t, func() bool { return how == "abandon" || l.files.Pending() == 0 })
			for _, name := range fileNames(t, m) {
				if how != "abandon" && strings.HasSuffix(name, segment.DeletedSuffix) {
					t.Errorf("%s is still there", name)
				}
			}
		})
	}
}

func TestTruncationEndsBeforeTheBatchThatHoldsTheOffset(t *testing.T) {
	for _, tt := range []struct {
		name    string
		to, end messages.Offset
		epoch   messages.LeaderEpoch
	}{
		{"at a batch's border", 50, 50, 1},
		{"inside a batch", 53, 50, 1},
		{"at the border of an epoch", 60, 60, 1},
		{"behind it", 65, 65, 2},
		{"at the end", 100, 100, 2},
		{"beyond it", 200, 100, 2},
		{"at the start", 0, 0, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMem(t)
			o := testOptions()
			o.State = &listState{}
			l, _ := mustOpen(t, m, o)
			mustAssign(t, l, 1)
			fill(t, l, 60, 5, 100)
			mustAssign(t, l, 2)
			fill(t, l, 100, 5, 100)
			mustFlush(t, l)
			want := readAll(t, l, 0)
			if err := l.TruncateTo(tt.to); err != nil {
				t.Fatal(err)
			}
			if l.End() != tt.end || l.LatestEpoch() != tt.epoch || l.Durable() > l.End() {
				t.Errorf("end %d epoch %d durable %d", l.End(), l.LatestEpoch(), l.Durable())
			}
			got := readAll(t, l, 0)
			if !bytes.HasPrefix(want, got) {
				t.Error("other bytes")
			}
			// As it is, after a power cut, too.
			o.RecoveryPoint = 100
			o.State = &listState{}
			again, rec := mustOpen(t, m.CrashClone(1, vfs.LoseUnsynced), o)
			if !bytes.Equal(readAll(t, again, 0), got) || again.End() != tt.end || rec.Damaged {
				t.Errorf("after a power cut the log ends at %d: %+v", again.End(), rec)
			}
			if seen := o.State.(*listState).seen; len(seen) != int(tt.end/5) {
				t.Errorf("the state knows of %d", seen)
			}
			fill(t, l, 120, 5, 70)
			mustBatches(t, readAll(t, l, 0))
		})
	}
}

func mustAssign(t *testing.T, l *Log, epoch messages.LeaderEpoch) {
	t.Helper()
	if err := l.AssignEpoch(epoch, l.End()); err != nil {
		t.Fatal(err)
	}
}

func TestRecordsAboveTheNewEndAreCheckedAfterATruncation(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 40, 5, 20)
	mustFlush(t, l)
	if err := l.TruncateTo(10); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 40, 5, 20) // not flushed; the node's recovery point still says 40
	kept := 0
	for seed := range uint64(50) {
		o := testOptions()
		o.RecoveryPoint = 40
		again, rec := mustOpen(t, m.CrashClone(seed, vfs.Torn), o)
		mustBatches(t, readAll(t, again, 0))
		if again.End() < 10 || rec.Damaged {
			t.Errorf("end %d: %+v", again.End(), rec)
		}
		if again.End() == 40 {
			kept++
		}
		again.Abandon()
	}
	if kept == 50 {
		t.Error("no crash took anything: the test shows nothing")
	}
}

func TestRollsByAgeOfRecordsAndByIndexSize(t *testing.T) {
	o := testOptions()
	o.Config.SegmentAge = time.Minute
	l, _ := mustOpen(t, newMem(t), o)
	mustAppend(t, l, batch(t, 0, 0, 1, 10, noon))
	mustAppend(t, l, batch(t, 1, 0, 1, 10, noon.Add(time.Minute)))
	if l.Segments() != 1 {
		t.Errorf("%d segments after one minute", l.Segments())
	}
	mustAppend(t, l, batch(t, 2, 0, 1, 10, noon.Add(61*time.Second)))
	if l.Segments() != 2 {
		t.Errorf("%d segments after 61 seconds", l.Segments())
	}
	if _, err := l.Retain(noon.Add(3*time.Minute), 3); err != nil || l.Segments() != 3 {
		t.Errorf("%d segments after retention looked: %v", l.Segments(), err)
	}
	o.Config.SegmentAge, o.Config.SegmentBytes = 0, 1<<20
	o.Config.IndexMaxBytes = 10 * segment.TimeEntrySize
	l, _ = mustOpen(t, newMem(t), o)
	fill(t, l, 100, 1, 250)
	if l.Segments() < 10 {
		t.Errorf("%d segments with indexes of 10 entries", l.Segments())
	}
}

func TestSnapshotsOfTheProducersAreKeptAndUsed(t *testing.T) {
	m := newMem(t)
	o := testOptions()
	state := &listState{}
	o.State = state
	l, _ := mustOpen(t, m, o)
	for l.End() < 300 {
		base := l.End()
		mustAppend(t, l, batch(t, base, 0, 3, 100, noon))
		state.seen = append(state.seen, base)
	}
	want := slices.Clone(state.seen)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var snapshots []string
	for _, name := range fileNames(t, m) {
		if strings.HasSuffix(name, segment.SnapshotSuffix) {
			snapshots = append(snapshots, name)
		}
	}
	// One where each segment but the first begins, and one at the end.
	if n := len(snapshots); n != l.Segments() || snapshots[n-1] != "00000000000000000300.snapshot" {
		t.Errorf("%d segments, snapshots %q", l.Segments(), snapshots)
	}
	for i := len(snapshots) - 1; i >= -1; i-- {
		o.State = &listState{}
		o.Clean = true
		again, _ := mustOpen(t, m, o)
		if got := o.State.(*listState).seen; !slices.Equal(got, want) {
			t.Errorf("with %d snapshots: %d batches known, want %d", i+1, len(got), len(want))
		}
		again.Abandon()
		if i >= 0 { // damage the newest
			f, err := m.OpenWrite(testDir + "/" + snapshots[i])
			if err != nil {
				t.Fatal(err)
			}
			f.WriteAt([]byte{7}, 0)
			f.Close()
		}
	}
}

func TestSnapshotsOfShutdownsDoNotPileUp(t *testing.T) {
	m := newMem(t)
	o := testOptions()
	o.Config.SegmentBytes, o.Clean = 1<<20, true
	for i := range messages.Offset(20) {
		o.State = &listState{}
		l, _ := mustOpen(t, m, o)
		mustAppend(t, l, batch(t, i, 0, 1, 100, noon))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, name := range fileNames(t, m) {
		if strings.HasSuffix(name, segment.SnapshotSuffix) {
			n++
		}
	}
	if n != snapshotsKept {
		t.Errorf("%d snapshots", n)
	}
}

// Retention is what makes room on a full disk, so it must not need any.
func TestRetentionDeletesOnAFullDisk(t *testing.T) {
	mem := newMem(t)
	o := testOptions()
	o.Config.RetentionAge, o.Config.SegmentAge = time.Minute, 24*time.Hour
	l, _ := mustOpen(t, mem, o)
	fill(t, l, 100, 5, 200)
	segments := l.Segments()
	later := noon.Add(48 * time.Hour)
	mem.SetCapacity(mem.Used())
	deleted, err := l.Retain(later, l.End())
	if !errors.Is(err, messages.ErrDiskFull) || deleted != segments-1 {
		t.Errorf("on a full disk %d of %d segments are deleted: %v", deleted, segments, err)
	}
	mem.SetCapacity(vfs.Unlimited)
	if deleted, err = l.Retain(later, l.End()); err != nil || deleted != 1 || l.Start() != l.End() {
		t.Errorf("afterwards %d are deleted, from %d to %d: %v", deleted, l.Start(), l.End(), err)
	}
}
