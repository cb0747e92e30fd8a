package control

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
)

// proposalsAtOnce bounds the proposals of one command.
const proposalsAtOnce = 1000

// proposals are the in-sync sets that the replicas of a node propose. One command
// with them is under way; those that come meanwhile wait for the next, the newest
// of each partition.
type proposals struct {
	waiting map[messages.PartitionID]proposal
	order   []messages.PartitionID
	flying  asking
	sent    []proposal
}

type proposal struct {
	messages.AlterPartition
	reply func(messages.AlterPartitionResult)
}

func newProposals() proposals {
	return proposals{waiting: map[messages.PartitionID]proposal{}}
}

// Propose asks the controller for another in-sync set of a partition that this
// node leads. Reply is called once; its error may be messages.ErrUnavailable: ask
// again.
//
// docs/flows/replication.md: set 2.
func (a *Agent) Propose(now time.Time, q messages.AlterPartition,
	reply func(messages.AlterPartitionResult)) {
	p := &a.proposals
	if !a.registered() {
		reply(messages.AlterPartitionResult{
			Err: fmt.Errorf("the node is fenced: %w", messages.ErrStaleNodeEpoch)})
		return
	}
	if old, ok := p.waiting[q.ID]; ok {
		old.reply(messages.AlterPartitionResult{
			Err: fmt.Errorf("a newer proposal came: %w", messages.ErrInvalidUpdateVersion)})
	} else {
		p.order = append(p.order, q.ID)
	}
	p.waiting[q.ID] = proposal{q, reply}
	a.propose(now)
}

// propose sends what waits, unless a command is under way.
func (a *Agent) propose(now time.Time) {
	p := &a.proposals
	if p.flying.id != 0 || len(p.order) == 0 || !a.registered() {
		return
	}
	n := min(len(p.order), proposalsAtOnce)
	c := &AlterPartitions{Node: a.self(), Epoch: a.epoch}
	for _, id := range p.order[:n] {
		q := p.waiting[id]
		delete(p.waiting, id)
		p.sent = append(p.sent, q)
		c.Proposals = append(c.Proposals, q.AlterPartition)
	}
	p.order = append(p.order[:0], p.order[n:]...)
	p.flying = a.ask(now, c)
}

func (p *proposals) answered(r *Answer) {
	sent := p.sent
	p.sent, p.flying = nil, asking{}
	err := r.Err
	if err == nil && len(r.Partitions) != len(sent) {
		err = fmt.Errorf("%d answers to %d proposals: %w", len(r.Partitions), len(sent),
			messages.ErrUnavailable)
	}
	for i, q := range sent {
		if err != nil {
			q.reply(messages.AlterPartitionResult{Err: err})
			continue
		}
		q.reply(r.Partitions[i])
	}
}

// lost gives up the command under way when its answer does not come.
func (p *proposals) lost(now time.Time) {
	if p.flying.id != 0 && now.Sub(p.flying.since) >= askLost {
		p.answered(&Answer{Err: fmt.Errorf("the controller did not answer: %w",
			messages.ErrUnavailable)})
	}
}

// refuse answers all proposals.
func (p *proposals) refuse(err error) {
	p.answered(&Answer{Err: err})
	for _, id := range p.order {
		p.waiting[id].reply(messages.AlterPartitionResult{Err: err})
	}
	clear(p.waiting)
	p.order = nil
}
