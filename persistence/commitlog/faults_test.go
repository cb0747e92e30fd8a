package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// life is what a log goes through in the fault tests. It returns the bytes that
// were acknowledged and whether the log was closed cleanly, and checks after
// every failure that the log is as before and can be read.
func life(t *testing.T, fsys vfs.FS) (acknowledged []byte, clean bool) {
	o := testOptions()
	o.State = &listState{}
	l, _, err := Open(fsys, testDir, o)
	if err != nil {
		mustBeStorage(t, "open", err)
		return nil, false
	}
	defer l.Abandon()
	state := o.State.(*listState)
	for i := range 12 {
		if i%4 == 0 {
			if err := l.AssignEpoch(messages.LeaderEpoch(i), l.End()); err != nil {
				mustBeStorage(t, "assign epoch", err)
			}
		}
		end, segments := l.End(), l.Segments()
		epoch := max(l.LatestEpoch(), 0)
		bs := []record.Batch{batch(t, end, epoch, 3, 200, noon), batch(t, end+3, epoch, 2, 150, noon)}
		if i == 7 { // one that needs several segments
			for next := end + 5; len(bs) < 7; next += 3 {
				bs = append(bs, batch(t, next, epoch, 3, 500, noon))
			}
		}
		if err := l.Append(noon, bs); err != nil {
			mustBeStorage(t, "append", err)
			if l.End() != end || l.Segments() != segments {
				t.Fatalf("append failed and changed the log: end %d, was %d", l.End(), end)
			}
		} else {
			for _, b := range bs {
				acknowledged = append(acknowledged, b.Bytes...)
				state.seen = append(state.seen, b.BaseOffset)
			}
		}
		if got := readAll(t, l, 0); !bytes.Equal(got, acknowledged) {
			t.Fatalf("step %d: %d bytes are readable of %d acknowledged", i, len(got), len(acknowledged))
		}
		if f, dirty := l.PrepareFlush(); dirty && i%3 == 0 {
			if err := f.Run(); err != nil {
				mustBeStorage(t, "flush", err)
			} else {
				l.Flushed(f)
			}
		}
	}
	if err := l.Close(); err != nil {
		mustBeStorage(t, "close", err)
		return acknowledged, false
	}
	return acknowledged, true
}

func mustBeStorage(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, messages.ErrStorage) {
		t.Fatalf("%s: %v is no storage error", what, err)
	}
}

// everyOperation runs a life with a fault at the nth operation, for every n.
func everyOperation(t *testing.T, ops vfs.Op, fault vfs.Rule, check func(
	t *testing.T, disk *vfs.Mem, acknowledged []byte, clean bool)) {
	counter := vfs.NewFaulty(newMem(t), 1)
	counting := counter.Inject(vfs.Rule{Ops: ops, Nth: 1 << 30, Err: fault.Err})
	life(t, counter)
	total := counting.Matched()
	if total < 20 {
		t.Fatalf("only %d operations to fail", total)
	}
	for n := 1; n <= total; n++ {
		for _, times := range []int{1, 0} {
			t.Run(fmt.Sprintf("operation %d, times %d", n, times), func(t *testing.T) {
				disk := newMem(t)
				faulty := vfs.NewFaulty(disk, uint64(n))
				rule := fault
				rule.Ops, rule.Nth = ops, n
				if times == 0 { // from the nth on, every one
					var injected *vfs.Injected
					seen := 0
					rule.Nth = 0
					hooked := vfs.Rule{Ops: ops, Hook: func(vfs.Call) {
						if seen++; seen == n {
							injected = faulty.Inject(rule)
						}
					}}
					faulty.Inject(hooked)
					defer func() {
						if injected != nil && injected.Fired() == 0 && n < total {
							t.Error("no fault was met")
						}
					}()
				} else {
					faulty.Inject(rule)
				}
				acknowledged, clean := life(t, faulty)
				check(t, disk.CrashClone(uint64(n), vfs.KeepAll), acknowledged, clean)
			})
		}
	}
}

// reopened checks that a log that met a fault opens and has what it acknowledged.
func reopened(t *testing.T, disk *vfs.Mem, acknowledged []byte, clean bool) {
	o := testOptions()
	o.Clean, o.State = clean, &listState{}
	l, rec, err := Open(disk, testDir, o)
	if err != nil {
		t.Fatalf("reopen: %v", err)
	}
	defer l.Abandon()
	got := readAll(t, l, 0)
	if !bytes.HasPrefix(got, acknowledged) {
		t.Fatalf("%d bytes of %d acknowledged came back: %+v", len(got), len(acknowledged), rec)
	}
	mustBatches(t, got)
	fill(t, l, l.End()+20, 3, 200)
}

func TestAFullDiskAtAnyOperationLosesNothing(t *testing.T) {
	everyOperation(t, vfs.OpCreate|vfs.OpWrite|vfs.OpWritev|vfs.OpAllocate|vfs.OpMkdirAll,
		vfs.Rule{Err: vfs.ErrNoSpace}, reopened)
}

