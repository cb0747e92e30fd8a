package control

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
)

// Handle carries out a command. When it returns, the outcome is durable.
func (c *Controller) Handle(now time.Time, command Command) *Answer {
	a := &Answer{FirstID: messages.NoProducerID}
	if c.state == nil {
		a.Err = fmt.Errorf("the controller is loading: %w", messages.ErrNotController)
		return a
	}
	switch m := command.(type) {
	case *Heartbeat:
		c.heartbeat(now, &m.Heartbeat, a)
	case *Register:
		c.register(now, &m.Registration, a)
	case *Suspect:
		c.suspect(now, &m.Suspicion)
	case *AlterPartitions:
		c.alterPartitions(now, m, a)
	case *AllocateProducerIDs:
		p := c.state.Plan()
		first := p.ReserveProducerIDs()
		if a.Err = c.commit(now, p); a.Err == nil {
			a.FirstID = first
		}
	default:
		c.admin(now, command, a)
	}
	if c.state != nil {
		a.Version = c.state.Image().Version
	}
	return a
}

// admin decides what an operator or a client asked for on one plan, and stores
// it unless only a check was asked for.
func (c *Controller) admin(now time.Time, command Command, a *Answer) {
	p := c.state.Plan()
	check := false
	switch m := command.(type) {
	case *CreateTopics:
		check = m.ValidateOnly
		a.Topics = []messages.TopicResult{}
		for i, t := range m.Topics {
			a.Topics = append(a.Topics, c.createTopic(p, t, m.IDs[i]))
		}
	case *DeleteTopics:
		a.Topics = each(m.Topics, p.DeleteTopic)
	case *CreatePartitions:
		check = m.ValidateOnly
		a.Topics = each(m.Topics, func(q messages.CreatePartitions) messages.TopicResult {
			r := p.CreatePartitions(q)
			if t := c.state.Image().Topic(q.Topic); r.Err != nil && t != nil {
				r.Partitions = int32(len(t.Partitions)) // so that who asked twice finds it done
			}
			return r
		})
	case *AlterConfigs:
		check = m.ValidateOnly
		a.Errs = each(m.Reqs, p.AlterConfigs)
	case *ElectLeaders:
		a.Errs = each(m.Partitions, func(id messages.PartitionID) error { return p.Elect(m.Type, id) })
	case *Reassign:
		a.Errs = each(m.Reqs, p.Reassign)
	case *Unregister:
		a.Err = p.Unregister(m.Node)
	default:
		a.Err = fmt.Errorf("%T: %w", command, wire.ErrUnsupported)
	}
	if a.Err != nil || check {
		return
	}
	if a.Err = c.commit(now, p); a.Err == nil {
		c.sayTopics(command, a.Topics)
	}
	switch command.(type) {
	case *Reassign, *AlterConfigs: // node.drain is a setting, too
		c.balanceSoon(now)
	}
}

// topicsSaid bounds the lines about the topics of one command.
const topicsSaid = 10

// sayTopics logs which topics came and went.
func (c *Controller) sayTopics(command Command, results []messages.TopicResult) {
	var what string
	switch command.(type) {
	case *CreateTopics:
		what = "topic is created"
	case *DeleteTopics:
		what = "topic is deleted"
	default:
		return
	}
	done := 0
	for i := range results {
		r := &results[i]
		if r.Err != nil {
			continue
		}
		if done++; done <= topicsSaid {
			c.log.Info().Str("topic", r.Name).Str("id", r.ID.String()).Msg(what)
		}
	}
	if done > topicsSaid {
		c.log.Info().Int("topics", done).Msg(what + ", and others with it")
	}
}

// each is never nil: an answer of nothing is an answer.
func each[Q, R any](reqs []Q, f func(Q) R) []R {
	out := make([]R, len(reqs))
	for i, q := range reqs {
		out[i] = f(q)
	}
	return out
}

// createTopic finds the topic that the same command made when it was sent before.
func (c *Controller) createTopic(
	p *topics.Plan, t messages.CreateTopic, id messages.TopicID,
) messages.TopicResult {
	made := c.state.Image().TopicByID(id)
	if made == nil || made.Name != t.Name {
		return p.CreateTopic(t, id)
	}
	return messages.TopicResult{Name: t.Name, ID: id, Configs: made.Configs,
		Partitions:        int32(len(made.Partitions)),
		ReplicationFactor: int16(len(made.Partitions[0].Replicas))}
}

// alterPartitions decides what leaders propose: all of it on one plan.
//
// docs/flows/replication.md: set 3.
func (c *Controller) alterPartitions(now time.Time, m *AlterPartitions, a *Answer) {
	if a.Err = c.checkEpoch(m.Node, m.Epoch); a.Err != nil {
		return
	}
	p := c.state.Plan()
	results := each(m.Proposals, func(q messages.AlterPartition) messages.AlterPartitionResult {
		return p.AlterPartition(m.Node, q)
	})
	if p.Empty() {
		a.Partitions = results
		return
	}
	if a.Err = c.commit(now, p); a.Err == nil {
		a.Partitions = results
		c.balanceSoon(now)
	}
}

// checkEpoch refuses what a node asks under a registration that is not in force.
func (c *Controller) checkEpoch(id messages.NodeID, epoch messages.NodeEpoch) error {
	n := c.state.Image().Node(id)
	switch {
	case n == nil:
		return fmt.Errorf("node %d is not registered: %w", id, messages.ErrStaleNodeEpoch)
	case n.Fenced:
		return fmt.Errorf("node %d is fenced: %w", id, messages.ErrStaleNodeEpoch)
	case n.Epoch != epoch:
		return fmt.Errorf("node %d speaks under epoch %d, its registration has %d: %w",
			id, epoch, n.Epoch, messages.ErrStaleNodeEpoch)
	}
	return nil
}

// How long after a change the controller looks for replicas and leaderships to
// move, and how long it lets one step take effect before the next.
const (
	balanceDelay = 5 * time.Second
	balanceStep  = time.Second
)

func (c *Controller) balanceSoon(now time.Time) {
	if at := now.Add(balanceDelay); at.Before(c.balanceAt) {
		c.balanceAt = at
	}
}

// balance takes one small step towards every node having its share. A node that
// is drained is emptied whatever the settings say.
func (c *Controller) balance(now time.Time) {
	c.balanceAt = now.Add(time.Duration(c.number("leader.imbalance.check.interval.seconds")) *
		time.Second)
	p := c.state.Plan()
	step := p.Balance
	if c.cfg.Settings("auto.leader.rebalance.enable") != "true" {
		step = p.Drain
	}
	limit := int(c.number("rebalance.max.partitions"))
	moved := p.Widen(limit, c.internalCopies)
	if moved == 0 {
		moved = step(limit)
	}
	if moved == 0 || p.Empty() {
		return
	}
	if err := c.commit(now, p); err == nil {
		c.log.Info().Int("partitions", moved).Msg("replicas or leaderships are moved for balance")
		c.balanceAt = now.Add(balanceStep)
	}
}

// internalCopies is how many replicas an internal topic is to have.
func (c *Controller) internalCopies(topic string) int {
	if topic == coord.TxnTopic {
		return int(c.number("transaction.state.log.replication.factor"))
	}
	return int(c.number("offsets.topic.replication.factor"))
}
