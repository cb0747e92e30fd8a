package alarm

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

func TestAnAlarmRingsAtTheEarliestTimeItWasSetTo(t *testing.T) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	system := actor.NewActorSystem(actor.WithLoggerFactory(
		func(*actor.ActorSystem) *slog.Logger { return quiet }))
	defer system.Shutdown()
	rings := make(chan Ring, 10)
	self := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(Ring); ok {
			rings <- m
		}
	}))
	var a Alarm
	now := time.Now()
	a.Set(system.Root, self, now, time.Time{})
	a.Set(system.Root, self, now, now.Add(time.Hour))
	a.Set(system.Root, self, now, now.Add(time.Millisecond))
	a.Set(system.Root, self, now, now.Add(time.Minute)) // later: it rings before
	select {
	case m := <-rings:
		a.Rang(Ring{m.number - 1}) // of a time that was changed
		if a.at.IsZero() {
			t.Error("an old ring took the alarm off")
		}
		a.Rang(m)
		if !a.at.IsZero() {
			t.Error("it rang and is still set")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it did not ring")
	}
	a.Set(system.Root, self, time.Now(), time.Now().Add(time.Millisecond))
	select {
	case <-rings:
	case <-time.After(10 * time.Second):
		t.Fatal("it did not ring again")
	}
	a.Stop()
}
