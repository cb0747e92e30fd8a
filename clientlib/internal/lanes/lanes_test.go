package lanes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

type (
	testLanes = Lanes[string, string]
	testPart  = Partition[string, string]
	testTask  = Task[string, string]
)

// offer puts records "key@offset" into a partition, one per key, from an offset on; "-" has
// no key.
func offer(l *testLanes, p *testPart, from int64, keys ...string) {
	for i, key := range keys {
		at := from + int64(i)
		l.Offer(p, Span{
			First: at, Last: at, Records: 1, Bytes: 10, Epoch: int32(at),
			Lane: uint64(key[0]), Free: key == "-",
		}, fmt.Sprintf("%s@%d", key, at))
	}
}

// start starts everything that is ready.
func start(l *testLanes) map[string]*testTask {
	started := map[string]*testTask{}
	for t := l.Start(); t != nil; t = l.Start() {
		started[t.Item] = t
	}
	return started
}

func names(started map[string]*testTask) string {
	var all []string
	for name := range started {
		all = append(all, name)
	}
	slices.Sort(all)
	return fmt.Sprint(all)
}

func wantStarted(t *testing.T, l *testLanes, want string) map[string]*testTask {
	t.Helper()
	started := start(l)
	if got := names(started); got != want {
		t.Fatalf("started %s, want %s", got, want)
	}
	return started
}

func wantMark(t *testing.T, p *testPart, want int64) {
	t.Helper()
	if got := p.Mark().Offset; got != want {
		t.Fatalf("mark is %d, want %d", got, want)
	}
}

func TestRecordsOfAKeyWaitForEachOtherAndOthersDoNot(t *testing.T) {
	l, p := New[string, string](Limits{100, 100}), NewPartition[string, string]("p")
	offer(l, p, 5, "a", "b", "a", "-", "-")
	first := wantStarted(t, l, "[-@8 -@9 a@5 b@6]")
	l.Done(first["b@6"])
	wantStarted(t, l, "[]")
	wantMark(t, p, 5)
	l.Done(first["a@5"])
	second := wantStarted(t, l, "[a@7]")
	wantMark(t, p, 7)
	l.Done(first["-@9"])
	l.Done(first["-@8"])
	wantMark(t, p, 7)
	l.Done(second["a@7"])
	wantMark(t, p, 10)
	if got := p.Mark().Epoch; got != 9 {
		t.Errorf("epoch of the mark is %d, want that of the record before it, 9", got)
	}
}

func TestKeysOfOtherPartitionsAreOtherKeys(t *testing.T) {
	l := New[string, string](Limits{100, 100})
	offer(l, NewPartition[string, string]("p"), 0, "a")
	offer(l, NewPartition[string, string]("q"), 7, "a")
	wantStarted(t, l, "[a@0 a@7]")
}

func TestARecordThatIsTriedAgainKeepsItsPlace(t *testing.T) {
	l, p := New[string, string](Limits{100, 100}), NewPartition[string, string]("p")
	offer(l, p, 0, "a", "a", "b")
	first := wantStarted(t, l, "[a@0 b@2]")
	l.Retry(first["a@0"], noon.Add(time.Second))
	l.Done(first["b@2"])
	wantStarted(t, l, "[]")
	if next, ok := l.Wake(noon); !ok || next != noon.Add(time.Second) {
		t.Errorf("next is due at %v, %v", next, ok)
	}
	wantStarted(t, l, "[]")
	wantMark(t, p, 0)
	if _, ok := l.Wake(noon.Add(time.Second)); ok {
		t.Error("there is something due, after all was woken")
	}
	again := wantStarted(t, l, "[a@0]")
	if got := again["a@0"].Tries; got != 2 {
		t.Errorf("it was started %d times, want 2", got)
	}
	l.Done(again["a@0"])
	wantStarted(t, l, "[a@1]")
	wantMark(t, p, 1)
}

