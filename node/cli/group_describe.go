package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func newGroupDescribe(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe NAME...",
		Short: "Show the members of groups and where they are",
		Long: `Describe shows the state of groups, their members with what each reads, and for every
partition the offset committed, the end of the partition, and the lag between them.`,
		Example: `  troupe group describe billing
  troupe group describe billing -o json | jq .[].members`,
		Args: need(0, "the NAME of a group"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				groups, err := groupStates(ctx, adm, names)
				if err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), groups, func(w io.Writer) error {
					for i := range groups {
						if i > 0 {
							fmt.Fprintln(w)
						}
						if err := groups[i].write(w); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
		ValidArgsFunction: g.groupNames(0),
	}
	return cmd
}

func (s *groupState) write(w io.Writer) error {
	assignor := ""
	if s.Assignor != "" {
		assignor = ", assignor " + printable(s.Assignor)
	}
	if _, err := fmt.Fprintf(w, "%s: %s, %s%s, coordinator is node %d, %s, lag %s\n",
		printable(s.Group), s.State, s.Type, assignor, s.Coordinator,
		plural(int64(len(s.Members)), "member"), count(s.Lag)); err != nil {
		return err
	}
	if len(s.Members) > 0 {
		t := newTable("MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS")
		for i := range s.Members {
			m := &s.Members[i]
			t.add(m.MemberID, m.InstanceID, m.ClientID, m.Host, partitionsText(m.Assigned))
		}
		fmt.Fprintln(w)
		if err := t.withoutEmpty("INSTANCE").write(w); err != nil {
			return err
		}
	}
	if len(s.Offsets) == 0 {
		return nil
	}
	t := newTable("TOPIC", ">PARTITION", ">COMMITTED", ">END", ">LAG", "CLIENT")
	for i := range s.Offsets {
		o := &s.Offsets[i]
		t.add(o.Topic, strconv.Itoa(int(o.Partition)), offsetText(o.Committed), offsetText(o.End),
			offsetText(o.Lag), o.ClientID)
	}
	fmt.Fprintln(w)
	return t.withoutEmpty("CLIENT").write(w)
}

// groupLag is a row of "group lag".
type groupLag struct {
	Group      string        `json:"group"`
	State      string        `json:"state"`
	Members    int           `json:"members"`
	Lag        int64         `json:"lag"`
	Partitions []groupOffset `json:"partitions"`
}

func newGroupLag(g *globals) *cobra.Command {
	var total bool
	cmd := &cobra.Command{
		Use:   "lag [NAME...]",
		Short: "Show how far groups are behind",
		Long: `Lag shows how many offsets groups have yet to read: in every partition of the groups
named, or of all groups; with --total only the sum of each group. Where a group
committed nothing, all there is counts.`,
		Example: `  troupe group lag billing
  troupe group lag --total`,
		RunE: func(cmd *cobra.Command, names []string) error {
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				lags, err := groupLags(ctx, cl, adm, names)
				if err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), lags, func(w io.Writer) error {
					return lagTable(lags, total).write(w)
				})
			})
		},
		ValidArgsFunction: g.groupNames(0),
	}
	cmd.Flags().BoolVar(&total, "total", false,
		"only the sum of each group (JSON and YAML have both)")
	return cmd
}

func groupLags(
	ctx context.Context, cl *kgo.Client, adm *kadm.Client, names []string,
) ([]groupLag, error) {
	if len(names) == 0 {
		all, err := listGroups(ctx, cl)
		if err != nil {
			return nil, err
		}
		for _, l := range all {
			if l.Type == typeClassic || l.Type == typeConsumer {
				names = append(names, l.Group)
			}
		}
	}
	lags := []groupLag{}
	if len(names) == 0 {
		return lags, nil
	}
	groups, err := groupStates(ctx, adm, names)
	for i := range groups {
		s := &groups[i]
		lags = append(lags, groupLag{s.Group, s.State, len(s.Members), s.Lag, s.Offsets})
	}
	return lags, err
}

func lagTable(lags []groupLag, total bool) *table {
	if total {
		t := newTable("GROUP", "STATE", ">MEMBERS", ">PARTITIONS", ">LAG")
		for _, l := range lags {
			t.add(l.Group, l.State, strconv.Itoa(l.Members), strconv.Itoa(len(l.Partitions)),
				numberOf(l.Lag))
		}
		return t
	}
	t := newTable("GROUP", "TOPIC", ">PARTITION", ">COMMITTED", ">END", ">LAG", "CLIENT")
	for _, l := range lags {
		for i := range l.Partitions {
			o := &l.Partitions[i]
			t.add(l.Group, o.Topic, strconv.Itoa(int(o.Partition)), offsetText(o.Committed),
				offsetText(o.End), offsetText(o.Lag), o.ClientID)
		}
	}
	return t.withoutEmpty("CLIENT")
}
