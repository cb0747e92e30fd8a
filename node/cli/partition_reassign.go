package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// planBytesMax bounds a file of reassignments.
const planBytesMax = 64 << 20

type reassignOptions struct {
	replicas string
	file     string
	cancel   bool
	wait     bool
	dryRun   bool
}

// move is a partition and the replicas it shall have; nil takes back what is in
// progress.
type move struct {
	topicPartition
	replicas []int32
}

func newPartitionReassign(g *globals) *cobra.Command {
	var o reassignOptions
	cmd := &cobra.Command{
		Use:   "reassign [TOPIC[:PARTITION]...]",
		Short: "Put the replicas of partitions on other nodes",
		Long: `Reassign gives partitions other replicas. New ones fetch everything first, then the
old ones go; clients go on working. The first replica is the preferred leader.

Partitions come from the command line, with the same --replicas for each, or from
a --file in the format of Kafka's tools:

  {"version": 1, "partitions": [{"topic": "orders", "partition": 0, "replicas": [1, 2, 3]}]}

With --cancel, reassignments in progress are taken back: of the partitions named, or
of all.`,
		Example: `  troupe partition reassign orders:0 --replicas 1,2,3 --wait
  troupe partition reassign --file plan.json --dry-run
  troupe partition reassign --cancel`,
		RunE: func(cmd *cobra.Command, args []string) error {
			named, moves, err := o.check(cmd, args)
			if err != nil {
				return err
			}
			var results []partitionResult
			err = g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				results, err = o.reassign(ctx, cl, adm, named, moves)
				return err
			})
			if err == nil && o.wait && !o.dryRun {
				err = g.awaitReassigned(cmd, results)
			}
			if err != nil {
				return err
			}
			if len(results) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "no partition is on its way to other replicas")
			}
			return g.tell(cmd.OutOrStdout(), results)
		},
		ValidArgsFunction: g.partitionNames(0),
	}
	f := cmd.Flags()
	f.StringVar(&o.replicas, "replicas", "", "ids of the nodes that shall have replicas, N[,N]...")
	f.StringVarP(&o.file, "file", "f", "", "read a plan in the format of Kafka's tools; - is stdin")
	f.BoolVar(&o.cancel, "cancel", false, "take back what is in progress")
	f.BoolVar(&o.wait, "wait", false, "wait until it is done, and say how far it is")
	f.BoolVar(&o.dryRun, "dry-run", false, "only show what would be moved")
	must(cmd.MarkFlagFilename("file", "json"))
	return cmd
}

// check reads the command line: partitions that are all treated alike, or the
// moves of a file.
func (o *reassignOptions) check(
	cmd *cobra.Command, args []string,
) (named []topicPartition, moves []move, err error) {
	if named, err = topicPartitions(args); err != nil {
		return nil, nil, err
	}
	replicas := cmd.Flags().Changed("replicas")
	switch {
	case o.file != "" && (len(args) > 0 || replicas):
		return nil, nil, &usageError{"--file says which partitions go where",
			"leave out the names and --replicas"}
	case o.cancel && replicas:
		return nil, nil, &usageError{"--cancel and --replicas exclude each other", "use one of them"}
	case o.file == "" && !o.cancel && len(args) == 0:
		return nil, nil, &usageError{"the TOPIC[:PARTITION] is missing",
			"name partitions, or a --file"}
	case o.file == "" && !o.cancel && !replicas:
		return nil, nil, &usageError{"the new replicas are missing", "name them with --replicas"}
	case o.file != "":
		moves, err = o.plan(cmd.InOrStdin())
		return nil, moves, err
	case o.cancel:
		return named, nil, nil
	}
	target, err := replicaIDs(o.replicas)
	for _, n := range named {
		moves = append(moves, move{n, target})
	}
	return nil, moves, err
}

func replicaIDs(list string) ([]int32, error) {
	var out []int32
	for _, word := range splitList(list) {
		id, err := strconv.ParseInt(word, 10, 32)
		if err != nil || id < 0 || slices.Contains(out, int32(id)) {
			return nil, &usageError{fmt.Sprintf("--replicas %q is no list of different nodes", list),
				"write it like --replicas 1,2,3"}
		}
		out = append(out, int32(id))
	}
	if len(out) == 0 {
		return nil, &usageError{"--replicas names no node", "write it like --replicas 1,2,3"}
	}
	return out, nil
}

