package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"testing"
)

func faultyWorld(t *testing.T) (world, *Faulty) {
	f := NewFaulty(NewMem(), 42)
	return world{FS: f, t: t, dir: "/"}, f
}

func TestARuleFailsTheCallsItIsAbout(t *testing.T) {
	for _, tt := range []struct {
		name string
		rule Rule
		want []int // which of five writes to a.log fail, counted from 1
	}{
		{"every call by default", Rule{Err: ErrIO}, []int{1, 2, 3, 4, 5}},
		{"the nth call only", Rule{Nth: 3, Err: ErrIO}, []int{3}},
		{"so many times", Rule{Times: 2, Err: ErrIO}, []int{1, 2}},
		{"calls of its kinds", Rule{Ops: OpSync | OpWrite, Err: ErrIO}, []int{1, 2, 3, 4, 5}},
		{"no calls of other kinds", Rule{Ops: OpSync | OpRead, Err: ErrIO}, nil},
		{"files whose name matches", Rule{Path: "*.log", Err: ErrIO}, []int{1, 2, 3, 4, 5}},
		{"files whose path matches", Rule{Path: "/d/*", Err: ErrIO}, []int{1, 2, 3, 4, 5}},
		{"no files of other names", Rule{Path: "*.index", Err: ErrIO}, nil},
		{"no files of other paths", Rule{Path: "/e/*", Err: ErrIO}, nil},
		{"calls drawn from the seed", Rule{Chance: 0.5, Err: ErrIO}, []int{1, 2, 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, f := faultyWorld(t)
			w.check(w.MkdirAll("/d"))
			file := w.put("d/a.log", "")
			rule := f.Inject(tt.rule)
			var failed []int
			for i := range 5 {
				if _, err := file.WriteAt([]byte{1}, int64(i)); err != nil {
					w.expect(err, ErrIO)
					failed = append(failed, i+1)
				}
			}
			if !slices.Equal(failed, tt.want) || rule.Fired() != len(tt.want) {
				t.Errorf("writes %v failed, %d faults, want %v", failed, rule.Fired(), tt.want)
			}
			rule.Remove()
			_, err := file.WriteAt([]byte{1}, 0)
			w.check(err)
		})
	}
}

func TestAFailedCallDoesNotHappenUnlessTheRuleSaysSo(t *testing.T) {
	for _, happens := range []bool{false, true} {
		w, f := faultyWorld(t)
		w.put("a", "hello")
		rule := f.Inject(Rule{Err: ErrIO, Happens: happens, Ops: OpRename | OpMkdirAll | OpWrite})
		w.expect(w.Rename("/a", "/b"), ErrIO)
		w.expect(w.MkdirAll("/d"), ErrIO)
		rule.Remove()
		if happens {
			w.expectNames("", "b", "d")
		} else {
			w.expectNames("", "a")
		}
	}
}

