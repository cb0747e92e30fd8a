package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
)

// Body is the coordinators of a node without their actors, for a simulation that
// decides itself when which message arrives. Replay, hosts, appends, markers and what
// follows from a failure are the code that a node runs; the actors around it, which
// only keep the members apart, are not there.
//
// One goroutine at a time may call it; it starts none.
type Body struct {
	c      *Coordinators // the settings and the image alone
	now    func() time.Time
	out    BodyOutbox
	shards map[shardKey]*bodyShard
}

// BodyConfig is what a Body needs of the node around it; see Config.
type BodyConfig struct {
	Self     messages.NodeID
	Now      func() time.Time
	Image    func() *messages.Image
	Settings func(name string) string
	Leading  func(t *messages.Topic, partition int32) (Partition, error)
	Out      BodyOutbox
}

// BodyOutbox is all that a Body does to the world around it. Replies are called by
// the goroutine of the Body, later than the call that they answer, and once, or not at
// all when the process ends.
type BodyOutbox interface {
	// Self has Receive called with m later, in the order of the calls; After does so
	// after a while.
	Self(m any)
	After(d time.Duration, m any)
	// NewProducerID wants an id that was never handed out before.
	NewProducerID(reply func(messages.ProducerID, error))
	// AddToTxn is Txn at the Body of a node, which may be this one.
	AddToTxn(n messages.NodeID, id string, a *txn.Add)
	// WriteMarkers is WriteMarkers at the Body of a node, which may be this one. err
	// tells that no answer came.
	WriteMarkers(n messages.NodeID, m txn.Markers, reply func(errs []error, err error))
}

// Messages of a Body to itself.
type (
	// bodyRequest is for a group or transactional id, whatever shard it is in.
	bodyRequest struct {
		kind coord.Kind
		id   string
		r    coord.Request
	}
	// memberRequest is for a member of a shard, memberAnswer for one member.
	memberRequest struct {
		s  *bodyShard
		id string
		r  coord.Request
	}
	memberAnswer struct {
		m *bodyMember
		r coord.Request
	}
	memberWritten struct {
		m *bodyMember
		written
	}
	memberDue struct {
		m      *bodyMember
		number int
	}
	bodyLoad struct {
		s      *bodyShard
		number int
	}
	bodyFailed struct {
		s    *bodyShard
		life int
	}
	markersDue struct{ s *sending }
)

// NewBody returns the coordinators of a node that leads nothing yet.
func NewBody(cfg BodyConfig) *Body {
	c := &Coordinators{idle: memberIdle, log: zerolog.Nop(), cfg: Config{
		Self: cfg.Self, Image: cfg.Image, Settings: cfg.Settings, Leading: cfg.Leading,
		Chosen: func(string) bool { return false }}}
	return &Body{c: c, now: cfg.Now, out: cfg.Out, shards: map[shardKey]*bodyShard{}}
}

// Led is Coordinators.Led.
func (b *Body) Led(topic string, partition int32, epoch messages.LeaderEpoch) {
	for _, kind := range []coord.Kind{coord.Group, coord.Txn} {
		if kind.Topic() == topic {
			b.out.Self(led{shardKey{kind, partition}, epoch})
		}
	}
}

// Group is Coordinators.Group.
func (b *Body) Group(id string, r coord.Request) { b.out.Self(bodyRequest{coord.Group, id, r}) }

// Txn is Coordinators.Txn.
func (b *Body) Txn(id string, r coord.Request) { b.out.Self(bodyRequest{coord.Txn, id, r}) }

// Epoch is the leadership under which this node coordinates a key, NoEpoch if it does
// not.
func (b *Body) Epoch(kind coord.Kind, key string) messages.LeaderEpoch {
	if s := b.shardOf(kind, key); s != nil && s.why == nil {
		return s.epoch
	}
	return messages.NoEpoch
}

// AddToTxn is Coordinators.AddToTxn; a.Reply hears the answer.
func (b *Body) AddToTxn(id string, a *txn.Add) {
	tp, err := b.c.Partition(coord.Txn, id)
	if err != nil {
		a.Refuse(fmt.Errorf("%w: %v", messages.ErrUnavailable, err))
		return
	}
	leader := b.c.cfg.Image().Topic(tp.Topic).Partitions[tp.Partition].Leader
	if leader == messages.NoNode {
		a.Refuse(fmt.Errorf("%s has no leader: %w", tp, messages.ErrUnavailable))
		return
	}
	b.out.AddToTxn(leader, id, a)
}

// WriteMarkers is Coordinators.WriteMarkers; reply hears the errors, in the order of
// the partitions.
func (b *Body) WriteMarkers(m *txn.Markers, reply func(errs []error)) {
	errs, left := make([]error, len(m.Partitions)), len(m.Partitions)
	for i, tp := range m.Partitions {
		b.c.appendMarker(m, tp, func(err error) {
			s := b.shards[shardKey{coord.Group, tp.Partition}]
			if err == nil && tp.Topic == coord.OffsetsTopic && s != nil {
				s.ended(endOfTxn(m))
			}
			errs[i] = err
			if left--; left == 0 {
				reply(errs)
			}
		})
	}
}

// Receive handles one message of those that the outbox was given.
func (b *Body) Receive(m any) {
	switch m := m.(type) {
	case led:
		b.led(m)
	case bodyRequest:
		if err := b.c.missing(m.r); err != nil {
			m.r.Refuse(err)
			return
		}
		if s := b.shardOf(m.kind, m.id); s != nil {
			s.hand(m.id, m.r)
			return
		}
		m.r.Refuse(fmt.Errorf("%s %q: %w", m.kind, m.id, messages.ErrNotCoordinator))
	case memberRequest:
		m.s.hand(m.id, m.r)
	case memberAnswer:
		if m.m.s.hosts[m.m.id] == m.m {
			m.m.handle(m.r)
		}
	case memberWritten:
		m.m.written(m.w, m.err)
	case memberDue:
		m.m.due(m.number)
	case bodyLoad:
		m.s.load(m.number)
	case bodyFailed:
		m.s.failed(m.life)
	case markersDue:
		m.s.send()
	}
}

// led begins a shard for a new leadership and ends that of the one before.
func (b *Body) led(m led) {
	if s := b.shards[m.key]; s != nil {
		if s.epoch == m.epoch {
			return
		}
		delete(b.shards, m.key)
		s.end()
	}
	if m.epoch == messages.NoEpoch {
		return
	}
	s := &bodyShard{shard: newShard(b.c, m.key, m.epoch), b: b, pause: reloadFirst}
	b.shards[m.key] = s
	s.replay()
}

func (b *Body) shardOf(kind coord.Kind, key string) *bodyShard {
	tp, err := b.c.Partition(kind, key)
	if err != nil {
		return nil
	}
	return b.shards[shardKey{kind, tp.Partition}]
}

// bodyTxns makes the machines of transactional ids, with outboxes of a Body.
type bodyTxns struct {
	txnDriver
	b *Body
}

func (d bodyTxns) machine(id string) coord.Machine {
	out := &bodyTxnOut{b: d.b}
	return &bodyTxn{newTxn(id, d.s, out), out}
}

// sorted are the ids of a map, in the one order that a simulation repeats.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
