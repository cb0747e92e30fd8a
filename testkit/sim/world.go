// Package sim runs a whole cluster in one goroutine, under virtual time, from one
// seed: the bodies of the replicas, agents and controllers, a registry, the log on
// disks in memory, a network that loses connections, and clients. What happened
// once happens again with the same seed.
//
// A World is one heap of events. Every event is followed by a check of the
// invariants that the design promises: one leader per epoch, high watermarks that
// never fall, acknowledged records on every in-sync replica, equal bytes where
// offset and epoch are equal (equal records, where a log is compacted), and readers
// that never see what may go away. Workers, which read, transform and write in
// transactions, bring those of coordinators: one owner of a partition in a generation,
// committed offsets that never fall, transactions that are seen as a whole or not at
// all, and one record of the output for each of the input.
//
// Tests of Troupe use it, and so may those of a service that is built on it.
package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
)

// World is a simulated cluster. It is not safe for concurrent use.
type World struct {
	t       testing.TB
	seed    uint64
	rng     *rand.Rand
	began   time.Time
	now     time.Time
	events  eventHeap
	counter uint64
	steps   int
	trace   []string // the last things that happened

	nodes   []*node // by id, from 1
	net     *network
	service *service
	clients []*producer
	workers []*worker
	truth   *truth
	ids     uint64          // of topics
	stopped bool            // clients begin nothing new
	deleted map[string]bool // topics whose deletion was asked for, by name
}

// start is the virtual time at which every World begins.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// maxTrace bounds what a failure prints of what happened before it.
const maxTrace = 300

// maxSteps bounds the events of one run: a World that does not come to rest is
// as broken as one that breaks an invariant.
const maxSteps = 3_000_000

// Seed returns the seed that the SEED variable names, or draws one. A World that
// fails prints its seed.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("SEED=%s is no number: %v", s, err)
		}
		seed = n
	}
	return seed
}

// New returns a World of n nodes, started and registered.
func New(t testing.TB, seed uint64, n int) *World {
	t.Helper()
	w := &World{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x77)), began: start, now: start}
	w.net = newNetwork(w)
	w.truth = newTruth(w)
	w.deleted = map[string]bool{}
	w.service = newService(w)
	for i := range n {
		w.addNode(messages.NodeID(i + 1))
	}
	running := w // the test keeps what it was given until the last of its siblings is over
	t.Cleanup(func() {
		running.close()
		running = nil
	})
	w.RunUntil("all nodes are registered", func() bool {
		for _, n := range w.nodes {
			if !n.serving() {
				return false
			}
		}
		return true
	})
	return w
}

func (w *World) close() {
	if w.t.Failed() {
		name, _, _ := strings.Cut(w.t.Name(), "/")
		w.t.Logf("repeat with: make sim SEED=%d RUN='^%s$'", w.seed, name)
		w.t.Logf("seed %d, %s after the beginning; what happened before:\n%s\n%s",
			w.seed, w.now.Sub(w.began), strings.Join(w.trace, "\n"), w.describe())
	}
	for _, n := range w.nodes {
		if n.up {
			n.env.Close()
		}
		n.files.Close()
	}
}

// meta is the metadata as it is committed, which nodes may not have heard of yet.
func (w *World) meta() *messages.Image { return w.service.meta }

// describe says how things stand.
func (w *World) describe() string {
	var b strings.Builder
	for _, p := range w.truth.order {
		state := w.meta().Partition(p.id)
		fmt.Fprintf(&b, "%s-%d: %+v, acknowledged up to %d\n", p.topic, p.id.Partition, state, p.end)
		for _, n := range w.nodes {
			if r := n.replicas[p.id]; r != nil && n.up {
				fmt.Fprintf(&b, "    node %d (version %d, paused: %v, controller: %v): %s\n",
					n.id, n.image.Version, n.paused, n.controller != nil, r.body.Describe())
			}
		}
	}
	for _, n := range w.meta().Nodes {
		fmt.Fprintf(&b, "    %+v\n", n)
	}
	return b.String()
}

// event is something that happens at a moment.
type event struct {
	at    time.Time
	order uint64 // of two at the same moment, the one that was planned first
	do    func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].order < h[j].order
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(e any)   { *h = append(*h, e.(event)) }
func (h *eventHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = event{}
	*h = (*h)[:last]
	return e
}

// after plans do for a moment to come.
func (w *World) after(d time.Duration, do func()) {
	w.counter++
	heap.Push(&w.events, event{at: w.now.Add(d), order: w.counter, do: do})
}

// between draws a duration.
func (w *World) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Int64N(int64(most-least)+1))
}

// soon is how long something takes inside a node.
func (w *World) soon() time.Duration { return w.between(time.Microsecond, 200*time.Microsecond) }

// step lets the next event happen and checks the invariants.
func (w *World) step() bool {
	if len(w.events) == 0 {
		return false
	}
	e := heap.Pop(&w.events).(event)
	w.now = e.at
	w.steps++
	if w.steps > maxSteps {
		w.t.Fatalf("the World does not come to rest within %d events", maxSteps)
	}
	e.do()
	w.truth.check()
	return true
}

// note keeps what happened for the report of a failure.
func (w *World) note(format string, args ...any) {
	if len(w.trace) == maxTrace {
		w.trace = append(w.trace[:0], w.trace[1:]...)
	}
	w.trace = append(w.trace, fmt.Sprintf("%12s  ", w.now.Sub(w.began))+fmt.Sprintf(format, args...))
}

// RunFor lets virtual time pass.
func (w *World) RunFor(d time.Duration) {
	w.t.Helper()
	until := w.now.Add(d)
	for len(w.events) > 0 && !w.events[0].at.After(until) {
		w.step()
	}
	w.now = until
}

// patience bounds a RunUntil, in virtual time.
const patience = 5 * time.Minute

// RunUntil lets events happen until ok says so; what names the condition.
func (w *World) RunUntil(what string, ok func() bool) {
	w.t.Helper()
	limit := w.now.Add(patience)
	for !ok() {
		if !w.step() {
			w.t.Fatalf("nothing happens any more, still waiting until %s", what)
		}
		if w.now.After(limit) {
			w.t.Fatalf("%s passed, still waiting until %s", patience, what)
		}
	}
}

// Now is the virtual time.
func (w *World) Now() time.Time { return w.now }

// Rand is the World's source of chance, for tests that draw what they do.
func (w *World) Rand() *rand.Rand { return w.rng }
