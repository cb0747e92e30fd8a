package member

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
)

func id(n int) (id messages.TopicID) {
	id[0] = byte(n)
	return id
}

// assigned makes partitions of topics "t1", "t2" and so on out of pairs.
func assigned(pairs ...[2]int) []*wire.ClientPartitions {
	var out []*wire.ClientPartitions
	for _, p := range pairs {
		topic := id(p[0])
		out = append(out, &wire.ClientPartitions{
			TopicId: topic[:], Topic: fmt.Sprintf("t%d", p[0]), Partitions: []int32{int32(p[1])},
		})
	}
	return out
}

func answer(epoch int32, pairs ...[2]int) *wire.ClientGroupHeartbeated {
	return &wire.ClientGroupHeartbeated{
		MemberEpoch: epoch, Assigned: assigned(pairs...), HasAssigned: true,
	}
}

func config() Config {
	return Config{Group: "g", ID: "me", Topics: []string{"t1"}, RebalanceTimeout: time.Minute}
}

func TestAMemberJoinsTakesGivesUpAndLeaves(t *testing.T) {
	m := New(config())
	h := m.Heartbeat()
	if h.MemberEpoch != 0 || !h.HasTopics || !h.HasOwned || len(h.Owned) > 0 ||
		h.RebalanceTimeoutMs != 60_000 || h.MemberId != "me" || h.Group != "g" {
		t.Fatalf("join %v", h)
	}
	m.Answered(answer(1, [2]int{1, 0}, [2]int{1, 1}))
	step := m.Next()
	if len(step.Assign) != 2 {
		t.Fatalf("step %+v", step)
	}
	m.Assigned(step.Assign)
	h = m.Heartbeat()
	if h.MemberEpoch != 1 || h.HasTopics || h.RebalanceTimeoutMs != -1 || !h.HasOwned ||
		len(h.Owned) != 1 || len(h.Owned[0].Partitions) != 2 {
		t.Fatalf("after the assignment %v", h)
	}
	m.Answered(&wire.ClientGroupHeartbeated{MemberEpoch: 1})
	if h = m.Heartbeat(); h.HasOwned {
		t.Fatalf("nothing is new, and says %v", h)
	}
	m.Answered(answer(1, [2]int{1, 1}))
	step = m.Next()
	if len(step.Revoke) != 1 || step.Revoke[0].Index != 0 {
		t.Fatalf("step %+v", step)
	}
	if h = m.Heartbeat(); h.HasOwned {
		t.Fatalf("it is not given up, and says %v", h)
	}
	m.Answered(&wire.ClientGroupHeartbeated{MemberEpoch: 1})
	m.Revoked(step.Revoke)
	if h = m.Heartbeat(); !h.HasOwned || len(h.Owned[0].Partitions) != 1 {
		t.Fatalf("after the revocation %v", h)
	}
	m.Answered(&wire.ClientGroupHeartbeated{MemberEpoch: 2})
	if epoch, ok := m.Epoch(); epoch != 2 || !ok {
		t.Errorf("epoch %d, %v", epoch, ok)
	}
	if h, ok := m.Farewell(); !ok || h.MemberEpoch != group.EpochLeave {
		t.Errorf("farewell %v, %v", h, ok)
	}
	if m.Heartbeat() != nil || !m.Ended() {
		t.Error("it speaks on")
	}
}

func TestWhatFailedIsSaidAgainWhole(t *testing.T) {
	m := New(config())
	m.Heartbeat()
	if v := m.Refused(messages.ErrUnavailable); v != Again {
		t.Fatalf("verdict %v", v)
	}
	if _, ok := m.Farewell(); !ok {
		t.Error("the join may have been heard, and there is no farewell")
	}
	m = New(config())
	m.Heartbeat()
	m.Answered(answer(4, [2]int{1, 0}))
	m.Assigned(m.Next().Assign)
	m.Heartbeat()
	m.Refused(errors.New("anything"))
	if h := m.Heartbeat(); h.MemberEpoch != 4 || !h.HasTopics || !h.HasOwned || len(h.Owned) != 1 {
		t.Errorf("says %v", h)
	}
	if _, ok := New(config()).Farewell(); ok {
		t.Error("a member that never spoke says farewell")
	}
}

func TestErrorsOfHeartbeatsMeanDifferentThings(t *testing.T) {
	for _, c := range []struct {
		err   error
		want  Verdict
		ended bool
	}{
		{messages.ErrNotCoordinator, Again, false},
		{group.ErrUnreleasedInstance, Again, false},
		{errors.New("what nobody knows"), Again, false},
		{group.ErrFencedMemberEpoch, Lost, false},
		{group.ErrUnknownMember, Lost, false},
		{group.ErrStaleMemberEpoch, Lost, false},
		{group.ErrGroupNotFound, Lost, false}, // it was deleted
		{group.ErrFencedInstance, Replaced, true},
		{group.ErrFull, Denied, true},
		{group.ErrInvalidRegex, Denied, true},
		{group.ErrInvalidGroupID, Denied, true},
		{messages.ErrInvalidRequest, Denied, true},
	} {
		m := New(config())
		m.Heartbeat()
		m.Answered(answer(3, [2]int{1, 0}))
		m.Assigned(m.Next().Assign)
		m.Heartbeat()
		if v := m.Refused(fmt.Errorf("group: %w", c.err)); v != c.want || m.Ended() != c.ended {
			t.Errorf("%v: verdict %v, ended %v", c.err, v, m.Ended())
			continue
		}
		if c.want == Again {
			continue
		}
		if m.Heartbeat() != nil || len(m.Next().Lost) != 1 {
			t.Errorf("%v: it speaks before it forgot", c.err)
		}
		m.Forgot()
		if h := m.Heartbeat(); (h == nil) != c.ended || h != nil && h.MemberEpoch != 0 {
			t.Errorf("%v: says %v then", c.err, h)
		}
	}
	m := New(config())
	m.Heartbeat()
	if v := m.Refused(group.ErrGroupNotFound); v != Denied {
		t.Errorf("a group of another type: verdict %v", v)
	}
}

