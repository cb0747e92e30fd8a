package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

// describedTxn is what "txn describe" knows of a transactional id.
type describedTxn struct {
	TransactionalID string         `json:"transactionalId"`
	State           string         `json:"state"`
	ProducerID      int64          `json:"producerId"`
	ProducerEpoch   int16          `json:"producerEpoch"`
	Coordinator     int32          `json:"coordinator"`
	TimeoutMs       int32          `json:"timeoutMs"`
	StartTimestamp  *int64         `json:"startTimestamp"` // as of listedTxn
	Partitions      []txnPartition `json:"partitions"`
}

// txnPartition is a partition of an open transaction. Pointers are nil when nothing
// was written to it yet, or its leader does not say.
type txnPartition struct {
	Topic         string `json:"topic"`
	Partition     int32  `json:"partition"`
	FirstOffset   *int64 `json:"firstOffset"`
	LastTimestamp *int64 `json:"lastTimestamp"` // of the last write, in milliseconds
}

func newTxnDescribe(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "describe ID...",
		Short: "Show transactions with their partitions",
		Long: `Describe shows the state of transactional ids and, while a transaction is open, for how
long, the partitions in it, and since which offset it holds up consumers there.`,
		Example: `  troupe txn describe billing-1`,
		Args:    need(0, "the transactional ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				described, err := describeTxns(ctx, adm, ids)
				if err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), described, func(w io.Writer) error {
					for i := range described {
						if i > 0 {
							fmt.Fprintln(w)
						}
						if err := described[i].write(w, time.Now()); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
		ValidArgsFunction: g.txnIDs(0),
	}
}

// describeTxns returns what is known of ids, in their order.
func describeTxns(ctx context.Context, adm *kadm.Client, ids []string) ([]describedTxn, error) {
	var all kadm.DescribedTransactions
	err := awaitCoordinator(ctx, adm, func() (err error) {
		all, err = adm.DescribeTransactions(ctx, ids...)
		for _, d := range all {
			err = firstError(err, d.Err)
		}
		return err
	})
	if err != nil && len(all) == 0 {
		return nil, err
	}
	set := kadm.TopicsSet{}
	for _, id := range ids {
		d, ok := all[id]
		if !ok {
			return nil, fmt.Errorf("transactional id %q: %w", id, firstError(err, errNoAnswer))
		}
		if d.Err != nil {
			return nil, txnError(id, d.Err)
		}
		set.Merge(d.Topics)
	}
	var producers kadm.DescribedProducersTopics
	if len(set) > 0 { // none would mean all
		// What the leaders say is shown as far as it goes, as in "topic describe".
		producers, _ = adm.DescribeProducers(ctx, set)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	out := make([]describedTxn, 0, len(ids))
	for _, id := range ids {
		d := all[id]
		t := describedTxn{TransactionalID: id, State: d.State, ProducerID: d.ProducerID,
			ProducerEpoch: d.ProducerEpoch, Coordinator: d.Coordinator, TimeoutMs: d.TimeoutMillis,
			StartTimestamp: startOf(&d), Partitions: []txnPartition{}}
		for _, topic := range d.Topics.Sorted() {
			for _, p := range topic.Partitions {
				tp := txnPartition{Topic: topic.Topic, Partition: p}
				found, ok := producers[topic.Topic].Partitions[p].ActiveProducers[d.ProducerID]
				if ok && found.CurrentTxnStartOffset >= 0 {
					tp.FirstOffset, tp.LastTimestamp = &found.CurrentTxnStartOffset, &found.LastTimestamp
				}
				t.Partitions = append(t.Partitions, tp)
			}
		}
		out = append(out, t)
	}
	return out, nil
}

func (d *describedTxn) write(w io.Writer, now time.Time) error {
	open := ""
	if d.StartTimestamp != nil {
		open = fmt.Sprintf(" for %s of at most %s", since(d.StartTimestamp, now),
			time.Duration(d.TimeoutMs)*time.Millisecond)
	}
	if _, err := fmt.Fprintf(w, "%s: %s%s, producer %d epoch %d, coordinator is node %d\n",
		printable(d.TransactionalID), d.State, open, d.ProducerID, d.ProducerEpoch,
		d.Coordinator); err != nil {
		return err
	}
	if len(d.Partitions) == 0 {
		return nil
	}
	t := newTable("TOPIC", ">PARTITION", ">FIRST OFFSET", ">LAST WRITE")
	for _, p := range d.Partitions {
		t.add(p.Topic, strconv.Itoa(int(p.Partition)), offsetText(p.FirstOffset),
			ago(p.LastTimestamp, now))
	}
	fmt.Fprintln(w)
	return t.write(w)
}

// ago is since for people: "5s ago".
func ago(at *int64, now time.Time) string {
	if at == nil {
		return "-"
	}
	return since(at, now) + " ago"
}
