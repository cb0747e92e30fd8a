package testkit

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitTimeout bounds a commit, for which a member keeps the group waiting.
const commitTimeout = 5 * time.Second

// Member is a consumer of a Group: it notes what it is given and what it reads, and
// commits what it has read every now and then, and when partitions are taken.
type Member struct {
	Name string

	group   *Group
	client  *kgo.Client
	line    *line
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	gone bool // nothing it does counts any more
}

func newMember(g *Group, name string, opts []kgo.Opt) (*Member, error) {
	m := &Member{Name: name, group: g, line: newLine()}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(g.Brokers...),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.Dialer(m.line.dial),
		kgo.ClientID(name),
		kgo.ConsumerGroup(g.ID),
		kgo.ConsumeTopics(g.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(GroupSession),
		kgo.HeartbeatInterval(GroupHeartbeat),
		kgo.FetchMaxWait(time.Second),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(m.assigned),
		kgo.OnPartitionsRevoked(m.revoked),
		kgo.OnPartitionsLost(m.lost),
	}, opts...)...)
	if err != nil {
		return nil, err
	}
	m.client = client
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.running.Go(func() { m.consume(ctx) })
	return m, nil
}

// Generation returns the generation the member is in, or its member epoch; -1 when
// it is in none.
func (m *Member) Generation() int32 {
	_, generation := m.client.GroupMetadata()
	return generation
}

// ID returns the member id the group knows it by, "" when it knows none.
func (m *Member) ID() string {
	id, _ := m.client.GroupMetadata()
	return id
}

// Client returns the client, for requests of a test.
func (m *Member) Client() *kgo.Client { return m.client }

// Leave gives the partitions back and leaves the group; a static member goes away
// without leaving.
func (m *Member) Leave() {
	m.cancel()
	m.running.Wait()
	m.client.CloseAllowingRebalance()
	m.end()
}

// Die ends the member as the kill of its process does: connections close, and the
// group is told nothing.
func (m *Member) Die() {
	m.end()
	m.line.Cut()
	m.cancel()
	m.running.Wait()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = m.client.LeaveGroupContext(over) // it cannot; this ends the attempts
	m.client.CloseAllowingRebalance()
}

// Hush freezes the member's connections, as if its process were stopped, until
// Speak. It believes that it still owns what it owns.
func (m *Member) Hush() { m.line.Hush() }

// Speak lets a hushed member go on.
func (m *Member) Speak() { m.line.Speak() }

// end makes the group forget the member as one that runs.
func (m *Member) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.gone {
		m.gone = true
		m.group.Died(m.Name) // after a good end it owns nothing any more
		m.group.left(m)
	}
}

// counts runs f unless the member is gone.
func (m *Member) counts(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.gone {
		f()
	}
}

func (m *Member) assigned(_ context.Context, c *kgo.Client, parts map[string][]int32) {
	_, generation := c.GroupMetadata()
	m.counts(func() { m.group.Assigned(m.Name, generation, parts) })
}

func (m *Member) revoked(ctx context.Context, _ *kgo.Client, parts map[string][]int32) {
	m.commit(ctx)
	m.counts(func() { m.group.Revoked(m.Name, parts) })
}

func (m *Member) lost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	m.counts(func() { m.group.Lost(m.Name, parts) })
}

func (m *Member) consume(ctx context.Context) {
	last := time.Now()
	for ctx.Err() == nil {
		fetches := m.client.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) {
			if ctx.Err() == nil && !errors.Is(err, kgo.ErrClientClosed) && !expected(err) {
				m.group.wrong("member %s, poll: %v", m.Name, err)
			}
		})
		m.counts(func() { fetches.EachRecord(m.group.consumed) })
		if time.Since(last) >= m.group.Commit {
			m.commit(ctx)
			last = time.Now()
		}
		m.client.AllowRebalance()
	}
}

// commit commits what was polled. What was acknowledged must never be taken back.
func (m *Member) commit(ctx context.Context) {
	offsets := m.client.UncommittedOffsets()
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	m.client.CommitOffsetsSync(ctx, offsets, func(
		_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error,
	) {
		if err != nil {
			if ctx.Err() == nil && !expected(err) {
				m.group.wrong("member %s, commit: %v", m.Name, err)
			}
			return
		}
		m.group.commits.answered(req, resp, func(p int32, err error) {
			m.group.wrong("member %s, commit of partition %d: %v", m.Name, p, err)
		})
	})
}

// expected tells errors that members of a healthy group run into while the group
// rebalances or its coordinator moves.
func expected(err error) bool {
	for _, e := range []error{
		kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID,
		kerr.StaleMemberEpoch, kerr.FencedMemberEpoch, kerr.FencedInstanceID,
		kerr.UnreleasedInstanceID, kerr.NotCoordinator, kerr.CoordinatorNotAvailable,
		kerr.CoordinatorLoadInProgress, context.DeadlineExceeded, context.Canceled, errCut,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	// What a node that was killed leaves of a connection.
	return !errors.As(err, new(*kerr.Error))
}
