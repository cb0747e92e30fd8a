package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds and default of --batch-bytes. The default passes every broker that has
// not lowered max.message.bytes.
const (
	batchBytesDefault = 1_000_012
	batchBytesMin     = 512
	batchBytesMax     = 1 << 30
)

// What a batch of one record needs besides key, value and headers, at most: the
// batch header of 61 bytes, and the record's attributes, deltas and lengths. A
// header needs two lengths.
const (
	batchOverhead  = 61 + 1 + 10 + 5 + 4*5
	headerOverhead = 2 * 5
)

// lingerMax is the longest --linger.
const lingerMax = time.Minute

type produceOptions struct {
	file       string
	separator  string
	headers    []string
	codec      string
	acks       string
	partition  int32 // -1: chosen by key, or in turn
	linger     time.Duration
	batchBytes int32
	autoCreate bool
	quiet      bool
}

func newProduce(g *globals) *cobra.Command {
	var o produceOptions
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Write lines to a topic, one record each",
		Long: `Produce reads standard input, or a file, and writes each line as one record, byte
for byte: only the newline is taken off, an empty line is a record with an empty
value, and the last line need not end in a newline.

The first record that fails ends the command with the number of its line. With
--acks all, the default, a record counts once every in-sync replica has it, and
is never written twice or out of order.`,
		Example: `  troupe produce orders --file orders.log
  tail -F app.log | troupe produce logs --codec zstd
  echo 'user1:hello' | troupe produce chat --key-separator :
  troupe produce events --header source=import --partition 0 < events.json`,
		Args: need(1, "the TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return produce(cmd, g, o, args[0])
		},
		ValidArgsFunction: g.topicNames(1),
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "read this file instead of standard input")
	f.StringVarP(&o.separator, "key-separator", "K", "",
		"what ends the key at the start of each line, e.g. ':' or '\\t' (default: no keys)")
	f.StringArrayVarP(&o.headers, "header", "H", nil,
		"a header of every record, KEY=VALUE; may be repeated")
	f.StringVarP(&o.codec, "codec", "z", "none", "compression: none, gzip, snappy, lz4 or zstd")
	f.StringVar(&o.acks, "acks", "all",
		"who must have a record: all in-sync replicas, 1 (the leader) or 0")
	f.Int32VarP(&o.partition, "partition", "p", -1,
		"write to this partition (default: by key, or in turn)")
	f.DurationVar(&o.linger, "linger", 5*time.Millisecond, "how long to wait for a batch to fill")
	f.Int32Var(&o.batchBytes, "batch-bytes", batchBytesDefault,
		"largest batch in bytes, before compression; also bounds a line")
	f.BoolVar(&o.autoCreate, "auto-create", false, "let the cluster create a topic it does not have")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress and no summary")
	must(cmd.RegisterFlagCompletionFunc("codec", words("none", "gzip", "snappy", "lz4", "zstd")))
	must(cmd.RegisterFlagCompletionFunc("acks", words("all", "1", "0")))
	return cmd
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// clientOptions checks the flags and turns them into options of the client. The
// bounds on what is in flight are ours (see sender), so the client's are off.
func (o *produceOptions) clientOptions(g *globals) ([]kgo.Opt, error) {
	codec, ok := codecs[o.codec]
	if !ok {
		return nil, &usageError{fmt.Sprintf("--codec %q is unknown", o.codec),
			"use none, gzip, snappy, lz4 or zstd"}
	}
	if o.batchBytes < batchBytesMin || o.batchBytes > batchBytesMax {
		return nil, &usageError{fmt.Sprintf("--batch-bytes %d is out of bounds", o.batchBytes),
			fmt.Sprintf("use %d to %d", batchBytesMin, batchBytesMax)}
	}
	if o.linger < 0 || o.linger > lingerMax {
		return nil, &usageError{fmt.Sprintf("--linger %s is out of bounds", o.linger),
			fmt.Sprintf("use 0s to %s", lingerMax)}
	}
	if o.partition < -1 {
		return nil, &usageError{fmt.Sprintf("--partition %d is not possible", o.partition),
			"partitions are counted from 0"}
	}
	opts := []kgo.Opt{
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(o.batchBytes),
		kgo.BrokerMaxWriteBytes(min(batchBytesMax, max(100<<20, o.batchBytes))),
		kgo.ProducerLinger(o.linger),
		kgo.MaxBufferedRecords(math.MaxInt32),
		kgo.RecordDeliveryTimeout(g.timeout + o.linger),
		kgo.ProduceRequestTimeout(g.timeout),
		kgo.UnknownTopicRetries(20), // a topic just created is known everywhere a little later
	}
	switch o.acks {
	case "all", "-1":
		// Nothing is sent again after a failure, so giving up on a record whose
		// fate is unknown cannot write it twice.
		opts = append(opts, kgo.AllowIdempotentProduceCancellation())
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, &usageError{fmt.Sprintf("--acks %q is unknown", o.acks), "use all, 1 or 0"}
	}
	if o.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if o.autoCreate {
		opts = append(opts, kgo.AllowAutoTopicCreation())
	}
	return opts, nil
}