func TestAPartitionThatHoldsTooMuchIsPausedUntilItHoldsHalf(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits Limits
		done   []string
	}{
		{"records", Limits{4, 100}, []string{"b@1", "c@2"}},
		{"offsets", Limits{100, 4}, []string{"a@0", "b@1", "c@2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, p := New[string, string](test.limits), NewPartition[string, string]("p")
			offer(l, p, 0, "a", "b", "c")
			wantChange(t, l, "")
			offer(l, p, 3, "d", "e")
			wantChange(t, l, "pause")
			started := start(l)
			l.Done(started["d@3"])
			wantChange(t, l, "")
			for _, name := range test.done {
				l.Done(started[name])
			}
			l.Done(started["e@4"])
			c := changes(l)
			if len(c) != 1 || !c[0].Resume || c[0].Pause {
				t.Errorf("changes are %+v, want one that resumes", c)
			}
			wantChange(t, l, "")
		})
	}
}

func changes(l *testLanes) (all []Change[string, string]) {
	l.Changes(func(c Change[string, string]) { all = append(all, c) })
	return all
}

// wantChange wants no change, or one that pauses and has not moved.
func wantChange(t *testing.T, l *testLanes, want string) {
	t.Helper()
	all := changes(l)
	if want == "" && len(all) == 0 {
		return
	}
	if len(all) != 1 || all[0].Pause != (want == "pause") || all[0].Resume || all[0].Moved {
		t.Fatalf("changes are %+v, want %q", all, want)
	}
}

func TestARevokedPartitionFillsTheGapsBelowWhatWasStartedAndDropsTheRest(t *testing.T) {
	l, p := New[string, string](Limits{100, 100}), NewPartition[string, string]("p")
	q := NewPartition[string, string]("q")
	offer(l, p, 0, "a", "a", "b", "a", "c", "d")
	offer(l, q, 50, "z")
	a, b, c := l.Start(), l.Start(), l.Start()
	l.Done(b)
	l.Revoke(p)
	if l.Bytes() != 10 {
		t.Errorf("%d bytes are held, want those of the other partition", l.Bytes())
	}
	l.Done(a)
	l.Done(c)
	rest := start(l) // d@5 stands behind all that was started
	if names(rest) != "[a@1 z@50]" || !p.Busy() {
		t.Fatalf("started were %v", names(rest))
	}
	l.Done(rest["a@1"])
	last := l.Start()
	if last.Item != "a@3" || !p.Busy() {
		t.Fatalf("started was %v", last.Item)
	}
	l.Done(last)
	if p.Busy() || l.Start() != nil {
		t.Error("something of it is left to do")
	}
	wantMark(t, p, 5)
}

func TestARevokedPartitionDoesNotWaitForWhatIsToBeTriedAgain(t *testing.T) {
	l, p := New[string, string](Limits{100, 100}), NewPartition[string, string]("p")
	offer(l, p, 0, "a", "b", "a", "c")
	a, b, c := l.Start(), l.Start(), l.Start()
	l.Retry(a, noon)
	l.Revoke(p)
	l.Done(c)
	if !p.Busy() {
		t.Error("nothing runs of it")
	}
	l.Retry(b, noon)
	l.Wake(noon.Add(time.Hour))
	if p.Busy() || l.Start() != nil {
		t.Error("it waits for another attempt")
	}
	wantMark(t, p, 0)
}

func TestWhatIsCutDoesNotStart(t *testing.T) {
	l, p := New[string, string](Limits{100, 100}), NewPartition[string, string]("p")
	offer(l, p, 0, "a", "a", "b")
	a, b := l.Start(), l.Start()
	l.Revoke(p)
	l.Done(b)
	l.Cut(p)
	if !p.Busy() {
		t.Error("nothing runs of it")
	}
	l.Done(a)
	if p.Busy() || l.Start() != nil {
		t.Error("something started after it was cut")
	}
	wantMark(t, p, 1)
}