func TestAStaticMemberComesBackAndAPatternIsSaid(t *testing.T) {
	m := New(Config{Group: "g", ID: "me", Instance: "i", Pattern: "t.*"})
	h := m.Heartbeat()
	if h.Regex == nil || *h.Regex != "t.*" || h.HasTopics || h.InstanceId != "i" {
		t.Errorf("join %v", h)
	}
	m.Answered(answer(1))
	if h, ok := m.Farewell(); !ok || h.MemberEpoch != group.EpochLeaveStatic || h.InstanceId != "i" {
		t.Errorf("farewell %v, %v", h, ok)
	}
}

func TestATopicWithoutANameIsNotTaken(t *testing.T) {
	m := New(config())
	m.Heartbeat()
	a := answer(1, [2]int{1, 0}, [2]int{2, 0})
	a.Assigned[0].Topic = ""
	m.Answered(a)
	if step := m.Next(); len(step.Assign) != 1 || step.Assign[0].Topic != "t2" {
		t.Errorf("step %+v", step)
	}
}

// coordinator is one that answers at random, and remembers what it may.
type coordinator struct {
	t     *testing.T
	r     *rand.Rand
	epoch int32
	given map[Partition]bool // what the member may have: it was told, or did not yet give back
}

// hears checks a heartbeat, and returns an answer.
func (c *coordinator) hears(h *wire.ClientGroupHeartbeat, has []Partition) (
	*wire.ClientGroupHeartbeated, error,
) {
	if h.HasOwned {
		if says := fromWire(h.Owned); !slices.Equal(says, has) {
			c.t.Fatalf("it says %v and has %v", says, has)
		}
	}
	if h.MemberEpoch == 0 {
		if len(has) > 0 || !h.HasTopics || !h.HasOwned {
			c.t.Fatalf("it joins with %v: %v", has, h)
		}
		clear(c.given)
	}
	switch n := c.r.IntN(20); {
	case n < 2:
		return nil, messages.ErrUnavailable
	case n == 2 && h.MemberEpoch > 0:
		return nil, group.ErrFencedMemberEpoch
	case n < 10 && h.MemberEpoch > 0:
		return &wire.ClientGroupHeartbeated{MemberEpoch: c.epoch}, nil
	}
	c.epoch++
	var pairs [][2]int
	for topic := 1; topic <= 2; topic++ {
		for index := range 3 {
			if c.r.IntN(2) == 0 {
				pairs = append(pairs, [2]int{topic, index})
				c.given[Partition{id(topic), fmt.Sprintf("t%d", topic), int32(index)}] = true
			}
		}
	}
	c.r.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	return answer(c.epoch, pairs...), nil
}

// Against any coordinator a member has only what it was given, says what it has and
// nothing else, and gives up before it takes.
func TestAMemberNeverHasWhatItWasNotGiven(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := &coordinator{t: t, r: r, given: map[Partition]bool{}}
		m := New(config())
		var has []Partition // what a shell reads
		var doing Step      // a revocation under way
		moves := 0
		for range 300 {
			switch r.IntN(3) {
			case 0:
				h := m.Heartbeat()
				if h == nil {
					break
				}
				if a, err := c.hears(h, has); err != nil {
					m.Refused(err)
				} else {
					m.Answered(a)
				}
			case 1:
				if len(doing.Revoke) > 0 && r.IntN(2) == 0 {
					if _, still := m.Epoch(); still {
						has = without(has, doing.Revoke)
						m.Revoked(doing.Revoke)
					}
					doing = Step{}
				}
			default:
				if len(doing.Revoke) > 0 {
					break
				}
				moves++
				step := m.Next()
				switch {
				case len(step.Lost) > 0:
					if !slices.Equal(step.Lost, has) {
						t.Fatalf("seed %d: lost %v, had %v", seed, step.Lost, has)
					}
					has = nil
					m.Forgot()
				case len(step.Revoke) > 0:
					doing = step
				case len(step.Assign) > 0:
					if surplus := without(has, m.target); len(surplus) > 0 {
						t.Fatalf("seed %d: takes %v and still has %v", seed, step.Assign, surplus)
					}
					for _, p := range step.Assign {
						if !c.given[p] || slices.Contains(has, p) {
							t.Fatalf("seed %d: takes %v, which it was not given or has", seed, p)
						}
					}
					m.Assigned(step.Assign)
					has = append(has, step.Assign...)
					slices.SortFunc(has, compare)
				}
			}
		}
		if moves == 0 || c.epoch == 0 {
			t.Fatalf("seed %d: nothing happened", seed)
		}
	}
}
