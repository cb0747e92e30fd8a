package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

// Pauses before a shard replays its partition again after a failure.
const (
	reloadFirst = 50 * time.Millisecond
	reloadLimit = 5 * time.Second
)

// Messages to a shard.
type (
	// enter brings a request for a member that is not there yet.
	enter struct {
		id string
		r  coord.Request
	}
	// place asks for the actor of a member, which is made if there is none.
	place struct {
		id   string
		done func(*actor.PID, error)
	}
	// loaded tells how a replay ended.
	loaded struct {
		life int
		r    *replayer
		err  error
	}
	// retire asks to end a member that has nothing to remember; retired tells it
	// that no request can come any more, and it answers with kept or ends.
	retire  struct{ m *member }
	retired struct{}
	kept    struct{ m *member }
	// failed tells that a member cannot go on: what it knows may not be what is in
	// the log. Everything is replayed.
	failed struct {
		life int
		why  string
	}
	reload struct{ life int }
	// leave ends a shard, or a member, in good order.
	leave struct{}
)

// shard is the published face of a shard: whoever has a request for one of its
// members hands it in here.
type shard struct {
	c     *Coordinators
	key   shardKey
	epoch messages.LeaderEpoch
	pid   *actor.PID

	// gate keeps requests from slipping into a mailbox that is never read again:
	// they are sent under its read lock.
	gate    sync.RWMutex
	why     error // why it takes no requests; nil: it does
	closed  bool  // for good
	members map[string]*member

	ends txnEnds
}

func newShard(c *Coordinators, key shardKey, epoch messages.LeaderEpoch) *shard {
	s := &shard{c: c, key: key, epoch: epoch}
	s.ends.shut()
	s.why = fmt.Errorf("%s: %w", s.name(), messages.ErrCoordinatorLoading)
	return s
}

func (s *shard) name() string {
	return messages.TopicPartition{Topic: s.key.kind.Topic(), Partition: s.key.partition}.String()
}

// handle hands a request to the member of that id.
func (s *shard) handle(id string, r coord.Request) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.why != nil {
		r.Refuse(s.why)
		return
	}
	if m := s.members[id]; m != nil {
		s.c.cfg.Root.Send(m.pid, r)
		return
	}
	s.c.cfg.Root.Send(s.pid, &enter{id, r})
}

// close ends the taking of requests, for good.
func (s *shard) close(why error) {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.why, s.closed = why, true
}

// list returns the members, or why there are none to see.
func (s *shard) list() ([]*member, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	var all []*member
	for _, m := range s.members {
		all = append(all, m)
	}
	return all, s.why
}

// ended tells the members with offsets of a transaction that its marker is in the
// partition. The replica calls it, in the order of the log.
func (s *shard) ended(m *group.TxnEnded) {
	for _, id := range s.ends.ended(m) {
		s.handle(id, m)
	}
}

// shardActor replays the partition and supervises the members.
type shardActor struct {
	*shard
	life     int // of the replays so far
	pause    time.Duration
	cancel   context.CancelFunc // of the replay under way
	parked   map[string][]coord.Request
	running  map[string]*member // by the id of their PID, until they have ended
	names    int
	leaving  bool
	resuming bool // to replay once all members have ended
}

func newShardActor(s *shard) *shardActor {
	return &shardActor{shard: s, pause: reloadFirst, parked: map[string][]coord.Request{},
		running: map[string]*member{}}
}

func (a *shardActor) Receive(ctx actor.Context) {
	defer a.rescue(ctx)
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.replay(ctx)
	case *enter:
		a.enter(ctx, m.id, m.r)
	case *place:
		a.place(ctx, m)
	case loaded:
		a.loaded(ctx, m)
	case retire:
		a.retire(ctx, m.m)
	case kept:
		a.kept(ctx, m.m)
	case failed:
		a.failed(ctx, m)
	case reload:
		if m.life == a.life && !a.leaving {
			a.replay(ctx)
		}
	case leave:
		a.leave(ctx)
	case *actor.Terminated:
		a.terminated(ctx, m.Who)
	case *actor.Stopping, *actor.Restarting:
		a.stopLoading()
	}
}

// replay reads the partition on a goroutine of its own, which ends with it or
// with the shard.
func (a *shardActor) replay(ctx actor.Context) {
	a.life++
	a.shut(messages.ErrCoordinatorLoading)
	var reading context.Context
	reading, a.cancel = context.WithCancel(context.Background())
	life, root, self, s := a.life, a.c.cfg.Root, ctx.Self(), a.shard
	go func() {
		r, err := s.load(reading)
		root.Send(self, loaded{life, r, err})
	}()
}

// shut keeps requests out for as long as the partition is being replayed.
func (a *shardActor) shut(why error) {
	a.ends.shut()
	a.gate.Lock()
	defer a.gate.Unlock()
	a.members = map[string]*member{}
	if !a.closed {
		a.why = fmt.Errorf("%s: %w", a.name(), why)
	}
}

