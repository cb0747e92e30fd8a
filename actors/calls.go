package actors

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// repliesName is the well-known name of the actor through which a process hears
// from the controller: answers to what it asked, and metadata for its node.
const repliesName = "replies"

const (
	// callWait bounds the wait for one answer of the controller.
	callWait = 10 * time.Second
	// sweepEvery is how often calls are looked through for those that waited too
	// long.
	sweepEvery = 250 * time.Millisecond
)

// toController is a command for a controller on this node. reply must not block.
type toController struct {
	command control.Command
	reply   func(*control.Answer)
}

// calls are this process's commands that the controller has not answered. They
// end at once when the connection to the controller's node breaks, for nobody
// else would end them before their deadline.
type calls struct {
	env     *Env
	replies *actor.PID

	mu      sync.Mutex
	last    uint64 // random at the start: an answer for an earlier life must miss
	pending map[uint64]*pendingCall
	armed   bool // a sweep is on its way
}

type pendingCall struct {
	to       *actor.PID
	deadline time.Time
	done     func(*control.Answer) // must not block
}

func newCalls(env *Env) (*calls, error) {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails (crypto/rand)
	c := &calls{env: env, last: binary.LittleEndian.Uint64(seed[:]),
		pending: map[uint64]*pendingCall{}}
	props := actor.PropsFromFunc(c.receive,
		append(env.props(repliesName), actor.WithGuardian(Supervise(env)))...)
	var err error
	if c.replies, err = env.Root.SpawnNamed(props, repliesName); err != nil {
		return nil, fmt.Errorf("actor %s: %w", repliesName, err)
	}
	env.Root.ActorSystem().EventStream.Subscribe(func(event any) {
		if e, ok := event.(*remote.EndpointTerminatedEvent); ok {
			c.fail("the connection broke", func(p *pendingCall) bool { return p.to.Address == e.Address })
		}
	})
	return c, nil
}

// receive hears from the controller, wherever it is.
func (c *calls) receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *wire.ControllerResponse:
		c.finish(m.GetRequestId(), control.DecodeAnswer(m))
	case *wire.NodeCommand:
		d, err := wire.ToDelta(m.GetMetadata())
		if m.GetMetadata() == nil || err != nil {
			c.env.Log.Debug().Err(err).Msg("command of the controller is not understood")
			return // a delta that is missed leaves a gap, which is filled
		}
		c.env.tellNode(d)
	case *messages.Delta:
		c.env.tellNode(m)
	case *actor.DeadLetterResponse:
		c.fail("it is not there", func(p *pendingCall) bool { return p.to.Equal(m.Target) })
	}
}

// send sends a command to the controller at that address. Done is called once,
// from any goroutine; its answer's error is messages.ErrUnavailable when none came.
func (c *calls) send(to *actor.PID, command control.Command, wait time.Duration,
	done func(*control.Answer)) {
	c.mu.Lock()
	c.last++
	id := c.last
	c.pending[id] = &pendingCall{to: to, deadline: time.Now().Add(wait), done: done}
	if !c.armed {
		c.armed = true
		time.AfterFunc(sweepEvery, c.sweep)
	}
	c.mu.Unlock()
	var m any = &toController{command, func(a *control.Answer) { c.finish(id, a) }}
	if to.Address != c.replies.Address {
		m = control.EncodeCommand(id, command, wait)
	}
	c.env.Root.RequestWithCustomSender(to, m, c.replies)
}

// take removes a call, or returns nil if it ended before.
func (c *calls) take(id uint64) *pendingCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending[id]
	delete(c.pending, id)
	return p
}

func (c *calls) finish(id uint64, a *control.Answer) {
	if p := c.take(id); p != nil {
		p.done(a)
	}
}

// fail ends the calls that which chooses.
func (c *calls) fail(why string, which func(*pendingCall) bool) {
	var ended []*pendingCall
	c.mu.Lock()
	for id, p := range c.pending {
		if which(p) {
			ended = append(ended, p)
			delete(c.pending, id)
		}
	}
	c.mu.Unlock()
	for _, p := range ended {
		p.done(&control.Answer{Err: fmt.Errorf("the controller did not answer: %s: %w",
			why, messages.ErrUnavailable)})
	}
}

// sweep ends the calls that waited too long. It runs while there are any.
func (c *calls) sweep() {
	now := time.Now()
	c.fail("its time is up", func(p *pendingCall) bool { return now.After(p.deadline) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed = len(c.pending) > 0; c.armed {
		time.AfterFunc(sweepEvery, c.sweep)
	}
}

// forgetController drops what this node remembers of where the controller is.
func (c *Client) forgetController() { c.env.IDs.Forget(KindController, KindController) }

// answersNothing reports whether an answer says that the controller is elsewhere
// or gone, and whether the command may have been carried out all the same.
func answersNothing(a *control.Answer) (again, uncertain bool) {
	uncertain = errors.Is(a.Err, messages.ErrUnavailable) ||
		errors.Is(a.Err, messages.ErrFencedController)
	return uncertain || errors.Is(a.Err, messages.ErrNotController), uncertain
}

// askOnce sends a command to the controller and gives done the answer, once. It
// blocks while the controller is looked for.
func (c *Client) askOnce(command control.Command, wait time.Duration, done func(*control.Answer)) {
	pid := c.env.IDs.Resolve(KindController, KindController)
	if pid == nil {
		done(&control.Answer{Err: fmt.Errorf("there is no controller: %w", messages.ErrUnavailable)})
		return
	}
	c.calls().send(pid, command, wait, func(a *control.Answer) {
		if again, _ := answersNothing(a); again {
			c.forgetController()
		}
		done(a)
	})
}

// command has the controller carry out a command, on whatever node it is, and
// asks again while it is not there. Every command is safe to repeat.
func (c *Client) command(ctx context.Context, m control.Command) (*control.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	doubtful := false
	for pause := retryFirst; ; pause = min(2*pause, retryLimit) {
		answers := make(chan *control.Answer, 1)
		c.askOnce(m, callWait, func(a *control.Answer) { answers <- a })
		select {
		case a := <-answers:
			again, uncertain := answersNothing(a)
			if !again {
				if doubtful {
					control.Settle(m, a)
				}
				return a, a.Err
			}
			doubtful = doubtful || uncertain
		case <-ctx.Done():
			return nil, fmt.Errorf("the controller did not answer: %w", messages.ErrRequestTimedOut)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("the controller is not available: %w", messages.ErrUnavailable)
		}
	}
}
