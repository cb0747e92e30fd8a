package testkit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Copy is an exactly-once copy from one topic to another by processes of their own,
// each in one group and with a transactional id, while a test harms the cluster and
// them. Its methods are called by the test's goroutine only. TestMain must call
// Main, because the processes are the test's own binary.
type Copy struct {
	CopySettings

	tb         testing.TB
	partitions int32
	programs   []*program
	offsets    offsetReader
	producer   *kgo.Client
	check      *CopyCheck
	sent       int
	passes     int   // readings of the output
	err        error // why Copied did not know
}

// CopySettings say what a Copy is about; all but Batch are needed. The topics exist
// and have the same number of partitions.
type CopySettings struct {
	Brokers  []string
	In, Out  string
	Group    string
	Copiers  int
	Protocol Protocol
	Batch    int // most records of a transaction; 500
}

// program is one copier: a process, and those that took its place.
type program struct {
	tb     testing.TB
	spec   copier
	log    *LogBuffer
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu     sync.Mutex
	cmd    *exec.Cmd
	counts CopyCounts
}

// copierPause is between the end of a copier and the start of the next.
const copierPause = 100 * time.Millisecond

// CopyCounts is what copiers did.
type CopyCounts struct {
	Committed, Aborted int // transactions, as far as the copiers lived to tell
	Killed             int // copiers, by Kill
	GaveUp             int // copiers, by themselves: a client cannot go on after some errors
}

// StartCopy starts the copiers. All ends with the test.
func StartCopy(tb testing.TB, s CopySettings) *Copy {
	tb.Helper()
	if s.Batch == 0 {
		s.Batch = 500
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...),
		kgo.MetadataMinAge(50*time.Millisecond), kgo.DialTimeout(time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		tb.Fatalf("testkit: %v", err)
	}
	c := &Copy{CopySettings: s, tb: tb, producer: client,
		offsets: offsetReader{brokers: s.Brokers}}
	tb.Cleanup(func() {
		client.Close()
		c.offsets.close()
	})
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	m, err := kadm.NewClient(client).Metadata(ctx, s.In)
	if err == nil {
		err = m.Topics.Error()
	}
	if err != nil {
		tb.Fatalf("testkit: metadata of %s: %v", s.In, err)
	}
	c.partitions = int32(len(m.Topics[s.In].Partitions))
	c.check = NewCopyCheck(int(c.partitions))
	for i := range s.Copiers {
		p := &program{tb: tb, log: &LogBuffer{}, spec: copier{Brokers: s.Brokers, In: s.In,
			Out: s.Out, Group: s.Group, ID: fmt.Sprintf("%s-%d", s.Group, i),
			Protocol: s.Protocol, Batch: s.Batch}}
		p.start()
		c.programs = append(c.programs, p)
	}
	return c
}

// Feed writes more records to the input, spread over its partitions, and returns
// when they are acknowledged.
func (c *Copy) Feed(records int) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(c.tb.Context(), 5*time.Minute)
	defer cancel()
	var failed kgo.FirstErrPromise
	for range records {
		p := int32(c.sent) % c.partitions
		n := c.sent / int(c.partitions)
		c.sent++
		c.check.Sent(p)
		r := &kgo.Record{Topic: c.In, Partition: p, Value: []byte(copyName(p, n))}
		done := failed.Promise()
		c.producer.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err == nil && r.Offset != int64(n) {
				err = fmt.Errorf("%s was written at offset %d", r.Value, r.Offset)
			}
			done(r, err)
		})
	}
	if err := failed.Err(); err != nil {
		c.tb.Fatalf("testkit: feeding %s: %v", c.In, err)
	}
}

// Copied returns how many records of the input the group has committed, or -1 when
// its coordinator does not say so.
func (c *Copy) Copied() int {
	ctx, cancel := context.WithTimeout(c.tb.Context(), 5*time.Second)
	defer cancel()
	got, err := c.offsets.fetch(ctx, c.Group)
	if c.err = err; err != nil {
		return -1
	}
	sum := 0
	got.Each(func(o kadm.OffsetResponse) {
		if o.Err == nil && o.Topic == c.In && o.At > 0 {
			sum += int(o.At)
		}
	})
	return sum
}

// AwaitCopied waits until the group has committed that many records. It is patient:
// it gives up when nothing has been copied for a minute.
func (c *Copy) AwaitCopied(records int) {
	c.tb.Helper()
	for before := c.Copied(); before < records; {
		now := before
		eventually(c.tb, fmt.Sprintf("more than %d of %d records are copied", before, records),
			func() bool { now = c.Copied(); return now > before || now >= records },
			func() string { return fmt.Sprintf("%d are, error %v", now, c.err) })
		before = now
	}
}

// Kill ends a copier as kill -9 does; another takes its place.
func (c *Copy) Kill(copier int) {
	c.tb.Helper()
	p := c.programs[copier]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Killed++
	_ = p.cmd.Process.Kill() // fails only when it has ended by itself
}