func (a *shardActor) loaded(ctx actor.Context, m loaded) {
	if m.life != a.life || a.leaving {
		return
	}
	a.cancel()
	if m.err != nil {
		a.c.log.Warn().Err(m.err).Str("partition", a.name()).Dur("again", a.pause).
			Msg("coordinator cannot read its partition")
		a.again(ctx)
		return
	}
	a.pause = reloadFirst
	m.r.drop()
	for id, machine := range m.r.machines {
		a.spawn(ctx, id, machine)
	}
	if m.r.skipped > 0 {
		a.c.log.Warn().Int("records", m.r.skipped).Str("partition", a.name()).
			Msg("coordinator skipped records of a kind that it does not know")
	}
	a.admit(m.r)
	a.c.log.Debug().Str("partition", a.name()).Int32("epoch", int32(a.epoch)).
		Int("records", m.r.records).Int("members", len(m.r.machines)).Msg("coordinator is active")
}

// admit lets requests in, behind the ends of transactions that came meanwhile: a
// request may begin the next transaction of the same producer.
func (a *shardActor) admit(r *replayer) {
	a.gate.Lock()
	defer a.gate.Unlock()
	for _, end := range a.ends.loaded(r.open) {
		for _, id := range a.ends.ended(end) {
			if m := a.members[id]; m != nil {
				a.c.cfg.Root.Send(m.pid, end)
			}
		}
	}
	if !a.closed {
		a.why = nil
	}
}

// again replays once more, after a pause that grows.
func (a *shardActor) again(ctx actor.Context) {
	root, self, life := a.c.cfg.Root, ctx.Self(), a.life
	time.AfterFunc(a.pause, func() { root.Send(self, reload{life}) })
	a.pause = min(2*a.pause, reloadLimit)
}

// spawn starts a member and lets requests reach it.
func (a *shardActor) spawn(ctx actor.Context, id string, machine coord.Machine) *member {
	m := &member{shard: a.shard, id: id, life: a.life, machine: machine}
	a.names++
	name := fmt.Sprintf("%d", a.names) // ids of clients are no names: they may hold anything
	m.pid = actor.NewPID(ctx.Self().Address, ctx.Self().Id+"/"+name)
	if h, ok := machine.(homed); ok {
		h.live(m)
	}
	props := actor.PropsFromProducer(func() actor.Actor { return &memberActor{member: m} },
		a.c.cfg.Props(a.key.kind.String())...)
	if _, err := ctx.SpawnNamed(props, name); err != nil {
		panic(fmt.Sprintf("BUG: member %s is spawned twice: %v", name, err))
	}
	a.running[m.pid.Id] = m
	a.gate.Lock()
	a.members[id] = m
	a.gate.Unlock()
	return m
}

// enter makes the member that a request is for.
func (a *shardActor) enter(ctx actor.Context, id string, r coord.Request) {
	if a.parked[id] != nil {
		a.parked[id] = append(a.parked[id], r)
		return
	}
	m, why := a.member(ctx, id)
	if why != nil {
		r.Refuse(why)
		return
	}
	ctx.Send(m.pid, r)
}

// member returns the member of that id, which it makes if there is none.
func (a *shardActor) member(ctx actor.Context, id string) (*member, error) {
	a.gate.RLock()
	why, m := a.why, a.members[id]
	a.gate.RUnlock()
	if why == nil && m == nil {
		m = a.spawn(ctx, id, a.c.drivers[a.key.kind](a.shard).machine(id))
	}
	return m, why
}

func (a *shardActor) place(ctx actor.Context, p *place) {
	if a.parked[p.id] != nil {
		p.done(nil, fmt.Errorf("%q ends just now: %w", p.id, messages.ErrUnavailable))
		return
	}
	m, err := a.member(ctx, p.id)
	if err != nil {
		p.done(nil, err)
		return
	}
	p.done(m.pid, nil)
}

// retire takes a member out of the reach of requests; those that come for its id
// wait until it has ended, or has told that it stays.
func (a *shardActor) retire(ctx actor.Context, m *member) {
	a.gate.Lock()
	if a.members[m.id] == m {
		delete(a.members, m.id)
		a.parked[m.id] = []coord.Request{}
	}
	a.gate.Unlock()
	ctx.Send(m.pid, retired{})
}

// kept lets requests reach a member again, behind those that waited: the end of a
// transaction among them must not come after what the next one brings.
func (a *shardActor) kept(ctx actor.Context, m *member) {
	if a.running[m.pid.Id] == nil || m.life != a.life {
		return
	}
	a.gate.Lock()
	defer a.gate.Unlock()
	a.members[m.id] = m
	for _, r := range a.parked[m.id] {
		ctx.Send(m.pid, r)
	}
	delete(a.parked, m.id)
}

func (a *shardActor) unpark(ctx actor.Context, id string) {
	waiting := a.parked[id]
	delete(a.parked, id)
	for _, r := range waiting {
		a.enter(ctx, id, r)
	}
}
