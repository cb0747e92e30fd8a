package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds of what one request fetches, in bytes, and how long a broker may wait
// for the first byte. A response larger than readMax is refused.
const (
	fetchPartitionBytes = 8 << 20
	fetchWait           = 500 * time.Millisecond
	readMax             = 1 << 30

	// pollWait is how long to wait for records before looking why none come.
	pollWait = 2 * fetchWait
)

// outputBuffer is how much output is gathered before it is written, in bytes.
const outputBuffer = 256 << 10

type consumeOptions struct {
	from       string
	partitions []int32
	count      int64
	follow     bool
	format     string
	committed  bool
	quiet      bool
	group      string
}

func newConsume(g *globals) *cobra.Command {
	var o consumeOptions
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Read the records of a topic",
		Long: `Consume prints the records a topic has when the command starts, and ends; with
--follow it goes on with those that come until it is interrupted. Within a
partition, records come in order.

--from says where to begin in each partition:
  start, end            the first record; after the last
  1234                  an offset
  -100                  the last 100 records
  2026-03-01T09:00:00Z  a time (RFC 3339), or local: 2026-03-01 09:00, 2026-03-01
  @1772355600000        milliseconds since the Unix epoch
  10m, 7d, "10m ago"    so long before now

With --group it joins a consumer group, begins where the group left off (--from is for
partitions the group never read), and commits what it has printed.

--format is json (one object a line) or a text with
  %t topic   %p partition    %o offset    %T timestamp in milliseconds
  %k key     %v or %s value  %h headers   %K, %S length of key and value
  %R length of the value as 4 bytes       %% a percent sign
and the escapes \n \r \t \0 \\ \xHH. Unless told, it prints each value and a
newline: what "troupe produce" read, byte for byte, if there is one partition.`,
		Example: `  troupe consume orders
  troupe consume orders --from end --follow
  troupe consume orders --from -10 --format '%p/%o %k: %v\n'
  troupe consume orders --from "10m ago" --format json | jq .value
  troupe consume orders --partition 0 --from 1234 --count 1
  troupe consume orders --group billing --follow`,
		Args: need(1, "the TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return consume(cmd, g, o, args[0])
		},
		ValidArgsFunction: g.topicNames(1),
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "start", "where to begin: start, end, OFFSET, -N or a time")
	f.Int32SliceVarP(&o.partitions, "partition", "p", nil,
		"only these partitions, e.g. 0,2 (default: all)")
	f.Int64VarP(&o.count, "count", "n", 0, "end after this many records (default: no limit)")
	f.BoolVarP(&o.follow, "follow", "f", false, "wait for new records")
	f.StringVar(&o.format, "format", formatValue, "json, or a text with tokens (see above)")
	f.BoolVar(&o.committed, "committed", false,
		"hide records of transactions that are open or aborted")
	f.StringVarP(&o.group, "group", "g", "", "read as a member of this group, and commit")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no summary")
	must(cmd.RegisterFlagCompletionFunc("from", words("start", "end")))
	must(cmd.RegisterFlagCompletionFunc("format", words(formatJSON)))
	must(cmd.RegisterFlagCompletionFunc("group", g.groupNames(0)))
	return cmd
}

func consume(cmd *cobra.Command, g *globals, o consumeOptions, topic string) error {
	from, err := o.check(cmd)
	if err != nil {
		return err
	}
	show, err := o.printer(cmd, g)
	if err != nil {
		return err
	}
	todo, err := g.findSpans(cmd, topic, o, from)
	if err != nil {
		return err
	}
	r := &reader{
		topic: topic, todo: todo, follow: o.follow, count: o.count, show: show,
		out: bufio.NewWriterSize(cmd.OutOrStdout(), outputBuffer), patience: g.timeout,
	}
	opts := o.clientOptions(topic, todo)
	if o.group != "" {
		r.group = &membership{name: o.group, follow: o.follow, found: todo, timeout: g.timeout,
			moved: map[int32]kgo.EpochOffset{}}
		r.todo = map[int32]span{} // until the group gives it partitions
		opts = r.group.options(&o, topic)
	}
	if r.cl, err = g.client(cmd.ErrOrStderr(), opts...); err != nil {
		return err
	}
	defer r.cl.CloseAllowingRebalance()
	begun := time.Now()
	err = errors.Join(r.run(cmd.Context()), r.out.Flush())
	if !o.quiet && (err == nil || r.records > 0) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s from %s\n",
			tally(r.records, r.size, time.Since(begun)), printable(topic))
	}
	return err
}

