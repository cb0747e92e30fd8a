package vfs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

const crashSeeds = 300

// crashes runs check on what Torn leaves under many seeds.
func crashes(m *Mem, check func(seed uint64, after *Mem)) {
	for seed := range uint64(crashSeeds) {
		check(seed, m.CrashClone(seed, Torn))
	}
}

// outcomes collects how often each outcome of a crash was seen.
func outcomes(m *Mem, describe func(after *Mem) string) map[string]int {
	seen := map[string]int{}
	crashes(m, func(_ uint64, after *Mem) { seen[describe(after)]++ })
	return seen
}

// contentOf returns what a file holds, "-" if there is none.
func contentOf(m *Mem, name string) string {
	b, err := ReadFile(m, name)
	if err != nil {
		return "-"
	}
	return string(b)
}

func expectOutcomes(t *testing.T, seen map[string]int, want ...string) {
	t.Helper()
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("never saw %q", w)
		}
		delete(seen, w)
	}
	for other, n := range seen {
		t.Errorf("saw %.60q %d times, which is impossible", other, n)
	}
}

func memWorld(t *testing.T) (world, *Mem) {
	m := NewMem()
	return world{FS: m, t: t, dir: "/"}, m
}

func TestAPowerCutTakesAFileWhoseFolderWasNotSynced(t *testing.T) {
	w, m := memWorld(t)
	f := w.put("a", "hello")
	w.check(f.Sync())
	expectOutcomes(t, outcomes(m, func(after *Mem) string { return contentOf(after, "a") }),
		"-", "hello")
	if got := contentOf(m.CrashClone(1, LoseUnsynced), "a"); got != "-" {
		t.Errorf("a cut that takes everything unsynced left %q", got)
	}
}

func TestAPowerCutTakesBytesThatWereNotSynced(t *testing.T) {
	w, m := memWorld(t)
	w.put("a", "hello")
	w.check(w.SyncDir("/"))
	seen := outcomes(m, func(after *Mem) string {
		return strings.TrimRight(contentOf(after, "a"), "\x00")
	})
	for _, want := range []string{"", "h", "he", "hel", "hell", "hello"} {
		if seen[want] == 0 {
			t.Errorf("never saw %q", want)
		}
		delete(seen, want)
	}
	if len(seen) > 0 {
		t.Errorf("saw impossible contents: %v", seen)
	}
	if got := contentOf(m.CrashClone(1, LoseUnsynced), "a"); got != "" {
		t.Errorf("a cut that takes everything unsynced left %q", got)
	}
}

func TestAKilledProcessLosesNothingButWhatItLeftIsStillUnsafe(t *testing.T) {
	w, m := memWorld(t)
	w.put("a", "hello")
	killed := m.CrashClone(1, KeepAll)
	if got := contentOf(killed, "a"); got != "hello" {
		t.Errorf("after the kill the file holds %q", got)
	}
	if got := contentOf(killed.CrashClone(1, LoseUnsynced), "a"); got != "-" {
		t.Errorf("a power cut after the kill left %q", got)
	}
	w.check(killed.SyncDir("/"))
	f, err := killed.Open("a")
	w.check(err)
	w.check(f.Sync())
	if got := contentOf(killed.CrashClone(1, LoseUnsynced), "a"); got != "hello" {
		t.Errorf("synced after the kill, the power cut left %q", got)
	}
}

func TestReservedSpaceReadsAsZerosWhereWritesWereLost(t *testing.T) {
	w, m := memWorld(t)
	f := w.put("a", "")
	w.check(f.Allocate(2 * blockSize))
	w.check(f.Sync())
	w.check(w.SyncDir("/"))
	one, two := strings.Repeat("1", blockSize), strings.Repeat("2", blockSize)
	lost := strings.Repeat("\x00", blockSize)
	_, err := f.WriteAt([]byte(one+two), 0)
	w.check(err)
	seen := outcomes(m, func(after *Mem) string { return contentOf(after, "a") })
	for _, want := range []string{one + two, lost + lost, one + lost, lost + two} {
		if seen[want] == 0 {
			t.Errorf("never saw %q...%q", want[0], want[blockSize])
		}
		delete(seen, want)
	}
	torn := 0
	for content, n := range seen {
		if len(content) != 2*blockSize || strings.Trim(content[:blockSize], "1\x00") != "" ||
			strings.Trim(content[blockSize:], "2\x00") != "" {
			t.Errorf("saw an impossible content of %d bytes", len(content))
		}
		torn += n
	}
	if torn == 0 {
		t.Error("never saw a torn block")
	}
}

func TestARenameHappensOrDoesNot(t *testing.T) {
	w, m := memWorld(t)
	w.check(w.put("a", "old").Sync())
	w.check(w.SyncDir("/"))
	w.check(w.put("a.tmp", "new").Sync())
	w.check(w.Rename("/a.tmp", "/a"))
	state := func(after *Mem) string { return contentOf(after, "a") + " " + contentOf(after, "a.tmp") }
	expectOutcomes(t, outcomes(m, state), "old -", "old new", "new -")
	w.check(w.SyncDir("/"))
	expectOutcomes(t, outcomes(m, state), "new -")
}

