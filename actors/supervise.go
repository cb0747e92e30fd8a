package actors

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"
)

// Backoff is how failed actors are restarted: alone, after a growing delay, and
// no more once they failed too often.
type Backoff struct {
	First  time.Duration // delay before the first restart
	Limit  time.Duration // longest delay
	Most   int           // failures within Window before it gives up
	Window time.Duration
}

// DefaultBackoff restarts after 20 ms, then ever later up to 5 s, and gives up
// after 10 failures in 5 minutes.
var DefaultBackoff = Backoff{
	First: 20 * time.Millisecond, Limit: 5 * time.Second, Most: 10, Window: 5 * time.Minute,
}

// supervisor is a strategy with Backoff. The library's own either restart
// without any delay or never give up.
//
// HandleFailure is called by the failing child's parent, one call at a time; the
// delayed restart comes from a timer's goroutine and only sends a system message.
type supervisor struct {
	backoff   Backoff
	log       zerolog.Logger
	restarted func(kind string)
	kind      string
	// gaveUp is called, on the parent's goroutine, after a child was stopped for good.
	gaveUp func(child *actor.PID, reason any)
}

// newSupervisor returns a strategy for the children of one actor, which are all
// of one kind.
func newSupervisor(env *Env, kind string, gaveUp func(*actor.PID, any)) *supervisor {
	return &supervisor{backoff: DefaultBackoff, log: env.Log, kind: kind,
		restarted: env.Metrics.ActorRestarted, gaveUp: gaveUp}
}

// Supervise returns a strategy for the virtual actors that the placement spawns.
func Supervise(env *Env) actor.SupervisorStrategy { return newSupervisor(env, "virtual", nil) }

// HandleFailure implements actor.SupervisorStrategy.
func (s *supervisor) HandleFailure(_ *actor.ActorSystem, parent actor.Supervisor, child *actor.PID,
	stats *actor.RestartStatistics, reason, _ any) {
	stats.Fail()
	failures := stats.NumberOfFailures(s.backoff.Window)
	if failures > s.backoff.Most {
		s.log.Error().Str("actor", child.Id).Int("failures", failures).Str("reason", fmt.Sprint(reason)).
			Msg("actor failed too often and is stopped")
		parent.StopChildren(child)
		if s.gaveUp != nil {
			s.gaveUp(child, reason)
		}
		return
	}
	delay := min(s.backoff.Limit, s.backoff.First<<min(failures-1, 20))
	delay += time.Duration(rand.Int64N(int64(delay)/4 + 1))
	s.restarted(s.kind)
	s.log.Warn().Str("actor", child.Id).Dur("in", delay).Str("reason", fmt.Sprint(reason)).
		Msg("actor failed and is restarted")
	time.AfterFunc(delay, func() { parent.RestartChildren(child) })
}

// logPanics is a receiver middleware that logs the stack of a panic, which the
// library does not, and lets the supervisor deal with it.
func logPanics(log zerolog.Logger) actor.ReceiverMiddleware {
	return func(next actor.ReceiverFunc) actor.ReceiverFunc {
		return func(ctx actor.ReceiverContext, env *actor.MessageEnvelope) {
			defer func() {
				if reason := recover(); reason != nil {
					log.Error().Str("actor", ctx.Self().Id).Str("message", fmt.Sprintf("%T", env.Message)).
						Str("reason", fmt.Sprint(reason)).Bytes("stack", debug.Stack()).Msg("actor panicked")
					panic(reason)
				}
			}()
			next(ctx, env)
		}
	}
}
