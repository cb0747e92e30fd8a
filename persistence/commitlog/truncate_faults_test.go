package commitlog

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/troupelog/troupe/persistence/vfs"
)

// A truncation that fails half way must not leave records behind that come back
// later under those that took their place: neither in the same life, nor after a
// crash, nor after a clean restart.
func TestATruncationThatFailsLeavesNothingThatComesBack(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		for _, cut := range []string{"again", "onward"} {
			for n := 1; ; n++ {
				if !truncationWithFault(t, n, flushed, cut == "again") {
					break
				}
			}
		}
	}
}

// truncationWithFault has the nth operation of a truncation find the disk full.
// It returns false if there is no nth.
func truncationWithFault(t *testing.T, n int, flushed, again bool) bool {
	t.Helper()
	what := fmt.Sprintf("operation %d, flushed %v, again %v", n, flushed, again)
	m := newMem(t)
	f := vfs.NewFaulty(m, 1)
	o := testOptions()
	l, _, err := Open(f, testDir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.Abandon() }()
	if err := l.AssignEpoch(0, 0); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 60, 3, 100)
	if flushed {
		mustFlush(t, l)
	}
	const end = 42
	keep := readAll(t, l, 0)[:len(readAll(t, l, 0))-len(readAll(t, l, end))]
	var full *vfs.Injected
	seen := 0
	const spending = vfs.OpCreate | vfs.OpWrite | vfs.OpWritev | vfs.OpAllocate | vfs.OpMkdirAll
	count := f.Inject(vfs.Rule{Ops: spending, Hook: func(vfs.Call) {
		if seen++; seen == n {
			full = f.Inject(vfs.Rule{Ops: spending, Err: vfs.ErrNoSpace})
		}
	}})
	err = l.TruncateTo(end)
	if full != nil {
		// There is no space for it, and nothing of it must stay.
		_ = l.Append(noon, batchesOf(batch(t, l.End(), 1, 3, 120, noon)))
	}
	fired := full != nil
	count.Remove()
	if fired {
		full.Remove()
	}
	if err != nil && again {
		if err := l.TruncateTo(end); err != nil {
			t.Fatalf("%s: truncating again: %v", what, err)
		}
	}
	if l.End() > end { // as a follower does, that finds that it differs still
		if err := l.TruncateTo(end); err != nil {
			t.Fatalf("%s: truncating what is left: %v", what, err)
		}
	}
	if l.End() != end {
		t.Fatalf("%s: log ends at %d", what, l.End())
	}
	next := batch(t, end, 1, 3, 120, noon)
	mustAppend(t, l, next)
	want := append(bytes.Clone(keep), next.Bytes...)
	if got := readAll(t, l, 0); !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes are readable, want %d", what, len(got), len(want))
	}
	o.RecoveryPoint = l.Durable()
	again2, _, err := Open(m.CrashClone(1, vfs.KeepAll), testDir, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, again2, 0); !bytes.Equal(got, want) {
		t.Fatalf("%s: after a crash %d bytes are readable, want %d", what, len(got), len(want))
	}
	again2.Abandon()
	return fired
}
