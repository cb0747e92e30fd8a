package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

// aloneParts is how many partitions an internal topic gets on a node that is no
// member of a cluster, unless it is set: the node's first group should not wait
// for fifty logs to be made.
const aloneParts = 4

// Find returns the node that coordinates a key, and makes the internal topic if
// there is none. It fails with messages.ErrUnavailable while there is no leader.
func (c *Coordinators) Find(ctx context.Context, kind coord.Kind, key string) (
	messages.NodeID, error) {
	t, err := c.topic(ctx, kind)
	if err != nil {
		return messages.NoNode, err
	}
	p := coord.Partition(key, len(t.Partitions))
	leader := t.Partitions[p].Leader
	if leader == messages.NoNode {
		return leader, fmt.Errorf("%s-%d has no leader: %w", t.Name, p, messages.ErrUnavailable)
	}
	return leader, nil
}

// Partition is the partition of the internal topic that a key belongs to. It
// fails with messages.ErrNotCoordinator while there is no such topic.
func (c *Coordinators) Partition(kind coord.Kind, key string) (messages.TopicPartition, error) {
	t := c.cfg.Image().Topic(kind.Topic())
	if t == nil || len(t.Partitions) == 0 {
		return messages.TopicPartition{}, fmt.Errorf("%s does not exist: %w", kind.Topic(),
			messages.ErrNotCoordinator)
	}
	return messages.TopicPartition{Topic: t.Name,
		Partition: coord.Partition(key, len(t.Partitions))}, nil
}

// topic returns the internal topic of a kind, which it makes if it must.
func (c *Coordinators) topic(ctx context.Context, kind coord.Kind) (*messages.Topic, error) {
	if t := c.cfg.Image().Topic(kind.Topic()); t != nil {
		return t, nil
	}
	c.making.Lock()
	defer c.making.Unlock()
	for pause := 5 * time.Millisecond; ; pause *= 2 {
		if t := c.cfg.Image().Topic(kind.Topic()); t != nil {
			return t, nil
		}
		results, err := c.cfg.CreateTopics(ctx, []messages.CreateTopic{c.internalTopic(kind)})
		if err == nil {
			err = results[0].Err
		}
		if err != nil && !errors.Is(err, messages.ErrTopicAlreadyExists) {
			return nil, fmt.Errorf("creating %s: %w: %v", kind.Topic(), messages.ErrUnavailable, err)
		}
		if t := c.cfg.Image().Topic(kind.Topic()); t != nil {
			return t, nil
		}
		select { // another node made it: the news is on its way
		case <-time.After(min(pause, 250*time.Millisecond)):
		case <-ctx.Done():
			return nil, fmt.Errorf("creating %s: %w", kind.Topic(), messages.ErrUnavailable)
		}
	}
}

// internalTopic is how the internal topic of a kind is made. There are no more
// replicas than nodes.
func (c *Coordinators) internalTopic(kind coord.Kind) messages.CreateTopic {
	prefix := "offsets.topic."
	cfg := map[string]string{"cleanup.policy": "compact", "compression.type": "producer"}
	if kind == coord.Txn {
		prefix = "transaction.state.log."
		cfg["compression.type"] = "uncompressed"
		cfg["unclean.leader.election.enable"] = "false"
		cfg["min.insync.replicas"] = c.cfg.Settings("transaction.state.log.min.isr")
	}
	cfg["segment.bytes"] = c.cfg.Settings(prefix + "segment.bytes")
	parts, copies := c.number(prefix+"num.partitions"), c.number(prefix+"replication.factor")
	if c.cfg.Alone && !c.cfg.Chosen(prefix+"num.partitions") {
		parts = aloneParts
	}
	copies = max(1, min(copies, len(c.cfg.Image().Live())))
	return messages.CreateTopic{Name: kind.Topic(), Partitions: int32(parts),
		ReplicationFactor: int16(copies), Configs: cfg}
}

// number reads a setting that is a whole number; it was checked when it was set.
func (c *Coordinators) number(name string) int {
	n, err := strconv.Atoi(c.cfg.Settings(name))
	if err != nil {
		panic(fmt.Sprintf("BUG: setting %s is not a number: %v", name, err))
	}
	return n
}

// duration reads a setting in milliseconds.
func (c *Coordinators) duration(name string) time.Duration {
	return time.Duration(c.number(name)) * time.Millisecond
}

