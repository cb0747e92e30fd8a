package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/troupelog/troupe/messages/configs"
)

func newTopic(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe, alter and delete topics",
		Example: `  troupe topic create orders --partitions 6 --config retention.ms=86400000
  troupe topic list
  troupe topic describe orders`,
	}
	cmd.AddCommand(newTopicCreate(g), newTopicList(g), newTopicDescribe(g),
		newTopicAlter(g), newTopicDelete(g))
	return group(cmd)
}

// Values of topicResult.Result.
const (
	resultCreated = "created"
	resultExists  = "exists"
	resultValid   = "valid" // a dry run found nothing wrong
	resultAltered = "altered"
	resultDeleted = "deleted"
	resultFailed  = "failed"
)

// topicResult is what became of one topic of create, alter or delete.
type topicResult struct {
	Name              string `json:"name"`
	TopicID           string `json:"topicId,omitempty"`
	Partitions        int32  `json:"partitions,omitempty"`
	ReplicationFactor int16  `json:"replicationFactor,omitempty"`
	Result            string `json:"result"`
	Error             string `json:"error,omitempty"`
}

// report prints results and returns the first error among errs, which has one
// entry per result.
func (g *globals) report(w io.Writer, results []topicResult, errs []error) error {
	var first error
	failed := 0
	for i, err := range errs {
		if err == nil {
			continue
		}
		results[i].Result, results[i].Error = resultFailed, oneLine(err.Error())
		failed++
		if first == nil {
			first = err
		}
	}
	printErr := g.print(w, results, func(w io.Writer) error {
		for _, r := range results {
			if r.Result == resultFailed {
				continue
			}
			if _, err := fmt.Fprintln(w, r.sentence()); err != nil {
				return err
			}
		}
		return nil
	})
	if failed > 1 {
		first = fmt.Errorf("%d of %d topics failed, the first: %w", failed, len(results), first)
	}
	return errors.Join(first, printErr)
}

func (r topicResult) sentence() string {
	shape := ""
	if r.Partitions > 0 {
		shape = fmt.Sprintf(" with %s, replication factor %d",
			plural(int64(r.Partitions), "partition"), r.ReplicationFactor)
	}
	switch r.Result {
	case resultExists:
		return fmt.Sprintf("topic %q exists already", r.Name)
	case resultValid:
		return fmt.Sprintf("topic %q: this would work; nothing was changed", r.Name)
	}
	return fmt.Sprintf("%s topic %q%s", r.Result, r.Name, shape)
}

type createOptions struct {
	partitions  int32
	replication int16
	configs     []string
	ifNotExists bool
	dryRun      bool
}

func newTopicCreate(g *globals) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:   "create NAME...",
		Short: "Create topics",
		Example: `  troupe topic create orders
  troupe topic create orders returns --partitions 6 --replication-factor 3
  troupe topic create users --config cleanup.policy=compact --if-not-exists
  troupe topic create orders --partitions 6 --dry-run`,
		Args: need(0, "the NAME of a topic"),
		RunE: func(cmd *cobra.Command, names []string) error {
			configs, err := o.check(cmd)
			if err != nil {
				return err
			}
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				results, errs, err := createTopics(ctx, adm, names, o, configs)
				if err != nil {
					return err
				}
				return g.report(cmd.OutOrStdout(), results, errs)
			})
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.Int32VarP(&o.partitions, "partitions", "p", 0, "how many partitions (default: the cluster's)")
	f.Int16VarP(&o.replication, "replication-factor", "r", 0,
		"how many copies of each partition (default: the cluster's)")
	f.StringArrayVarP(&o.configs, "config", "c", nil, "a topic setting, KEY=VALUE; may be repeated")
	f.BoolVar(&o.ifNotExists, "if-not-exists", false, "a topic that exists already is no error")
	f.BoolVar(&o.dryRun, "dry-run", false, "only ask whether it would work")
	f.SetNormalizeFunc(alias("set", "config"))
	must(cmd.RegisterFlagCompletionFunc("config", settings(configs.Topics)))
	return cmd
}

// alias lets a flag be called by the name that another command gives it.
func alias(other, name string) func(*pflag.FlagSet, string) pflag.NormalizedName {
	return func(_ *pflag.FlagSet, given string) pflag.NormalizedName {
		if given == other {
			given = name
		}
		return pflag.NormalizedName(given)
	}
}

