package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

// Times of members, which are those of Kafka's clients made short.
const (
	sessionTimeout   = 6 * time.Second
	rebalanceTimeout = 5 * time.Second
	heartbeatEvery   = time.Second
)

// member is the part of a worker that belongs to a group. What it is given takes
// effect when the worker is between two pieces of work: see settle.
type member struct {
	k     *worker
	id    string
	epoch int32   // the generation, or the member epoch
	owned []int32 // partitions of the worker's input, ascending
	// settled: the worker may go on with what it owns. If not it calls settle.
	settled bool
	assigns bool // it leads the group in a generation whose assignment is to come
	beating int  // counts the loops of heartbeats: the last one is in force

	// Of a consumer group: what the coordinator gave last, and what it was told.
	given, told []int32
}

// settle has the member take part in its group and calls then when it does.
func (m *member) settle(then func()) {
	if m.k.protocol == group.Consumer {
		m.take()
		then()
		return
	}
	m.own(nil)
	m.join(then)
}

// groupCall asks the group's coordinator.
func groupCall[A any](k *worker, patience time.Duration,
	build func(reply func(A)) coord.Request, done func(A, error),
) {
	at := k.coordinator(coord.Group, k.group)
	var answer func(A)
	r := build(func(a A) { answer(a) })
	call(&k.client, at, patience, func(reply func(A)) {
		answer = reply
		at.coord.body.Group(k.group, r)
	}, done)
}

// again looks for the coordinator anew and calls f after a while.
func (k *worker) again(f func()) {
	delete(k.found, coord.Group)
	delete(k.found, coord.Txn)
	k.do(k.w.between(time.Millisecond, 200*time.Millisecond), f)
}

// join is JoinGroup of a classic group, and what follows.
func (m *member) join(then func()) {
	k := m.k
	m.beating++ // a member that joins does not beat
	k.w.ids++
	fresh := fmt.Sprintf("%s-%d", k.name, k.w.ids)
	groupCall(k, rebalanceTimeout+10*time.Second, func(reply func(group.Joined)) coord.Request {
		return &group.Join{MemberID: m.id, NewMemberID: fresh, ClientID: k.name,
			SessionTimeoutMs:   int32(sessionTimeout.Milliseconds()),
			RebalanceTimeoutMs: int32(rebalanceTimeout.Milliseconds()),
			ProtocolType:       "consumer",
			Protocols:          []group.Protocol{{Name: "range", Metadata: subscription(k.in)}},
			RequireKnownID:     true, Reply: reply}
	}, func(a group.Joined, err error) {
		if err = errors.Join(err, a.Err); err == nil {
			m.id, m.epoch, m.assigns = a.MemberID, a.Generation, a.Leader == a.MemberID
			k.do(k.w.between(0, 10*time.Millisecond), func() { m.sync(m.assignments(a), then) })
			return
		}
		switch {
		case errors.Is(err, group.ErrMemberIDRequired):
			m.id = a.MemberID
		case errors.Is(err, group.ErrUnknownMember):
			m.id = ""
		}
		k.again(func() { m.join(then) })
	})
}

// subscription is what a consumer of one topic says of itself, in Kafka's format.
func subscription(topic string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 0, 0, 0, 0, 1}, uint16(len(topic)))
	return append(append(b, topic...), 0xff, 0xff, 0xff, 0xff)
}

// assignments is what the leader of a generation decides: partitions in turn. nil if
// this member is not the leader.
func (m *member) assignments(a group.Joined) map[string][]byte {
	if a.Leader != m.id {
		return nil
	}
	var ids []string
	for _, other := range a.Members {
		ids = append(ids, other.MemberID)
	}
	slices.Sort(ids)
	all := map[string][]byte{}
	for i := range m.k.w.meta().Topic(m.k.in).Partitions {
		id := ids[i%len(ids)]
		all[id] = append(all[id], byte(i))
	}
	return all
}

func (m *member) sync(assignments map[string][]byte, then func()) {
	k := m.k
	m.assigns = false
	groupCall(k, rebalanceTimeout+10*time.Second, func(reply func(group.Synced)) coord.Request {
		return &group.Sync{MemberID: m.id, Generation: m.epoch, ProtocolType: "consumer",
			Protocol: "range", Assignments: assignments, Reply: reply}
	}, func(a group.Synced, err error) {
		if err = errors.Join(err, a.Err); err != nil {
			if errors.Is(err, group.ErrUnknownMember) {
				m.id = ""
			}
			k.again(func() { m.join(then) })
			return
		}
		var owned []int32
		for _, i := range a.Assignment {
			owned = append(owned, int32(i))
		}
		m.own(owned)
		m.settled = true
		m.beat()
		then()
	})
}

