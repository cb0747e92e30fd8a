package coordinator

import (
	"fmt"
	"runtime/debug"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
)

// failed ends all members and replays the partition.
func (a *shardActor) failed(ctx actor.Context, m failed) {
	if m.life != a.life || a.leaving || a.resuming {
		return
	}
	a.c.log.Error().Str("partition", a.name()).Str("reason", m.why).
		Msg("coordinator begins again")
	a.c.cfg.Failed(a.key.kind.String())
	a.beginAgain(ctx)
}

// beginAgain has the partition replayed once all members have ended, in good order:
// what the library does after a failure would drop what is in their mailboxes.
func (a *shardActor) beginAgain(ctx actor.Context) {
	a.shut(messages.ErrCoordinatorLoading)
	a.stopLoading()
	a.resuming = !a.leaving
	a.dismiss(ctx)
}

// stopLoading ends the replay under way, if there is one; its outcome is of no use.
func (a *shardActor) stopLoading() {
	a.life++
	if a.cancel != nil {
		a.cancel()
	}
}

// rescue begins again when the shard itself panics.
func (a *shardActor) rescue(ctx actor.Context) {
	reason := recover()
	if reason == nil {
		return
	}
	a.c.log.Error().Str("partition", a.name()).Str("message", fmt.Sprintf("%T", ctx.Message())).
		Str("reason", fmt.Sprint(reason)).Bytes("stack", debug.Stack()).Msg("shard panicked")
	a.c.cfg.Failed("shard")
	if m, ok := ctx.Message().(*enter); ok {
		m.r.Refuse(messages.ErrUnavailable) // it did not get as far as its member
	}
	a.beginAgain(ctx)
}

func (a *shardActor) leave(ctx actor.Context) {
	a.leaving = true
	a.stopLoading()
	a.dismiss(ctx)
}

// dismiss has all members leave.
func (a *shardActor) dismiss(ctx actor.Context) {
	a.refuseParked()
	for _, m := range a.running {
		ctx.Send(m.pid, leave{})
	}
	a.dismissed(ctx)
}

func (a *shardActor) refuseParked() {
	for id := range a.parked {
		for _, r := range a.parked[id] {
			r.Refuse(messages.ErrNotCoordinator)
		}
		delete(a.parked, id)
	}
}

func (a *shardActor) terminated(ctx actor.Context, who *actor.PID) {
	m := a.running[who.Id]
	if m == nil {
		return
	}
	delete(a.running, who.Id)
	if m.life == a.life && !a.leaving && !a.resuming {
		a.unpark(ctx, m.id)
	}
	a.dismissed(ctx)
}

// dismissed goes on when the last member has ended.
func (a *shardActor) dismissed(ctx actor.Context) {
	switch {
	case len(a.running) > 0:
	case a.leaving:
		ctx.Poison(ctx.Self())
	case a.resuming:
		a.resuming = false
		a.again(ctx)
	}
}
