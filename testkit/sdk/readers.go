package sdk

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/testkit"
)

// Readers are consumers of the SDK that share a topic in one group, each with a handler
// that notes what it is given. Its methods are called by the test's goroutine only.
type Readers struct {
	*Deliveries

	tb           testing.TB
	topic, group string

	mu      sync.Mutex
	owned   map[string]map[clientlib.Partition]bool // by member
	members map[string]*Reader
	fails   []error
	events  []string // what became of partitions, for when a test fails
}

// Reader is a member of Readers.
type Reader struct {
	name     string
	readers  *Readers
	consumer *clientlib.Consumer
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// NewReaders returns a group without a member.
func NewReaders(tb testing.TB, topic, group string) *Readers {
	return &Readers{Deliveries: NewDeliveries(), tb: tb, topic: topic, group: group,
		owned: map[string]map[clientlib.Partition]bool{}, members: map[string]*Reader{}}
}

// Join adds a member, which leaves with Leave, Finish or the test.
func (g *Readers) Join(name string, client *clientlib.Client) *Reader {
	g.tb.Helper()
	ctx, cancel := context.WithTimeout(g.tb.Context(), patience)
	defer cancel()
	r := &Reader{name: name, readers: g}
	var err error
	r.consumer, err = client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group: g.group, Topics: []string{g.topic}, CommitInterval: 100 * time.Millisecond,
		OnAssigned: r.assigned, OnRevoked: r.revoked, OnLost: r.lost,
	})
	if err != nil {
		g.tb.Fatalf("sdk: consumer %s: %v", name, err)
	}
	g.mu.Lock()
	g.members[name] = r
	g.mu.Unlock()
	ctx, r.cancel = context.WithCancel(context.Background())
	r.running.Go(func() {
		if err := r.consumer.Process(ctx, r.handle); err != nil {
			g.failed(fmt.Errorf("%s, process: %w", name, err))
		}
	})
	g.tb.Cleanup(r.Leave)
	return r
}

// Leave ends a member: what is handled is committed. Calling it again does nothing.
func (r *Reader) Leave() {
	g := r.readers
	g.mu.Lock()
	member := g.members[r.name] == r
	delete(g.members, r.name)
	g.mu.Unlock()
	if member {
		r.cancel()
		r.running.Wait()
		closed(g.tb, "consumer "+r.name, r.consumer.Close)
	}
}

func (r *Reader) handle(_ context.Context, record *clientlib.Record) error {
	r.readers.Begin(r.name, record)()
	return nil
}

func (r *Reader) assigned(_ context.Context, ps []clientlib.Partition) {
	r.readers.Assigned(r.name, ps)
	r.readers.own(r.name, ps, "is assigned")
}

func (r *Reader) revoked(_ context.Context, ps []clientlib.Partition) {
	r.readers.own(r.name, ps, "gave back")
}

func (r *Reader) lost(_ context.Context, ps []clientlib.Partition) {
	r.readers.Lost(r.name, ps)
	r.readers.own(r.name, ps, "lost")
}

func (g *Readers) own(member string, ps []clientlib.Partition, what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	owns := what == "is assigned"
	indexes := make([]int32, len(ps))
	for i, p := range ps {
		indexes[i] = p.Index
	}
	slices.Sort(indexes)
	g.events = append(g.events, fmt.Sprintf("%s %s %s %v",
		time.Now().Format("15:04:05.000"), member, what, indexes))
	if g.owned[member] == nil {
		g.owned[member] = map[clientlib.Partition]bool{}
	}
	for _, p := range ps {
		if owns {
			g.owned[member][p] = true
		} else {
			delete(g.owned[member], p)
		}
	}
}

func (g *Readers) failed(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fails = append(g.fails, err)
}

// Shares returns how many partitions each member owns now.
func (g *Readers) Shares() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	shares := map[string]int{}
	for member, ps := range g.owned {
		shares[member] = len(ps)
	}
	return shares
}

// AwaitShares waits until each of some members owns that many partitions.
func (g *Readers) AwaitShares(partitions int, members ...string) {
	g.tb.Helper()
	testkit.Eventually(g.tb, fmt.Sprintf("%v own %d partitions each", members, partitions),
		func() bool {
			shares := g.Shares()
			for _, m := range members {
				if shares[m] != partitions {
					return false
				}
			}
			return true
		})
}

// AwaitRead waits until every record of a load that is acknowledged now was delivered.
func (g *Readers) AwaitRead(load *testkit.Load) {
	g.tb.Helper()
	missing := load.Acked()
	at := func(p testkit.Position) clientlib.Partition {
		return clientlib.Partition{Topic: p.Topic, Index: p.Partition}
	}
	var last testkit.Position
	testkit.Eventually(g.tb, "every acknowledged record of "+g.topic+" is delivered",
		func() bool {
			for len(missing) > 0 {
				if last = missing[0]; !g.Has(at(last), last.Offset) {
					return false
				}
				missing = missing[1:]
			}
			return true
		})
}

// Finish waits until all of a load that has ended was delivered, lets the members leave,
// and fails the test unless every record was delivered, in order (Deliveries.Check), and
// no member failed. It returns what was delivered again.
func (g *Readers) Finish(load *testkit.Load) Again {
	g.tb.Helper()
	g.AwaitRead(load)
	g.mu.Lock()
	members := make([]*Reader, 0, len(g.members))
	for _, m := range g.members {
		members = append(members, m)
	}
	g.mu.Unlock()
	for _, m := range members {
		m.Leave()
	}
	if err := g.Check(); err != nil {
		g.tb.Errorf("sdk: deliveries of group %s:\n%v", g.group, err)
	}
	for _, err := range g.fails {
		g.tb.Errorf("sdk: group %s: %v", g.group, err)
	}
	again := g.Again()
	g.tb.Logf("group %s: %d records delivered, again: %d after a loss, %d after a revocation",
		g.group, g.Delivered(), again.AfterLoss, again.AfterRevocation)
	if g.tb.Failed() || again != (Again{}) {
		g.tb.Logf("group %s:\n%s", g.group, strings.Join(g.events, "\n"))
	}
	return again
}