// own has the member own other partitions than before. Of those it did not own it
// does not know how far the group has come.
func (m *member) own(partitions []int32) {
	for i := range m.k.position { // any order: all are looked at
		if !slices.Contains(m.owned, i) || !slices.Contains(partitions, i) {
			delete(m.k.position, i)
		}
	}
	m.owned, m.settled = partitions, false
	m.k.w.note("worker %s (%s) owns %v in %d", m.k.name, m.id, m.owned, m.epoch)
	m.k.w.truth.owned(m.k.group, m.epoch, m.owned, m.id)
}

// beat begins a loop of heartbeats, which ends the one before.
func (m *member) beat() {
	m.beating++
	m.beatOn(m.beating)
}

func (m *member) beatOn(loop int) {
	m.k.do(heartbeatEvery, func() {
		if m.beating != loop {
			return
		}
		if m.k.protocol == group.Consumer {
			m.consumerBeat(loop)
			return
		}
		m.classicBeat(loop)
	})
}

func (m *member) classicBeat(loop int) {
	k := m.k
	groupCall(k, requestTimeout, func(reply func(error)) coord.Request {
		return &group.Heartbeat{MemberID: m.id, Generation: m.epoch, Reply: reply}
	}, func(answer, err error) {
		if m.beating != loop {
			return
		}
		switch err = errors.Join(err, answer); {
		case errors.Is(err, group.ErrUnknownMember):
			m.id, m.settled = "", false
		case errors.Is(err, group.ErrIllegalGeneration), errors.Is(err, group.ErrRebalanceInProgress):
			m.settled = false
		default:
			if err != nil {
				delete(k.found, coord.Group)
			}
			m.beatOn(loop)
		}
	})
}

// consumerBeat is a heartbeat of KIP-848: the whole protocol.
func (m *member) consumerBeat(loop int) {
	k := m.k
	told := slices.Clone(m.owned)
	hb := group.ConsumerHeartbeat{MemberID: m.id, MemberEpoch: m.epoch, RebalanceTimeoutMs: -1}
	topic := k.w.meta().Topic(k.in).ID
	if m.epoch == group.EpochJoin {
		told = nil
		hb.RebalanceTimeoutMs = int32(rebalanceTimeout.Milliseconds())
		hb.Topics, hb.HasTopics, hb.HasOwned = []string{k.in}, true, true
	} else if m.told == nil || !slices.Equal(told, m.told) {
		hb.HasOwned = true
		hb.Owned = []group.TopicPartitions{{Topic: topic, Partitions: told}}
	}
	groupCall(k, requestTimeout, func(reply func(group.ConsumerHeartbeated)) coord.Request {
		q := hb
		q.Reply = reply
		return &q
	}, func(a group.ConsumerHeartbeated, err error) {
		if m.beating != loop {
			return
		}
		switch err = errors.Join(err, a.Err); {
		case err == nil:
			m.heard(a, told, topic)
		case errors.Is(err, group.ErrUnknownMember), errors.Is(err, group.ErrFencedMemberEpoch):
			m.own(nil)
			m.epoch, m.given, m.told = group.EpochJoin, nil, nil
		default:
			delete(k.found, coord.Group)
			m.told = nil // say it all again
		}
		m.beatOn(loop)
	})
}

// heard takes in the answer to a heartbeat.
func (m *member) heard(a group.ConsumerHeartbeated, told []int32, topic messages.TopicID) {
	m.epoch, m.told = a.MemberEpoch, append([]int32{}, told...)
	if a.HasAssigned {
		m.given = nil
		for _, tp := range a.Assigned {
			if tp.Topic == topic {
				m.given = append(m.given, tp.Partitions...)
			}
		}
		slices.Sort(m.given)
	}
	m.settled = slices.Equal(m.owned, m.given)
	m.k.w.truth.owned(m.k.group, m.epoch, kept(m.owned, m.given), m.id)
}

// kept are the elements of a that are in b.
func kept(a, b []int32) (out []int32) {
	for _, x := range a {
		if slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

// take lets what the coordinator gave take effect, and tells it.
func (m *member) take() {
	if m.beating == 0 {
		m.k.w.ids++
		m.id = fmt.Sprintf("%s-%d", m.k.name, m.k.w.ids)
		m.beating++
		m.consumerBeat(m.beating)
		return
	}
	if m.epoch == group.EpochJoin {
		return
	}
	m.own(slices.Clone(m.given))
	m.settled = true
}

// leave ends the membership; the coordinator need not hear of it.
func (m *member) leave() {
	m.beating++
	groupCall(m.k, requestTimeout, func(reply func(error)) coord.Request {
		if m.k.protocol == group.Consumer {
			return &group.ConsumerHeartbeat{MemberID: m.id, MemberEpoch: group.EpochLeave,
				RebalanceTimeoutMs: -1, Reply: func(a group.ConsumerHeartbeated) { reply(a.Err) }}
		}
		return &group.Leave{Members: []group.Leaving{{MemberID: m.id}},
			Reply: func(a group.Left) { reply(errors.Join(append(a.Errs, a.Err)...)) }}
	}, func(error, error) {})
}
