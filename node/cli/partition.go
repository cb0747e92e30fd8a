package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func newPartition(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "partition",
		Short: "List partitions, move their replicas, and choose their leaders",
		Example: `  troupe partition list --under-replicated
  troupe partition reassign orders:0 --replicas 1,2,3 --wait
  troupe partition elect orders
  troupe partition transfer orders:0 --to 2`,
	}
	cmd.AddCommand(newPartitionList(g), newPartitionReassign(g), newPartitionElect(g),
		newPartitionTransfer(g))
	return group(cmd)
}

// pollEvery is how often a command that waits looks again.
const pollEvery = 500 * time.Millisecond

// poll calls done every pollEvery until it says so; each call has the timeout of
// one command.
func (g *globals) poll(
	ctx context.Context, done func(ctx context.Context) (bool, error),
) error {
	for {
		once, cancel := context.WithTimeout(ctx, g.timeout)
		finished, err := done(once)
		cancel()
		if finished || err != nil {
			return err
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// topicPartition names one partition, or with partition -1 all of a topic.
type topicPartition struct {
	topic     string
	partition int32
}

func (tp topicPartition) String() string {
	return tp.topic + ":" + strconv.Itoa(int(tp.partition))
}

// topicPartitions reads arguments TOPIC or TOPIC:PARTITION. No topic's name has
// a colon.
func topicPartitions(args []string) ([]topicPartition, error) {
	var out []topicPartition
	for _, arg := range args {
		topic, number, one := strings.Cut(arg, ":")
		tp := topicPartition{topic, -1}
		if one {
			n, err := strconv.ParseInt(number, 10, 32)
			if err != nil || n < 0 {
				return nil, &usageError{fmt.Sprintf("%q is no TOPIC:PARTITION", arg),
					"write it like orders:0"}
			}
			tp.partition = int32(n)
		}
		if topic == "" {
			return nil, &usageError{fmt.Sprintf("%q names no topic", arg), "write it like orders:0"}
		}
		out = append(out, tp)
	}
	return out, nil
}

// choose returns the partitions named, each once, in the order of all.
func choose(all []partitionState, named []topicPartition) ([]partitionState, error) {
	missing := make(map[topicPartition]bool, len(named))
	for _, n := range named {
		missing[n] = true
	}
	wanted := maps.Clone(missing)
	var chosen []partitionState
	for i := range all {
		whole, one := topicPartition{all[i].Topic, -1}, all[i].name()
		if wanted[whole] || wanted[one] {
			chosen = append(chosen, all[i])
			delete(missing, whole)
			delete(missing, one)
		}
	}
	for n := range missing {
		return nil, &failure{fmt.Sprintf("topic %q has no partition %d", n.topic, n.partition),
			fmt.Sprintf("see \"troupe topic describe %s\"", n.topic), nil}
	}
	return chosen, nil
}

// partitionsOf returns the state of the partitions named.
func partitionsOf(
	ctx context.Context, cl *kgo.Client, adm *kadm.Client, named []topicPartition,
) ([]partitionState, kadm.Metadata, error) {
	var topics []string
	for _, n := range named {
		topics = append(topics, n.topic)
	}
	slices.Sort(topics)
	meta, err := adm.Metadata(ctx, slices.Compact(topics)...)
	if err != nil {
		return nil, meta, err
	}
	all, err := clusterPartitions(ctx, cl, meta, topics...)
	if err != nil {
		return nil, meta, err
	}
	chosen, err := choose(all, named)
	return chosen, meta, err
}

// partitionResult is what became of one partition of reassign, elect or transfer.
type partitionResult struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Leader    *int32  `json:"leader,omitempty"`
	From      []int32 `json:"from,omitempty"` // replicas before
	To        []int32 `json:"to,omitempty"`   // replicas to be
	Result    string  `json:"result"`
	Error     string  `json:"error,omitempty"`

	text string // what people read
	err  error
}

func (r *partitionResult) name() topicPartition { return topicPartition{r.Topic, r.Partition} }

func (r *partitionResult) fail(err error) {
	r.err, r.Result, r.Error = err, resultFailed, oneLine(err.Error())
}

// tell prints the results and returns the first error among them.
func (g *globals) tell(w io.Writer, results []partitionResult) error {
	var first error
	failed := 0
	for i := range results {
		if results[i].err == nil {
			continue
		}
		if failed++; first == nil {
			first = results[i].err
		}
	}
	printErr := g.print(w, results, func(w io.Writer) error {
		for i := range results {
			if results[i].err != nil {
				continue
			}
			if _, err := fmt.Fprintln(w, printable(results[i].text)); err != nil {
				return err
			}
		}
		return nil
	})
	if failed > 1 {
		first = fmt.Errorf("%d of %d partitions failed, the first: %w", failed, len(results), first)
	}
	return errors.Join(first, printErr)
}

// partitionNames completes names of topics, for TOPIC and TOPIC:PARTITION.
func (g *globals) partitionNames(most int) completer {
	names := g.topicNames(most)
	return func(cmd *cobra.Command, args []string, start string,
	) ([]string, cobra.ShellCompDirective) {
		found, how := names(cmd, args, start)
		return found, how | cobra.ShellCompDirectiveNoSpace
	}
}

type partitionListOptions struct {
	topics          []string
	underReplicated bool
	underMinISR     bool
	offline         bool
	reassigning     bool
}

func newPartitionList(g *globals) *cobra.Command {
	var o partitionListOptions
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List partitions with their replicas and state",
		Long: `List shows where partitions are and what is wrong with them. The flags choose
states; a partition in any of the states chosen is listed.`,
		Example: `  troupe partition list
  troupe partition list --under-replicated
  troupe partition list --topic orders --topic returns -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				meta, err := adm.Metadata(ctx, o.topics...)
				if err != nil {
					return err
				}
				all, err := clusterPartitions(ctx, cl, meta, o.topics...)
				if err != nil {
					return err
				}
				listed := slices.DeleteFunc(all, func(p partitionState) bool { return !o.wants(&p) })
				return g.print(cmd.OutOrStdout(), listed, func(w io.Writer) error {
					return stateTable(listed).write(w)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.topics, "topic", "t", nil, "only of this topic; may be repeated")
	f.BoolVar(&o.underReplicated, "under-replicated", false, "only with replicas out of sync")
	f.BoolVar(&o.underMinISR, "under-min-isr", false, "only those that refuse acks=all")
	f.BoolVar(&o.offline, "offline", false, "only those without a leader")
	f.BoolVar(&o.reassigning, "reassigning", false, "only those on the way to other replicas")
	must(cmd.RegisterFlagCompletionFunc("topic", g.topicNames(0)))
	return cmd
}

// wants reports whether the flags choose the partition.
func (o *partitionListOptions) wants(p *partitionState) bool {
	if !o.underReplicated && !o.underMinISR && !o.offline && !o.reassigning {
		return true
	}
	return o.underReplicated && p.is(stateUnderReplicated) ||
		o.underMinISR && p.is(stateUnderMinISR) ||
		o.offline && (p.is(stateOffline) || p.is(stateLeaderless)) ||
		o.reassigning && p.is(stateReassigning)
}

func stateTable(partitions []partitionState) *table {
	t := newTable("TOPIC", ">PARTITION", ">LEADER", "REPLICAS", "ISR", "ADDING", "REMOVING", "STATE")
	for i := range partitions {
		p := &partitions[i]
		leader := "none"
		if p.Leader >= 0 {
			leader = strconv.Itoa(int(p.Leader))
		}
		state := strings.Join(p.State, ", ")
		if state == "" {
			state = "ok"
		}
		adding, removing := "", ""
		if p.moving() {
			adding, removing = ids(p.Adding), ids(p.Removing)
		}
		t.add(p.Topic, strconv.Itoa(int(p.Partition)), leader, ids(p.Replicas), ids(p.ISR),
			adding, removing, state)
	}
	return t.withoutEmpty("ADDING").withoutEmpty("REMOVING")
}
