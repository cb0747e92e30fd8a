package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func newGroup(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List consumer groups, show their lag, reset their offsets, and delete them",
		Example: `  troupe group list
  troupe group describe billing
  troupe group lag
  troupe group reset billing orders --to start --dry-run
  troupe group delete billing`,
	}
	cmd.AddCommand(newGroupList(g), newGroupDescribe(g), newGroupLag(g), newGroupReset(g),
		newGroupDelete(g))
	return group(cmd)
}

// Types of groups that have committed offsets.
const (
	typeClassic  = "classic"
	typeConsumer = "consumer" // of KIP-848
)

// What --state and --type of "group list" may name, those of Kafka's other types of
// groups among them.
var (
	stateWords = []string{"stable", "empty", "dead", "preparingrebalance",
		"completingrebalance", "assigning", "reconciling", "notready"}
	typeWords = []string{typeClassic, typeConsumer, "share", "streams"}
)

// Values of groupResult.Result and offsetResult.Result, besides those of topics.
const resultReset = "reset"

// listedGroup is a row of "group list".
type listedGroup struct {
	Group        string `json:"group"`
	Type         string `json:"type"`
	State        string `json:"state"`
	ProtocolType string `json:"protocolType"`
	Coordinator  int32  `json:"coordinator"`
}

type groupListOptions struct {
	states, types []string
	pattern       string
}