// plan reads a file in the format of kafka-reassign-partitions.
func (o *reassignOptions) plan(stdin io.Reader) ([]move, error) {
	in := stdin
	if o.file != "-" {
		f, err := os.Open(o.file)
		if err != nil {
			return nil, &failure{err.Error(), "check --file", err}
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	var doc struct {
		Version    int `json:"version"`
		Partitions []struct {
			Topic     string  `json:"topic"`
			Partition *int32  `json:"partition"`
			Replicas  []int32 `json:"replicas"`
		} `json:"partitions"`
	}
	bad := func(why string, err error) error {
		return &failure{fmt.Sprintf("%s is no plan: %s", o.file, why),
			`write {"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[1,2]}]}`, err}
	}
	if err := json.NewDecoder(io.LimitReader(in, planBytesMax)).Decode(&doc); err != nil {
		return nil, bad(err.Error(), err)
	}
	if doc.Version != 1 {
		return nil, bad(fmt.Sprintf("its version is %d, not 1", doc.Version), nil)
	}
	seen := map[topicPartition]bool{}
	var moves []move
	for _, p := range doc.Partitions {
		if p.Topic == "" || p.Partition == nil || *p.Partition < 0 ||
			len(p.Replicas) == 0 && !o.cancel {
			return nil, bad("each entry needs a topic, a partition and replicas", nil)
		}
		m := move{topicPartition{p.Topic, *p.Partition}, p.Replicas}
		if seen[m.topicPartition] {
			return nil, bad(m.topicPartition.String()+" stands in it twice", nil)
		}
		seen[m.topicPartition] = true
		if o.cancel {
			m.replicas = nil
		}
		moves = append(moves, m)
	}
	if len(moves) == 0 {
		return nil, bad("it names no partitions", nil)
	}
	return moves, nil
}

// reassign begins the moves, or takes back what is in progress.
func (o *reassignOptions) reassign(
	ctx context.Context, cl *kgo.Client, adm *kadm.Client, named []topicPartition, moves []move,
) ([]partitionResult, error) {
	targets := make(map[topicPartition][]int32, len(moves))
	for _, m := range moves {
		named = append(named, m.topicPartition)
		targets[m.topicPartition] = m.replicas
	}
	now, meta, err := o.concerned(ctx, cl, adm, named)
	if err != nil {
		return nil, err
	}
	results := make([]partitionResult, 0, len(now))
	var req kadm.AlterPartitionAssignmentsReq
	for i := range now {
		p := &now[i]
		tp := p.name()
		r := partitionResult{Topic: p.Topic, Partition: p.Partition, From: p.Replicas,
			Result: resultStarted}
		if o.cancel {
			r.To = slices.DeleteFunc(slices.Clone(p.Replicas),
				func(n int32) bool { return slices.Contains(p.Adding, n) })
			r.Result = resultCancelled
		} else {
			r.To = targets[tp]
			if r.To == nil {
				r.To = targets[topicPartition{p.Topic, -1}]
			}
			for _, id := range r.To {
				if !slices.ContainsFunc(meta.Brokers, func(b kadm.BrokerDetail) bool {
					return b.NodeID == id
				}) {
					return nil, &failure{fmt.Sprintf("%s: node %d is not alive", tp, id),
						"see \"troupe node list\"", nil}
				}
			}
		}
		r.text = o.sentence(&r, tp)
		if o.cancel {
			req.CancelAssign(p.Topic, p.Partition)
		} else {
			req.Assign(p.Topic, p.Partition, r.To)
		}
		if o.dryRun {
			r.Result = resultValid
		}
		results = append(results, r)
	}
	if o.dryRun || len(req) == 0 {
		return results, nil
	}
	return results, begin(ctx, adm, req, results)
}

// concerned returns the partitions named; with --cancel and no names, all that
// are being reassigned.
func (o *reassignOptions) concerned(
	ctx context.Context, cl *kgo.Client, adm *kadm.Client, named []topicPartition,
) ([]partitionState, kadm.Metadata, error) {
	if len(named) > 0 {
		return partitionsOf(ctx, cl, adm, named)
	}
	meta, err := adm.Metadata(ctx)
	if err != nil {
		return nil, meta, err
	}
	all, err := clusterPartitions(ctx, cl, meta)
	return slices.DeleteFunc(all, func(p partitionState) bool { return !p.moving() }), meta, err
}

func (o *reassignOptions) sentence(r *partitionResult, tp topicPartition) string {
	switch {
	case o.cancel && o.dryRun:
		return fmt.Sprintf("%s would go back to %s", tp, ids(r.To))
	case o.cancel:
		return fmt.Sprintf("%s goes back to %s", tp, ids(r.To))
	case o.dryRun:
		return fmt.Sprintf("%s would move from %s to %s", tp, ids(r.From), ids(r.To))
	}
	return fmt.Sprintf("%s moves from %s to %s", tp, ids(r.From), ids(r.To))
}

// begin sends the request and notes what was refused.
func begin(ctx context.Context, adm *kadm.Client, req kadm.AlterPartitionAssignmentsReq,
	results []partitionResult,
) error {
	answers, err := adm.AlterPartitionAssignments(ctx, req)
	if err != nil {
		return err
	}
	for i := range results {
		r := &results[i]
		if r.err != nil {
			continue
		}
		tp := r.name()
		switch a, ok := answers[r.Topic][r.Partition]; {
		case !ok:
			r.fail(fmt.Errorf("the broker did not answer about %s", tp))
		case errors.Is(a.Err, kerr.NoReassignmentInProgress):
			r.Result, r.text = resultUnneeded, fmt.Sprintf("%s is not being reassigned", tp)
		case a.Err != nil:
			r.fail(refusal(tp.String(), a.Err, &a.ErrMessage))
		}
	}
	return nil
}

// settlePolls is how often a partition is looked at that does not move and is not
// where it should be: the broker that answers may be the last to hear of it.
const settlePolls = 10

// awaitReassigned waits until what was begun is done, and checks that it is what
// was asked for: somebody may have taken it back.
func (g *globals) awaitReassigned(cmd *cobra.Command, results []partitionResult) error {
	cl, err := g.adminClient(cmd)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	var named []topicPartition
	for i := range results {
		if results[i].err == nil && results[i].Result != resultUnneeded {
			named = append(named, results[i].name())
		}
	}
	if len(named) == 0 {
		return nil
	}
	last, still := -1, 0
	return g.poll(cmd.Context(), func(ctx context.Context) (bool, error) {
		now, _, err := partitionsOf(ctx, cl, adm, named)
		if err != nil {
			return false, err
		}
		left, astray := underWay(results, now)
		if still++; left > 0 {
			still = 0
		}
		if left != last && left > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s on the way, %d to go\n",
				plural(int64(len(results)), "partition"), left)
		}
		last = left
		if left > 0 || astray > 0 && still < settlePolls {
			return false, nil
		}
		conclude(results, now)
		return true, nil
	})
}