func TestARenameOfUnsyncedBytesLeavesAnEmptyFile(t *testing.T) {
	w, m := memWorld(t)
	w.check(w.put("a", "old").Sync())
	w.check(w.SyncDir("/"))
	w.put("a.tmp", "new")
	w.check(w.Rename("/a.tmp", "/a"))
	w.check(w.SyncDir("/"))
	if got := contentOf(m.CrashClone(1, LoseUnsynced), "a"); got != "" {
		t.Errorf("the file holds %q", got)
	}
}

func TestAMoveBetweenFoldersNeedsTheSyncOfBoth(t *testing.T) {
	state := func(after *Mem) string {
		return contentOf(after, "from/a") + " " + contentOf(after, "to/a")
	}
	for _, tt := range []struct {
		synced []string
		want   []string
	}{
		{nil, []string{"x -", "- x"}},
		{[]string{"to"}, []string{"x x", "- x"}},
		{[]string{"from"}, []string{"- -", "- x"}},
		{[]string{"to", "from"}, []string{"- x"}},
	} {
		t.Run(fmt.Sprintf("synced %v", tt.synced), func(t *testing.T) {
			w, m := memWorld(t)
			w.check(w.MkdirAll("/from"))
			w.check(w.MkdirAll("/to"))
			w.check(w.put("from/a", "x").Sync())
			w.check(w.SyncDir("/"))
			w.check(w.SyncDir("/from"))
			w.check(w.Rename("/from/a", "/to/a"))
			for _, dir := range tt.synced {
				w.check(w.SyncDir(dir))
			}
			expectOutcomes(t, outcomes(m, state), tt.want...)
		})
	}
}

func TestChangesToOneNameKeepTheirOrder(t *testing.T) {
	w, m := memWorld(t)
	w.check(w.put("a", "1").Sync())
	w.check(w.Remove("/a"))
	w.check(w.put("a", "2").Sync())
	w.check(w.put("b", "3").Sync())
	expectOutcomes(t,
		outcomes(m, func(after *Mem) string { return contentOf(after, "a") + contentOf(after, "b") }),
		"--", "1-", "2-", "-3", "13", "23")
}

// A file that was safe stays so under one of its names, also when its old name is
// taken again before the folder is synced.
func TestAFileMovedOutOfTheWayIsNotLost(t *testing.T) {
	w, m := memWorld(t)
	w.check(w.put("a", "safe").Sync())
	w.check(w.SyncDir("/"))
	w.check(w.Rename("/a", "/a.old"))
	w.check(w.put("a", "new").Sync())
	expectOutcomes(t, outcomes(m, func(after *Mem) string {
		return contentOf(after, "a") + " " + contentOf(after, "a.old")
	}), "safe -", "- safe", "new safe")
}

func TestARemovedFileMayComeBackUntilItsFolderIsSynced(t *testing.T) {
	w, m := memWorld(t)
	w.check(w.put("a", "x").Sync())
	w.check(w.SyncDir("/"))
	w.check(w.Remove("/a"))
	read := func(after *Mem) string { return contentOf(after, "a") }
	expectOutcomes(t, outcomes(m, read), "x", "-")
	w.check(w.SyncDir("/"))
	expectOutcomes(t, outcomes(m, read), "-")
}

func TestAFolderIsLostWithAllItHoldsUntilItsParentIsSynced(t *testing.T) {
	w, m := memWorld(t)
	w.check(w.MkdirAll("/d/e"))
	w.check(w.put("d/e/a", "x").Sync())
	w.check(w.SyncDir("/d/e"))
	read := func(after *Mem) string { return contentOf(after, "d/e/a") }
	expectOutcomes(t, outcomes(m, read), "x", "-")
	w.check(w.SyncDir("/d"))
	expectOutcomes(t, outcomes(m, read), "x", "-")
	w.check(w.SyncDir("/"))
	expectOutcomes(t, outcomes(m, read), "x")
}

func TestACutFileNeverMixesOldBytesWithNewOnes(t *testing.T) {
	w, m := memWorld(t)
	old, latest := strings.Repeat("o", 3*blockSize), strings.Repeat("n", 2*blockSize)
	f := w.put("a", old)
	w.check(f.Sync())
	w.check(w.SyncDir("/"))
	w.check(f.Truncate(0))
	_, err := f.WriteAt([]byte(latest), 0)
	w.check(err)
	seen := outcomes(m, func(after *Mem) string { return contentOf(after, "a") })
	for _, want := range []string{old, "", latest} {
		if seen[want] == 0 {
			t.Errorf("never saw the content of %d bytes", len(want))
		}
	}
	for content := range seen {
		if content != old && strings.Contains(content, "o") {
			t.Errorf("old bytes came back beside %d new ones", strings.Count(content, "n"))
		}
	}
	w.check(f.Sync())
	expectOutcomes(t, outcomes(m, func(after *Mem) string { return contentOf(after, "a") }), latest)
}

