package ask

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
)

func newCalls(t *testing.T) (*Calls[string], *actor.ActorSystem) {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	system := actor.NewActorSystem(actor.WithLoggerFactory(
		func(*actor.ActorSystem) *slog.Logger { return quiet }))
	t.Cleanup(system.Shutdown)
	return New(system, func(why string) string { return "unanswered: " + why }), system
}

func (c *Calls[T]) begin(to *actor.PID, wait time.Duration) (uint64, chan T) {
	answers := make(chan T, 2)
	return c.Begin(to, wait, func(a T) { answers <- a }), answers
}

func receive(t *testing.T, answers chan string) string {
	t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		return ""
	}
}

func TestAQuestionEndsOnce(t *testing.T) {
	c, _ := newCalls(t)
	id, answers := c.begin(actor.NewPID("a:1", "x"), time.Minute)
	c.Finish(id+1, "another's")
	c.Finish(id, "yes")
	c.Finish(id, "again")
	c.Dead(actor.NewPID("a:1", "x"))
	if got := receive(t, answers); got != "yes" || len(answers) > 0 || c.Len() > 0 {
		t.Errorf("answered %q, then %d more; %d are open", got, len(answers), c.Len())
	}
}

func TestAQuestionToWhoIsNotThereEnds(t *testing.T) {
	c, system := newCalls(t)
	_, dead := c.begin(actor.NewPID("a:1", "x"), time.Minute)
	_, cut := c.begin(actor.NewPID("b:1", "x"), time.Minute)
	_, alive := c.begin(actor.NewPID("c:1", "x"), time.Minute)
	c.Dead(actor.NewPID("a:1", "x"))
	system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: "b:1"})
	if got := receive(t, dead); got != "unanswered: it is not there" {
		t.Errorf("answered %q", got)
	}
	if got := receive(t, cut); got != "unanswered: the connection broke" {
		t.Errorf("answered %q", got)
	}
	if len(alive) > 0 || c.Len() != 1 {
		t.Errorf("a question to somebody else ended; %d are open", c.Len())
	}
}

func TestAQuestionEndsWhenItsTimeIsUp(t *testing.T) {
	c, _ := newCalls(t)
	_, short := c.begin(actor.NewPID("a:1", "x"), time.Millisecond)
	_, long := c.begin(actor.NewPID("a:1", "x"), time.Minute)
	if got := receive(t, short); got != "unanswered: its time is up" {
		t.Errorf("answered %q", got)
	}
	if len(long) > 0 || c.Len() != 1 {
		t.Errorf("the other one ended, too; %d are open", c.Len())
	}
}
