package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
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

	tb testing.TB
	// room bounds what is under way, for each partition: one that stands still must
	// not use up what the client holds, and so stop the others.
	room    []chan struct{}
	client  *kgo.Client
	reader  *kgo.Client
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	sent  int             // number of the next record
	acked []int           // number of the newest record that was acknowledged, by partition
	last  []time.Time     // of the newest acknowledgement
	still []time.Duration // the longest time without one since Mark
	fails int             // errors that the clients did not hide
	fail  error           // the first of them
}

const (
	loadBuffered = 4000 // records under way, of all partitions
	slowBuffered = 10   // of each, in a slow load
	loadValue    = 1024 // bytes; the record's name in the history is its key
)

// StartLoad writes to and reads from a topic that exists until Finish.
func StartLoad(tb testing.TB, c *Cluster, topic string, opts ...kgo.Opt) *Load {
	tb.Helper()
	return startLoad(tb, c, topic, 0, opts)
}

// StartSlowLoad is StartLoad with so few records under way that small disks last.
func StartSlowLoad(tb testing.TB, c *Cluster, topic string, opts ...kgo.Opt) *Load {
	tb.Helper()
	return startLoad(tb, c, topic, slowBuffered, opts)
}

// startLoad begins with room records under way for each partition, or a share of
// loadBuffered for 0.
func startLoad(tb testing.TB, c *Cluster, topic string, room int, opts []kgo.Opt) *Load {
	tb.Helper()
	m, err := c.Metadata(topic)
	if err != nil {
		tb.Fatalf("testkit: metadata of %s: %v", topic, err)
	}
	n := len(m.Topics[topic].Partitions)
	l := &Load{History: NewHistory(), Topic: topic, tb: tb, room: make([]chan struct{}, n),
		acked: make([]int, n), last: make([]time.Time, n), still: make([]time.Duration, n)}
	l.client = c.Client(append([]kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(loadBuffered),
		kgo.ProducerBatchMaxBytes(64 << 10),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	}, opts...)...)
	l.reader = c.Client(kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.Mark()
	if room == 0 {
		room = max(1, loadBuffered/n)
	}
	for p := range l.room {
		l.room[p] = make(chan struct{}, room)
		l.running.Go(func() { l.produce(ctx, int32(p)) })
	}
	l.running.Go(func() { l.consume(ctx) })
	tb.Cleanup(func() { // before the clients are closed
		cancel()
		l.client.Close()
		l.running.Wait()
	})
	return l
}

func (l *Load) produce(ctx context.Context, partition int32) {
	value := bytes.Repeat([]byte("troupe! "), loadValue/8)
	for {
		select {
		case l.room[partition] <- struct{}{}:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		name := strconv.Itoa(l.sent)
		l.sent++
		l.mu.Unlock()
		r := &kgo.Record{Topic: l.Topic, Partition: partition, Key: []byte(name), Value: value}
		l.Send(l.Topic, r.Partition, name)
		// Not ctx: a record that is under way shall be finished.
		l.client.Produce(context.Background(), r, l.answered)
	}
}

func (l *Load) answered(r *kgo.Record, err error) {
	<-l.room[r.Partition]
	if err != nil {
		if !errors.Is(err, kgo.ErrClientClosed) { // then the test has failed already
			l.failed(err)
		}
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Ack(string(r.Key), Position{r.Topic, r.Partition, r.Offset})
	now, p := time.Now(), r.Partition
	l.acked[p], _ = strconv.Atoi(string(r.Key)) // never fails: produce wrote it
	l.still[p] = max(l.still[p], now.Sub(l.last[p]))
	l.last[p] = now
}

func (l *Load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails++; l.fail == nil {
		l.fail = err
	}
}

func (l *Load) consume(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := l.reader.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) {
			if ctx.Err() == nil {
				l.failed(fmt.Errorf("the consumer: %w", err))
			}
		})
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				l.Seen(string(r.Key), Position{r.Topic, r.Partition, r.Offset}, p.HighWatermark)
			}
		})
	}
}

// Extra notes a record that the test sends itself, outside the order of the load.
func (l *Load) Extra(partition int32, value string) {
	l.SendLoose(l.Topic, partition, value)
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

// AwaitProgress waits until a record of every partition is acknowledged that was
// sent after this call.
func (l *Load) AwaitProgress() {
	l.tb.Helper()
	l.AwaitProgressOf(l.all()...)
}

// AwaitProgressOf is AwaitProgress for some partitions.
func (l *Load) AwaitProgressOf(partitions ...int32) {
	l.tb.Helper()
	l.mu.Lock()
	began := l.sent
	l.mu.Unlock()
	Eventually(l.tb, fmt.Sprintf("partitions %v of %s are written to", partitions, l.Topic),
		func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, p := range partitions {
				if l.acked[p] < began {
					return false
				}
			}
			return true
		})
}

func (l *Load) all() []int32 {
	ps := make([]int32, len(l.room))
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

// Errors returns how many errors the clients let their user see (records that
// were given up, polls that failed), and the first of them.
func (l *Load) Errors() (count int, first error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fails, l.fail
}

// Finish stops the load, reads the whole topic and fails the test if anything
// that was promised is not so (History.Check) or the clients saw an error.
func (l *Load) Finish() {
	l.tb.Helper()
	l.cancel()
	l.running.Wait()
	ctx, cancel := context.WithTimeout(l.tb.Context(), 2*time.Minute)
	defer cancel()
	if err := l.client.Flush(ctx); err != nil {
		l.tb.Fatalf("testkit: the producer of %s could not finish: %v", l.Topic, err)
	}
	if n, err := l.Errors(); n > 0 {
		l.tb.Errorf("testkit: the clients of %s saw %d errors, the first: %v", l.Topic, n, err)
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
	var ends kadm.ListedOffsets
	Eventually(l.tb, "the ends of "+l.Topic+" are known", func() bool {
		var err error
		ends, err = kadm.NewClient(l.client).ListEndOffsets(ctx, l.Topic)
		return err == nil && ends.Error() == nil // leaders may be moving
	})
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
			l.Read(string(r.Key), Position{r.Topic, r.Partition, r.Offset})
			if end, _ := ends.Lookup(l.Topic, r.Partition); r.Offset >= end.Offset-1 {
				delete(missing, r.Partition)
			}
		})
	}
	return nil
}
