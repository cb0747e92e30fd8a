package actors

import (
	"slices"
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages/data"
)

// heard is the actor behind a mailbox. Its worker runs only when the test lets it.
type heard struct {
	t       *testing.T
	m       *mailbox
	got     []any
	work    []func() // of the dispatcher, not run yet
	turns   []data.Turn
	on      func(message any)
	failed  int
	invoked int // messages being handled
}

func newHeard(t *testing.T) *heard {
	h := &heard{t: t, m: newMailbox(&depth{}), on: func(any) {}}
	h.m.RegisterHandlers(h, h)
	return h
}

func (h *heard) Schedule(run func()) { h.work = append(h.work, run) }
func (h *heard) Throughput() int     { return 300 }

func (h *heard) InvokeSystemMessage(m any) { h.InvokeUserMessage(m) }

func (h *heard) InvokeUserMessage(m any) {
	if h.invoked++; h.invoked > 1 {
		h.t.Error("two messages are handled at once")
	}
	defer func() { h.invoked-- }()
	h.got = append(h.got, m)
	h.on(m)
}

func (h *heard) EscalateFailure(any, any) { h.failed++ }

// append posts an append whose poster runs what it starts.
func (h *heard) append() *data.Append {
	a := &data.Append{Turns: func(t data.Turn) { h.turns = append(h.turns, t) }}
	h.m.PostUserMessage(a)
	return a
}

// expect checks what was handled so far, and how many workers and turns there were.
func (h *heard) expect(work, turns int, got ...any) {
	h.t.Helper()
	if !slices.Equal(h.got, got) || len(h.work) != work || len(h.turns) != turns {
		h.t.Fatalf("handled %v by %d workers and %d turns, want %v, %d, %d",
			h.got, len(h.work), len(h.turns), got, work, turns)
	}
}

func TestWhoPostsAnAppendRunsTheMailboxThatWasIdle(t *testing.T) {
	h := newHeard(t)
	a := h.append()
	b := h.append()
	h.expect(0, 1)
	h.turns[0].Take()
	h.expect(0, 1, a, b)
	c := h.append()
	h.expect(0, 2, a, b)
	h.turns[1].Leave()
	h.work[0]()
	h.expect(1, 2, a, b, c)
	if n := h.m.depth.waiting.Load(); n != 0 || h.m.UserMessageCount() != 0 {
		t.Errorf("%d and %d messages wait", n, h.m.UserMessageCount())
	}
}

func TestAPosterLeavesAllButAppendsToAWorker(t *testing.T) {
	for _, system := range []bool{false, true} {
		h := newHeard(t)
		a := h.append()
		if system {
			h.m.PostSystemMessage("long")
		} else {
			h.m.PostUserMessage("long")
		}
		b := h.append()
		h.turns[0].Take()
		if system {
			h.expect(1, 1)
			h.work[0]()
			h.expect(1, 1, "long", a, b)
			continue
		}
		h.expect(1, 1, a)
		h.work[0]()
		h.expect(1, 1, a, "long", b)
	}
}

func TestAPosterIsNotHeldByThoseWhoPostAsFastAsItHandles(t *testing.T) {
	h := newHeard(t)
	h.on = func(any) { h.append() }
	h.append()
	h.turns[0].Take()
	if len(h.got) != borrowedMost || len(h.work) != 1 {
		t.Fatalf("handled %d messages, and %d workers go on", len(h.got), len(h.work))
	}
}

func TestAMailboxThatAWorkerRunsTakesAppendsAlong(t *testing.T) {
	h := newHeard(t)
	h.m.PostUserMessage("first")
	a := h.append()
	h.expect(1, 0)
	h.work[0]()
	h.expect(1, 0, "first", a)
}

func TestASuspendedMailboxHandlesSystemMessagesAlone(t *testing.T) {
	h := newHeard(t)
	run := func() {
		h.work[len(h.work)-1]()
	}
	h.m.PostSystemMessage(&actor.SuspendMailbox{})
	run()
	a := h.append()
	h.expect(1, 0)
	h.m.PostSystemMessage("system")
	run()
	h.expect(2, 0, "system")
	h.m.PostSystemMessage(&actor.ResumeMailbox{})
	run()
	h.expect(3, 0, "system", a)
}

func TestAFailureEndsOneMessageAlone(t *testing.T) {
	h := newHeard(t)
	a, b := h.append(), h.append()
	h.on = func(m any) {
		if m == a {
			panic("a bug")
		}
	}
	h.turns[0].Take()
	h.expect(0, 1, a, b)
	if h.failed != 1 {
		t.Errorf("escalated %d times", h.failed)
	}
}

func TestManyPostersAndTurnsLoseNothingAndKeepTheOrderOfEach(t *testing.T) {
	const posters, each = 8, 2000
	type numbered struct{ who, n int }
	var last [posters]int
	var handled sync.WaitGroup
	handled.Add(posters * each)
	d := newDispatcher()
	defer d.close()
	m := newMailbox(&depth{})
	appends := make(map[any]numbered, posters*each)
	m.RegisterHandlers(invoke(func(message any) {
		if a := appends[message]; last[a.who] != a.n {
			t.Errorf("poster %d: message %d after %d", a.who, a.n, last[a.who])
		} else {
			last[a.who]++
		}
		handled.Done()
	}), d)
	var all [posters][each]data.Append
	for who := range all {
		for n := range all[who] {
			appends[&all[who][n]] = numbered{who, n}
		}
	}
	for who := range all {
		go func() {
			var turns []data.Turn
			for n := range all[who] {
				a := &all[who][n]
				if who%2 == 0 {
					a.Turns = func(t data.Turn) { turns = append(turns, t) }
				}
				m.PostUserMessage(a)
				if n%3 == 0 || n == each-1 {
					for _, t := range turns {
						t.Take()
					}
					turns = turns[:0]
				}
			}
		}()
	}
	handled.Wait()
}

// invoke is an actor that is a function.
type invoke func(message any)

func (i invoke) InvokeSystemMessage(m any) { i(m) }
func (i invoke) InvokeUserMessage(m any)   { i(m) }
func (i invoke) EscalateFailure(r, _ any)  { panic(r) }

func TestAQueueKeepsItsOrderAndLetsGoOfItsRoom(t *testing.T) {
	var f fifo
	next, in := 0, 0
	for round := range 200 {
		for range round {
			f.push(in)
			in++
		}
		for range round * 2 / 3 {
			if got := f.pop(); got != next {
				t.Fatalf("popped %v, want %d", got, next)
			}
			next++
		}
	}
	if cap(f.items) > 8*f.len() {
		t.Errorf("room for %d, %d are in it", cap(f.items), f.len())
	}
	for f.len() > 0 {
		if got := f.pop(); got != next {
			t.Fatalf("popped %v, want %d", got, next)
		}
		next++
	}
	if next != in || cap(f.items) > fifoKeep {
		t.Errorf("%d of %d came out; an empty queue has room for %d", next, in, cap(f.items))
	}
}
