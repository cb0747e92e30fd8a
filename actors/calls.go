package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors/ask"
	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// repliesName is the well-known name of the actor through which a process hears
// from the controller: answers to what it asked, and metadata for its node.
const repliesName = "replies"

// callWait bounds the wait for one answer of the controller.
const callWait = 10 * time.Second

// toController is a command for a controller on this node. reply must not block.
type toController struct {
	command control.Command
	reply   func(*control.Answer)
}

// calls are this process's commands that the controller has not answered.
type calls struct {
	env     *Env
	replies *actor.PID
	pending *ask.Calls[*control.Answer]
}

func newCalls(env *Env) (*calls, error) {
	c := &calls{env: env}
	c.pending = ask.New(env.Root.ActorSystem(), func(why string) *control.Answer {
		return &control.Answer{Err: fmt.Errorf("the controller did not answer: %s: %w",
			why, messages.ErrUnavailable)}
	})
	props := actor.PropsFromFunc(c.receive,
		append(env.Props(repliesName), actor.WithGuardian(Supervise(env)))...)
	var err error
	if c.replies, err = env.Root.SpawnNamed(props, repliesName); err != nil {
		return nil, fmt.Errorf("actor %s: %w", repliesName, err)
	}
	return c, nil
}

// receive hears from the controller, wherever it is.
func (c *calls) receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *wire.ControllerResponse:
		c.pending.Finish(m.GetRequestId(), control.DecodeAnswer(m))
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
		c.pending.Dead(m.Target)
	}
}

// send sends a command to the controller at that address. Done is called once,
// from any goroutine; its answer's error is messages.ErrUnavailable when none came.
func (c *calls) send(to *actor.PID, command control.Command, wait time.Duration,
	done func(*control.Answer)) {
	id := c.pending.Begin(to, wait, done)
	var m any = &toController{command, func(a *control.Answer) { c.pending.Finish(id, a) }}
	if to.Address != c.replies.Address {
		m = control.EncodeCommand(id, command, wait)
	}
	c.env.Root.RequestWithCustomSender(to, m, c.replies)
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
