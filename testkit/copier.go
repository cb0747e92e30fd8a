package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// copierEnv names the environment variable by which the binary of a test is told to
// be a copier instead: a process of its own can be killed.
const copierEnv = "TESTKIT_COPIER"

// copierDebugEnv names the environment variable that makes copiers talk.
const copierDebugEnv = "TESTKIT_COPIER_DEBUG"

// copier is a program that reads one topic in a group, changes each record, and
// writes it to another topic, all exactly once: what it writes and how far it has
// read are one transaction.
type copier struct {
	Brokers  []string
	In, Out  string
	Group    string
	ID       string // transactional id
	Protocol Protocol
	Batch    int // most records of a transaction
}

// Protocol is a way in which the members of a group agree on who reads what.
type Protocol string

// The protocols of groups.
const (
	Eager       Protocol = "eager"       // classic: all stop at each rebalance
	Cooperative Protocol = "cooperative" // classic: only what moves stops
	ServerSide  Protocol = "server-side" // KIP-848: the coordinator assigns
)

// Options make a franz-go consumer speak the protocol.
func (p Protocol) Options() []kgo.Opt {
	switch p {
	case Eager:
		return []kgo.Opt{kgo.Balancers(kgo.RangeBalancer())}
	case ServerSide:
		return []kgo.Opt{kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer()}
	default:
		return []kgo.Opt{kgo.Balancers(kgo.CooperativeStickyBalancer())}
	}
}

// What a copier writes to standard output: a line for each transaction.
const (
	saidCommitted = "committed"
	saidAborted   = "aborted"
)

// copierTimeout is the transaction timeout. A copier that is started again ends the
// transaction of the one before it much earlier.
const copierTimeout = 20 * time.Second

// playCopier runs as a copier if the environment says so; it does not return then.
func playCopier() {
	text := os.Getenv(copierEnv)
	if text == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var c copier
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.run(ctx, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "copier:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run copies until ctx ends, or until the client says that it cannot go on.
func (c *copier) run(ctx context.Context, out io.Writer) error {
	s, err := kgo.NewGroupTransactSession(append(c.Protocol.Options(),
		kgo.SeedBrokers(c.Brokers...),
		kgo.MetadataMinAge(50*time.Millisecond),
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, c.level(), nil)),
		kgo.ClientID(c.ID),
		kgo.TransactionalID(c.ID),
		kgo.TransactionTimeout(copierTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumerGroup(c.Group),
		kgo.ConsumeTopics(c.In),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.SessionTimeout(GroupSession),
		kgo.HeartbeatInterval(GroupHeartbeat),
		kgo.FetchMaxWait(time.Second),
	)...)
	if err != nil {
		return err
	}
	defer s.Close()
	// Ends the transaction of the copier before this one. Else the group could not
	// be told its offsets until that transaction has run out of time.
	if _, _, err := s.Client().ProducerID(ctx); err != nil {
		return fmt.Errorf("producer id: %w", err)
	}
	for ctx.Err() == nil {
		if err := c.copySome(ctx, s, out); err != nil {
			return err
		}
	}
	return nil
}

// copySome copies the records of one poll in a transaction.
func (c *copier) copySome(ctx context.Context, s *kgo.GroupTransactSession, out io.Writer) error {
	fetches := s.PollRecords(ctx, c.Batch)
	if fetches.NumRecords() == 0 {
		return nil // errors of a poll pass, or end the transaction below
	}
	if err := s.Begin(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	promise := kgo.AbortingFirstErrPromise(s.Client())
	fetches.EachRecord(func(r *kgo.Record) {
		// Not ctx: what has begun shall be finished.
		s.Produce(context.Background(), &kgo.Record{Topic: c.Out, Partition: r.Partition,
			Value: append([]byte(CopyMark), r.Value...)}, promise.Promise())
	})
	failed := promise.Err()
	committed, err := s.End(context.Background(), kgo.TransactionEndTry(failed == nil))
	if err != nil {
		return fmt.Errorf("end: %w", errors.Join(err, failed))
	}
	said := saidAborted
	if committed {
		said = saidCommitted
	}
	_, err = fmt.Fprintln(out, said)
	return err
}

// level is how much a copier writes to standard error, which is shown when its test
// fails: what goes wrong, or all that happens if the environment asks for it.
func (c *copier) level() kgo.LogLevel {
	if os.Getenv(copierDebugEnv) != "" {
		return kgo.LogLevelDebug
	}
	return kgo.LogLevelWarn
}
