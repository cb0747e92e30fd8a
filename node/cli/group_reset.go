package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

type resetOptions struct {
	to        string
	shift     int64
	allTopics bool
	dryRun    bool

	shifts bool   // --shift was given
	place  origin // --to, read
}

// offsetResult is what became of one partition of "group reset".
type offsetResult struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      *int64 `json:"from"` // null: nothing was committed
	To        int64  `json:"to"`
	Lag       int64  `json:"lag"` // after it
	Result    string `json:"result"`
	Error     string `json:"error,omitempty"`

	err error
}

func (r *offsetResult) name() topicPartition { return topicPartition{r.Topic, r.Partition} }

func newGroupReset(g *globals) *cobra.Command {
	var o resetOptions
	cmd := &cobra.Command{
		Use:   "reset NAME [TOPIC[:PARTITION]...]",
		Short: "Set where a group goes on",
		Long: `Reset commits other offsets for a group: in the topics or partitions named, or with
--all-topics in every partition the group has committed. A group that has members is
refused, as they would not notice: stop them first.

--to says where the group goes on in each partition:
  start, end            the first record; after the last
  1234                  an offset
  -100                  100 records before the end
  2026-03-01T09:00:00Z  a time (RFC 3339), or local: 2026-03-01 09:00, 2026-03-01
  @1772355600000        milliseconds since the Unix epoch
  10m, 7d, "10m ago"    so long before now
A time means the first record of that time or later.

--shift moves what was committed by so many offsets, back if negative, but not past
the first or the last record.`,
		Example: `  troupe group reset billing orders --to start --dry-run
  troupe group reset billing orders:0 orders:1 --to "2026-03-01T09:00:00Z"
  troupe group reset billing --all-topics --to 1h
  troupe group reset billing orders:3 --shift 1`,
		Args: need(0, "the NAME of a group"),
		RunE: func(cmd *cobra.Command, args []string) error {
			named, err := o.check(cmd, args[1:])
			if err != nil {
				return err
			}
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				results, err := o.reset(ctx, cmd.ErrOrStderr(), adm, args[0], named)
				if err != nil {
					return err
				}
				if o.dryRun {
					fmt.Fprintln(cmd.ErrOrStderr(), "nothing was changed")
				}
				return g.tellOffsets(cmd.OutOrStdout(), results)
			})
		},
		ValidArgsFunction: g.groupThenPartitions,
	}
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "where to go on: start, end, OFFSET, -N or a time")
	f.Int64Var(&o.shift, "shift", 0, "by how many offsets to move, e.g. 1 or -100")
	f.BoolVar(&o.allTopics, "all-topics", false, "every partition the group has committed")
	f.BoolVar(&o.dryRun, "dry-run", false, "only show what would be committed")
	must(cmd.RegisterFlagCompletionFunc("to", words("start", "end")))
	return cmd
}

// groupThenPartitions completes the name of a group, then topics.
func (g *globals) groupThenPartitions(cmd *cobra.Command, args []string, start string,
) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return g.groupNames(1)(cmd, args, start)
	}
	return g.partitionNames(0)(cmd, args[1:], start)
}

// check reads the command line and returns the partitions named.
func (o *resetOptions) check(cmd *cobra.Command, args []string) ([]topicPartition, error) {
	o.shifts = cmd.Flags().Changed("shift")
	to := cmd.Flags().Changed("to")
	switch {
	case to == o.shifts:
		return nil, &usageError{"say once where the group shall go on", "use --to or --shift"}
	case o.allTopics && len(args) > 0:
		return nil, &usageError{"--all-topics and names exclude each other", "use one of them"}
	case !o.allTopics && len(args) == 0:
		return nil, &usageError{"the TOPIC[:PARTITION] is missing", "name topics, or say --all-topics"}
	case to:
		var err error
		if o.place, err = parseOrigin("--to", o.to, time.Now()); err != nil {
			return nil, err
		}
	}
	return topicPartitions(args)
}

// reset finds the new offsets, and commits them unless it is a dry run.
func (o *resetOptions) reset(
	ctx context.Context, notes io.Writer, adm *kadm.Client, name string, named []topicPartition,
) ([]offsetResult, error) {
	if err := refuseLive(ctx, adm, name, o.allTopics || o.shifts); err != nil {
		return nil, err
	}
	committed, err := adm.FetchOffsets(ctx, name)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, groupError(name, err, "")
	}
	chosen, err := o.chosen(ctx, notes, adm, committed, named)
	if err != nil {
		return nil, err
	}
	results := []offsetResult{}
	for _, topic := range slices.Sorted(maps.Keys(chosen)) {
		found, err := spans(ctx, adm, topic, consumeOptions{partitions: chosen[topic]}, o.place)
		if err != nil {
			return nil, err
		}
		for _, p := range slices.Sorted(maps.Keys(found)) {
			r := offsetResult{Group: name, Topic: topic, Partition: p, To: found[p].next,
				Result: resultReset}
			if c, ok := committed.Lookup(topic, p); ok && c.At >= 0 {
				r.From = &c.At
			}
			if err := o.shiftTo(&r, found[p]); err != nil {
				return nil, err
			}
			r.Lag = found[p].end - r.To
			results = append(results, r)
		}
	}
	if o.dryRun {
		for i := range results {
			results[i].Result = resultValid
		}
		return results, nil
	}
	return results, commitOffsets(ctx, adm, name, results)
}

