package actors

import (
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/testkit"
)

// numbered is a message that says who posted it, and as which of his.
type numbered struct{ poster, number int }

// crowd is the actor behind a mailbox to which many post at the same time. Now and then
// it panics, and is suspended until somebody else lets it go on.
type crowd struct {
	t       *testing.T
	m       *mailbox
	inside  atomic.Int32
	appends map[*data.Append]numbered // not changed while it runs
	next    []int                     // by poster: the number to come
	handled atomic.Int64
	failed  int
	resumes sync.WaitGroup
}

func (c *crowd) InvokeSystemMessage(m any) { c.InvokeUserMessage(m) }

func (c *crowd) InvokeUserMessage(m any) {
	if c.inside.Add(1) != 1 {
		c.t.Error("two messages are handled at once")
	}
	defer c.inside.Add(-1)
	n, ok := m.(numbered)
	if a, appends := m.(*data.Append); appends {
		n, ok = c.appends[a], true
	}
	if !ok {
		return // of the system
	}
	if c.next[n.poster] != n.number {
		c.t.Errorf("poster %d: message %d comes where %d is due", n.poster, n.number, c.next[n.poster])
	}
	c.next[n.poster] = n.number + 1
	c.handled.Add(1)
	if n.number%97 == 13 {
		panic("a bug")
	}
}

func (c *crowd) EscalateFailure(any, any) {
	if c.inside.Load() != 0 {
		c.t.Error("a failure is escalated while a message is handled")
	}
	c.failed++
	c.m.PostSystemMessage(&actor.SuspendMailbox{})
	c.resumes.Go(func() { c.m.PostSystemMessage(&actor.ResumeMailbox{}) })
}

// post posts all messages of one poster: appends that he runs himself, appends that he
// does not, and others.
func (c *crowd) post(poster int, appends []*data.Append, random *rand.Rand) {
	var turns []data.Turn
	settle := func() {
		for _, t := range turns {
			if random.IntN(8) == 0 {
				t.Leave()
			} else {
				t.Take()
			}
		}
		turns = turns[:0]
	}
	for i, a := range appends {
		switch random.IntN(4) {
		case 0:
			c.m.PostUserMessage(numbered{poster, i})
		case 1:
			c.m.PostUserMessage(a)
		default:
			a.Turns = func(t data.Turn) { turns = append(turns, t) }
			c.m.PostUserMessage(a)
		}
		if random.IntN(16) == 0 {
			c.m.PostSystemMessage("system")
		}
		if random.IntN(5) == 0 {
			settle()
		}
	}
	settle()
}

func TestAMailboxThatManyRunLosesDoublesAndReordersNothing(t *testing.T) {
	const posters, each = 6, 2000
	d := newDispatcher()
	defer d.close()
	c := &crowd{t: t, m: newMailbox(&depth{}), appends: map[*data.Append]numbered{},
		next: make([]int, posters)}
	c.m.RegisterHandlers(c, d)
	all := make([][]*data.Append, posters)
	for p := range all {
		for i := range each {
			a := &data.Append{}
			c.appends[a] = numbered{p, i}
			all[p] = append(all[p], a)
		}
	}
	var posting sync.WaitGroup
	for p := range posters {
		random := rand.New(rand.NewPCG(1, uint64(p)))
		posting.Go(func() { c.post(p, all[p], random) })
	}
	posting.Wait()
	idle := func() bool {
		c.m.mu.Lock()
		defer c.m.mu.Unlock()
		return !c.m.running && !c.m.suspended
	}
	testkit.Eventually(t, "all is handled", func() bool {
		return c.handled.Load() == posters*each && c.m.depth.waiting.Load() == 0 && idle()
	})
	c.resumes.Wait()
	if want := posters * (each/97 + 1); c.failed != want {
		t.Errorf("%d failures, want %d", c.failed, want)
	}
}

// What fails is the replica alone, and it is restarted, though the goroutine is that of
// a connection.
func TestAReplicaThatFailsWhileItsPosterRunsItIsRestarted(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	w.produce("orders", "first")
	r := w.leader("orders", 0)
	var turns []data.Turn
	var failed atomic.Bool
	a := &data.Append{Batch: batchOf("a"), Acks: data.AcksLeader,
		Turns: func(t data.Turn) { turns = append(turns, t) },
		Done: func(data.AppendResult) {
			if !failed.Swap(true) {
				panic("a bug")
			}
		}}
	for len(turns) == 0 { // until no worker has the mailbox
		w.append(r, data.AcksLeader, batchOf("b"))
		b := *a
		b.Batch, b.Done = batchOf("c"), func(data.AppendResult) {}
		r.Append(&b)
	}
	r.Append(a)
	before := debug.SetPanicOnFault(false)
	for _, turn := range turns {
		turn.Take()
	}
	if debug.SetPanicOnFault(before) {
		t.Error("the setting for faults is the replica's")
	}
	w.eventually("the replica leads again", func() bool {
		return failed.Load() && w.append(w.leader("orders", 0), data.AcksAll, batchOf("d")).Err == nil
	})
}