// check refuses impossible values, and returns where to begin.
func (o *consumeOptions) check(cmd *cobra.Command) (origin, error) {
	if o.count < 0 {
		return origin{}, &usageError{fmt.Sprintf("--count %d is not possible", o.count),
			"use 1 or more"}
	}
	if cmd.Flags().Changed("group") && o.group == "" {
		return origin{}, &usageError{"--group is empty", "name a group"}
	}
	if o.group != "" && len(o.partitions) > 0 {
		return origin{}, &usageError{"--group and --partition exclude each other",
			"a group shares the partitions out itself"}
	}
	return parseOrigin("--from", o.from, time.Now())
}

// printer picks the format: --output json is understood too.
func (o *consumeOptions) printer(cmd *cobra.Command, g *globals) (printer, error) {
	if cmd.Flags().Changed("format") || g.output == formatTable {
		return parseFormat(o.format)
	}
	if g.output == formatJSON {
		return appendJSON, nil
	}
	return nil, &usageError{"records cannot be printed as " + g.output, "use --format json"}
}

func (g *globals) findSpans(
	cmd *cobra.Command, topic string, o consumeOptions, from origin,
) (found map[int32]span, err error) {
	err = g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
		found, err = spans(ctx, adm, topic, o, from)
		return err
	})
	return found, err
}

// clientOptions makes a client that begins where todo says. Offsets that are
// gone are an error: silently reading from elsewhere would lose records.
func (o *consumeOptions) clientOptions(topic string, todo map[int32]span) []kgo.Opt {
	begin := make(map[int32]kgo.Offset, len(todo))
	for p, s := range todo {
		if o.follow || s.next < s.end {
			begin[p] = kgo.NewOffset().At(s.next)
		}
	}
	return append(o.fetchOptions(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: begin}))
}

// fetchOptions are those of every client that reads.
func (o *consumeOptions) fetchOptions() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.FetchMaxWait(fetchWait),
		kgo.BrokerMaxReadBytes(readMax),
		// A marker can be the last record before the end; see reader.take.
		kgo.KeepControlRecords(),
	}
	if o.committed {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	return opts
}

// reader prints records until it has what it was asked for. One goroutine uses it.
type reader struct {
	cl     *kgo.Client
	topic  string
	group  *membership    // nil: it reads for itself
	todo   map[int32]span // partitions not read to their end; with follow, all
	follow bool
	count  int64 // records to print; 0: no limit
	show   printer
	out    *bufio.Writer
	// patience is how long a cluster that owes us records may send none.
	patience time.Duration

	buf     []byte // of one record's text, used again
	records int64  // printed
	size    int64  // bytes of their keys and values
}

// run reads until every partition is at its end, the count is reached, or ctx
// ends, which is an error unless it follows.
func (r *reader) run(ctx context.Context) error {
	if !r.follow {
		for p, s := range r.todo {
			if s.next >= s.end {
				delete(r.todo, p)
			}
		}
	}
	last := time.Now()
	for r.unfinished() {
		fetches := r.poll(ctx)
		if ctx.Err() != nil {
			return r.interrupted()
		}
		before := r.records
		done, skipped, err := r.printAll(ctx, fetches)
		if done || err != nil {
			return err
		}
		if r.records > before || skipped {
			last = time.Now()
		}
		if !r.follow && r.unfinished() && time.Since(last) > r.patience {
			return r.stalled()
		}
	}
	if r.group != nil { // there may have been nothing to print
		return r.group.commit(ctx, r.cl, r.topic)
	}
	return nil
}

// unfinished reports whether there is something to read, or may be soon.
func (r *reader) unfinished() bool {
	if r.group != nil {
		r.group.takeNews(r.todo)
		return r.follow || len(r.todo) > 0 || !r.group.done()
	}
	return len(r.todo) > 0
}

