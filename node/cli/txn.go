package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func newTxn(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "txn",
		Short: "List transactions, find those that hang, and abort them",
		Example: `  troupe txn list --state ongoing
  troupe txn describe billing-1
  troupe txn list --hanging
  troupe txn abort billing-1`,
	}
	cmd.AddCommand(newTxnList(g), newTxnDescribe(g), newTxnAbort(g))
	return group(cmd)
}

// States of a transaction, as Kafka names them. In the first four it is open.
const (
	txnOngoing       = "Ongoing"
	txnPrepareCommit = "PrepareCommit"
	txnPrepareAbort  = "PrepareAbort"
	txnPrepareFence  = "PrepareEpochFence"
	txnCommitted     = "CompleteCommit"
)

// txnStates is what --state may name.
var txnStates = []string{"ongoing", "preparecommit", "prepareabort", "completecommit",
	"completeabort", "empty", "prepareepochfence", "dead"}

func isOpen(state string) bool {
	return slices.Contains([]string{txnOngoing, txnPrepareCommit, txnPrepareAbort, txnPrepareFence},
		state)
}

// listedTxn is a row of "txn list".
type listedTxn struct {
	TransactionalID string `json:"transactionalId"`
	State           string `json:"state"`
	ProducerID      int64  `json:"producerId"`
	Coordinator     int32  `json:"coordinator"`
	// StartTimestamp is when an open transaction began, in milliseconds since the
	// Unix epoch; null if none is open.
	StartTimestamp *int64 `json:"startTimestamp"`
}

type txnListOptions struct {
	states  []string
	longer  time.Duration
	hanging bool
}

func newTxnList(g *globals) *cobra.Command {
	var o txnListOptions
	cmd := &cobra.Command{
		Use:     "list [TOPIC[:PARTITION]...]",
		Aliases: []string{"ls"},
		Short:   "List transactions, or those that hang",
		Long: `List shows the transactional ids of the cluster, and how long their transactions have
been open.

With --hanging it looks in the partitions named, or in all, for transactions that are
open there although no coordinator knows of them. Nothing will ever end these:
consumers with isolation.level=read_committed wait behind them, and so does
compaction, until "troupe txn abort" ends them.`,
		Example: `  troupe txn list
  troupe txn list --state ongoing --longer-than 5m
  troupe txn list --hanging orders`,
		RunE: func(cmd *cobra.Command, args []string) error {
			named, err := o.check(cmd, args)
			if err != nil {
				return err
			}
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				if o.hanging {
					return g.listHanging(ctx, cmd, adm, named)
				}
				listed, err := listTxns(ctx, adm, time.Now(), &o)
				if err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), listed, func(w io.Writer) error {
					t := newTable("TRANSACTIONAL ID", "STATE", ">PRODUCER", ">COORDINATOR", ">OPEN FOR")
					for _, l := range listed {
						t.add(l.TransactionalID, l.State, numberOf(l.ProducerID),
							strconv.Itoa(int(l.Coordinator)), since(l.StartTimestamp, time.Now()))
					}
					return t.write(w)
				})
			})
		},
		ValidArgsFunction: g.partitionNames(0),
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.states, "state", nil, "only in these states, e.g. ongoing,preparecommit")
	f.DurationVar(&o.longer, "longer-than", 0, "only open for longer than this")
	f.BoolVar(&o.hanging, "hanging", false, "find those that no coordinator knows of")
	must(cmd.RegisterFlagCompletionFunc("state", words(txnStates...)))
	return cmd
}

func (o *txnListOptions) check(cmd *cobra.Command, args []string) ([]topicPartition, error) {
	longer := cmd.Flags().Changed("longer-than")
	switch {
	case o.hanging && (longer || len(o.states) > 0):
		return nil, &usageError{"--hanging looks at partitions, not at states",
			"leave out --state and --longer-than"}
	case !o.hanging && len(args) > 0:
		return nil, &usageError{fmt.Sprintf("%q is too much", args[0]),
			"partitions are looked at with --hanging"}
	case o.longer < 0:
		return nil, &usageError{fmt.Sprintf("--longer-than %s is not possible", o.longer),
			"use a time like 5m"}
	}
	if err := known("--state", o.states, txnStates); err != nil {
		return nil, err
	}
	return topicPartitions(args)
}

// listTxns returns the transactional ids that o chooses, sorted, never nil.
func listTxns(
	ctx context.Context, adm *kadm.Client, now time.Time, o *txnListOptions,
) ([]listedTxn, error) {
	all, err := adm.ListTransactions(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	var open []string
	for id := range all {
		if isOpen(all[id].State) {
			open = append(open, id)
		}
	}
	var described kadm.DescribedTransactions
	if len(open) > 0 { // none would mean all
		slices.Sort(open)
		if described, err = adm.DescribeTransactions(ctx, open...); err != nil {
			return nil, err
		}
	}
	out := []listedTxn{}
	for _, t := range all.Sorted() {
		l := listedTxn{TransactionalID: t.TxnID, State: t.State, ProducerID: t.ProducerID,
			Coordinator: t.Coordinator}
		// It may have ended since it was listed: then the newer news count.
		if d, ok := described[t.TxnID]; ok && d.Err == nil {
			l.State, l.StartTimestamp = d.State, startOf(&d)
		}
		if oneOf(l.State, o.states) && o.oldEnough(l.StartTimestamp, now) {
			out = append(out, l)
		}
	}
	return out, nil
}

func (o *txnListOptions) oldEnough(start *int64, now time.Time) bool {
	return o.longer == 0 || start != nil && now.Sub(time.UnixMilli(*start)) > o.longer
}

// startOf is when the transaction that is open began, or nil.
func startOf(d *kadm.DescribedTransaction) *int64 {
	if !isOpen(d.State) || d.StartTimestamp < 0 {
		return nil
	}
	return &d.StartTimestamp
}

// since says how long ago a time in milliseconds was, to the second.
func since(start *int64, now time.Time) string {
	if start == nil {
		return "-"
	}
	return max(0, now.Sub(time.UnixMilli(*start))).Round(time.Second).String()
}

// txnError is what a broker's error about a transactional id means to the user.
func txnError(id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.TransactionalIDNotFound):
		return &failure{fmt.Sprintf("the cluster has no transactional id %q", id),
			"see \"troupe txn list\"", err}
	case isKafka(err):
		return fmt.Errorf("transactional id %q: %w", id, &told{kafkaText(err, ""), err})
	}
	return err
}

// txnIDs completes transactional ids; see names.
func (g *globals) txnIDs(most int) completer {
	return g.names(most, func(ctx context.Context, adm *kadm.Client) ([]string, error) {
		all, err := adm.ListTransactions(ctx, nil, nil)
		return all.TransactionalIDs(), err
	})
}
