//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/testkit"
)

// What both client libraries are told alike. Keys choose the partitions, so batches fill
// in all of them.
const (
	sdkName       = "sdk beside franz-go"
	sdkPartitions = 8
	sdkRecord     = 1 << 10 // bytes of a value
	sdkKeys       = 1 << 10
	sdkLinger     = 5 * time.Millisecond
	sdkBatch      = 256 << 10
	sdkBuffer     = 32 << 20
	sdkRoundsMin  = 5
)

// library is a client library: what it produces goes through send, which returns when the
// record has a place in its buffer.
type library struct {
	name    string
	produce func(ctx context.Context, b *broker, topic string, l *sdkLoad) (time.Time, error)
	consume func(ctx context.Context, b *broker, topic string, l *sdkLoad) (time.Time, error)
}

// sdkLoad is records, made before the clock starts.
type sdkLoad struct {
	records int
	keys    [][]byte
	values  [][]byte
}

func newSDKLoad(bytes int64) *sdkLoad {
	l := &sdkLoad{records: int(bytes / sdkRecord)}
	rng := rand.NewChaCha8([32]byte{1})
	for i := range sdkKeys {
		l.keys = append(l.keys, fmt.Appendf(nil, "key-%04d", i))
		v := make([]byte, sdkRecord)
		_, _ = rng.Read(v) // never fails
		l.values = append(l.values, v)
	}
	return l
}

func (l *sdkLoad) key(i int) []byte   { return l.keys[(i*7)%sdkKeys] }
func (l *sdkLoad) value(i int) []byte { return l.values[i%sdkKeys] }

var libraries = []library{
	{"franz-go", franzProduce, franzConsume}, {"sdk", sdkProduce, sdkConsume},
}

func franzProduce(ctx context.Context, b *broker, topic string, l *sdkLoad) (time.Time, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.DefaultProduceTopic(topic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(sdkLinger),
		kgo.ProducerBatchMaxBytes(sdkBatch), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedBytes(sdkBuffer), kgo.MaxBufferedRecords(1<<30))
	if err != nil {
		return time.Time{}, err
	}
	defer c.Close()
	if err := c.Ping(ctx); err != nil {
		return time.Time{}, err
	}
	began := time.Now()
	var failed atomic.Pointer[error]
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			first := err // else err of each call would be in memory of its own
			failed.CompareAndSwap(nil, &first)
		}
	}
	for i := range l.records {
		c.Produce(ctx, &kgo.Record{Key: l.key(i), Value: l.value(i)}, done)
	}
	return began, errors.Join(c.Flush(ctx), failure(&failed))
}

func failure(p *atomic.Pointer[error]) error {
	if err := p.Load(); err != nil {
		return *err
	}
	return nil
}

func sdkProduce(
	ctx context.Context, b *broker, topic string, l *sdkLoad,
) (began time.Time, err error) {
	c, err := clientlib.Dial(ctx, clientlib.Config{Nodes: []string{b.actor}})
	if err != nil {
		return time.Time{}, err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	p, err := c.NewProducer(ctx, clientlib.ProducerConfig{Topic: topic, Linger: sdkLinger,
		BatchBytes: sdkBatch, BufferBytes: sdkBuffer})
	if err != nil {
		return time.Time{}, err
	}
	began = time.Now()
	var failed atomic.Pointer[error]
	done := func(_ *clientlib.Record, err error) {
		if err != nil {
			first := err // else err of each call would be in memory of its own
			failed.CompareAndSwap(nil, &first)
		}
	}
	for i := range l.records {
		err := p.Send(ctx, &clientlib.Record{Key: l.key(i), Value: l.value(i)}, done)
		if err != nil {
			return began, err
		}
	}
	return began, errors.Join(p.Flush(ctx), failure(&failed))
}

func franzConsume(ctx context.Context, b *broker, topic string, l *sdkLoad) (time.Time, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return time.Time{}, err
	}
	defer c.Close()
	began := time.Now()
	for got, size := 0, 0; got < l.records; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return began, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got++
			size += len(r.Value)
		})
	}
	return began, nil
}

func sdkConsume(
	ctx context.Context, b *broker, topic string, l *sdkLoad,
) (began time.Time, err error) {
	client, err := clientlib.Dial(ctx, clientlib.Config{Nodes: []string{b.actor}})
	if err != nil {
		return time.Time{}, err
	}
	defer func() { err = errors.Join(err, client.Close(ctx)) }()
	cfg := clientlib.ConsumerConfig{}
	for p := range int32(sdkPartitions) {
		cfg.Partitions = append(cfg.Partitions, clientlib.Position{
			Partition: clientlib.Partition{Topic: topic, Index: p}, Start: clientlib.Earliest})
	}
	began = time.Now()
	c, err := client.NewConsumer(ctx, cfg)
	if err != nil {
		return began, err
	}
	for got, size := 0, 0; got < l.records; {
		records, err := c.Poll(ctx)
		if err != nil {
			return began, err
		}
		for _, r := range records {
			got++
			size += len(r.Value)
		}
	}
	return began, nil
}

