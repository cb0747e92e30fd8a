package cli

import (
	"cmp"
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

// openTxn is a transaction that is open in a partition, as its leader tells.
type openTxn struct {
	Topic            string `json:"topic"`
	Partition        int32  `json:"partition"`
	ProducerID       int64  `json:"producerId"`
	ProducerEpoch    int16  `json:"producerEpoch"`
	CoordinatorEpoch int32  `json:"coordinatorEpoch"` // -1: no marker yet
	FirstOffset      int64  `json:"firstOffset"`
	LastTimestamp    int64  `json:"lastTimestamp"` // of its last write, in milliseconds
}

func (t *openTxn) name() topicPartition { return topicPartition{t.Topic, t.Partition} }

func (g *globals) listHanging(
	ctx context.Context, cmd *cobra.Command, adm *kadm.Client, named []topicPartition,
) error {
	set, err := partitionsToSearch(ctx, adm, named)
	if err != nil {
		return err
	}
	hanging, err := findHanging(ctx, adm, set)
	if err != nil {
		return err
	}
	if len(hanging) > 0 {
		h := &hanging[0]
		fmt.Fprintf(cmd.ErrOrStderr(),
			"end them like this: troupe txn abort --partition %s --producer %d\n",
			printable(h.name().String()), h.ProducerID)
	}
	return g.print(cmd.OutOrStdout(), hanging, func(w io.Writer) error {
		t := newTable("TOPIC", ">PARTITION", ">PRODUCER", ">EPOCH", ">FIRST OFFSET", ">LAST WRITE")
		for i := range hanging {
			h := &hanging[i]
			t.add(h.Topic, strconv.Itoa(int(h.Partition)), numberOf(h.ProducerID),
				strconv.Itoa(int(h.ProducerEpoch)), numberOf(h.FirstOffset),
				ago(&h.LastTimestamp, time.Now()))
		}
		return t.write(w)
	})
}

// partitionsToSearch returns the partitions named, or all of the cluster: offsets
// committed in a transaction can hang in an internal topic.
func partitionsToSearch(
	ctx context.Context, adm *kadm.Client, named []topicPartition,
) (kadm.TopicsSet, error) {
	var topics []string
	for _, n := range named {
		topics = append(topics, n.topic)
	}
	details, err := adm.ListTopicsWithInternal(ctx, topics...)
	if err != nil {
		return nil, err
	}
	if len(named) == 0 {
		return details.TopicsSet(), nil
	}
	var set kadm.TopicsSet
	for _, n := range named {
		d := details[n.topic]
		if d.Err != nil {
			return nil, topicError(n.topic, d.Err, "")
		}
		if n.partition < 0 {
			set.Add(n.topic, d.Partitions.Numbers()...)
			continue
		}
		if _, ok := d.Partitions[n.partition]; !ok {
			return nil, noPartition(n.topic, n.partition, len(d.Partitions))
		}
		set.Add(n.topic, n.partition)
	}
	return set, nil
}

// openTxns asks the leaders which transactions are open, sorted, never nil.
func openTxns(ctx context.Context, adm *kadm.Client, set kadm.TopicsSet) ([]openTxn, error) {
	out := []openTxn{}
	if len(set) == 0 {
		return out, nil
	}
	described, err := adm.DescribeProducers(ctx, set)
	if err != nil {
		return nil, err
	}
	for _, p := range described.SortedPartitions() {
		if p.Err != nil {
			return nil, fmt.Errorf("%s: %w", topicPartition{p.Topic, p.Partition},
				&told{kafkaText(p.Err, p.ErrMessage), p.Err})
		}
		for _, a := range p.ActiveProducers {
			if a.CurrentTxnStartOffset >= 0 {
				out = append(out, openTxn{a.Topic, a.Partition, a.ProducerID, a.ProducerEpoch,
					a.CoordinatorEpoch, a.CurrentTxnStartOffset, a.LastTimestamp})
			}
		}
	}
	slices.SortFunc(out, func(a, b openTxn) int {
		return cmp.Or(byPlace(a.name(), b.name()), cmp.Compare(a.FirstOffset, b.FirstOffset))
	})
	return out, nil
}

// findHanging returns the transactions that are open in partitions although no
// coordinator has the partition in a transaction of that producer. A coordinator
// has it before the first write, and until the marker is written; so what it does
// not have and is open still, when asked again, nobody will end.
func findHanging(ctx context.Context, adm *kadm.Client, set kadm.TopicsSet) ([]openTxn, error) {
	open, err := openTxns(ctx, adm, set)
	if err != nil || len(open) == 0 {
		return open, err
	}
	known, err := transactionsOf(ctx, adm, open)
	if err != nil {
		return nil, err
	}
	var again kadm.TopicsSet
	suspect := map[openTxn]bool{}
	for _, t := range open {
		if !known[t.ProducerID].Topics.Lookup(t.Topic, t.Partition) {
			t.LastTimestamp = 0
			suspect[t] = true
			again.Add(t.Topic, t.Partition)
		}
	}
	still, err := openTxns(ctx, adm, again)
	return slices.DeleteFunc(still, func(t openTxn) bool {
		t.LastTimestamp = 0 // it may have gone on meanwhile, and hang all the same
		return !suspect[t]
	}), err
}

// transactionsOf returns what the coordinators know, by producer id.
func transactionsOf(
	ctx context.Context, adm *kadm.Client, open []openTxn,
) (map[int64]kadm.DescribedTransaction, error) {
	producers := make([]int64, len(open))
	for i := range open {
		producers[i] = open[i].ProducerID
	}
	slices.Sort(producers)
	listed, err := adm.ListTransactions(ctx, slices.Compact(producers), nil)
	if err != nil {
		return nil, err // one that did not answer may know them
	}
	out := map[int64]kadm.DescribedTransaction{}
	ids := listed.TransactionalIDs()
	if len(ids) == 0 {
		return out, nil
	}
	described, err := adm.DescribeTransactions(ctx, ids...)
	if err != nil {
		return nil, err
	}
	for _, d := range described {
		if d.Err != nil && !errors.Is(d.Err, kerr.TransactionalIDNotFound) {
			return nil, txnError(d.TxnID, d.Err)
		}
		if d.Err == nil {
			out[d.ProducerID] = d
		}
	}
	return out, nil
}