// Counts returns what the copiers did up to now.
func (c *Copy) Counts() (sum CopyCounts) {
	for _, p := range c.programs {
		p.mu.Lock()
		sum.Committed += p.counts.Committed
		sum.Aborted += p.counts.Aborted
		sum.Killed += p.counts.Killed
		sum.GaveUp += p.counts.GaveUp
		p.mu.Unlock()
	}
	return sum
}

// Finish waits until everything is copied, stops the copiers, and fails the test
// unless a read_committed reader finds each record of the input once in the output,
// in order. It returns how many records of transactions that were aborted stand
// between them.
func (c *Copy) Finish() (aborted int) {
	c.tb.Helper()
	c.AwaitCopied(c.sent)
	for _, p := range c.programs {
		p.stop()
	}
	all := 0
	c.readAll(kgo.ReadUncommitted(), func(string) { all++ })
	c.readAll(kgo.ReadCommitted(), c.check.Read)
	if err := c.check.Check(); err != nil {
		c.tb.Errorf("testkit: copy from %s to %s:\n%v", c.In, c.Out, err)
	}
	_, read, _ := c.check.Counts()
	return all - read
}

// Tally returns how many records were sent, read from the output, lost and doubled,
// after Finish.
func (c *Copy) Tally() (sent, read, lost, doubled int) {
	sent, read, doubled = c.check.Counts()
	return sent, read, c.check.Missing(), doubled
}

// readAll reads the output up to a record that is written behind everything else in
// each partition: a reader that gets it has got what stands in front of it.
func (c *Copy) readAll(level kgo.IsolationLevel, each func(value string)) {
	c.tb.Helper()
	c.passes++
	end := fmt.Sprint("end ", c.passes)
	ctx, cancel := context.WithTimeout(c.tb.Context(), 5*time.Minute)
	defer cancel()
	for p := range c.partitions {
		r := &kgo.Record{Topic: c.Out, Partition: p, Key: []byte(end)}
		if err := c.producer.ProduceSync(ctx, r).FirstErr(); err != nil {
			c.tb.Fatalf("testkit: the end of %s: %v", c.Out, err)
		}
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.ConsumeTopics(c.Out),
		kgo.FetchIsolationLevel(level), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		c.tb.Fatalf("testkit: %v", err)
	}
	defer reader.Close()
	for missing := c.partitions; missing > 0; {
		fetches := reader.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			c.tb.Fatalf("testkit: reading %s: %d partitions to go: %v", c.Out, missing, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			switch {
			case string(r.Key) == end:
				missing--
			case r.Key == nil: // else it is the end of an earlier pass
				each(string(r.Value))
			}
		})
	}
}

// start runs the program and, whenever it ends, runs it again.
func (p *program) start() {
	self, err := os.Executable()
	if err != nil {
		p.tb.Fatalf("testkit: %v", err)
	}
	text, err := json.Marshal(p.spec)
	if err != nil {
		p.tb.Fatalf("testkit: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	first := make(chan error, 1)
	p.ended.Go(func() {
		for ctx.Err() == nil {
			if err := p.live(ctx, self, string(text), first); err != nil {
				return
			}
			select { // one that ends at once must not keep the machine busy
			case <-time.After(copierPause):
			case <-ctx.Done():
			}
		}
	})
	p.tb.Cleanup(func() {
		p.stop()
		if p.tb.Failed() {
			p.tb.Logf("log of copier %s:\n%s", p.spec.ID, p.log.tail(tailLines))
		}
	})
	if err := <-first; err != nil {
		p.tb.Fatalf("testkit: %v", err)
	}
}

// live runs one process until it ends. It tells first how the start went.
func (p *program) live(ctx context.Context, self, spec string, first chan<- error) error {
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), copierEnv+"="+spec)
	cmd.SysProcAttr = childAttributes()
	out, err := cmd.StdoutPipe()
	if err == nil {
		cmd.Stderr = p.log
		p.mu.Lock()
		p.cmd = cmd
		err = cmd.Start()
		p.mu.Unlock()
	}
	select {
	case first <- err:
	default:
	}
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	p.count(out)
	if err := cmd.Wait(); err != nil && ctx.Err() == nil && cmd.ProcessState.ExitCode() > 0 {
		p.mu.Lock()
		p.counts.GaveUp++
		p.mu.Unlock()
	}
	return nil
}

// count reads what a process says until it ends.
func (p *program) count(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		p.mu.Lock()
		switch {
		case bytes.Equal(lines.Bytes(), []byte(saidCommitted)):
			p.counts.Committed++
		case bytes.Equal(lines.Bytes(), []byte(saidAborted)):
			p.counts.Aborted++
		}
		p.mu.Unlock()
	}
}

// stop asks the process to end, and kills it when it takes too long. Calling it
// again does nothing.
func (p *program) stop() {
	p.cancel()
	timer := time.AfterFunc(stopTimeout, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = p.cmd.Process.Kill()
	})
	defer timer.Stop()
	p.ended.Wait()
}
