package testkit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// GroupSession and GroupHeartbeat are the session timeout and the heartbeat interval
// of a Group's members, where the protocol lets a member choose. They need nodes
// that were started with FastGroups.
const (
	GroupSession   = 3 * time.Second
	GroupHeartbeat = 200 * time.Millisecond
)

// FastGroups makes nodes accept short sessions and give groups of the consumer
// protocol such, so that a test does not wait long for the end of a dead member.
func FastGroups() Option {
	return func(o *options) {
		for _, s := range []string{
			"group.initial.rebalance.delay.ms=0",
			"group.min.session.timeout.ms=1000",
			"group.consumer.min.session.timeout.ms=1000",
			"group.consumer.session.timeout.ms=3000",
			"group.consumer.min.heartbeat.interval.ms=100",
			"group.consumer.heartbeat.interval.ms=200",
		} {
			o.args = append(o.args, "--set", s)
		}
	}
}

// Group is consumers that share a topic in one group, a producer that gives them
// something to read, and a watch over what they commit. What must hold of every
// group is checked by Finish. Its methods are called by the test's goroutine only.
type Group struct {
	*Owners
	GroupSettings

	tb         testing.TB
	partitions int32
	producer   *kgo.Client
	commits    committed
	cancel     context.CancelFunc // of the watch
	watching   sync.WaitGroup
	halt       context.CancelFunc // of the producer
	feeding    sync.WaitGroup

	mu      sync.Mutex
	members map[string]*Member // those that run
	parts   []progress
	fault   violations
}

// GroupSettings say what a Group is about. Brokers, Topic and ID are needed; the
// topic exists.
type GroupSettings struct {
	Brokers []string
	Topic   string
	ID      string
	Every   time.Duration // a record for each partition that often; 20 ms
	Commit  time.Duration // how often a member commits; 100 ms
}

// progress is how far a partition has come.
type progress struct {
	acked   int64   // offsets below it were acknowledged to the producer
	times   []uint8 // how often the record at an offset was consumed
	last    time.Time
	longest time.Duration // without a record since Mark
}

// StartGroup begins to feed a topic. Members are added with Join; all ends with the
// test.
func StartGroup(tb testing.TB, s GroupSettings) *Group {
	tb.Helper()
	s.Every = defaultTo(s.Every, 20*time.Millisecond)
	s.Commit = defaultTo(s.Commit, 100*time.Millisecond)
	producer, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...),
		kgo.MetadataMinAge(50*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		tb.Fatalf("testkit: %v", err)
	}
	g := &Group{Owners: NewOwners(), GroupSettings: s, tb: tb, producer: producer,
		commits: committed{topic: s.Topic, floor: map[int32]int64{}},
		members: map[string]*Member{}}
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	m, err := kadm.NewClient(producer).Metadata(ctx, s.Topic)
	if err == nil {
		err = m.Topics.Error()
	}
	if err != nil {
		tb.Fatalf("testkit: metadata of %s: %v", s.Topic, err)
	}
	g.partitions = int32(len(m.Topics[s.Topic].Partitions))
	g.parts = make([]progress, g.partitions)
	g.Mark()
	tb.Cleanup(g.stop)
	var feeding, watching context.Context
	feeding, g.halt = context.WithCancel(context.Background())
	watching, g.cancel = context.WithCancel(context.Background())
	g.feeding.Go(func() { g.feed(feeding) })
	g.watching.Go(func() { g.watch(watching) })
	return g
}