func TestADiskThatFillsUpInTheMiddleOfAWriteLosesNothing(t *testing.T) {
	everyOperation(t, vfs.OpWrite|vfs.OpWritev, vfs.Rule{Err: vfs.ErrNoSpace, Short: 70}, reopened)
}

func TestAFailingDiskAtAnyOperationLosesNothingAcknowledged(t *testing.T) {
	everyOperation(t, vfs.OpChanging&^vfs.OpRemove, vfs.Rule{Err: vfs.ErrIO}, reopened)
}

func TestAFullDiskIsToldFromAFailingOne(t *testing.T) {
	faulty := vfs.NewFaulty(newMem(t), 1)
	l, _ := mustOpen(t, faulty, testOptions())
	fill(t, l, 10, 5, 20)
	rule := faulty.Inject(vfs.Rule{Ops: vfs.OpWritev, Err: vfs.ErrNoSpace})
	err := l.Append(noon, batchesOf(batch(t, 10, 0, 1, 10, noon)))
	if !errors.Is(err, messages.ErrDiskFull) || !errors.Is(err, vfs.ErrNoSpace) ||
		!errors.Is(err, messages.ErrStorage) {
		t.Errorf("full disk: %v", err)
	}
	var ioErr *segment.IOError
	if !errors.As(err, &ioErr) || ioErr.Op != "append" || !strings.HasSuffix(ioErr.File, "0.log") {
		t.Errorf("full disk: %+v", ioErr)
	}
	rule.Remove()
	fill(t, l, 20, 5, 20)
	mustBatches(t, readAll(t, l, 0))
}

// The kernel tells of a failed write-out once; a sync that ran beside the one that
// was told, or after it, says nothing about the bytes.
func TestAFlushBesideOneThatFailsFailsToo(t *testing.T) {
	faulty := vfs.NewFaulty(newMem(t), 1)
	l, _ := mustOpen(t, faulty, testOptions())
	fill(t, l, 10, 5, 20)
	entered, leave := make(chan struct{}), make(chan struct{})
	faulty.Inject(vfs.Rule{Ops: vfs.OpSync, Err: vfs.ErrIO, Times: 1, Hook: func(vfs.Call) {
		close(entered)
		<-leave
	}})
	f, _ := l.PrepareFlush()
	first, closed := make(chan error, 1), make(chan error, 1)
	go func() { first <- f.Run() }()
	<-entered
	go func() { closed <- l.Close() }() // flushes what the first one has not noted yet
	close(leave)
	if err := <-first; !errors.Is(err, vfs.ErrIO) {
		t.Errorf("the flush whose sync failed: %v", err)
	}
	if err := <-closed; !errors.Is(err, messages.ErrStorage) {
		t.Errorf("the log was closed as if all were durable: %v", err)
	}
}

func TestAFailedSyncEndsAllWriting(t *testing.T) {
	faulty := vfs.NewFaulty(newMem(t), 1)
	l, _ := mustOpen(t, faulty, testOptions())
	fill(t, l, 10, 5, 20)
	rule := faulty.Inject(vfs.Rule{Ops: vfs.OpSync, Err: vfs.ErrIO, Times: 1})
	f, _ := l.PrepareFlush()
	if err := f.Run(); !errors.Is(err, vfs.ErrIO) {
		t.Fatalf("flush: %v", err)
	}
	rule.Remove()
	err := l.Append(noon, batchesOf(batch(t, 10, 0, 1, 10, noon)))
	if !errors.Is(err, messages.ErrStorage) {
		t.Errorf("append after a failed sync: %v", err)
	}
	if l.Durable() != 0 {
		t.Errorf("durable %d", l.Durable())
	}
	mustBatches(t, readAll(t, l, 0))
	if err := l.Close(); !errors.Is(err, messages.ErrStorage) {
		t.Errorf("close: %v", err)
	}
}

