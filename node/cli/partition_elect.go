package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Values of partitionResult.Result, besides those of topics.
const (
	resultElected   = "elected"
	resultUnneeded  = "unneeded" // it is so already
	resultStarted   = "started"  // replicas are on their way
	resultDone      = "done"
	resultCancelled = "cancelled"
)

type electOptions struct {
	unclean bool
	all     bool
	yes     bool
}

func newPartitionElect(g *globals) *cobra.Command {
	var o electOptions
	cmd := &cobra.Command{
		Use:   "elect [TOPIC[:PARTITION]...]",
		Short: "Elect the leaders of partitions anew",
		Long: `Elect gives the leadership to the preferred replica, the first one, of the
partitions named, or of all.

With --unclean, a partition without a leader gets one that is alive although it
lacks records that were acknowledged: those are lost for good. On a terminal it asks
first, unless told --yes.`,
		Example: `  troupe partition elect
  troupe partition elect orders returns:3
  troupe partition elect orders:0 --unclean`,
		RunE: func(cmd *cobra.Command, args []string) error {
			named, err := topicPartitions(args)
			if err != nil {
				return err
			}
			if o.unclean && len(args) == 0 && !o.all {
				return &usageError{"--unclean loses records of every partition it elects for",
					"name the partitions, or say --all"}
			}
			if len(args) > 0 && o.all {
				return &usageError{"--all and names exclude each other", "use one of them"}
			}
			if o.unclean && !o.yes && isTerminal(cmd.InOrStdin()) {
				err := ask(cmd, "Elect leaders that lack records, which are lost then?",
					"no leader was elected")
				if err != nil {
					return err
				}
			}
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				results, err := elect(ctx, cl, adm, named, o.unclean)
				if err != nil {
					return err
				}
				if len(results) == 0 {
					fmt.Fprintln(cmd.ErrOrStderr(), "every partition is led as it should be")
				}
				return g.tell(cmd.OutOrStdout(), results)
			})
		},
		ValidArgsFunction: g.partitionNames(0),
	}
	f := cmd.Flags()
	f.BoolVar(&o.unclean, "unclean", false, "where there is no leader, elect one that lacks records")
	f.BoolVar(&o.all, "all", false, "all partitions of the cluster")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return cmd
}

// elect elects leaders of the partitions named, or of all that lack the right one.
func elect(
	ctx context.Context, cl *kgo.Client, adm *kadm.Client, named []topicPartition, unclean bool,
) ([]partitionResult, error) {
	how := kadm.ElectPreferredReplica
	if unclean {
		how = kadm.ElectLiveReplica
	}
	var set kadm.TopicsSet // nil: all
	if len(named) > 0 {
		chosen, _, err := partitionsOf(ctx, cl, adm, named)
		if err != nil {
			return nil, err
		}
		for i := range chosen {
			set.Add(chosen[i].Topic, chosen[i].Partition)
		}
	}
	answers, err := adm.ElectLeaders(ctx, how, set)
	if err != nil {
		return nil, err
	}
	results := []partitionResult{}
	for topic, partitions := range answers {
		for number, a := range partitions {
			r := partitionResult{Topic: topic, Partition: number, Result: resultElected}
			tp := topicPartition{topic, number}
			r.text = fmt.Sprintf("elected a leader of %s", tp)
			switch {
			case errors.Is(a.Err, kerr.ElectionNotNeeded):
				r.Result, r.text = resultUnneeded, fmt.Sprintf("%s has its leader already", tp)
			case a.Err != nil:
				r.fail(electionError(tp, a.Err, a.ErrMessage))
			}
			results = append(results, r)
		}
	}
	slices.SortFunc(results, func(a, b partitionResult) int {
		if a.Topic != b.Topic {
			return strings.Compare(a.Topic, b.Topic)
		}
		return int(a.Partition) - int(b.Partition)
	})
	return results, nil
}

// electionError says why there was no election and what helps.
func electionError(tp topicPartition, err error, said string) error {
	switch {
	case errors.Is(err, kerr.PreferredLeaderNotAvailable):
		return &failure{fmt.Sprintf("%s: the preferred replica is dead or not in sync", tp),
			"see \"troupe partition list\" and try again when it is", err}
	case errors.Is(err, kerr.EligibleLeadersNotAvailable):
		return &failure{fmt.Sprintf("%s: no replica may lead", tp),
			"start a node that has one, see \"troupe partition list\"", err}
	}
	return refusal(tp.String(), err, &said)
}

