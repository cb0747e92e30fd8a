// Package member decides what a member of a consumer group (KIP-848) says to the
// coordinator, and how it gets from the partitions that it has to those that it should
// have: it gives up first what it may not keep, and says so once that is done; then it
// takes what is new.
//
// A Machine reads no clock, waits for nothing and starts no goroutine. It owns what the
// coordinator has told the member and which partitions the member has. Package clientlib
// carries out what it decides, and is alone to use it.
package member

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/wire"
)

// Partition is a partition of one life of a topic.
type Partition struct {
	ID    messages.TopicID
	Topic string // its name
	Index int32
}

func compare(a, b Partition) int {
	return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Index, b.Index))
}

// Config is what a member says of itself.
type Config struct {
	Group string
	// ID is a UUID that the member made.
	ID string
	// Instance is the instance id of a static member; "": a dynamic one.
	Instance string
	// Topics, or what Pattern matches.
	Topics  []string
	Pattern string
	// RebalanceTimeout is how long the member may take to give up partitions.
	RebalanceTimeout time.Duration
}

// Machine is one member. Its owner calls one method at a time.
//
// Invariants: the member has no partition that the coordinator has not given to it, and
// no heartbeat leaves a partition out before Revoked was told of it. There is at most one
// heartbeat under way: each Heartbeat is followed by Answered or Refused.
type Machine struct {
	cfg   Config
	state state
	epoch int32 // 0: not a member yet

	target []Partition // what the coordinator lets the member have, sorted
	owned  []Partition // what it has, those included that it is giving up, sorted

	full bool // the next heartbeat says everything
	tell bool // the next heartbeat says what is owned
	said bool // the coordinator may know the member
}

type state int8

const (
	joining state = iota
	joined
	fenced // out of the group, and still to forget what it had
	ended  // out of it for good
)

// New returns a member that has not joined yet.
func New(cfg Config) *Machine { return &Machine{cfg: cfg, full: true} }

// ID is the member id.
func (m *Machine) ID() string { return m.cfg.ID }

// Epoch is the member epoch, under which offsets are committed; ok is false while the
// member is none.
func (m *Machine) Epoch() (epoch int32, ok bool) { return m.epoch, m.state == joined }

// Heartbeat returns what to say now, or nil if there is nothing to say: the member was
// fenced and has to forget first what it had, or it has ended.
func (m *Machine) Heartbeat() *wire.ClientGroupHeartbeat {
	if m.state == fenced || m.state == ended {
		return nil
	}
	h := m.heartbeat(m.epoch)
	if m.full {
		h.RebalanceTimeoutMs = int32(m.cfg.RebalanceTimeout.Milliseconds())
		if m.cfg.Pattern != "" {
			h.Regex = &m.cfg.Pattern
		} else {
			h.Topics, h.HasTopics = m.cfg.Topics, true
		}
	}
	if m.full || m.tell {
		h.Owned, h.HasOwned = toWire(m.owned), true
	}
	m.full, m.tell, m.said = false, false, true
	return h
}

// Farewell returns the last thing to say: a static member comes back. ok is false if
// there is nobody to say it to.
func (m *Machine) Farewell() (h *wire.ClientGroupHeartbeat, ok bool) {
	told := m.said && (m.state == joined || m.state == joining)
	epoch := group.EpochLeave
	if m.cfg.Instance != "" {
		epoch = group.EpochLeaveStatic
	}
	m.state = ended
	return m.heartbeat(epoch), told
}

func (m *Machine) heartbeat(epoch int32) *wire.ClientGroupHeartbeat {
	return &wire.ClientGroupHeartbeat{
		Group: m.cfg.Group, MemberId: m.cfg.ID, InstanceId: m.cfg.Instance,
		MemberEpoch: epoch, RebalanceTimeoutMs: -1,
	}
}

// Answered takes note of the answer to the last heartbeat.
func (m *Machine) Answered(a *wire.ClientGroupHeartbeated) {
	if m.state == fenced || m.state == ended {
		return
	}
	m.state, m.epoch = joined, a.GetMemberEpoch()
	if a.GetHasAssigned() {
		m.target = fromWire(a.GetAssigned())
	}
}

// Verdict is what becomes of a member whose heartbeat failed.
type Verdict int8

const (
	// Again: the next heartbeat says everything anew, as nobody knows what was heard.
	Again Verdict = iota
	// Lost: the member is out of the group. Next says what it has lost.
	Lost
	// Replaced: another member took over the instance id. The member has ended, and Next
	// says what it has lost.
	Replaced
	// Denied: the group does not take the member as it is. It has ended, as above.
	Denied
)