// sdkResult is what one library did with one load.
type sdkResult struct {
	perSecond    float64 // MB/s of values
	client, node time.Duration
	allocs       float64 // per record, of the client's process
}

func runLibrary(
	ctx context.Context, b *broker, topic string, l *sdkLoad,
	f func(context.Context, *broker, string, *sdkLoad) (time.Time, error),
) (sdkResult, error) {
	runtime.GC() // of what the one before left
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	own, err := testkit.UsageOf(os.Getpid())
	if err != nil {
		return sdkResult{}, err
	}
	node, err := testkit.UsageOf(b.cmd.Process.Pid)
	if err != nil {
		return sdkResult{}, err
	}
	began, err := f(ctx, b, topic, l)
	took := time.Since(began)
	if err != nil {
		return sdkResult{}, err
	}
	runtime.ReadMemStats(&after)
	ownAfter, err := testkit.UsageOf(os.Getpid())
	if err != nil {
		return sdkResult{}, err
	}
	nodeAfter, err := testkit.UsageOf(b.cmd.Process.Pid)
	return sdkResult{
		perSecond: float64(l.records) * sdkRecord / 1e6 / took.Seconds(),
		client:    ownAfter.CPU - own.CPU, node: nodeAfter.CPU - node.CPU,
		allocs: float64(after.Mallocs-before.Mallocs) / float64(l.records),
	}, err
}

// measureSDK lets the libraries take turns at the node: each writes a topic of its own,
// and both read one of them; who begins changes every round. It prints the medians, and
// between which ratios the rounds were.
func measureSDK(ctx context.Context, s settings, b *broker, w io.Writer) error {
	l := newSDKLoad(s.megabytes << 20)
	var produced, consumed [2][]sdkResult
	for round := range max(s.rounds, sdkRoundsMin) {
		var drops [2]func()
		var topics [2]string
		for turn := range libraries {
			i := (turn + round) % len(libraries)
			topics[i] = fmt.Sprintf("bench-sdk-%d-%d", round, i)
			drop, err := createTopic(ctx, b.addr, topics[i], sdkPartitions)
			if err != nil {
				return fmt.Errorf("create topic: %w", err)
			}
			drops[i] = drop
			r, err := runLibrary(ctx, b, topics[i], l, libraries[i].produce)
			if err != nil {
				return fmt.Errorf("%s, produce: %w", libraries[i].name, err)
			}
			produced[i] = append(produced[i], r)
		}
		for turn := range libraries {
			i := (turn + round) % len(libraries)
			r, err := runLibrary(ctx, b, topics[round%2], l, libraries[i].consume)
			if err != nil {
				return fmt.Errorf("%s, consume: %w", libraries[i].name, err)
			}
			consumed[i] = append(consumed[i], r)
		}
		for _, drop := range drops {
			drop()
		}
		fmt.Fprintf(os.Stderr, "done: %s, round %d\n", sdkName, round+1)
	}
	return writeSDK(w, l, produced, consumed)
}

func writeSDK(w io.Writer, l *sdkLoad, produced, consumed [2][]sdkResult) error {
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprint(tw, "\n| 1 KiB records\t| franz-go MB/s\t| SDK MB/s\t| ratio (least to most)\t"+
		"| franz-go client/node CPU µs per record\t| SDK client/node\t"+
		"| franz-go allocations per record\t| SDK\t|\n"+
		"|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|\n")
	for _, part := range []struct {
		name string
		runs [2][]sdkResult
	}{{"produce", produced}, {"consume", consumed}} {
		var ratios []float64 // of each round, before the rounds are sorted
		for i := range part.runs[0] {
			ratios = append(ratios, part.runs[1][i].perSecond/part.runs[0][i].perSecond)
		}
		slices.Sort(ratios)
		franz, own := medianSDK(part.runs[0]), medianSDK(part.runs[1])
		fmt.Fprintf(tw, "| %s\t| %.0f\t| %.0f\t| %.2f (%.2f to %.2f)\t| %s\t| %s\t| %.2f\t| %.2f\t|\n",
			part.name, franz.perSecond, own.perSecond, ratios[len(ratios)/2], ratios[0],
			ratios[len(ratios)-1], franz.cpu(l), own.cpu(l), franz.allocs, own.allocs)
	}
	return tw.Flush()
}

func (r sdkResult) cpu(l *sdkLoad) string {
	per := func(d time.Duration) float64 {
		return float64(d.Microseconds()) / float64(l.records)
	}
	return fmt.Sprintf("%.1f/%.1f", per(r.client), per(r.node))
}

func medianSDK(rs []sdkResult) sdkResult {
	slices.SortFunc(rs, func(a, b sdkResult) int { return int(a.perSecond - b.perSecond) })
	return rs[len(rs)/2]
}