// ask asks on the terminal whether to go on; not says what was not done.
func ask(cmd *cobra.Command, question, not string) error {
	fmt.Fprint(cmd.ErrOrStderr(), question+" [y/N] ")
	answer, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64)).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &failure{"not confirmed", not, nil}
}

func newPartitionTransfer(g *globals) *cobra.Command {
	var to int32
	cmd := &cobra.Command{
		Use:   "transfer TOPIC:PARTITION",
		Short: "Make one replica of a partition its leader",
		Long: `Transfer makes a node that has a replica of the partition, in sync, its leader and
its preferred leader, so that it stays: the replica becomes the first in the list.`,
		Example: `  troupe partition transfer orders:0 --to 2`,
		Args:    need(1, "the TOPIC:PARTITION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			named, err := topicPartitions(args)
			switch {
			case err != nil:
				return err
			case named[0].partition < 0:
				return &usageError{fmt.Sprintf("%q names no partition", args[0]),
					"write it like " + args[0] + ":0"}
			case !cmd.Flags().Changed("to"):
				return &usageError{"the new leader is missing", "name its node with --to"}
			}
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				r, err := g.transfer(ctx, cl, adm, named[0], to)
				if err != nil {
					return err
				}
				return g.tell(cmd.OutOrStdout(), []partitionResult{*r})
			})
		},
		ValidArgsFunction: g.partitionNames(1),
	}
	cmd.Flags().Int32Var(&to, "to", -1, "the node that shall lead")
	must(cmd.RegisterFlagCompletionFunc("to", g.nodeIDs(0)))
	return cmd
}

// transfer makes a node the first replica of a partition, and then its leader.
func (g *globals) transfer(
	ctx context.Context, cl *kgo.Client, adm *kadm.Client, tp topicPartition, to int32,
) (*partitionResult, error) {
	now, err := onePartition(ctx, cl, adm, tp)
	if err != nil {
		return nil, err
	}
	r := &partitionResult{Topic: tp.topic, Partition: tp.partition, Leader: &to,
		Result: resultElected, text: fmt.Sprintf("node %d leads %s", to, tp)}
	switch {
	case !slices.Contains(now.Replicas, to):
		return nil, &failure{fmt.Sprintf("node %d has no replica of %s, its replicas are on %s",
			to, tp, ids(now.Replicas)),
			fmt.Sprintf("give it one with \"troupe partition reassign %s --replicas\"", tp), nil}
	case now.moving():
		return nil, &failure{fmt.Sprintf("%s is on its way to other replicas", tp),
			"wait until that is done, or take it back with \"troupe partition reassign --cancel\"", nil}
	case !slices.Contains(now.ISR, to):
		return nil, &failure{fmt.Sprintf("node %d is not in sync with %s, in sync are %s",
			to, tp, ids(now.ISR)), "wait until it has caught up", nil}
	case now.Leader == to && now.Replicas[0] == to:
		r.Result, r.text = resultUnneeded, fmt.Sprintf("node %d leads %s already", to, tp)
		return r, nil
	}
	if now.Replicas[0] != to {
		first := append([]int32{to}, slices.DeleteFunc(slices.Clone(now.Replicas),
			func(n int32) bool { return n == to })...)
		var moves kadm.AlterPartitionAssignmentsReq
		moves.Assign(tp.topic, tp.partition, first)
		answers, err := adm.AlterPartitionAssignments(ctx, moves)
		if err != nil {
			return nil, err
		}
		if a := answers[tp.topic][tp.partition]; a.Err != nil {
			return nil, refusal(tp.String(), a.Err, &a.ErrMessage)
		}
	}
	var set kadm.TopicsSet
	set.Add(tp.topic, tp.partition)
	answers, err := adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, set)
	if err != nil {
		return nil, err
	}
	a := answers[tp.topic][tp.partition]
	if a.Err != nil && !errors.Is(a.Err, kerr.ElectionNotNeeded) {
		return nil, electionError(tp, a.Err, a.ErrMessage)
	}
	return r, g.poll(ctx, func(ctx context.Context) (bool, error) {
		now, err := onePartition(ctx, cl, adm, tp)
		return err == nil && now.Leader == to, err
	})
}

func onePartition(
	ctx context.Context, cl *kgo.Client, adm *kadm.Client, tp topicPartition,
) (*partitionState, error) {
	chosen, _, err := partitionsOf(ctx, cl, adm, []topicPartition{tp})
	if err != nil {
		return nil, err
	}
	return &chosen[0], nil
}