// Refused takes note that the last heartbeat failed.
func (m *Machine) Refused(err error) Verdict {
	m.full = true
	if m.state == fenced || m.state == ended {
		return Again
	}
	switch {
	case errors.Is(err, group.ErrFencedInstance):
		m.state = ended
		return Replaced
	case isOneOf(err, fences), m.epoch > 0 && errors.Is(err, group.ErrGroupNotFound):
		m.state = fenced
		return Lost
	case isOneOf(err, denials):
		m.state = ended
		return Denied
	}
	return Again
}

var fences = []error{
	group.ErrFencedMemberEpoch, group.ErrStaleMemberEpoch, group.ErrUnknownMember,
}

// denials are errors that do not pass. An unreleased instance id does.
var denials = []error{
	group.ErrFull, group.ErrInvalidRegex, group.ErrInvalidGroupID, group.ErrUnsupported,
	group.ErrUnsupportedAssignor, group.ErrInconsistentProtocol, group.ErrGroupNotFound,
	messages.ErrInvalidRequest, messages.ErrInvalidTopic, wire.ErrUnsupported,
}

func isOneOf(err error, of []error) bool {
	return slices.ContainsFunc(of, func(e error) bool { return errors.Is(err, e) })
}

// Step is what to do next: one of its lists has partitions, or none.
type Step struct {
	// Lost is read no more, and nothing of it is committed. Call Forgot.
	Lost []Partition
	// Revoke is to be given up: handled, committed and read no more. Call Revoked.
	Revoke []Partition
	// Assign is to be read from now on. Call Assigned at once.
	Assign []Partition
	// Rejoin: there was nothing to forget, and the member has something to say again.
	Rejoin bool
}

// Next returns the next step. It is the same until it was carried out or the coordinator
// has said something else. A member that is to join again and had nothing forgets that
// by itself.
func (m *Machine) Next() Step {
	switch m.state {
	case fenced, ended:
		if len(m.owned) > 0 {
			return Step{Lost: slices.Clone(m.owned)}
		}
		rejoin := m.state == fenced
		m.Forgot()
		return Step{Rejoin: rejoin}
	case joined:
		if surplus := without(m.owned, m.target); len(surplus) > 0 {
			return Step{Revoke: surplus}
		}
		return Step{Assign: without(m.target, m.owned)}
	case joining:
	}
	return Step{}
}

// Assigned says that the partitions of the step are the member's now.
func (m *Machine) Assigned(ps []Partition) {
	for _, p := range ps {
		_, given := slices.BinarySearchFunc(m.target, p, compare)
		i, had := slices.BinarySearchFunc(m.owned, p, compare)
		invariant.That(given && !had && m.state == joined,
			"partition %d of %q is taken: given %v, had %v", p.Index, p.Topic, given, had)
		m.owned = slices.Insert(m.owned, i, p)
	}
	m.tell = true
}

// Revoked says that the partitions are given up: the coordinator may give them away as
// soon as it hears of it. Those that were forgotten meanwhile do not matter.
func (m *Machine) Revoked(ps []Partition) {
	m.owned = without(m.owned, ps)
	m.tell = true
}

// Forgot says that nothing is read and committed any more of what was lost. A member
// that was fenced may join again.
func (m *Machine) Forgot() {
	m.owned, m.target, m.epoch = nil, nil, 0
	m.full, m.tell, m.said = true, false, false
	if m.state == fenced {
		m.state = joining
	}
}

// Ended reports that the member is out of the group for good.
func (m *Machine) Ended() bool { return m.state == ended }

// without returns what of a is not in b; both are sorted.
func without(a, b []Partition) []Partition {
	var left []Partition
	for _, p := range a {
		if _, ok := slices.BinarySearchFunc(b, p, compare); !ok {
			left = append(left, p)
		}
	}
	return left
}

// toWire puts sorted partitions together by topic.
func toWire(ps []Partition) []*wire.ClientPartitions {
	var out []*wire.ClientPartitions
	for i, p := range ps {
		if i == 0 || ps[i-1].ID != p.ID {
			out = append(out, &wire.ClientPartitions{TopicId: bytes.Clone(p.ID[:]), Topic: p.Topic})
		}
		last := out[len(out)-1]
		last.Partitions = append(last.Partitions, p.Index)
	}
	return out
}

// fromWire sorts partitions. Those of a topic without a name, which was deleted, cannot
// be read and are left out.
func fromWire(ts []*wire.ClientPartitions) []Partition {
	var out []Partition
	for _, t := range ts {
		if t.GetTopic() == "" {
			continue
		}
		p := Partition{Topic: t.GetTopic()}
		copy(p.ID[:], t.GetTopicId())
		for _, p.Index = range t.GetPartitions() {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, compare)
	return slices.CompactFunc(out, func(a, b Partition) bool { return compare(a, b) == 0 })
}
