package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// resultAborted is a value of txnResult.Result.
const resultAborted = "aborted"

// abortEvery is how often the state of a transaction is looked at that is on the
// way to its end.
const abortEvery = 100 * time.Millisecond

type abortOptions struct {
	partition string
	producer  int64
	force     bool
	yes       bool
}

// txnResult is what became of a transaction of "txn abort".
type txnResult struct {
	TransactionalID string `json:"transactionalId,omitempty"`
	Topic           string `json:"topic,omitempty"`
	Partition       *int32 `json:"partition,omitempty"`
	ProducerID      int64  `json:"producerId"`
	Result          string `json:"result"`

	text string // what people read
}

func newTxnAbort(g *globals) *cobra.Command {
	var o abortOptions
	cmd := &cobra.Command{
		Use:   "abort [ID]",
		Short: "Abort a transaction",
		Long: `Abort ends the open transaction of a transactional id, and fences its producer: that
fails with its next request, and must start anew.

With --partition and --producer it ends a transaction that hangs in a partition, see
"troupe txn list --hanging", by writing the marker that its coordinator never wrote.
One that a coordinator knows of is refused: name its transactional id instead.

On a terminal it asks first, unless told --yes; a script is not asked.`,
		Example: `  troupe txn abort billing-1
  troupe txn abort --partition orders:0 --producer 4000`,
		RunE: func(cmd *cobra.Command, args []string) error {
			named, err := o.check(cmd, args)
			if err != nil {
				return err
			}
			if !o.yes && isTerminal(cmd.InOrStdin()) {
				if err := ask(cmd, o.question(args), "nothing was aborted"); err != nil {
					return err
				}
			}
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				var r *txnResult
				if len(args) > 0 {
					r, err = abortByID(ctx, cl, adm, args[0])
				} else {
					r, err = o.abortHanging(ctx, adm, named)
				}
				if err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, printable(r.text))
					return err
				})
			})
		},
		ValidArgsFunction: g.txnIDs(1),
	}
	f := cmd.Flags()
	f.StringVar(&o.partition, "partition", "", "where it hangs, TOPIC:PARTITION")
	f.Int64Var(&o.producer, "producer", -1, "the id of the producer that began it")
	f.BoolVar(&o.force, "force", false,
		"even if its coordinator knows of it or cannot be asked: part of it may be committed then")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	must(cmd.RegisterFlagCompletionFunc("partition", g.partitionNames(0)))
	return cmd
}

// check reads the command line: a transactional id, or a partition and a producer.
func (o *abortOptions) check(cmd *cobra.Command, args []string) (tp topicPartition, err error) {
	partition, producer := cmd.Flags().Changed("partition"), cmd.Flags().Changed("producer")
	switch {
	case len(args) > 1:
		return tp, &usageError{fmt.Sprintf("%q is too much", args[1]), "usage: " + cmd.UseLine()}
	case len(args) == 1 && (partition || producer || o.force):
		return tp, &usageError{"an ID, and --partition with --producer, exclude each other",
			"use one of them"}
	case len(args) == 1:
		return tp, nil
	case !partition && !producer:
		return tp, &usageError{"the transactional ID is missing",
			"name it, or use --partition and --producer"}
	case !partition || o.producer < 0:
		return tp, &usageError{"a transaction that hangs is named by both its partition and its producer",
			"use --partition TOPIC:PARTITION --producer ID"}
	}
	named, err := topicPartitions([]string{o.partition})
	if err != nil {
		return tp, err
	}
	if tp = named[0]; tp.partition < 0 {
		return tp, &usageError{fmt.Sprintf("%q names no partition", o.partition),
			"write it like " + o.partition + ":0"}
	}
	return tp, nil
}

func (o *abortOptions) question(args []string) string {
	if len(args) > 0 {
		return fmt.Sprintf("Abort the transaction of %s and fence its producer?", printable(args[0]))
	}
	return fmt.Sprintf("Abort the transaction of producer %d in %s?", o.producer,
		printable(o.partition))
}