// printAll prints what one poll brought, and as a member of a group commits it
// before others may get the partitions. It is done when the count is reached;
// skipped says that it went past a gap instead.
func (r *reader) printAll(
	ctx context.Context, fetches kgo.Fetches,
) (done, skipped bool, err error) {
	if r.group != nil {
		defer r.cl.AllowRebalance()
		r.group.takeNews(r.todo)
	}
	done, err = r.takeAll(fetches)
	if flushed := r.out.Flush(); flushed != nil {
		return done, false, errors.Join(err, flushed) // and nothing is committed
	}
	if err == nil && !done && !r.follow && len(r.todo) > 0 && fetches.NumRecords() == 0 {
		skipped = r.skipGaps(ctx)
	}
	if r.group != nil {
		err = errors.Join(err, r.group.commit(ctx, r.cl, r.topic))
	}
	return done, skipped, err
}

// poll waits for records, but not for ever, so that run sees when none come.
func (r *reader) poll(ctx context.Context) kgo.Fetches {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	return r.cl.PollFetches(ctx)
}

// takeAll prints what one poll brought. It is done when the count is reached.
func (r *reader) takeAll(fetches kgo.Fetches) (done bool, err error) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if done || err != nil {
			return
		}
		for _, rec := range p.Records {
			if done, err = r.take(rec); done || err != nil {
				return
			}
		}
		// The records of a response come before the error in it.
		err = r.fetchError(p.Partition, p.Err)
	})
	return done, err
}

// take prints one record and keeps count. A partition that has reached its end
// is fetched no more; the last record before it may be a transaction's marker,
// which counts but is not printed.
func (r *reader) take(rec *kgo.Record) (done bool, err error) {
	s, ok := r.todo[rec.Partition]
	if !ok {
		return false, nil // beyond the end, fetched ahead
	}
	if r.follow || rec.Offset < s.end {
		if !rec.Attrs.IsControl() {
			if err := r.write(rec); err != nil {
				return true, err
			}
		}
	}
	r.advance(rec.Partition, rec.Offset+1, rec.LeaderEpoch)
	return r.count > 0 && r.records == r.count, nil
}

// advance notes that a partition was read up to next; epoch is that of the record
// before, -1 if not known.
func (r *reader) advance(partition int32, next int64, epoch int32) {
	s := r.todo[partition]
	s.next = next
	r.todo[partition] = s
	if r.group != nil {
		r.group.moved[partition] = kgo.EpochOffset{Epoch: epoch, Offset: next}
	}
	if !r.follow && s.next >= s.end {
		delete(r.todo, partition)
		r.cl.PauseFetchPartitions(map[string][]int32{r.topic: {partition}})
	}
}

func (r *reader) write(rec *kgo.Record) error {
	r.buf = r.show(r.buf[:0], rec)
	if _, err := r.out.Write(r.buf); err != nil {
		return err
	}
	r.records++
	r.size += int64(len(rec.Key) + len(rec.Value))
	return nil
}

// fetchError decides whether an error of a partition ends the command.
func (r *reader) fetchError(partition int32, err error) error {
	switch {
	case err == nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, kerr.OffsetOutOfRange) && r.group != nil:
		return &failure{fmt.Sprintf("partition %d of %q does not hold offset %d, where group %q is",
			partition, r.topic, r.todo[partition].next, r.group.name),
			fmt.Sprintf("set another with \"troupe group reset %s %s:%d --to start\"",
				r.group.name, r.topic, partition), err}
	case errors.Is(err, kerr.OffsetOutOfRange):
		return &failure{fmt.Sprintf("partition %d of %q no longer holds offset %d",
			partition, r.topic, r.todo[partition].next),
			"it was deleted meanwhile; begin again with --from start", err}
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return &failure{fmt.Sprintf("topic %q was deleted", r.topic), "see \"troupe topic list\"", err}
	}
	if r.group != nil {
		if bad := r.group.sessionError(err); bad != nil {
			return bad
		}
	}
	return fmt.Errorf("partition %d of %q: %w", partition, r.topic, err)
}

func (r *reader) interrupted() error {
	if r.follow {
		return nil // that is how following ends
	}
	return &failure{errInterrupted.Error(),
		fmt.Sprintf("%s printed", plural(r.records, "record")), errInterrupted}
}

// stalled is the error about a cluster that owes records and sends none.
func (r *reader) stalled() error {
	if len(r.todo) == 0 {
		return r.group.notJoined(r.patience)
	}
	p := slices.Min(slices.Collect(maps.Keys(r.todo)))
	return &failure{fmt.Sprintf("partition %d of %q sent nothing for %s, at offset %d of %d",
		p, r.topic, r.patience, r.todo[p].next, r.todo[p].end),
		"check the broker or raise --timeout", context.DeadlineExceeded}
}
