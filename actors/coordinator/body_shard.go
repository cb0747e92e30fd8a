package coordinator

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

// bodyShard is shardActor without the actors.
type bodyShard struct {
	*shard
	b       *Body
	life    int // of the replays so far
	pause   time.Duration
	loading *loading
	steps   int    // of replays, to know the one that is awaited
	cancel  func() // of the wait for more to read; nil: there is none
	hosts   map[string]*bodyMember
}

// replay begins to read the partition.
func (s *bodyShard) replay() {
	s.life++
	s.shut(messages.ErrCoordinatorLoading)
	var err error
	if s.loading, err = newLoading(s.shard, s.driver()); err != nil {
		s.again()
		return
	}
	s.steps++
	s.b.out.Self(bodyLoad{s, s.steps})
}

// shut keeps requests out for as long as the partition is being replayed.
func (s *bodyShard) shut(why error) {
	s.ends.shut()
	s.why = fmt.Errorf("%s: %w", s.name(), why)
	s.hosts = map[string]*bodyMember{}
}

func (s *bodyShard) load(number int) {
	if number != s.steps || s.closed {
		return
	}
	s.stopWaiting()
	s.steps++
	if s.loading == nil { // it was a pause
		s.replay()
		return
	}
	next := bodyLoad{s, s.steps}
	switch p, err := s.loading.step(); {
	case err != nil:
		s.again()
	case p == loadMore:
		s.b.out.Self(next)
	case p == loadWaits:
		s.b.out.After(loadPatience, next)
		s.cancel = s.loading.log.Await(data.ReadUncommitted, s.loading.visible, func() {
			s.b.out.Self(next)
		})
	default:
		s.loaded(s.loading.r)
	}
}

func (s *bodyShard) stopWaiting() {
	if s.cancel != nil {
		s.cancel()
		s.cancel = nil
	}
}

// again replays once more, after a pause that grows.
func (s *bodyShard) again() {
	s.loading = nil
	s.steps++
	s.b.out.After(s.pause, bodyLoad{s, s.steps})
	s.pause = min(2*s.pause, reloadLimit)
}

func (s *bodyShard) loaded(r *replayer) {
	s.loading, s.pause, s.why = nil, reloadFirst, nil
	r.drop()
	for _, id := range sorted(r.machines) {
		s.spawn(id, r.machines[id])
	}
	for _, end := range s.ends.loaded(r.open) { // before what is in the mailbox, as in admit
		for _, id := range s.ends.ended(end) {
			s.hand(id, end)
		}
	}
}

// ended is shard.ended.
func (s *bodyShard) ended(m *group.TxnEnded) {
	for _, id := range s.ends.ended(m) {
		s.b.out.Self(memberRequest{s, id, m})
	}
}

func (s *bodyShard) hand(id string, r coord.Request) {
	if s.why != nil {
		r.Refuse(s.why)
		return
	}
	m := s.hosts[id]
	if m == nil {
		m = s.spawn(id, s.driver().machine(id))
	}
	m.handle(r)
}

func (s *bodyShard) driver() driver {
	if s.key.kind == coord.Txn {
		return bodyTxns{txnDriver{s.shard}, s.b}
	}
	return s.b.c.groups(s.shard)
}

func (s *bodyShard) spawn(id string, machine coord.Machine) *bodyMember {
	m := &bodyMember{s: s, id: id, life: s.life}
	if t, ok := machine.(*bodyTxn); ok {
		t.out.m = m
	}
	m.host = NewHost(machine, m)
	s.hosts[id] = m
	m.host.Begin(s.b.now())
	m.arm()
	return m
}

// failed ends all members and replays the partition.
func (s *bodyShard) failed(life int) {
	if life != s.life || s.closed || s.why != nil {
		return
	}
	s.dismiss()
	s.shut(messages.ErrCoordinatorLoading)
	s.again()
}

// end closes the shard for good: the partition moved.
func (s *bodyShard) end() {
	s.close(fmt.Errorf("%s moved: %w", s.name(), messages.ErrNotCoordinator))
	s.stopWaiting()
	s.dismiss()
}

func (s *bodyShard) dismiss() {
	for _, id := range sorted(s.hosts) {
		s.hosts[id].host.Stop(s.b.now(), messages.ErrNotCoordinator)
	}
	s.hosts = nil
}

// bodyMember is memberActor without the actor.
type bodyMember struct {
	s      *bodyShard
	id     string
	life   int // of the shard, in which it was made
	host   *Host
	alarm  time.Time // the next; zero: none is set
	alarms int       // set so far
	empty  time.Time // since when there is nothing to remember; zero: there is
}

func (m *bodyMember) handle(r coord.Request) {
	m.host.Handle(m.s.b.now(), r)
	m.arm()
}

// Append implements Outbox.
func (m *bodyMember) Append(w *coord.Write) {
	s := m.s
	done := func(err error) { s.b.out.Self(memberWritten{m, written{w, err}}) }
	a, err := s.appendOf(w, m.id, s.b.now(), done)
	if err != nil {
		done(err)
		return
	}
	if w.Producer != messages.NoProducerID {
		a.Verify = func(reply func(error)) {
			q := s.question(w)
			q.Reply = func(r txn.Added) { reply(verdictOf(r)) }
			s.b.AddToTxn(w.TransactionalID, &q)
		}
	}
	log, err := s.leading()
	if err != nil {
		done(err)
		return
	}
	log.Append(a)
}

// Patience implements Outbox.
func (m *bodyMember) Patience() time.Duration { return m.s.patience() }

func (m *bodyMember) written(w *coord.Write, err error) {
	now, sure := m.s.b.now(), true
	if err != nil {
		err, sure = refusal(err)
	}
	m.host.Written(now, w, err)
	if !sure {
		m.host.Stop(now, err)
		m.s.b.out.Self(bodyFailed{m.s, m.life})
	}
	m.arm()
}

// arm sets the alarm to when there is something to do.
func (m *bodyMember) arm() {
	now, due := m.s.b.now(), m.host.Due()
	if m.host.Empty() {
		if m.empty.IsZero() {
			m.empty = now
		}
		due = m.empty.Add(m.s.b.c.idle)
	} else {
		m.empty = time.Time{}
	}
	if due.IsZero() || !m.alarm.IsZero() && !due.Before(m.alarm) {
		return
	}
	m.alarm = due
	m.alarms++
	m.s.b.out.After(max(0, due.Sub(now)), memberDue{m, m.alarms})
}

func (m *bodyMember) due(number int) {
	if number != m.alarms || m.s.hosts[m.id] != m {
		return
	}
	m.alarm = time.Time{}
	now := m.s.b.now()
	m.host.Tick(now)
	if m.host.Empty() && !m.empty.IsZero() && now.Sub(m.empty) >= m.s.b.c.idle {
		delete(m.s.hosts, m.id)
		return
	}
	m.arm()
}
