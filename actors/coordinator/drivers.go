package coordinator

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/actors/groups"
	"github.com/troupelog/troupe/actors/txns"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
)

// newMemberJoin is how long the join of a new member may wait for the others.
const newMemberJoin = 5 * time.Minute

// cached is what was made of the settings that were in force with an image.
// Settings change with the image alone.
type cached[T any] struct {
	last atomic.Pointer[made[T]]
}

type made[T any] struct {
	from *messages.Image
	what T
}

func (c *cached[T]) get(im *messages.Image, build func() T) T {
	if m := c.last.Load(); m != nil && m.from == im {
		return m.what
	}
	m := &made[T]{im, build()}
	c.last.Store(m)
	return m.what
}

// groupDriver makes the machines of groups.
type groupDriver struct{ c *Coordinators }

func (c *Coordinators) groups(*shard) driver { return groupDriver{c} }

func (d groupDriver) owner(key []byte) (string, bool, error) {
	k, err := groups.ParseKey(key)
	if errors.Is(err, groups.ErrUnknownKey) {
		return "", false, nil
	}
	return k.Group, err == nil, err
}

func (d groupDriver) machine(id string) coord.Machine { return groups.New(id, d.c.groupConfig) }

func (c *Coordinators) groupConfig() groups.Config {
	return c.groupSettings.get(c.cfg.Image(), c.readGroupConfig)
}

func (c *Coordinators) readGroupConfig() groups.Config {
	cfg := groups.Config{
		MinSessionTimeout:            c.duration("group.min.session.timeout.ms"),
		MaxSessionTimeout:            c.duration("group.max.session.timeout.ms"),
		MaxSize:                      c.number("group.max.size"),
		InitialRebalanceDelay:        c.duration("group.initial.rebalance.delay.ms"),
		NewMemberJoinTimeout:         newMemberJoin,
		OffsetsRetention:             time.Duration(c.number("offsets.retention.minutes")) * time.Minute,
		RetentionCheckInterval:       c.duration("offsets.retention.check.interval.ms"),
		OffsetMetadataMaxBytes:       c.number("offset.metadata.max.bytes"),
		ConsumerSessionTimeout:       c.duration("group.consumer.session.timeout.ms"),
		ConsumerMinSessionTimeout:    c.duration("group.consumer.min.session.timeout.ms"),
		ConsumerMaxSessionTimeout:    c.duration("group.consumer.max.session.timeout.ms"),
		ConsumerHeartbeatInterval:    c.duration("group.consumer.heartbeat.interval.ms"),
		ConsumerMinHeartbeatInterval: c.duration("group.consumer.min.heartbeat.interval.ms"),
		ConsumerMaxHeartbeatInterval: c.duration("group.consumer.max.heartbeat.interval.ms"),
		ConsumerMaxSize:              c.number("group.consumer.max.size"),
		ConsumerAssignors:            c.list("group.consumer.assignors"),
		Image:                        c.cfg.Image,
	}
	cfg.Removed = func(groupID, memberID, why string) {
		c.log.Info().Str("group", groupID).Str("member", memberID).Str("reason", why).
			Msg("member is removed from its group")
	}
	if c.cfg.Alone && !c.cfg.Chosen("group.initial.rebalance.delay.ms") {
		cfg.InitialRebalanceDelay = 0 // whoever tries things out on one node waits for nobody
	}
	return cfg
}

// txnDriver makes the machines of transactional ids.
type txnDriver struct{ s *shard }

func (c *Coordinators) txns(s *shard) driver { return txnDriver{s} }

func (d txnDriver) owner(key []byte) (string, bool, error) {
	id, err := txns.ParseKey(key)
	if errors.Is(err, txns.ErrUnknownKey) {
		return "", false, nil
	}
	return id, err == nil, err
}

func (d txnDriver) machine(id string) coord.Machine {
	out := newTxnOut(d.s.c)
	return &txnMachine{newTxn(id, d.s, out), out}
}

func newTxn(id string, s *shard, out txns.Outbox) *txns.Txn {
	return txns.New(id, s.txnConfig, out)
}

func (s *shard) txnConfig() txns.Config {
	cfg := s.c.txnSettings.get(s.c.cfg.Image(), func() txns.Config {
		return txns.Config{MaxTimeout: s.c.duration("transaction.max.timeout.ms"),
			IDExpiration: s.c.duration("transactional.id.expiration.ms"),
			TimedOut: func(id string, producer messages.ProducerID) {
				s.c.log.Info().Str("transactional_id", id).Int64("producer", int64(producer)).
					Msg("transaction is aborted, its time is over")
			}}
	})
	cfg.CoordinatorEpoch = func() int32 { return int32(s.epoch) }
	return cfg
}

// txnMachine is a machine with its outbox, which ends with it.
type txnMachine struct {
	*txns.Txn
	out *txnOut
}

func (m *txnMachine) live(at *member) { m.out.m = at }

func (m *txnMachine) Stop(err error) {
	m.out.stop()
	m.Txn.Stop(err)
}
