package testkit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Load is an idempotent producer that writes numbered records to all partitions
// of a topic as fast as it can, and a consumer that reads along, while a test
// harms the cluster. Everything goes into a History; how long the writes of each
// partition stood still is measured.
type Load struct {
	*History
	Topic string

	tb         testing.TB
	partitions int32
	client     *kgo.Client
	reader     *kgo.Client
	cancel     context.CancelFunc
	running    sync.WaitGroup

	mu    sync.Mutex
	last  []time.Time     // of the newest acknowledgement, by partition
	still []time.Duration // the longest time without one since Mark
	fails int             // records that the client gave up
	fail  error           // the first of them
}

const (
	loadBuffered = 4000
	loadValue    = 100 // bytes, about
)

// StartLoad writes to and reads from a topic that exists until Finish.
func StartLoad(tb testing.TB, c *Cluster, topic string, opts ...kgo.Opt) *Load {
	tb.Helper()
	m, err := c.Metadata(topic)
	if err != nil {
		tb.Fatalf("testkit: metadata of %s: %v", topic, err)
	}
	n := len(m.Topics[topic].Partitions)
	l := &Load{History: NewHistory(), Topic: topic, tb: tb, partitions: int32(n),
		last: make([]time.Time, n), still: make([]time.Duration, n)}
	l.client = c.Client(append([]kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(loadBuffered),
		kgo.ProducerBatchMaxBytes(16 << 10),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	}, opts...)...)
	l.reader = c.Client(kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.Mark()
	l.running.Go(func() { l.produce(ctx) })
	l.running.Go(func() { l.consume(ctx) })
	tb.Cleanup(func() { // before the clients are closed
		cancel()
		l.client.Close()
		l.running.Wait()
	})
	return l
}

func (l *Load) produce(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		value := fmt.Appendf(make([]byte, 0, loadValue), "record %d %*d", i, loadValue-20, i)
		r := &kgo.Record{Topic: l.Topic, Partition: int32(i) % l.partitions, Value: value}
		l.Send(l.Topic, r.Partition, string(value))
		// Not ctx: a record that is under way shall be finished.
		l.client.Produce(context.Background(), r, l.answered)
	}
}

func (l *Load) answered(r *kgo.Record, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if errors.Is(err, kgo.ErrClientClosed) {
			return // the test has failed already
		}
		if l.fails++; l.fail == nil {
			l.fail = err
		}
		return
	}
	l.Ack(string(r.Value), Position{r.Topic, r.Partition, r.Offset})
	now := time.Now()
	p := r.Partition
	l.still[p] = max(l.still[p], now.Sub(l.last[p]))
	l.last[p] = now
}

func (l *Load) consume(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := l.reader.PollFetches(ctx)
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				l.Seen(string(r.Value), Position{r.Topic, r.Partition, r.Offset}, p.HighWatermark)
			}
		})
	}
}

// Mark begins a new measurement of how long writes stand still.
func (l *Load) Mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for p := range l.last {
		l.last[p], l.still[p] = now, 0
	}
}

// Still returns the longest time for which a partition had no acknowledgement
// since Mark, up to now; of several partitions that of the one it was longest for.
func (l *Load) Still(partitions ...int32) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range partitions {
		longest = max(longest, l.still[p], time.Since(l.last[p]))
	}
	return longest
}

// AwaitProgress waits until every partition has an acknowledgement that came
// after this call.
func (l *Load) AwaitProgress() {
	l.tb.Helper()
	l.AwaitProgressOf(l.all()...)
}

// AwaitProgressOf is AwaitProgress for some partitions.
func (l *Load) AwaitProgressOf(partitions ...int32) {
	l.tb.Helper()
	began := time.Now()
	Eventually(l.tb, fmt.Sprintf("partitions %v of %s are written to", partitions, l.Topic),
		func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, p := range partitions {
				if !l.last[p].After(began) {
					return false
				}
			}
			return true
		})
}

func (l *Load) all() []int32 {
	ps := make([]int32, l.partitions)
	for i := range ps {
		ps[i] = int32(i)
	}
	return ps
}

// AwaitAcks waits until that many more records are acknowledged.
func (l *Load) AwaitAcks(more int) {
	l.tb.Helper()
	_, before, _ := l.Counts()
	Eventually(l.tb, fmt.Sprintf("%d more records of %s are acknowledged", more, l.Topic),
		func() bool {
			_, now, _ := l.Counts()
			return now >= before+more
		})
}

// GaveUp returns how many records the client gave up, and why the first.
func (l *Load) GaveUp() (records int, first error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fails, l.fail
}

// Finish stops the load, reads the whole topic and fails the test if anything
// that was promised is not so (History.Check) or a record was given up.
func (l *Load) Finish() {
	l.tb.Helper()
	l.cancel()
	l.running.Wait()
	ctx, cancel := context.WithTimeout(l.tb.Context(), 2*time.Minute)
	defer cancel()
	if err := l.client.Flush(ctx); err != nil {
		l.tb.Fatalf("testkit: the producer of %s could not finish: %v", l.Topic, err)
	}
	if n, err := l.GaveUp(); n > 0 {
		l.tb.Errorf("testkit: the producer of %s gave up %d records, the first: %v", l.Topic, n, err)
	}
	if err := l.readAll(ctx); err != nil {
		l.tb.Fatalf("testkit: reading %s: %v", l.Topic, err)
	}
	if err := l.Check(); err != nil {
		l.tb.Errorf("testkit: history of %s:\n%v", l.Topic, err)
	}
	sent, acked, read := l.Counts()
	lost, doubled := l.Tally()
	l.tb.Logf("%s: %d records sent, %d acknowledged, %d read, %d lost, %d doubled",
		l.Topic, sent, acked, read, lost, doubled)
	if acked == 0 {
		l.tb.Errorf("testkit: no record of %s was acknowledged", l.Topic)
	}
}

// readAll reads the topic from its start to the end it has now.
func (l *Load) readAll(ctx context.Context) error {
	ends, err := kadm.NewClient(l.client).ListEndOffsets(ctx, l.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	l.reader.Close()
	reader, err := kgo.NewClient(append(l.client.Opts(), kgo.ConsumeTopics(l.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err
	}
	defer reader.Close()
	missing := map[int32]bool{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			missing[o.Partition] = true
		}
	})
	for len(missing) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("partitions %v to go: %w", missing, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			l.Read(string(r.Value), Position{r.Topic, r.Partition, r.Offset})
			if end, _ := ends.Lookup(l.Topic, r.Partition); r.Offset >= end.Offset-1 {
				delete(missing, r.Partition)
			}
		})
	}
	return nil
}
