// Package ask keeps track of questions to actors, on this node or another, that
// are not answered yet. Each ends once: with its answer, when its time is up, or
// at once when the connection to the actor's node breaks, which the actor library
// tells nobody who waits for an answer.
//
// Only the shells in package actors and below use it.
package ask

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
)

// sweepEvery is how often questions are looked through for those that waited too
// long.
const sweepEvery = 250 * time.Millisecond

// Calls are a process's questions of one kind. Any goroutine may call its methods.
type Calls[T any] struct {
	unanswered func(why string) T

	mu      sync.Mutex
	last    uint64 // random at the start: an answer for an earlier life must miss
	pending map[uint64]*call[T]
	armed   bool // a sweep is on its way
}

type call[T any] struct {
	to       *actor.PID
	deadline time.Time
	done     func(T)
}

// New returns Calls that end with what unanswered returns when no answer comes.
// They watch the connections of the actor system for as long as it lives.
func New[T any](system *actor.ActorSystem, unanswered func(why string) T) *Calls[T] {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails (crypto/rand)
	c := &Calls[T]{unanswered: unanswered, last: binary.LittleEndian.Uint64(seed[:]),
		pending: map[uint64]*call[T]{}}
	system.EventStream.Subscribe(func(event any) {
		if e, ok := event.(*remote.EndpointTerminatedEvent); ok {
			c.fail("the connection broke", func(to *actor.PID) bool { return to.Address == e.Address })
		}
	})
	return c
}

// Begin notes a question to an actor and returns its id, which the answer must
// bear. done is called once, from any goroutine, and must not block.
func (c *Calls[T]) Begin(to *actor.PID, wait time.Duration, done func(T)) (id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.pending[c.last] = &call[T]{to: to, deadline: time.Now().Add(wait), done: done}
	if !c.armed {
		c.armed = true
		time.AfterFunc(sweepEvery, c.sweep)
	}
	return c.last
}

// Finish ends a question with its answer. One that ended before is left alone.
func (c *Calls[T]) Finish(id uint64, answer T) {
	c.mu.Lock()
	p := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	if p != nil {
		p.done(answer)
	}
}

// Len is how many questions are not answered.
func (c *Calls[T]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

// Dead ends the questions to an actor that is not there.
func (c *Calls[T]) Dead(target *actor.PID) {
	c.fail("it is not there", func(to *actor.PID) bool { return to.Equal(target) })
}

// fail ends the questions that which chooses.
func (c *Calls[T]) fail(why string, which func(to *actor.PID) bool) {
	c.end(why, func(p *call[T]) bool { return which(p.to) })
}

func (c *Calls[T]) end(why string, which func(*call[T]) bool) {
	var ended []*call[T]
	c.mu.Lock()
	for id, p := range c.pending {
		if which(p) {
			ended = append(ended, p)
			delete(c.pending, id)
		}
	}
	c.mu.Unlock()
	for _, p := range ended {
		p.done(c.unanswered(why))
	}
}

// sweep ends the questions that waited too long. It runs while there are any.
func (c *Calls[T]) sweep() {
	now := time.Now()
	c.end("its time is up", func(p *call[T]) bool { return now.After(p.deadline) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed = len(c.pending) > 0; c.armed {
		time.AfterFunc(sweepEvery, c.sweep)
	}
}