func TestTheSameSeedGivesTheSameDisk(t *testing.T) {
	build := func() *Mem {
		w, m := memWorld(t)
		r := rand.New(rand.NewPCG(7, 7))
		for i := range 20 {
			f := w.put(fmt.Sprint("f", i), strings.Repeat(fmt.Sprint(i), r.IntN(20_000)))
			if r.IntN(2) == 0 {
				w.check(f.Sync())
			}
			w.check(w.MkdirAll(fmt.Sprint("/d", i)))
			w.check(w.Rename(fmt.Sprint("/f", i), fmt.Sprintf("/d%d/f", r.IntN(i+1))))
		}
		return m
	}
	one, two := build(), build()
	different := map[string]bool{}
	for seed := range uint64(20) {
		a, b := dump(t, one.CrashClone(seed, Torn), "/"), dump(t, two.CrashClone(seed, Torn), "/")
		if a != b {
			t.Fatalf("seed %d gave two disks", seed)
		}
		different[a] = true
	}
	if len(different) < 10 {
		t.Errorf("20 seeds gave only %d different disks", len(different))
	}
}

// dump describes a tree.
func dump(t *testing.T, m *Mem, dir string) string {
	t.Helper()
	entries, err := m.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range entries {
		name := strings.TrimSuffix(dir, "/") + "/" + e.Name()
		fmt.Fprintf(&out, "%s %q\n", name, contentOf(m, name))
		if e.IsDir() {
			out.WriteString(dump(t, m, name))
		}
	}
	return out.String()
}

func TestACloneAndItsOriginalDoNotTouchEachOther(t *testing.T) {
	w, m := memWorld(t)
	f := w.put("a", strings.Repeat("a", 2*blockSize))
	w.check(w.SyncDir("/"))
	for _, sync := range []bool{false, true} {
		if sync {
			w.check(f.Sync())
		}
		for mode := KeepAll; mode <= Torn; mode++ {
			clone := m.CrashClone(3, mode)
			before, beforeClone := contentOf(m, "a"), contentOf(clone, "a")
			g, err := clone.OpenWrite("a")
			w.check(err)
			_, err = g.WriteAt([]byte("clone"), 100)
			w.check(err)
			if contentOf(m, "a") != before {
				t.Errorf("mode %d: a write to the clone reached the original", mode)
			}
			_, err = f.WriteAt([]byte("original"), 200)
			w.check(err)
			after := []byte(beforeClone)
			after = append(after, make([]byte, max(0, 105-len(after)))...)
			copy(after[100:], "clone")
			if contentOf(clone, "a") != string(after) {
				t.Errorf("mode %d: a write to the original reached the clone", mode)
			}
		}
	}
}

func TestACrashEndsLocksAndLeavesNoneBehind(t *testing.T) {
	w, m := memWorld(t)
	held, err := w.Lock("/.lock")
	w.check(err)
	w.check(w.SyncDir("/"))
	for mode := KeepAll; mode <= Torn; mode++ {
		clone := m.CrashClone(1, mode)
		again, err := clone.Lock("/.lock")
		w.check(err)
		_, err = clone.Lock("/.lock")
		w.expect(err, ErrLocked)
		w.check(again.Close())
	}
	_, err = w.Lock("/.lock")
	w.expect(err, ErrLocked)
	w.check(held.Close())
}

// TestSyncedBytesAreNeverLost writes and syncs at random, and after each sync
// checks many power cuts: every byte that was written before the last sync and
// not overwritten since is there, and every other byte is old or new.
func TestSyncedBytesAreNeverLost(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		w, m := memWorld(t)
		f := w.put("a", "")
		w.check(w.SyncDir("/"))
		var synced, current []byte
		for step := range 60 {
			switch r.IntN(4) {
			case 0:
				w.check(f.Sync())
				synced = bytes.Clone(current)
			case 1:
				size := int64(len(current) + r.IntN(3*blockSize))
				w.check(f.Allocate(size))
				current = append(current, make([]byte, int(size)-len(current))...)
			default:
				off, n := r.IntN(len(current)+1), 1+r.IntN(2*blockSize)
				b := bytes.Repeat([]byte{byte(step + 1)}, n)
				_, err := f.WriteAt(b, int64(off))
				w.check(err)
				current = append(current, make([]byte, max(0, off+n-len(current)))...)
				copy(current[off:], b)
			}
			for cut := range uint64(3) {
				after := []byte(contentOf(m.CrashClone(seed<<32|uint64(step)<<8|cut, Torn), "a"))
				expectOldOrNew(t, after, synced, current)
			}
		}
	}
}

// expectOldOrNew checks a file after a crash. Bytes between old and new of the
// same block are not traced: each must be one that was written, or zero.
func expectOldOrNew(t *testing.T, after, synced, current []byte) {
	t.Helper()
	if len(after) < len(synced) || len(after) > len(current) {
		t.Fatalf("%d bytes are left of %d synced and %d written", len(after), len(synced), len(current))
	}
	for i, b := range after {
		var old byte
		if i < len(synced) {
			old = synced[i]
		}
		if b != old && b != current[i] {
			t.Fatalf("byte %d is %d, it was %d and then %d", i, b, old, current[i])
		}
	}
}