// check refuses impossible values and returns the settings.
func (o *createOptions) check(cmd *cobra.Command) (map[string]*string, error) {
	if cmd.Flags().Changed("partitions") && o.partitions < 1 {
		return nil, &usageError{fmt.Sprintf("--partitions %d is not possible", o.partitions),
			"a topic has at least 1"}
	}
	if cmd.Flags().Changed("replication-factor") && o.replication < 1 {
		return nil, &usageError{
			fmt.Sprintf("--replication-factor %d is not possible", o.replication),
			"a partition has at least 1 copy"}
	}
	return keyValues("--config", o.configs)
}

// keyValues reads KEY=VALUE pairs given to flag.
func keyValues(flag string, pairs []string) (map[string]*string, error) {
	out := make(map[string]*string, len(pairs))
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, &usageError{fmt.Sprintf("%s %q is not KEY=VALUE", flag, pair),
				"write it like " + flag + " retention.ms=86400000"}
		}
		out[key] = &value
	}
	return out, nil
}

// createTopics asks for all names in one request.
func createTopics(
	ctx context.Context, adm *kadm.Client, names []string, o createOptions,
	configs map[string]*string,
) ([]topicResult, []error, error) {
	partitions, replication := int32(-1), int16(-1) // the cluster's defaults (KIP-464)
	if o.partitions > 0 {
		partitions = o.partitions
	}
	if o.replication > 0 {
		replication = o.replication
	}
	create, done := adm.CreateTopics, resultCreated
	if o.dryRun {
		create, done = adm.ValidateCreateTopics, resultValid
	}
	resps, err := create(ctx, partitions, replication, configs, names...)
	if err != nil {
		return nil, nil, err
	}
	results := make([]topicResult, len(names))
	errs := make([]error, len(names))
	for i, name := range names {
		r, ok := resps[name]
		if !ok {
			errs[i] = fmt.Errorf("the broker did not answer about topic %q", name)
		}
		results[i] = topicResult{Name: name, Result: done,
			Partitions: max(r.NumPartitions, 0), ReplicationFactor: max(r.ReplicationFactor, 0)}
		if r.ID != (kadm.TopicID{}) {
			results[i].TopicID = topicID(r.ID)
		}
		if o.ifNotExists && errors.Is(r.Err, kerr.TopicAlreadyExists) {
			results[i] = topicResult{Name: name, Result: resultExists}
			continue
		}
		if r.Err != nil {
			errs[i] = topicError(name, r.Err, r.ErrMessage)
		}
	}
	return results, errs, nil
}

// listedTopic is a row of "topic list".
type listedTopic struct {
	Name              string `json:"name"`
	TopicID           string `json:"topicId"`
	Partitions        int    `json:"partitions"`
	ReplicationFactor int    `json:"replicationFactor"`
	Internal          bool   `json:"internal"`
}

func newTopicList(g *globals) *cobra.Command {
	var internal bool
	var pattern string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List topics",
		Example: `  troupe topic list
  troupe topic list --regex '^orders\.'
  troupe topic list --internal -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keep, err := regexp.Compile(pattern)
			if err != nil {
				return &usageError{fmt.Sprintf("--regex: %v", err), "use Go's (RE2) syntax"}
			}
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				topics, err := listTopics(ctx, adm, internal, keep)
				if err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), topics, func(w io.Writer) error {
					t := newTable("NAME", ">PARTITIONS", ">REPLICAS", "ID")
					for _, l := range topics {
						t.add(l.Name, strconv.Itoa(l.Partitions), strconv.Itoa(l.ReplicationFactor),
							l.TopicID)
					}
					return t.write(w)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "show the cluster's own topics too")
	cmd.Flags().StringVar(&pattern, "regex", "", "only topics whose name matches")
	return cmd
}

// listTopics returns topics sorted by name, never nil, so that JSON shows [].
func listTopics(
	ctx context.Context, adm *kadm.Client, internal bool, keep *regexp.Regexp,
) ([]listedTopic, error) {
	list := adm.ListTopics
	if internal {
		list = adm.ListTopicsWithInternal
	}
	details, err := list(ctx)
	if err != nil {
		return nil, err
	}
	out := []listedTopic{}
	for _, d := range details.Sorted() {
		if !keep.MatchString(d.Topic) {
			continue
		}
		out = append(out, listedTopic{
			Name:              d.Topic,
			TopicID:           topicID(d.ID),
			Partitions:        len(d.Partitions),
			ReplicationFactor: d.Partitions.NumReplicas(),
			Internal:          d.IsInternal,
		})
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}
