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
//
// Each partition has loadKeys keys of its own, which take turns. The name of a record in
// the history is what its value begins with: see RecordName.
type Load struct {
	*History
	Topic string

	tb     testing.TB
	sender Sender
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
	loadValue    = 1024 // bytes
	loadKeys     = 16   // of a partition
)

// Sender sends the records of a Load. It is an idempotent producer that sends a record to
// the partition it names and keeps the order of the calls in each.
type Sender interface {
	// Send returns when the record has a place in what is under way; done is called once,
	// when it has an offset, or was given up. It may be called by any goroutine.
	Send(r *kgo.Record, done func(r *kgo.Record, err error))
	// Flush waits until nothing is under way.
	Flush(ctx context.Context) error
	// Close ends the sender; what is under way ends with kgo.ErrClientClosed.
	Close()
}

// franz is a Sender.
type franz struct{ *kgo.Client }

func (f franz) Send(r *kgo.Record, done func(r *kgo.Record, err error)) {
	// Not the context of the load: a record that is under way shall be finished.
	f.Produce(context.Background(), r, done)
}

// RecordName returns the name of a record in the history of its load.
func RecordName(value []byte) string {
	name, _, _ := bytes.Cut(value, []byte("|"))
	return string(name)
}

// StartLoad writes to and reads from a topic that exists until Finish.
func StartLoad(tb testing.TB, c *Cluster, topic string, opts ...kgo.Opt) *Load {
	tb.Helper()
	return startLoad(tb, c, topic, 0, franz{loadClient(c, opts)})
}

// StartLoadWith is StartLoad with another producer than franz-go's, which ends with the
// load.
func StartLoadWith(tb testing.TB, c *Cluster, topic string, sender Sender) *Load {
	tb.Helper()
	return startLoad(tb, c, topic, 0, sender)
}

// StartSlowLoad is StartLoad with so few records under way that small disks last.
func StartSlowLoad(tb testing.TB, c *Cluster, topic string, opts ...kgo.Opt) *Load {
	tb.Helper()
	return startLoad(tb, c, topic, slowBuffered, franz{loadClient(c, opts)})
}

func loadClient(c *Cluster, opts []kgo.Opt) *kgo.Client {
	return c.Client(append([]kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(loadBuffered),
		kgo.ProducerBatchMaxBytes(64 << 10),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	}, opts...)...)
}

// startLoad begins with room records under way for each partition, or a share of
// loadBuffered for 0.
func startLoad(tb testing.TB, c *Cluster, topic string, room int, sender Sender) *Load {
	tb.Helper()
	m, err := c.Metadata(topic)
	if err != nil {
		tb.Fatalf("testkit: metadata of %s: %v", topic, err)
	}
	n := len(m.Topics[topic].Partitions)
	l := &Load{History: NewHistory(), Topic: topic, tb: tb, sender: sender,
		room: make([]chan struct{}, n), client: c.Client(),
		acked: make([]int, n), last: make([]time.Time, n), still: make([]time.Duration, n)}
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
		l.sender.Close()
		l.running.Wait()
	})
	return l
}

func (l *Load) produce(ctx context.Context, partition int32) {
	filler := bytes.Repeat([]byte("troupe! "), loadValue/8)
	for n := 0; ; n++ {
		select {
		case l.room[partition] <- struct{}{}:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		name := strconv.Itoa(l.sent)
		l.sent++
		l.mu.Unlock()
		value := append(append(make([]byte, 0, loadValue), name...), '|')
		r := &kgo.Record{Topic: l.Topic, Partition: partition,
			Key:   fmt.Appendf(nil, "key-%d-%d", partition, n%loadKeys),
			Value: append(value, filler[:loadValue-len(value)]...)}
		l.Send(l.Topic, r.Partition, name)
		l.sender.Send(r, l.answered)
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
	name := RecordName(r.Value)
	l.Ack(name, Position{r.Topic, r.Partition, r.Offset})
	now, p := time.Now(), r.Partition
	l.acked[p], _ = strconv.Atoi(name) // never fails: produce wrote it
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
				l.Seen(RecordName(r.Value), Position{r.Topic, r.Partition, r.Offset}, p.HighWatermark)
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
	if err := l.sender.Flush(ctx); err != nil {
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
			l.Read(RecordName(r.Value), Position{r.Topic, r.Partition, r.Offset})
			if end, _ := ends.Lookup(l.Topic, r.Partition); r.Offset >= end.Offset-1 {
				delete(missing, r.Partition)
			}
		})
	}
	return nil
}
