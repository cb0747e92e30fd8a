// Package lag finds out how far the consumer groups that a node coordinates are
// behind, for its metrics.
//
// A Watch asks the groups of this node for what they committed. Where partitions end
// it reads from the replicas that lead here; leaders on other nodes it asks as any
// Kafka client would, with a client of its own that is made when the first such
// partition is met. What it found is kept for a while, so that scraping often costs
// little, and an answer never takes longer than the caller's context: who cannot wait
// gets what was found last.
//
// The wiring of the node makes the one Watch and closes it; scrapes call Groups.
package lag

import (
	"context"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/group"
)

const (
	// keep is how long what was found is good enough.
	keep = 10 * time.Second
	// patience bounds one look. What has not answered by then is left out of it.
	patience = 2 * time.Second
)

// Groups are the groups of this node; the coordinators satisfy it. Reply of a request
// may be called by any goroutine and must not block.
type Groups interface {
	// Groups lists the groups; with an error it may list some of them.
	Groups(ctx context.Context) ([]group.Listed, error)
	Group(id string, r coord.Request)
}

// Partition is a replica that leads on this node. It answers with an error when it
// does not lead any more.
type Partition interface {
	ByTimestamp(ctx context.Context, t messages.Timestamp, isolation data.Isolation,
		current messages.LeaderEpoch) (data.TimestampOffset, error)
	Read(r data.Read) data.ReadResult
}

// Config is what a Watch needs of the node around it. Its functions may be called by
// any goroutine.
type Config struct {
	Self   messages.NodeID
	Groups Groups
	Image  func() *messages.Image
	// Leading returns the replica of a partition that leads on this node, or an error.
	Leading func(t *messages.Topic, partition int32) (Partition, error)
	// MaxPartitions bounds the partitions of all groups together; 0 looks at none.
	MaxPartitions func() int
	Now           func() time.Time
}

// Group is a group that this node coordinates.
type Group struct {
	ID         string
	Members    int
	Partitions []PartitionLag // by topic and partition
}

// PartitionLag is how far a group is behind in a partition that it committed to.
type PartitionLag struct {
	messages.TopicPartition
	Committed messages.Offset
	// Lag is how many offsets there are from Committed to the high watermark; -1 if
	// the leader could not be asked.
	Lag int64
	// Behind is the age of the record at Committed, 0 if there is none to read, and
	// negative if it is not known.
	Behind time.Duration
}

// Report is what a look found.
type Report struct {
	Groups []Group // by id
	// LeftOut counts partitions beyond Config.MaxPartitions.
	LeftOut int
}

// Watch finds lags. All methods may be called by any goroutine.
type Watch struct {
	cfg    Config
	remote leaders // of other nodes

	mu      sync.Mutex
	last    Report
	at      time.Time     // when last was found; zero: never
	looking chan struct{} // closed when the look under way ends; nil: none is
	closed  bool
	stop    context.CancelFunc
	life    context.Context

	times map[place]messages.Timestamp // of the look before; the look's alone
}

// place is a position that a group committed.
type place struct {
	messages.TopicPartition
	at messages.Offset
}

// leaders answers for partitions that are led on other nodes. What it cannot find out
// by the end of ctx it leaves out. Only one look at a time uses it.
type leaders interface {
	// ends returns high watermarks.
	ends(ctx context.Context, of []messages.TopicPartition) map[messages.TopicPartition]messages.Offset
	// times returns the timestamps of the first records at or after places.
	times(ctx context.Context, of []place) map[place]messages.Timestamp
	close()
}

// New makes a Watch. Close it.
func New(cfg Config) *Watch {
	return newWatch(cfg, &remote{image: cfg.Image})
}

func newWatch(cfg Config, l leaders) *Watch {
	w := &Watch{cfg: cfg, remote: l}
	w.life, w.stop = context.WithCancel(context.Background())
	return w
}

// Groups returns what was found in the last seconds, or looks anew. When ctx ends
// before that is done, it returns what was found before, which may be nothing.
func (w *Watch) Groups(ctx context.Context) Report {
	w.mu.Lock()
	fresh := !w.at.IsZero() && w.cfg.Now().Sub(w.at) < keep
	if fresh || w.closed {
		defer w.mu.Unlock()
		return w.last
	}
	if w.looking == nil {
		w.looking = make(chan struct{})
		go w.look(w.looking)
	}
	done := w.looking
	w.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// look looks once, and says so by closing done.
func (w *Watch) look(done chan struct{}) {
	defer close(done)
	ctx, cancel := context.WithTimeout(w.life, patience)
	defer cancel()
	found := w.collect(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.at, w.looking = found, w.cfg.Now(), nil
}

// Close ends the Watch, and waits for the look under way.
func (w *Watch) Close() {
	w.mu.Lock()
	w.closed = true
	done := w.looking
	w.mu.Unlock()
	w.stop()
	if done != nil {
		<-done
	}
	w.remote.close()
}