func defaultTo(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// feed gives each partition a record every so often.
func (g *Group) feed(ctx context.Context) {
	tick := time.NewTicker(g.Every)
	defer tick.Stop()
	for {
		for p := range g.partitions {
			g.producer.Produce(context.Background(), // what is under way shall be finished
				&kgo.Record{Topic: g.Topic, Partition: p, Value: []byte("a record")}, g.fed)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (g *Group) fed(r *kgo.Record, err error) {
	if err != nil {
		if !errors.Is(err, kgo.ErrClientClosed) { // then the test has failed already
			g.wrong("the producer: %v", err)
		}
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &g.parts[r.Partition]
	p.acked = max(p.acked, r.Offset+1)
}

// consumed notes a record that a member got.
func (g *Group) consumed(r *kgo.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &g.parts[r.Partition]
	for int64(len(p.times)) <= r.Offset {
		p.times = append(p.times, 0)
	}
	p.times[r.Offset] = min(p.times[r.Offset], 254) + 1
	now := time.Now()
	p.longest = max(p.longest, now.Sub(p.last))
	p.last = now
}

// watch looks at what is committed, again and again.
func (g *Group) watch(ctx context.Context) {
	reader := offsetReader{brokers: g.Brokers}
	defer reader.close()
	tick := time.NewTicker(max(50*time.Millisecond, g.Commit))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		floor := g.commits.before()
		got, err := reader.fetch(ctx, g.ID)
		if err != nil {
			continue // the coordinator may be away
		}
		g.commits.fetched(floor, got, func(p int32, from, to int64) {
			g.wrong("fell: the committed offset of partition %d was %d and is %d", p, from, to)
		})
	}
}

func (g *Group) wrong(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault.add(format, args...)
}

// Partitions returns how many partitions the topic has.
func (g *Group) Partitions() int32 { return g.partitions }

// Join adds a member with options of its own and returns at once; a name that had a
// member before is the same member again.
func (g *Group) Join(name string, opts ...kgo.Opt) *Member {
	g.tb.Helper()
	m, err := newMember(g, name, opts)
	if err != nil {
		g.tb.Fatalf("testkit: member %s: %v", name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members[name] != nil {
		g.tb.Fatalf("testkit: there is a member %s already", name)
	}
	g.members[name] = m
	return m
}

func (g *Group) left(m *Member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.members, m.Name)
}

// Members returns the names of the members that run, in order.
func (g *Group) Members() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.members))
}

// Balanced reports whether each partition is owned by one member that runs, and no
// member owns two more than another.
func (g *Group) Balanced() bool {
	least, most, total := int(g.partitions), 0, 0
	shares, members := g.Shares(), g.Members()
	for _, m := range members {
		least, most, total = min(least, shares[m]), max(most, shares[m]), total+shares[m]
		delete(shares, m)
	}
	if total != int(g.partitions) || len(shares) > 0 || most-least > 1 {
		return false
	}
	for p := range g.partitions {
		if len(g.Holders(g.Topic, p)) != 1 {
			return false
		}
	}
	return true
}

// AwaitBalanced waits until the group is Balanced and returns when it became so.
func (g *Group) AwaitBalanced() time.Time {
	g.tb.Helper()
	eventually(g.tb, fmt.Sprintf("group %s is balanced", g.ID), g.Balanced, func() string {
		return fmt.Sprintf("members %v own %v", g.Members(), g.Shares())
	})
	return g.LastEvent()
}

// Mark begins a new measurement of how long consumption stands still.
func (g *Group) Mark() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for i := range g.parts {
		g.parts[i].last, g.parts[i].longest = now, 0
	}
}

// Still returns, for each of some partitions, the longest time since Mark in which
// no record of it was consumed.
func (g *Group) Still(partitions ...int32) []time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	still := make([]time.Duration, 0, len(partitions))
	for _, p := range partitions {
		still = append(still, max(g.parts[p].longest, time.Since(g.parts[p].last)))
	}
	return still
}

// AwaitConsumed waits until every record that has been acknowledged up to this call
// was consumed.
func (g *Group) AwaitConsumed() {
	g.tb.Helper()
	g.mu.Lock()
	ends := make([]int64, len(g.parts))
	for p := range g.parts {
		ends[p] = g.parts[p].acked
	}
	g.mu.Unlock()
	missing := ""
	eventually(g.tb, "every record of "+g.Topic+" is consumed", func() bool {
		missing = g.missing(ends)
		return missing == ""
	}, func() string { return missing })
}

// missing names the first record below ends that nobody consumed.
func (g *Group) missing(ends []int64) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, end := range ends {
		for offset := range end {
			times := g.parts[p].times
			if offset >= int64(len(times)) || times[offset] == 0 {
				return fmt.Sprintf("offset %d of partition %d was not consumed", offset, p)
			}
		}
	}
	return ""
}

// Counts returns how many records were acknowledged, how many were consumed, and how
// many of these more than once.
func (g *Group) Counts() (acked, consumed, again int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.parts {
		acked += int(p.acked)
		for _, times := range p.times {
			if times > 0 {
				consumed++
			}
			if times > 1 {
				again++
			}
		}
	}
	return acked, consumed, again
}

// Finish stops the producer, waits until everything was consumed, lets the members
// leave, and fails the test unless partitions had one owner at a time (Owners.Check),
// every record was consumed, committed offsets never fell, and the clients were told
// nothing that a healthy group does not tell.
func (g *Group) Finish() {
	g.tb.Helper()
	g.halt()
	g.feeding.Wait()
	ctx, cancel := context.WithTimeout(g.tb.Context(), time.Minute)
	defer cancel()
	if err := g.producer.Flush(ctx); err != nil {
		g.tb.Fatalf("testkit: the producer of %s could not finish: %v", g.Topic, err)
	}
	g.AwaitConsumed()
	g.stop()
	if err := g.Check(); err != nil {
		g.tb.Errorf("testkit: owners in group %s:\n%v", g.ID, err)
	}
	if err := g.fault.err(); err != nil {
		g.tb.Errorf("testkit: group %s:\n%v", g.ID, err)
	}
	acked, consumed, again := g.Counts()
	if acked == 0 {
		g.tb.Errorf("testkit: no record of %s was acknowledged", g.Topic)
	}
	g.tb.Logf("group %s: %d records acknowledged, %d consumed, %d of them again; "+
		"%d partitions lost", g.ID, acked, consumed, again, g.Losses())
}

// stop ends all that runs. Calling it again does nothing.
func (g *Group) stop() {
	g.halt()
	g.feeding.Wait()
	g.mu.Lock()
	members := slices.Collect(maps.Values(g.members))
	g.mu.Unlock()
	for _, m := range members {
		m.Leave()
	}
	g.cancel()
	g.watching.Wait()
	g.producer.Close()
}