// template is what all records have in common.
func (o *produceOptions) template(topic string) (kgo.Record, error) {
	r := kgo.Record{Topic: topic, Partition: max(o.partition, 0)}
	for _, h := range o.headers {
		key, value, ok := strings.Cut(h, "=")
		if !ok {
			return r, &usageError{fmt.Sprintf("--header %q is not KEY=VALUE", h),
				"write it like --header source=import"}
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	return r, nil
}

// lineMax is the longest line that surely fits a batch, in bytes. The client
// would find a longer one too, but out of order: too late to write those before.
func (o *produceOptions) lineMax(template kgo.Record) int {
	n := int(o.batchBytes) - batchOverhead
	for _, h := range template.Headers {
		n -= len(h.Key) + len(h.Value) + headerOverhead
	}
	return n
}

func produce(cmd *cobra.Command, g *globals, o produceOptions, topic string) error {
	opts, err := o.clientOptions(g)
	if err != nil {
		return err
	}
	template, err := o.template(topic)
	if err != nil {
		return err
	}
	separator, err := unescape("--key-separator", o.separator)
	if err != nil {
		return err
	}
	in, closeInput, err := openInput(cmd, o.file)
	if err != nil {
		return err
	}
	defer closeInput()
	cl, err := g.client(cmd.ErrOrStderr(), opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := checkTarget(cmd.Context(), g, cl, o, topic); err != nil {
		return err
	}
	s := newSender(cmd.Context(), cl, &lineReader{
		in: in, template: template, separator: separator, lineMax: o.lineMax(template)})
	stopProgress := func() {}
	if !o.quiet && isTerminal(cmd.ErrOrStderr()) {
		stopProgress = s.showProgress(cmd.ErrOrStderr())
	}
	err = s.run(cmd.Context(), g.timeout)
	stopProgress()
	if !o.quiet && (err == nil || s.records.Load() > 0) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s to %s\n", s.tally(), printable(topic))
	}
	return g.produceError(err, o, topic)
}

// checkTarget refuses a topic or partition that is not there before any input is
// read. With --auto-create the topic may be missing.
func checkTarget(
	ctx context.Context, g *globals, cl *kgo.Client, o produceOptions, topic string,
) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	details, err := kadm.NewClient(cl).ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	d := details[topic]
	if o.autoCreate && errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	if d.Err != nil {
		return topicError(topic, d.Err, "")
	}
	if _, ok := d.Partitions[o.partition]; o.partition >= 0 && !ok {
		return noPartition(topic, o.partition, len(d.Partitions))
	}
	return nil
}

// noPartition is the error about a partition the topic does not have.
func noPartition(topic string, partition int32, partitions int) error {
	return &failure{fmt.Sprintf("topic %q has no partition %d", topic, partition),
		fmt.Sprintf("its partitions are 0 to %d", partitions-1), kerr.UnknownTopicOrPartition}
}

// openInput opens the file to read, or standard input if there is none.
func openInput(cmd *cobra.Command, name string) (io.Reader, func(), error) {
	if name == "" || name == "-" {
		return cmd.InOrStdin(), func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, &failure{err.Error(), "check --file", err}
	}
	return f, func() { _ = f.Close() }, nil // it is only read
}

// produceError says what to do about a failed run.
func (g *globals) produceError(err error, o produceOptions, topic string) error {
	var line *lineError
	if !errors.As(err, &line) {
		return err
	}
	at := fmt.Sprintf("line %d: ", line.line)
	switch {
	case errors.Is(err, errNoSeparator):
		return &failure{at + fmt.Sprintf("no key separator %q in it", o.separator),
			"every line needs one with --key-separator", err}
	case errors.Is(err, errLineTooLong), errors.Is(err, kerr.MessageTooLarge):
		return &failure{at + fmt.Sprintf("too large for a batch of %d bytes or for the topic",
			o.batchBytes), "raise --batch-bytes and the topic's max.message.bytes", err}
	case errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, context.DeadlineExceeded):
		return &failure{at + "no acknowledgement in time, so it may be written or not",
			"check the broker or raise --timeout", err}
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return &failure{at + fmt.Sprintf("topic %q is not there", topic),
			fmt.Sprintf("create it with \"troupe topic create %s\"", topic), err}
	case isKafka(err):
		return &told{at + kafkaText(err, ""), err}
	}
	return &told{at + explain(line.err, g.brokerList(), g.timeout), err}
}