// abortByID fences the producer of a transactional id, as a new instance of it
// would, and waits until its transaction is aborted.
func abortByID(
	ctx context.Context, cl *kgo.Client, adm *kadm.Client, id string,
) (*txnResult, error) {
	begun, err := oneTxn(ctx, adm, id)
	if err != nil {
		return nil, err
	}
	r := &txnResult{TransactionalID: id, ProducerID: begun.ProducerID, Result: resultAborted,
		text: fmt.Sprintf("aborted the transaction of %s, which began %s ago", id,
			since(startOf(begun), time.Now()))}
	for now := begun; ; {
		switch {
		case !isOpen(begun.State):
			r.Result = resultUnneeded
			r.text = fmt.Sprintf("%s has no open transaction, its state is %s", id, begun.State)
			return r, nil
		case now.State == txnPrepareCommit, now.State == txnCommitted:
			return nil, &failure{fmt.Sprintf("the transaction of %q is being committed", id),
				"its outcome is decided, so it cannot be aborted", nil}
		case !isOpen(now.State), now.StartTimestamp != begun.StartTimestamp:
			return r, nil
		case now.State == txnOngoing:
			if err := fence(ctx, cl, id, begun.TimeoutMillis); err != nil {
				return nil, err
			}
		}
		select {
		case <-time.After(abortEvery):
		case <-ctx.Done():
			return nil, &failure{fmt.Sprintf("the transaction of %q is still %s", id, now.State),
				"its partitions may have no leader; it will be aborted once they have", ctx.Err()}
		}
		if now, err = oneTxn(ctx, adm, id); err != nil {
			return nil, err
		}
	}
}

func oneTxn(ctx context.Context, adm *kadm.Client, id string) (*kadm.DescribedTransaction, error) {
	var all kadm.DescribedTransactions
	err := awaitCoordinator(ctx, adm, func() (err error) {
		all, err = adm.DescribeTransactions(ctx, id)
		return firstError(err, all[id].Err)
	})
	d, ok := all[id]
	if !ok {
		return nil, firstError(err, fmt.Errorf("transactional id %q: %w", id, errNoAnswer))
	}
	return &d, txnError(id, d.Err)
}

// fence asks for a new producer epoch, which aborts what is open. While that is
// under way a coordinator answers CONCURRENT_TRANSACTIONS.
func fence(ctx context.Context, cl *kgo.Client, id string, timeoutMs int32) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &id, timeoutMs
	req.ProducerID, req.ProducerEpoch = -1, -1
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	err = kerr.ErrorForCode(resp.ErrorCode)
	if errors.Is(err, kerr.ConcurrentTransactions) {
		return nil
	}
	return txnError(id, err)
}

// abortHanging writes the marker that ends a transaction in one partition.
func (o *abortOptions) abortHanging(
	ctx context.Context, adm *kadm.Client, tp topicPartition,
) (*txnResult, error) {
	set, err := partitionsToSearch(ctx, adm, []topicPartition{tp})
	if err != nil {
		return nil, err
	}
	t, err := o.openIn(ctx, adm, set)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, &failure{fmt.Sprintf("producer %d has no open transaction in %s", o.producer, tp),
			"see \"troupe txn list --hanging\"", nil}
	}
	if !o.force {
		known, err := transactionsOf(ctx, adm, []openTxn{*t})
		if err != nil {
			return nil, err
		}
		if d := known[t.ProducerID]; d.Topics.Lookup(t.Topic, t.Partition) {
			return nil, &failure{fmt.Sprintf("transactional id %q has this transaction, it is %s",
				d.TxnID, d.State), fmt.Sprintf("abort all of it with \"troupe txn abort %s\"", d.TxnID), nil}
		}
	}
	marker := kadm.TxnMarkers{ProducerID: t.ProducerID, ProducerEpoch: t.ProducerEpoch, Topics: set,
		// A producer that never ended a transaction here has seen no coordinator yet.
		CoordinatorEpoch: max(0, t.CoordinatorEpoch)}
	answers, err := adm.WriteTxnMarkers(ctx, marker)
	if err != nil {
		return nil, err
	}
	a, ok := answers[t.ProducerID].Topics[t.Topic].Partitions[t.Partition]
	if err := a.Err; err != nil || !ok {
		return nil, fmt.Errorf("%s: %w", tp, firstError(err, errNoAnswer))
	}
	if now, err := o.openIn(ctx, adm, set); err != nil || now != nil &&
		now.FirstOffset == t.FirstOffset {
		return nil, firstError(err, &failure{fmt.Sprintf("the transaction in %s is open still", tp),
			"try again", nil})
	}
	return &txnResult{Topic: t.Topic, Partition: &t.Partition, ProducerID: t.ProducerID,
		Result: resultAborted, text: fmt.Sprintf("aborted the transaction of producer %d in %s, "+
			"which began at offset %d", t.ProducerID, tp, t.FirstOffset)}, nil
}

// openIn returns the producer's open transaction in the one partition of set, or nil.
func (o *abortOptions) openIn(
	ctx context.Context, adm *kadm.Client, set kadm.TopicsSet,
) (*openTxn, error) {
	open, err := openTxns(ctx, adm, set)
	for i := range open {
		if open[i].ProducerID == o.producer {
			return &open[i], nil
		}
	}
	return nil, err
}