// list reads a setting that is a list.
func (c *Coordinators) list(name string) (out []string) {
	for v := range strings.SplitSeq(c.cfg.Settings(name), ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// shardOf returns the shard of a key on this node, or nil.
func (c *Coordinators) shardOf(kind coord.Kind, key string) *shard {
	tp, err := c.Partition(kind, key)
	if err != nil {
		return nil
	}
	s, ok := c.shards.Load(shardKey{kind, tp.Partition})
	if !ok {
		return nil
	}
	return s.(*shard)
}

// Group hands a request to a group's machine on this node. Groups that live
// elsewhere refuse it with messages.ErrNotCoordinator.
func (c *Coordinators) Group(id string, r coord.Request) { c.hand(coord.Group, id, r) }

// Txn is Group for a transactional id.
func (c *Coordinators) Txn(id string, r coord.Request) { c.hand(coord.Txn, id, r) }

func (c *Coordinators) hand(kind coord.Kind, id string, r coord.Request) {
	if err := c.missing(r); err != nil {
		r.Refuse(err)
		return
	}
	s := c.shardOf(kind, id)
	if s == nil {
		r.Refuse(fmt.Errorf("%s %q: %w", kind, id, messages.ErrNotCoordinator))
		return
	}
	s.handle(id, r)
}

// missing fails if a request adds a partition to a transaction that this node has not
// heard of yet. When the transaction ends, a partition that is not known is taken for
// deleted, and nobody would end it there.
func (c *Coordinators) missing(r coord.Request) error {
	a, ok := r.(*txn.Add)
	if !ok || a.VerifyOnly {
		return nil
	}
	im := c.cfg.Image()
	for _, tp := range a.Partitions {
		if t := im.Topic(tp.Topic); t == nil || int(tp.Partition) >= len(t.Partitions) {
			return fmt.Errorf("%s is not known to the coordinator yet: %w", tp, messages.ErrUnavailable)
		}
	}
	return nil
}

// Deleted tells the groups of this node that a topic is gone. It does not block.
// Those whose partition is being replayed do not hear of it: they know the topic's
// id, and its offsets expire.
func (c *Coordinators) Deleted(topic string) {
	all, _ := c.members(coord.Group)
	for _, m := range all {
		m.shard.handle(m.id, &group.TopicsDeleted{Topics: []string{topic}})
	}
}

// Moved is the message that tells the actor of a group or transactional id that
// it lives elsewhere now. It means nothing to it: its shard ends it.
type Moved struct{}

// Place has the shard of an identity make its actor, if there is none. The
// placement of virtual actors calls it; done may come from any goroutine.
func (c *Coordinators) Place(kind coord.Kind, identity string, done func(*actor.PID, error)) {
	s := c.shardOf(kind, identity)
	if s == nil {
		done(nil, fmt.Errorf("%s %q: %w", kind, identity, messages.ErrNotCoordinator))
		return
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.why != nil {
		done(nil, s.why)
		return
	}
	c.cfg.Root.Send(s.pid, &place{identity, done})
}

// members returns all of a kind on this node. The error says that some could not
// be seen.
func (c *Coordinators) members(kind coord.Kind) (all []*member, err error) {
	c.shards.Range(func(key, s any) bool {
		if key.(shardKey).kind != kind {
			return true
		}
		some, why := s.(*shard).list()
		all = append(all, some...)
		if errors.Is(why, messages.ErrCoordinatorLoading) {
			err = why
		}
		return true
	})
	slices.SortFunc(all, func(a, b *member) int { return strings.Compare(a.id, b.id) })
	return all, err
}

// Count counts the partitions of a kind's internal topic that this node coordinates
// for, those that are served and those that are being read, and the members.
func (c *Coordinators) Count(kind coord.Kind) (active, loading, members int) {
	c.shards.Range(func(key, v any) bool {
		if key.(shardKey).kind != kind {
			return true
		}
		some, why := v.(*shard).list()
		members += len(some)
		if why == nil {
			active++
		} else {
			loading++
		}
		return true
	})
	return active, loading, members
}

// Groups lists the groups of this node by id. With messages.ErrCoordinatorLoading
// come those that are known already.
func (c *Coordinators) Groups(ctx context.Context) ([]group.Listed, error) {
	all, err := c.members(coord.Group)
	found := make(chan *group.Listed, len(all))
	for _, m := range all {
		m.shard.handle(m.id, &group.List{Reply: func(l group.Listed, ok bool) {
			if !ok {
				found <- nil
				return
			}
			found <- &l
		}})
	}
	var out []group.Listed
	for range all {
		select {
		case l := <-found:
			if l != nil {
				out = append(out, *l)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("listing groups: %w", messages.ErrRequestTimedOut)
		}
	}
	slices.SortFunc(out, func(a, b group.Listed) int { return strings.Compare(a.GroupID, b.GroupID) })
	return out, err
}

// Txns lists the transactional ids of this node, as Groups does.
func (c *Coordinators) Txns(ctx context.Context) ([]txn.Description, error) {
	all, err := c.members(coord.Txn)
	found := make(chan txn.Description, len(all))
	for _, m := range all {
		m.shard.handle(m.id, &txn.Describe{Reply: func(d txn.Description) { found <- d }})
	}
	var out []txn.Description
	for range all {
		select {
		case d := <-found:
			if d.Err == nil {
				out = append(out, d)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("listing transactions: %w", messages.ErrRequestTimedOut)
		}
	}
	slices.SortFunc(out, func(a, b txn.Description) int { return strings.Compare(a.ID, b.ID) })
	return out, err
}