func newGroupList(g *globals) *cobra.Command {
	var o groupListOptions
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List groups",
		Example: `  troupe group list
  troupe group list --state empty
  troupe group list --regex '^billing' -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keep, err := regexp.Compile(o.pattern)
			if err != nil {
				return &usageError{fmt.Sprintf("--regex: %v", err), "use Go's (RE2) syntax"}
			}
			if err := cmp.Or(known("--state", o.states, stateWords),
				known("--type", o.types, typeWords)); err != nil {
				return err
			}
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, _ *kadm.Client) error {
				groups, err := listGroups(ctx, cl)
				groups = slices.DeleteFunc(groups, func(l listedGroup) bool {
					return !oneOf(l.State, o.states) || !oneOf(l.Type, o.types) ||
						!keep.MatchString(l.Group)
				})
				if err != nil && len(groups) == 0 {
					return err
				}
				return errors.Join(err, g.print(cmd.OutOrStdout(), groups, func(w io.Writer) error {
					t := newTable("GROUP", "STATE", "TYPE", "PROTOCOL", ">COORDINATOR")
					for _, l := range groups {
						t.add(l.Group, orDash(l.State), l.Type, orDash(l.ProtocolType),
							strconv.Itoa(int(l.Coordinator)))
					}
					return t.write(w)
				}))
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.states, "state", nil, "only in these states, e.g. stable,empty")
	f.StringSliceVar(&o.types, "type", nil, "only of these types, e.g. classic,consumer")
	f.StringVar(&o.pattern, "regex", "", "only groups whose name matches")
	must(cmd.RegisterFlagCompletionFunc("state", words(stateWords...)))
	must(cmd.RegisterFlagCompletionFunc("type", words(typeWords...)))
	return cmd
}

// oneOf reports whether s is among the words, in any case; no words allow all.
func oneOf(s string, words []string) bool {
	return len(words) == 0 ||
		slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, s) })
}

// known refuses what is not among the words of a flag, in any case: a typo would
// otherwise choose nothing, and look as if there were nothing.
func known(flag string, given, words []string) error {
	for _, s := range given {
		if !oneOf(s, words) {
			return &usageError{fmt.Sprintf("%s %q is not known", flag, s),
				"use " + strings.Join(words, ", ")}
		}
	}
	return nil
}

// listGroups asks every broker for the groups it coordinates, and returns them
// sorted by name, never nil. When a broker does not answer, or not for all of its
// groups, the others come with the error.
func listGroups(ctx context.Context, cl *kgo.Client) ([]listedGroup, error) {
	out := []listedGroup{}
	var errs error
	for _, s := range cl.RequestSharded(ctx, kmsg.NewPtrListGroupsRequest()) {
		resp, ok := s.Resp.(*kmsg.ListGroupsResponse)
		if !ok || resp == nil {
			errs = firstError(errs, s.Err)
			continue
		}
		// One that is still loading some of them tells the others with the error.
		errs = firstError(errs, firstError(s.Err, kerr.ErrorForCode(resp.ErrorCode)))
		for i := range resp.Groups {
			r := &resp.Groups[i]
			l := listedGroup{Group: r.Group, Type: strings.ToLower(r.GroupType), State: r.GroupState,
				ProtocolType: r.ProtocolType, Coordinator: s.Meta.NodeID}
			if l.Type == "" {
				l.Type = typeClassic // of a cluster older than the other types
			}
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b listedGroup) int { return strings.Compare(a.Group, b.Group) })
	return out, errs
}

// firstError returns the first error: of brokers that fail alike, one says it.
func firstError(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

// groupError is what a broker's error about a group means to the user.
func groupError(name string, err error, said string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.GroupIDNotFound):
		return noGroup(name, err)
	case errors.Is(err, kerr.NonEmptyGroup), errors.Is(err, kerr.UnknownMemberID):
		return &failure{fmt.Sprintf("group %q has members", name),
			fmt.Sprintf("stop them first; \"troupe group describe %s\" shows who they are", name), err}
	case errors.Is(err, kerr.InvalidGroupID):
		return &failure{fmt.Sprintf("%q is no name of a group", name),
			"name one of a letter at least", err}
	case isKafka(err):
		return fmt.Errorf("group %q: %w", name, &told{kafkaText(err, said), err})
	}
	return err
}

func noGroup(name string, err error) error {
	return &failure{fmt.Sprintf("the cluster has no group %q", name),
		"see \"troupe group list\"", err}
}

// groupNames completes names of groups; see names.
func (g *globals) groupNames(most int) completer {
	return g.names(most, func(ctx context.Context, adm *kadm.Client) ([]string, error) {
		groups, err := adm.ListGroups(ctx)
		return groups.Groups(), err
	})
}

// groupResult is what became of one group of delete.
type groupResult struct {
	Group  string `json:"group"`
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
}

func newGroupDelete(g *globals) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete NAME...",
		Aliases: []string{"rm"},
		Short:   "Delete groups and the offsets they committed",
		Long: `Delete removes groups with all the offsets they committed. A group that has members
is not deleted: stop them first. On a terminal it asks first, unless told --yes; a
script is not asked.`,
		Example: `  troupe group delete billing
  troupe group delete billing shipping --yes`,
		Args: need(0, "the NAME of a group"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if !yes && isTerminal(cmd.InOrStdin()) {
				quoted := printable(strings.Join(names, ", "))
				err := ask(cmd, fmt.Sprintf("Delete %s and the offsets committed?", quoted),
					"nothing was deleted")
				if err != nil {
					return err
				}
			}
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				return g.deleteGroups(ctx, cmd.OutOrStdout(), adm, names)
			})
		},
		ValidArgsFunction: g.groupNames(0),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (g *globals) deleteGroups(
	ctx context.Context, w io.Writer, adm *kadm.Client, names []string,
) error {
	var answers kadm.DeleteGroupResponses
	err := awaitCoordinator(ctx, adm, func() (err error) {
		answers, err = adm.DeleteGroups(ctx, names...)
		return err
	})
	if err != nil && len(answers) == 0 {
		return err
	}
	results := make([]groupResult, len(names))
	var first error
	failed := 0
	for i, name := range names {
		results[i] = groupResult{Group: name, Result: resultDeleted}
		a, ok := answers[name]
		bad := groupError(name, a.Err, a.ErrMessage)
		if !ok {
			bad = fmt.Errorf("group %q: %w", name, firstError(err, errNoAnswer))
		}
		if bad != nil {
			results[i].Result, results[i].Error = resultFailed, oneLine(bad.Error())
			first = firstError(first, bad)
			failed++
		}
	}
	printErr := g.print(w, results, func(w io.Writer) error {
		for _, r := range results {
			if r.Result == resultFailed {
				continue
			}
			if _, err := fmt.Fprintf(w, "deleted group %q\n", r.Group); err != nil {
				return err
			}
		}
		return nil
	})
	if failed > 1 {
		first = fmt.Errorf("%d of %d groups failed, the first: %w", failed, len(names), first)
	}
	return errors.Join(first, printErr)
}

// errNoAnswer is an answer that leaves out what was asked.
var errNoAnswer = errors.New("the broker did not answer about it")
