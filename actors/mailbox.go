package actors

import (
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages/data"
)

// depth counts the messages that wait in the mailboxes of one kind of actor.
// What a stop throws away is counted by nobody, so it may drift upward over the
// life of a process by what was lost.
type depth struct{ waiting atomic.Int64 }

// depthKinds are the kinds whose mailboxes are counted.
var depthKinds = []string{KindController, KindNode, KindReplica, KindTopic, "log-dir", "storage",
	repliesName, "coordinators", "shard", "group", "transaction", "gateway", "session"}

// MailboxDepths returns how many messages wait, by kind of actor.
func (e *Env) MailboxDepths() map[string]int64 {
	out := make(map[string]int64, len(depthKinds))
	for _, k := range depthKinds {
		out[k] = e.depths[k].waiting.Load()
	}
	return out
}

// Props are the options all actors of a kind are made with. The kind is one of
// those whose mailboxes are counted. The slice is shared by all of them.
func (e *Env) Props(kind string) []actor.PropsOption { return e.props[kind] }

func (e *Env) propsOf(kind string) []actor.PropsOption {
	return slices.Clip([]actor.PropsOption{
		actor.WithReceiverMiddleware(logPanics(e.Log)),
		actor.WithMailbox(func() actor.Mailbox { return newMailbox(e.depths[kind]) }),
		actor.WithDispatcher(e.dispatcher),
	})
}

// borrowedMost is how many messages the poster of an append handles itself before a
// worker goes on: others may post as fast as it handles.
const borrowedMost = 128

// mailbox is an unbounded mailbox, as the library's own is, that can be run by
// whoever posts to it. An append whose poster offers to run what it starts
// (data.Append.Turns) leaves the mailbox in the poster's hands instead of waking a
// worker: on a machine that has something to do, that is two switches of threads
// less for each batch.
//
// Whatever goroutine runs it, one does at a time, and messages are handled in the
// order they came in, those of the system first. A poster handles appends alone;
// in front of anything else it leaves the mailbox to a worker, because a replica
// that opens, closes or compacts its log takes its time.
type mailbox struct {
	depth      *depth
	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher
	work       func() // run by a worker; made once

	mu        sync.Mutex
	system    fifo
	user      fifo
	running   bool // somebody runs it, or has the duty to
	suspended bool // only system messages are handled
}

func newMailbox(d *depth) *mailbox {
	m := &mailbox{depth: d}
	m.work = func() { m.run(false) }
	return m
}

// RegisterHandlers implements actor.Mailbox.
func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, dispatcher actor.Dispatcher) {
	m.invoker, m.dispatcher = invoker, dispatcher
}

// Start implements actor.Mailbox.
func (m *mailbox) Start() {}

// UserMessageCount implements actor.Mailbox.
func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.user.len()
}

// PostUserMessage implements actor.Mailbox.
func (m *mailbox) PostUserMessage(message any) {
	var turns func(data.Turn)
	if a, ok := message.(*data.Append); ok {
		turns = a.Turns
	}
	m.depth.waiting.Add(1)
	m.mu.Lock()
	m.user.push(message)
	start := !m.running && !m.suspended
	m.running = m.running || start
	m.mu.Unlock()
	switch {
	case !start:
	case turns != nil:
		turns(m)
	default:
		m.dispatcher.Schedule(m.work)
	}
}

// PostSystemMessage implements actor.Mailbox.
func (m *mailbox) PostSystemMessage(message any) {
	m.depth.waiting.Add(1)
	m.mu.Lock()
	m.system.push(message)
	start := !m.running
	m.running = true
	m.mu.Unlock()
	if start {
		m.dispatcher.Schedule(m.work)
	}
}

// Take implements data.Turn.
func (m *mailbox) Take() {
	// Actors set it as they need it, on goroutines that are not theirs to leave it on.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(false))
	m.run(true)
}

// Leave implements data.Turn.
func (m *mailbox) Leave() { m.dispatcher.Schedule(m.work) }

// run handles messages until there are none left for it.
func (m *mailbox) run(borrowed bool) {
	for m.handle(borrowed) {
		continue // after a message that failed
	}
}

// handle is run until a message fails, and reports whether one did.
func (m *mailbox) handle(borrowed bool) (failed bool) {
	var message any
	defer func() {
		if reason := recover(); reason != nil {
			failed = true
			m.invoker.EscalateFailure(reason, message)
		}
	}()
	most := m.dispatcher.Throughput()
	for done := 1; ; done++ {
		var system, ok bool
		if message, system, ok = m.next(borrowed, done); !ok {
			return false
		}
		m.depth.waiting.Add(-1)
		if !system {
			m.invoker.InvokeUserMessage(message)
		} else if !m.suspends(message) {
			m.invoker.InvokeSystemMessage(message)
		}
		if done%most == 0 {
			runtime.Gosched()
		}
	}
}

// suspends carries out what concerns the mailbox itself.
func (m *mailbox) suspends(message any) bool {
	switch message.(type) {
	case *actor.SuspendMailbox:
		m.setSuspended(true)
	case *actor.ResumeMailbox:
		m.setSuspended(false)
	default:
		return false
	}
	return true
}

func (m *mailbox) setSuspended(to bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.suspended = to
}

// next takes the message to handle next. Without one for the caller the mailbox is idle
// or a worker's.
func (m *mailbox) next(borrowed bool, done int) (message any, system, ok bool) {
	m.mu.Lock()
	empty := m.system.len() == 0 && (m.suspended || m.user.len() == 0)
	if empty {
		m.running = false
		m.mu.Unlock()
		return nil, false, false
	}
	system = m.system.len() > 0
	if borrowed && (system || done > borrowedMost || !brief(m.user.first())) {
		m.mu.Unlock()
		m.Leave()
		return nil, false, false
	}
	if system {
		message = m.system.pop()
	} else {
		message = m.user.pop()
	}
	m.mu.Unlock()
	return message, system, true
}

// brief reports whether a message takes no longer than an append does.
func brief(message any) bool {
	switch message.(type) {
	case *data.Append, writeQueued:
		return true
	}
	return false
}

// fifoKeep is how many places an empty queue keeps.
const fifoKeep = 32

// fifo is a queue. The zero value is empty and takes no memory.
type fifo struct {
	items []any // from head on
	head  int
}

func (f *fifo) len() int { return len(f.items) - f.head }

func (f *fifo) first() any { return f.items[f.head] }

func (f *fifo) push(m any) {
	if f.head > 0 && len(f.items) == cap(f.items) && f.head >= len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, m)
}

func (f *fifo) pop() any {
	m := f.items[f.head]
	f.items[f.head] = nil
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > fifoKeep {
			f.items = nil
		}
	}
	return m
}