// Whatever operation fails first, its error comes back and nothing leaks.
func TestEveryOperationCanFail(t *testing.T) {
	operations := func(w world) error {
		f, err := w.Create("/a")
		if err != nil {
			return err
		}
		steps := []func() error{
			func() error { _, err := f.WriteAt([]byte("hello"), 0); return err },
			func() error { _, err := f.Writev([][]byte{{1}}, 0); return err },
			func() error { _, err := f.ReadAt(make([]byte, 5), 0); return err },
			func() error { _, err := f.Size(); return err },
			func() error { return f.Allocate(100) },
			func() error { return f.Truncate(50) },
			f.Sync,
			func() error {
				m, err := f.Map(50)
				if err != nil {
					return err
				}
				if err := m.Populate(0, 50); err != nil {
					return errors.Join(err, m.Unmap())
				}
				return m.Unmap()
			},
			func() error { _, err := w.Open("/a"); return err },
			func() error { _, err := w.OpenWrite("/a"); return err },
			func() error { _, err := w.Stat("/a"); return err },
			func() error { _, err := w.ReadDir("/"); return err },
			func() error { _, err := w.Lock("/l"); return err },
			func() error { _, _, err := w.Usage("/"); return err },
			func() error { return w.MkdirAll("/d") },
			func() error { return w.Rename("/a", "/d/a") },
			func() error { return w.SyncDir("/d") },
			func() error { return w.Remove("/d/a") },
			func() error { return w.RemoveAll("/d") },
			f.Close,
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	}
	w, f := faultyWorld(t)
	count := f.Inject(Rule{})
	w.check(operations(w))
	if count.Matched() < 20 {
		t.Fatalf("only %d operations were seen", count.Matched())
	}
	for n := 1; n <= count.Matched(); n++ {
		for _, happens := range []bool{false, true} {
			w, f := faultyWorld(t)
			rule := f.Inject(Rule{Nth: n, Err: ErrNoSpace, Happens: happens})
			w.expect(operations(w), ErrNoSpace)
			if rule.Fired() != 1 {
				t.Errorf("fault %d was injected %d times", n, rule.Fired())
			}
		}
	}
}

func TestAShortWriteLeavesItsBeginning(t *testing.T) {
	for _, tt := range []struct {
		rule Rule
		want error
	}{{Rule{Short: 7}, ErrNoSpace}, {Rule{Short: 7, Err: ErrIO}, ErrIO}} {
		w, f := faultyWorld(t)
		file := w.put("a", "")
		f.Inject(tt.rule)
		n, err := file.Writev([][]byte{[]byte("hello"), []byte("world")}, 0)
		w.expect(err, tt.want)
		got, _ := ReadFile(f.inner, "a")
		if n != 7 || string(got) != "hellowo" {
			t.Errorf("%d bytes %q were written", n, got)
		}
	}
}

func TestAFlippedBitIsOneBit(t *testing.T) {
	distance := func(a, b []byte) (n int) {
		for i := range a {
			n += bits.OnesCount8(a[i] ^ b[i])
		}
		return n
	}
	want := bytes.Repeat([]byte("hello"), 100)
	w, f := faultyWorld(t)
	file := w.put("a", string(want))
	reading := f.Inject(Rule{Ops: OpRead, Flip: true})
	got := make([]byte, len(want))
	_, err := file.ReadAt(got, 0)
	w.check(err)
	if distance(got, want) != 1 {
		t.Errorf("%d bits differ in what was read", distance(got, want))
	}
	reading.Remove()
	w.expectContent("a", string(want))

	f.Inject(Rule{Ops: OpWritev, Flip: true})
	sent := bytes.Clone(want)
	_, err = file.Writev([][]byte{sent[:7], sent[7:]}, 0)
	w.check(err)
	_, err = file.ReadAt(got, 0)
	w.check(err)
	if distance(got, want) != 1 || !bytes.Equal(sent, want) {
		t.Errorf("%d bits differ in what was written", distance(got, want))
	}
}

func TestAFailedSyncMakesNothingDurable(t *testing.T) {
	m := NewMem()
	f := NewFaulty(m, 1)
	w := world{FS: f, t: t, dir: "/"}
	file := w.put("a", "hello")
	w.check(w.SyncDir("/"))
	f.Inject(Rule{Ops: OpSync, Err: ErrIO})
	w.expect(file.Sync(), ErrIO)
	if got := contentOf(m.CrashClone(1, LoseUnsynced), "a"); got != "" {
		t.Errorf("%q survived", got)
	}
}

func TestAHookHoldsACallBack(t *testing.T) {
	w, f := faultyWorld(t)
	file := w.put("a", "hello")
	arrived, release := make(chan Call), make(chan struct{})
	f.Inject(Rule{Ops: OpSync, Times: 1, Hook: func(c Call) {
		arrived <- c
		<-release
	}})
	done := make(chan error)
	go func() { done <- file.Sync() }()
	if c := <-arrived; c.Op != OpSync || c.Name != "/a" {
		t.Errorf("the hook saw %v", c)
	}
	w.expectContent("a", "hello") // others go on meanwhile
	select {
	case <-done:
		t.Error("the sync did not wait")
	default:
	}
	close(release)
	w.check(<-done)
}

func TestTheOrderOfOperationsIsRecorded(t *testing.T) {
	w, f := faultyWorld(t)
	f.Record(OpChanging)
	file := w.put("a.log", "hello")
	w.check(file.Allocate(4096))
	_, err := file.Writev([][]byte{{1}, {2, 3}}, 5)
	w.check(err)
	w.check(file.Sync())
	w.check(w.SyncDir("/"))
	f.Inject(Rule{Ops: OpTruncate, Err: ErrIO})
	w.expect(file.Truncate(8), ErrIO)
	w.check(w.Rename("/a.log", "/b.log"))
	w.expectNames("", "b.log")
	want := []string{
		"create /a.log",
		"write /a.log 0+5",
		"allocate /a.log 4096",
		"writev /a.log 5+3",
		"sync /a.log",
		"syncdir /",
		"truncate /a.log 8 failed",
		"rename /a.log to /b.log",
	}
	if got := f.Recorded(); !slices.Equal(got, want) {
		t.Errorf("recorded %q,\nwant %q", got, want)
	}
	f.Record(0)
	w.check(w.Remove("/b.log"))
	if got := f.Recorded(); len(got) != 0 {
		t.Errorf("recorded %q after the recording ended", got)
	}
}

func TestEveryKindOfOperationHasAName(t *testing.T) {
	seen := map[string]bool{}
	for op := OpOpen; op <= OpControl; op <<= 1 {
		if name := op.String(); seen[name] || name == fmt.Sprintf("Op(%#x)", uint32(op)) {
			t.Errorf("%#x is called %q", uint32(op), name)
		}
		seen[op.String()] = true
	}
	if OpAny != OpControl<<1-1 {
		t.Errorf("OpAny is %#x", uint32(OpAny))
	}
	if got := (OpRead | OpWrite).String(); got != "Op(0xc000)" {
		t.Errorf("a set is called %q", got)
	}
}

func TestRulesComeAndGoWhileFilesAreUsed(t *testing.T) {
	w, f := faultyWorld(t)
	file := w.put("a", "hello")
	f.Record(OpAny)
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 200 {
				_, _ = file.ReadAt(make([]byte, 5), 0)
			}
		})
	}
	for range 50 {
		rule := f.Inject(Rule{Ops: OpRead, Chance: 0.5, Err: ErrIO})
		_ = f.Recorded()
		rule.Remove()
	}
	users.Wait()
	if got := len(f.Recorded()); got != 800 {
		t.Errorf("%d calls were recorded, want 800", got)
	}
}
