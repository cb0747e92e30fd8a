package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// settle is how long a member that got no partition waits for some, when it does
// not follow: the others may be on the way to giving them up, which they hear of with
// their next heartbeat, every 3 or 5 s unless told otherwise.
const settle = 6 * time.Second

// membership is a reader's part in a consumer group. The client tells what it is
// assigned from goroutines of its own, so that news wait under the lock until the
// reader's goroutine takes them; the other fields are that goroutine's.
type membership struct {
	name    string
	follow  bool
	found   map[int32]span // where to begin without a commit, and the ends
	timeout time.Duration  // of a commit

	mu   sync.Mutex
	news []assignment

	moved  map[int32]kgo.EpochOffset // where it is and has not committed yet
	joined time.Time                 // zero: not yet
	owned  bool                      // it had a partition
}

// assignment is news of what the member reads.
type assignment struct {
	added map[int32]span  // not nil: it got partitions, even if all are at their end
	begun map[int32]int64 // where it begins without a commit
	none  bool            // it is in the group and got none
	lost  []int32
}

// options makes a client that joins the group and begins at what it committed. What
// the group never committed begins where --from says.
func (m *membership) options(o *consumeOptions, topic string) []kgo.Opt {
	lost := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.tell(assignment{lost: partitions[topic]})
	}
	return append(o.fetchOptions(),
		kgo.ConsumerGroup(m.name),
		kgo.ConsumeTopics(topic),
		// As Java's consumer, so that it can join a group of those.
		kgo.Balancers(kgo.RangeBalancer(), kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		// What was printed is committed before somebody else gets the partition.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsRevoked(lost),
		kgo.OnPartitionsLost(lost),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
			m.tell(assignment{none: len(got[topic]) == 0})
		}),
		kgo.AdjustFetchOffsetsFn(func(
			_ context.Context, offsets map[string]map[int32]kgo.Offset,
		) (map[string]map[int32]kgo.Offset, error) {
			m.begin(offsets[topic])
			return offsets, nil
		}),
	)
}

func (m *membership) tell(a assignment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.news = append(m.news, a)
}

// begin decides where to begin in partitions, of which the client knows what was
// committed; partitions that are at their end need not be fetched.
func (m *membership) begin(offsets map[int32]kgo.Offset) {
	added, begun := map[int32]span{}, map[int32]int64{}
	for p, o := range offsets {
		s, known := m.found[p]
		if at := o.EpochOffset().Offset; at >= 0 {
			s.next = at
		} else if known {
			offsets[p] = kgo.NewOffset().At(s.next)
			begun[p] = s.next
		}
		if m.follow || s.next < s.end {
			added[p] = s
		} else {
			delete(offsets, p)
		}
	}
	m.tell(assignment{added: added, begun: begun})
}

// takeNews brings what there is to read up to date.
func (m *membership) takeNews(todo map[int32]span) {
	m.mu.Lock()
	news := m.news
	m.news = nil
	m.mu.Unlock()
	for _, n := range news {
		for _, p := range n.lost {
			delete(todo, p)
			delete(m.moved, p)
		}
		for p, s := range n.added {
			todo[p] = s
		}
		// Committed at once, so that --from means the same place for good.
		for p, at := range n.begun {
			m.moved[p] = kgo.EpochOffset{Epoch: -1, Offset: at}
		}
		m.owned = m.owned || n.added != nil
		if m.joined.IsZero() && (n.none || n.added != nil) {
			m.joined = time.Now()
		}
	}
}

// done reports whether a member that does not follow and has nothing left to read
// has had its share.
func (m *membership) done() bool {
	return !m.joined.IsZero() && (m.owned || time.Since(m.joined) > settle)
}

// commit commits what was printed, and where it begins in other partitions.
func (m *membership) commit(ctx context.Context, cl *kgo.Client, topic string) error {
	if len(m.moved) == 0 {
		return nil
	}
	// What was printed is committed even if the command has just been interrupted.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.timeout)
	defer cancel()
	var failed error
	cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{topic: m.moved}, func(
		_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error,
	) {
		if failed = err; err != nil {
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				failed = firstError(failed, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	})
	if failed == nil {
		clear(m.moved)
		return nil
	}
	return &failure{fmt.Sprintf("what was printed last could not be committed for group %q: %s",
		m.name, kafkaText(failed, "")), "the group will read it again", failed}
}

// sessionError words an error of the group itself; other errors stay as they are.
func (m *membership) sessionError(err error) error {
	var session *kgo.ErrGroupSession
	if !errors.As(err, &session) {
		return nil
	}
	if errors.Is(err, kerr.InconsistentGroupProtocol) {
		return &failure{fmt.Sprintf("group %q has members that share partitions out in another way",
			m.name), "stop them, or use another --group", err}
	}
	return groupError(m.name, session.Err, "")
}

// notJoined is the error about a group that does not take the member in.
func (m *membership) notJoined(patience time.Duration) error {
	return &failure{fmt.Sprintf("group %q gave no partitions within %s", m.name, patience),
		fmt.Sprintf("its members may be slow to rejoin; see \"troupe group describe %s\"", m.name),
		context.DeadlineExceeded}
}