func TestNothingOfALostPartitionCounts(t *testing.T) {
	l, p := New[string, string](Limits{100, 100}), NewPartition[string, string]("p")
	offer(l, p, 0, "a", "b")
	started := start(l)
	l.Lose(p)
	l.Done(started["a@0"])
	l.Retry(started["b@1"], noon)
	if p.Busy() || len(changes(l)) != 0 || p.Mark().Offset != 0 {
		t.Errorf("busy: %v, mark is %+v", p.Busy(), p.Mark())
	}
	if _, ok := l.Wake(noon); ok || l.Start() != nil {
		t.Error("something of it is to be done")
	}
}

func TestWhatIsAbandonedHoldsTheMarkAndItsLane(t *testing.T) {
	l, p := New[string, string](Limits{100, 100}), NewPartition[string, string]("p")
	offer(l, p, 0, "a", "a", "b")
	started := start(l)
	l.Abandon(started["a@0"])
	l.Done(started["b@2"])
	wantMark(t, p, 0)
	wantStarted(t, l, "[]")
}

// twin is a slow and obvious partition: it knows of every record whether it is done.
type twin struct {
	*testPart
	keys    []string // by offset from base on
	base    int64
	done    []bool
	started []bool
	ever    []bool // was started before
}

func (w *twin) mark() int64 {
	n := slices.Index(w.done, false)
	if n < 0 {
		n = len(w.done)
	}
	return w.base + int64(n)
}