// shiftTo applies --shift to what was committed, within the partition.
func (o *resetOptions) shiftTo(r *offsetResult, all span) error {
	switch {
	case !o.shifts:
		return nil
	case r.From == nil:
		return &failure{fmt.Sprintf("group %q has committed nothing in %s, so that cannot be shifted",
			r.Group, r.name()), "say where to go on with --to", nil}
	}
	// What was committed lies in the partition or is brought there first, so that
	// the sum cannot overflow: the shift is bounded by the partition's length.
	from := min(max(*r.From, all.next), all.end)
	r.To = from + min(max(o.shift, all.next-from), all.end-from)
	return nil
}

// refuseLive fails if the group has members, or if it must exist and does not.
func refuseLive(ctx context.Context, adm *kadm.Client, name string, mustExist bool) error {
	groups, err := describedGroups(ctx, adm, []string{name})
	switch {
	case errors.Is(err, kerr.GroupIDNotFound) && !mustExist:
		return nil // the offsets make it
	case err != nil:
		return err
	case len(groups[0].Members) > 0:
		return &failure{fmt.Sprintf("group %q is %s with %s, which would not notice", name,
			groups[0].State, plural(int64(len(groups[0].Members)), "member")),
			fmt.Sprintf("stop them first; \"troupe group describe %s\" shows who they are", name),
			kerr.NonEmptyGroup}
	}
	return nil
}

// chosen returns the partitions to reset by topic; none of a topic means all.
func (o *resetOptions) chosen(
	ctx context.Context, notes io.Writer, adm *kadm.Client, committed kadm.OffsetResponses,
	named []topicPartition,
) (map[string][]int32, error) {
	out := map[string][]int32{}
	if !o.allTopics {
		whole := map[string]bool{}
		for _, n := range named {
			out[n.topic] = append(out[n.topic], n.partition)
			whole[n.topic] = whole[n.topic] || n.partition < 0
		}
		for topic := range out {
			slices.Sort(out[topic])
			if out[topic] = slices.Compact(out[topic]); whole[topic] {
				out[topic] = nil
			}
		}
		return out, nil
	}
	committed.Each(func(c kadm.OffsetResponse) {
		if c.At >= 0 {
			out[c.Topic] = append(out[c.Topic], c.Partition)
		}
	})
	if len(out) == 0 {
		return out, nil
	}
	details, err := adm.ListTopicsWithInternal(ctx, slices.Sorted(maps.Keys(out))...)
	if err != nil {
		return nil, err
	}
	for _, topic := range slices.Sorted(maps.Keys(out)) {
		if details[topic].Err != nil {
			fmt.Fprintf(notes, "left out topic %s, which is gone\n", printable(topic))
			delete(out, topic)
		}
	}
	return out, nil
}

// commitOffsets commits the results, and notes what was refused.
func commitOffsets(
	ctx context.Context, adm *kadm.Client, name string, results []offsetResult,
) error {
	if len(results) == 0 {
		return nil
	}
	var offsets kadm.Offsets
	for _, r := range results {
		offsets.AddOffset(r.Topic, r.Partition, r.To, -1)
	}
	answers, err := adm.CommitOffsets(ctx, name, offsets)
	if err != nil {
		return groupError(name, err, "")
	}
	for i := range results {
		r := &results[i]
		a, ok := answers.Lookup(r.Topic, r.Partition)
		if r.err = commitError(name, r.name(), a.Err); !ok {
			r.err = fmt.Errorf("%s: %w", r.name(), errNoAnswer)
		}
		if r.err != nil {
			r.Result, r.Error = resultFailed, oneLine(r.err.Error())
		}
	}
	return nil
}

// tellOffsets prints the results and returns the first error among them.
func (g *globals) tellOffsets(w io.Writer, results []offsetResult) error {
	var first error
	failed := 0
	t := newTable("TOPIC", ">PARTITION", ">FROM", ">TO", ">LAG")
	for _, r := range results {
		if r.err != nil {
			first = firstError(first, r.err)
			failed++
			continue
		}
		t.add(r.Topic, strconv.Itoa(int(r.Partition)), offsetText(r.From), numberOf(r.To),
			numberOf(r.Lag))
	}
	printErr := g.print(w, results, t.write)
	if failed > 1 {
		first = fmt.Errorf("%d of %d partitions failed, the first: %w", failed, len(results), first)
	}
	return errors.Join(first, printErr)
}
