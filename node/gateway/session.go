package gateway

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors/alarm"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

// Messages to a session, besides *wire.ClientRequest and drain.
type (
	// found tells that a fetch found nothing and is to be parked.
	found struct{ fetch *fetch }
	// woken tells that a parked fetch may find something now.
	woken struct{ fetch *fetch }
)

// session is the actor of one client. The fields up to mu belong to the goroutine that
// runs Receive or do not change; those below mu are guarded by it, for requests end on
// the goroutines of leaders, readers and connections.
type session struct {
	g      *Gateway
	client *actor.PID
	who    who
	pid    *actor.PID
	local  bool // the client is in this process
	ctx    context.Context
	cancel context.CancelFunc
	txns   door.TxnAsks
	// drained says that the session refuses what is new; nil: nobody asked. It is the
	// gateway's.
	drained func()

	parked   parking
	alarm    alarm.Alarm
	draining bool

	ended atomic.Bool  // nothing is sent to the client any more
	calls atomic.Int32 // goroutines that may block

	mu        sync.Mutex
	appending int64               // bytes of batches that leaders have
	appends   appends             // without an answer
	fetches   map[*fetch]struct{} // without an answer
	waiting   []*fetch            // of these, those that wait for room in the window
	sending   int64               // bytes set aside for records, until they have left
	outgoing  int64               // of these, those that are read
}

func newSession(g *Gateway, client *actor.PID, clientID string) *session {
	s := &session{g: g, client: client, local: client.Address == g.self,
		who: who{clientID, client.Address}, fetches: map[*fetch]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(g.ctx)
	s.txns = door.TxnAsks{Coordinators: g.cfg.Coordinators, Context: s.ctx, Failed: s.failed}
	return s
}

// failed ends the session after a panic in a goroutine of it.
func (s *session) failed(cause any) {
	s.g.cfg.Log.Error("request of a client failed", "session", s.pid.Id, "reason", fmt.Sprint(cause))
	s.g.cfg.Failed(SessionKind)
	s.g.cfg.Root.Stop(s.pid)
}

// Receive implements actor.Actor.
func (s *session) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *wire.ClientRequest:
		s.request(ctx, m)
	case found:
		s.park(m.fetch)
	case woken:
		s.woken(m.fetch)
	case alarm.Ring:
		s.alarm.Rang(m)
		s.expire(time.Now())
	case drain:
		s.drain(m)
	case *actor.Stopping:
		s.end()
	}
}

// request begins what a client asks for.
func (s *session) request(ctx actor.Context, m *wire.ClientRequest) {
	if m.GetGoodbye() != nil {
		s.ended.Store(true)
		ctx.Stop(ctx.Self())
		return
	}
	if s.draining {
		s.refuse(m, fmt.Errorf("the node stops: %w", messages.ErrUnavailable))
		return
	}
	switch c := m.GetCommand().(type) {
	case *wire.ClientRequest_Append:
		s.append(m, c.Append)
	case *wire.ClientRequest_Fetch:
		s.fetch(m, c.Fetch)
	case nil, *wire.ClientRequest_Hello:
		s.refuse(m, fmt.Errorf("a session knows no %T: %w", c, wire.ErrUnsupported))
	default:
		s.call(m)
	}
}

// refuse answers a request with an error, as nothing was done for it.
func (s *session) refuse(m *wire.ClientRequest, err error) {
	if a := m.GetAppend(); a == nil || a.GetAcks() != int32(data.AcksNone) {
		s.send(&wire.ClientResponse{RequestId: m.GetRequestId(), Error: wire.FromError(err)})
	}
}

// send sends a message to the client, if the session has not ended: a connection that
// broke would be made anew for it.
func (s *session) send(m any) {
	if !s.ended.Load() {
		s.g.cfg.Root.Send(s.client, m)
	}
}

// ring has the session called at that time.
func (s *session) ring(now, at time.Time) { s.alarm.Set(s.g.cfg.Root, s.pid, now, at) }

// expire answers what has waited long enough.
func (s *session) expire(now time.Time) {
	for f := s.parked.due(now); f != nil; f = s.parked.due(now) {
		f.unpark()
	}
	s.expireAppends(now)
	s.ring(now, s.due(now))
}

// due is when something will have waited long enough; zero: nothing waits.
func (s *session) due(now time.Time) time.Time {
	at := s.parked.next()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.appends.first != nil {
		if sweep := now.Add(sweepEvery); at.IsZero() || sweep.Before(at) {
			at = sweep
		}
	}
	return at
}

// drain has the session refuse what is new, and answer what is parked.
func (s *session) drain(m drain) {
	if !s.draining {
		s.draining = true
		s.send(&wire.ClientPush{Event: &wire.ClientPush_Draining{
			Draining: &wire.ClientDraining{NodeId: int32(s.g.cfg.Cluster.Self())}}})
		for f := s.parked.pop(); f != nil; f = s.parked.pop() {
			f.unpark()
		}
	}
	m.done()
}

// end gives back what the session holds. Leaders still finish what they have.
func (s *session) end() {
	s.ended.Store(true)
	s.cancel()
	s.alarm.Stop()
	for f := s.parked.pop(); f != nil; f = s.parked.pop() {
		f.unpark()
	}
	s.endFetches()
	s.endAppends()
	s.g.running.Go(s.txns.Close)
}
