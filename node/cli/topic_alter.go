package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/term"

	"github.com/troupelog/troupe/messages/configs"
)

type alterOptions struct {
	partitions int
	set        []string
	unset      []string
	dryRun     bool
}

func newTopicAlter(g *globals) *cobra.Command {
	var o alterOptions
	cmd := &cobra.Command{
		Use:   "alter NAME",
		Short: "Add partitions to a topic or change its settings",
		Long: `Alter adds partitions, sets settings and puts settings back to their default.
Partitions can be added but never removed, and records with a key may then go to
another partition than before. Settings not named stay as they are.`,
		Example: `  troupe topic alter orders --partitions 12
  troupe topic alter orders --set retention.ms=604800000 --set cleanup.policy=delete
  troupe topic alter orders --delete retention.ms`,
		Args: need(1, "the NAME of a topic"),
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := o.check(cmd)
			if err != nil {
				return err
			}
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				result := topicResult{Name: args[0], Result: resultAltered}
				if o.dryRun {
					result.Result = resultValid
				}
				if err := alterTopic(ctx, adm, args[0], o, changes); err != nil {
					return err
				}
				return g.report(cmd.OutOrStdout(), []topicResult{result}, nil)
			})
		},
		ValidArgsFunction: g.topicNames(1),
	}
	f := cmd.Flags()
	f.IntVarP(&o.partitions, "partitions", "p", 0, "how many partitions there shall be in all")
	f.StringArrayVar(&o.set, "set", nil, "a topic setting, KEY=VALUE; may be repeated")
	f.StringArrayVar(&o.unset, "delete", nil, "a topic setting to put back to its default")
	f.BoolVar(&o.dryRun, "dry-run", false, "only ask whether it would work")
	f.SetNormalizeFunc(alias("config", "set"))
	must(cmd.RegisterFlagCompletionFunc("set", settings(configs.Topics)))
	return cmd
}

// check refuses impossible values and returns the changes of settings, sorted.
func (o *alterOptions) check(cmd *cobra.Command) ([]kadm.AlterConfig, error) {
	if cmd.Flags().Changed("partitions") && o.partitions < 1 {
		return nil, &usageError{fmt.Sprintf("--partitions %d is not possible", o.partitions),
			"give how many there shall be in all"}
	}
	set, err := keyValues("--set", o.set)
	if err != nil {
		return nil, err
	}
	var changes []kadm.AlterConfig
	for key, value := range set {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: value})
	}
	for _, key := range o.unset {
		if _, both := set[key]; both {
			return nil, &usageError{fmt.Sprintf("%q is both set and deleted", key), "choose one"}
		}
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: key})
	}
	if len(changes) == 0 && o.partitions == 0 {
		return nil, &usageError{"nothing to change", "use --partitions, --set or --delete"}
	}
	slices.SortFunc(changes, func(a, b kadm.AlterConfig) int {
		return strings.Compare(a.Name, b.Name)
	})
	return changes, nil
}

// alterTopic changes the settings, then adds partitions: a refused setting
// leaves the topic as it was, and added partitions cannot be taken back.
func alterTopic(
	ctx context.Context, adm *kadm.Client, name string, o alterOptions, changes []kadm.AlterConfig,
) error {
	alter, grow := adm.AlterTopicConfigs, adm.UpdatePartitions
	if o.dryRun {
		alter, grow = adm.ValidateAlterTopicConfigs, adm.ValidateUpdatePartitions
	}
	if len(changes) > 0 {
		resps, err := alter(ctx, changes, name)
		if err != nil {
			return err
		}
		for _, r := range resps {
			if r.Err != nil {
				return topicError(name, r.Err, r.ErrMessage)
			}
		}
	}
	if o.partitions == 0 {
		return nil
	}
	resps, err := grow(ctx, o.partitions, name)
	if err != nil {
		return err
	}
	for _, r := range resps {
		if r.Err != nil {
			return topicError(name, r.Err, r.ErrMessage)
		}
	}
	return nil
}

func newTopicDelete(g *globals) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete NAME...",
		Aliases: []string{"rm"},
		Short:   "Delete topics and all their records",
		Long: `Delete removes topics and all their records, for good. On a terminal it asks
first, unless told --yes; a script is not asked.`,
		Example: `  troupe topic delete orders
  troupe topic delete orders returns --yes`,
		Args: need(0, "the NAME of a topic"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if !yes && isTerminal(cmd.InOrStdin()) {
				if err := confirm(cmd, names); err != nil {
					return err
				}
			}
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				results, errs, err := deleteTopics(ctx, adm, names)
				if err != nil {
					return err
				}
				return g.report(cmd.OutOrStdout(), results, errs)
			})
		},
		ValidArgsFunction: g.topicNames(0),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func deleteTopics(
	ctx context.Context, adm *kadm.Client, names []string,
) ([]topicResult, []error, error) {
	resps, err := adm.DeleteTopics(ctx, names...)
	if err != nil {
		return nil, nil, err
	}
	results := make([]topicResult, len(names))
	errs := make([]error, len(names))
	for i, name := range names {
		results[i] = topicResult{Name: name, Result: resultDeleted}
		r, ok := resps[name]
		if !ok {
			errs[i] = fmt.Errorf("the broker did not answer about topic %q", name)
			continue
		}
		errs[i] = topicError(name, r.Err, r.ErrMessage)
	}
	return results, errs, nil
}

// confirm asks on the terminal whether to go on.
func confirm(cmd *cobra.Command, names []string) error {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = printable(name)
	}
	return ask(cmd, fmt.Sprintf("Delete %s and all records in it?", strings.Join(quoted, ", ")),
		"nothing was deleted")
}

// isTerminal reports whether s, a stream of the process, is a terminal.
func isTerminal(s any) bool {
	f, ok := s.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
