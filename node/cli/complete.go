package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/messages/configs"
)

// completionTimeout is how long a press of the tab key may take: a shell that
// hangs is worse than no names.
const completionTimeout = time.Second

type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// words completes from a fixed list.
func words(list ...string) completer {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
}

// settings completes NAME=VALUE from a table of settings: the name, then what
// the value may be.
func settings(table func() []*configs.Def) completer {
	return func(_ *cobra.Command, _ []string, start string,
	) (found []string, _ cobra.ShellCompDirective) {
		const stay = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		for _, d := range table() {
			values := d.OneOf
			if d.Type == configs.Boolean {
				values = []string{"true", "false"}
			}
			if !strings.HasPrefix(start, d.Name+"=") {
				values = []string{""}
			}
			for _, v := range values {
				if word := d.Name + "=" + v; strings.HasPrefix(word, start) {
					found = append(found, word)
				}
			}
		}
		return found, stay
	}
}

// topicNames completes names of topics; see names.
func (g *globals) topicNames(most int) completer {
	return g.names(most, func(ctx context.Context, adm *kadm.Client) ([]string, error) {
		topics, err := adm.ListTopics(ctx)
		return topics.Names(), err
	})
}

// names completes up to most of the names that list finds in the cluster (0: any
// number), without those already on the line. Errors complete nothing.
func (g *globals) names(
	most int, list func(ctx context.Context, adm *kadm.Client) ([]string, error),
) completer {
	return func(cmd *cobra.Command, args []string, start string,
	) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if most > 0 && len(args) >= most {
			return nil, none
		}
		var found []string
		g.completing(cmd, func(ctx context.Context, adm *kadm.Client) {
			all, err := list(ctx, adm)
			if err != nil {
				return
			}
			found = slices.DeleteFunc(all, func(name string) bool {
				return !strings.HasPrefix(name, start) || slices.Contains(args, name)
			})
			slices.Sort(found)
		})
		return found, none
	}
}

// completing runs f with a client that gives up soon, or not at all.
func (g *globals) completing(cmd *cobra.Command, f func(context.Context, *kadm.Client)) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(splitList(g.brokerList())...),
		kgo.DialTimeout(completionTimeout), kgo.RetryTimeout(completionTimeout))
	if err != nil {
		return
	}
	defer cl.Close()
	f(ctx, kadm.NewClient(cl))
}