// underWay counts the partitions that move, and those that do not and are not
// where they should be.
func underWay(results []partitionResult, now []partitionState) (left, astray int) {
	states := byName(now)
	for i := range results {
		switch p := states[results[i].name()]; {
		case results[i].err != nil || p == nil:
		case p.moving():
			left++
		case !slices.Equal(p.Replicas, results[i].To):
			astray++
		}
	}
	return left, astray
}

func byName(all []partitionState) map[topicPartition]*partitionState {
	out := make(map[topicPartition]*partitionState, len(all))
	for i := range all {
		out[all[i].name()] = &all[i]
	}
	return out
}

// conclude notes where the partitions ended up.
func conclude(results []partitionResult, now []partitionState) {
	states := byName(now)
	for i := range results {
		r := &results[i]
		p := states[r.name()]
		if r.err != nil || p == nil {
			continue
		}
		if !slices.Equal(p.Replicas, r.To) {
			r.fail(&failure{fmt.Sprintf("%s has its replicas on %s, not on %s", r.name(),
				ids(p.Replicas), ids(r.To)), "somebody moved it meanwhile; try again", nil})
			continue
		}
		if r.Result == resultStarted {
			r.Result = resultDone
		}
		r.text = fmt.Sprintf("%s has its replicas on %s", r.name(), ids(r.To))
	}
}