func TestWhateverHappensLanesKeepOrderAndMarksStayBelowWhatIsNotDone(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomRun(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func randomRun(t *testing.T, rng *rand.Rand) {
	limits := Limits{1 + rng.IntN(20), 1 + rng.Int64N(60)}
	l, now := New[string, string](limits), noon
	parts := make([]*twin, 1+rng.IntN(3))
	for i := range parts {
		parts[i] = newTwin(i, rng)
	}
	var running []*testTask
	paused := map[*testPart]bool{}
	for range 600 {
		switch rng.IntN(6) {
		case 0:
			w := parts[rng.IntN(len(parts))]
			if !paused[w.testPart] {
				w.offer(l, 1+rng.IntN(5), rng)
			}
		case 1, 2:
			if task := l.Start(); task != nil {
				wantInOrder(t, parts, task)
				running = append(running, task)
			}
		case 3:
			running = end(parts, running, rng, func(task *testTask) { l.Done(task) }, true)
		case 4:
			due := now.Add(time.Duration(rng.IntN(5)) * time.Second)
			running = end(parts, running, rng, func(task *testTask) { l.Retry(task, due) }, false)
		case 5:
			now = now.Add(time.Second)
			l.Wake(now)
			if i := rng.IntN(len(parts)); rng.IntN(20) == 0 {
				running = giveUp(t, l, parts, parts[i], running)
				parts[i] = newTwin(i, rng)
			}
		}
		l.Changes(func(c Change[string, string]) {
			if c.Pause || c.Resume {
				paused[c.Partition] = c.Pause
			}
		})
		for _, w := range parts {
			w.check(t, limits, paused[w.testPart])
		}
	}
	finish(t, l, parts, running, now)
}

func newTwin(i int, rng *rand.Rand) *twin {
	return &twin{
		testPart: NewPartition[string, string](fmt.Sprint(i)), base: 1 + rng.Int64N(5),
	}
}

func (w *twin) offer(l *testLanes, n int, rng *rand.Rand) {
	for range n {
		key := string("-abc"[rng.IntN(4)])
		offer(l, w.testPart, w.base+int64(len(w.keys)), key)
		w.keys = append(w.keys, key)
		w.done, w.started = append(w.done, false), append(w.started, false)
		w.ever = append(w.ever, false)
	}
}

// index is where a task stands in its twin.
func index(parts []*twin, task *testTask) (*twin, int) {
	for _, w := range parts {
		if w.testPart == task.Partition {
			return w, int(task.span.First - w.base)
		}
	}
	return nil, 0
}

// wantInOrder wants that all records before the task's with its key are done.
func wantInOrder(t *testing.T, parts []*twin, task *testTask) {
	t.Helper()
	w, at := index(parts, task)
	if w == nil {
		t.Fatalf("%s was started though its partition was given up", task.Item)
	}
	if w.started[at] || w.done[at] {
		t.Fatalf("%s was started twice", task.Item)
	}
	w.started[at], w.ever[at] = true, true
	for i, key := range w.keys[:at] {
		if key != "-" && key == w.keys[at] && !w.done[i] {
			t.Fatalf("%s was started before %s@%d was done", task.Item, key, w.base+int64(i))
		}
	}
}

// end takes one of the running tasks out.
func end(
	parts []*twin, running []*testTask, rng *rand.Rand, f func(*testTask), done bool,
) []*testTask {
	if len(running) == 0 {
		return running
	}
	i := rng.IntN(len(running))
	task := running[i]
	w, at := index(parts, task)
	w.started[at], w.done[at] = false, done
	f(task)
	return slices.Delete(running, i, i+1)
}

// giveUp revokes a partition and lets what is left of it end well. If nothing was to be
// tried again, all is done then up to the last record that was ever started.
func giveUp(
	t *testing.T, l *testLanes, parts []*twin, w *twin, running []*testTask,
) []*testTask {
	t.Helper()
	most, rests := int64(-1), false
	for task := w.oldest; task != nil; task = task.newer {
		rests = rests || task.state == resting
	}
	for i, ever := range w.ever {
		if ever {
			most = w.base + int64(i)
		}
	}
	l.Revoke(w.testPart)
	for w.Busy() {
		running = slices.DeleteFunc(running, func(task *testTask) bool {
			if task.Partition != w.testPart {
				return false
			}
			w.done[task.span.First-w.base] = true
			l.Done(task)
			return true
		})
		if task := l.Start(); task != nil {
			wantInOrder(t, parts, task)
			running = append(running, task)
		}
	}
	if len(w.keys) == 0 {
		return running
	}
	if w.Mark().Offset != w.mark() || !rests && w.mark() <= most {
		t.Fatalf("mark of a revoked partition is %d, want %d, above %d",
			w.Mark().Offset, w.mark(), most)
	}
	return running
}

func (w *twin) check(t *testing.T, limits Limits, paused bool) {
	t.Helper()
	if len(w.keys) == 0 {
		return
	}
	if w.Mark().Offset != w.mark() {
		t.Fatalf("mark is %d, want %d", w.Mark().Offset, w.mark())
	}
	open := 0
	for _, done := range w.done {
		if !done {
			open++
		}
	}
	ahead := w.base + int64(len(w.keys)) - w.mark()
	if w.Open() != open || !paused && (open >= limits.Open || ahead >= limits.Window) {
		t.Fatalf("%d are open, want %d; %d ahead, paused: %v", w.Open(), open, ahead, paused)
	}
	if paused && open <= limits.Open/2 && ahead <= limits.Window/2 {
		t.Fatalf("paused with %d open and %d ahead", open, ahead)
	}
}

// finish lets everything end well and wants that nothing is left.
func finish(t *testing.T, l *testLanes, parts []*twin, running []*testTask, now time.Time) {
	t.Helper()
	for range 10000 {
		for _, task := range running {
			w, at := index(parts, task)
			w.started[at], w.done[at] = false, true
			l.Done(task)
		}
		running = running[:0]
		l.Wake(now.Add(time.Hour))
		for task := l.Start(); task != nil; task = l.Start() {
			wantInOrder(t, parts, task)
			running = append(running, task)
		}
		if len(running) == 0 {
			break
		}
	}
	for _, w := range parts {
		if w.Open() != 0 || slices.Contains(w.done, false) || len(w.tails) != 0 {
			t.Fatalf("%d records are left, done: %v, lanes: %v", w.Open(), w.done, w.tails)
		}
	}
	if l.Bytes() != 0 {
		t.Fatalf("%d bytes are left", l.Bytes())
	}
}