// The order in which things reach the disk is what a power cut tests; here it
// is for all to read.
func TestTheOrderOfFileOperations(t *testing.T) {
	faulty := vfs.NewFaulty(newMem(t), 1)
	faulty.Record(vfs.OpChanging)
	o := testOptions()
	o.State = &listState{}
	l, _ := mustOpen(t, faulty, o)
	if err := l.AssignEpoch(0, 0); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, batch(t, 0, 0, 1, 10, noon), batch(t, 1, 0, 1, 10, noon))
	mustFlush(t, l)
	if err := l.Roll(noon); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, batch(t, 2, 0, 1, 10, noon))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		// open
		"mkdirall .",
		"remove partition.metadata.tmp", "create partition.metadata.tmp",
		"write partition.metadata.tmp 0+44",
		"sync partition.metadata.tmp", "rename partition.metadata.tmp to partition.metadata",
		"syncdir .", "syncdir data",
		// assign the epoch
		"remove leader-epoch-checkpoint.tmp", "create leader-epoch-checkpoint.tmp",
		"write leader-epoch-checkpoint.tmp 0+8",
		"sync leader-epoch-checkpoint.tmp",
		"rename leader-epoch-checkpoint.tmp to leader-epoch-checkpoint", "syncdir .",
		// the first append creates the first segment
		"create 00000000000000000000.log", "allocate 00000000000000000000.log 4096",
		"sync 00000000000000000000.log", "syncdir .",
		"writev 00000000000000000000.log 0+N",
		// flush
		"sync 00000000000000000000.log",
		// roll
		"create 00000000000000000002.log", "allocate 00000000000000000002.log 4096",
		"sync 00000000000000000002.log", "syncdir .",
		"create 00000000000000000002.snapshot", "write 00000000000000000002.snapshot 0+5",
		"truncate 00000000000000000000.log N",
		"create 00000000000000000000.index", "create 00000000000000000000.timeindex",
		"write 00000000000000000000.timeindex 0+12",
		// append
		"writev 00000000000000000002.log 0+N",
		// close
		"truncate 00000000000000000002.log N",
		"create 00000000000000000002.index", "create 00000000000000000002.timeindex",
		"write 00000000000000000002.timeindex 0+12",
		"sync 00000000000000000000.log", "sync 00000000000000000000.index",
		"sync 00000000000000000000.timeindex",
		"sync 00000000000000000002.log", "sync 00000000000000000002.index",
		"sync 00000000000000000002.timeindex", "syncdir .",
		"create 00000000000000000003.snapshot", "write 00000000000000000003.snapshot 0+5",
		"sync 00000000000000000003.snapshot", "syncdir .",
	}
	var got []string
	for _, call := range faulty.Recorded() {
		call = strings.ReplaceAll(call, testDir+"/", "")
		got = append(got, strings.ReplaceAll(call, testDir, "."))
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !sameCall(got[i], want[i]) {
			t.Fatalf("operation %d differs; got:\n%s", i, strings.Join(got, "\n"))
		}
	}
}

// sameCall compares calls; an N in want stands for any number.
func sameCall(got, want string) bool {
	g, w := strings.Fields(got), strings.Fields(want)
	return len(g) == len(w) && !slices.ContainsFunc(w, func(x string) bool {
		i := slices.Index(w, x)
		return g[i] != x && (!strings.HasSuffix(x, "N") || !strings.HasPrefix(g[i], x[:len(x)-1]))
	})
}

// The file of a roll that failed must not come back after a power cut: its name
// says where the segment before it ends.
func TestTheFileOfAFailedRollStaysAway(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpAllocate, vfs.OpSync, vfs.OpSyncDir, vfs.OpWritev} {
		for seed := range uint64(32) {
			disk := newMem(t)
			faulty := vfs.NewFaulty(disk, 1)
			l, _ := mustOpen(t, faulty, testOptions())
			fill(t, l, 6, 1, 500)
			mustFlush(t, l)
			end := l.End()
			rule := faulty.Inject(vfs.Rule{Ops: op, Path: testDir + "*", Err: vfs.ErrNoSpace, Times: 1})
			if op != vfs.OpSyncDir {
				rule.Remove()
				rule = faulty.Inject(vfs.Rule{Ops: op, Path: testDir + "/*6.log", Err: vfs.ErrNoSpace})
			}
			err := l.Append(noon, batchesOf(batch(t, end, 0, 1, 3000, noon)))
			if !errors.Is(err, messages.ErrDiskFull) || l.Segments() != 1 {
				t.Fatalf("%v: %v, %d segments", op, err, l.Segments())
			}
			rule.Remove()
			mustAppend(t, l, batch(t, end, 0, 1, 10, noon))
			mustFlush(t, l)
			for _, mode := range []vfs.CrashMode{vfs.KeepAll, vfs.LoseUnsynced, vfs.Torn} {
				again, rec := mustOpen(t, disk.CrashClone(seed, mode), testOptions())
				if again.End() != end+1 {
					t.Errorf("%v, mode %d, seed %d: the log ends at %d: %+v", op, mode, seed, again.End(), rec)
				}
			}
		}
	}
}

// A roll whose file can be neither used nor removed ends the log until it is
// opened again.
func TestARollThatCannotBeUndoneEndsAllWriting(t *testing.T) {
	for _, undo := range []vfs.Op{vfs.OpRename, vfs.OpRemove} {
		disk := newMem(t)
		faulty := vfs.NewFaulty(disk, 1)
		l, _ := mustOpen(t, faulty, testOptions())
		fill(t, l, 6, 1, 500)
		what := vfs.OpWritev // after the creation: the file is renamed
		if undo == vfs.OpRemove {
			what = vfs.OpSync // during it: the file is removed
		}
		faulty.Inject(vfs.Rule{Ops: what | undo, Path: testDir + "/*6.log", Err: vfs.ErrNoSpace})
		if err := l.Append(noon, batchesOf(batch(t, 6, 0, 1, 3000, noon))); err == nil {
			t.Fatal("the roll went well")
		}
		if err := l.Append(noon, batchesOf(batch(t, 6, 0, 1, 10, noon))); err == nil ||
			l.Failure() == nil {
			t.Errorf("%v: the next append: %v", undo, err)
		}
		again, _ := mustOpen(t, disk.CrashClone(1, vfs.KeepAll), testOptions())
		if again.End() != 6 {
			t.Errorf("%v: the log ends at %d", undo, again.End())
		}
	}
}
