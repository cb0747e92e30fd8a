package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func newClusterCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		Short:   "Show how the cluster is",
		Example: `  troupe cluster status`,
	}
	cmd.AddCommand(newClusterStatus(g))
	return group(cmd)
}

// clusterStatus is what "cluster status" prints.
type clusterStatus struct {
	ClusterID  string        `json:"clusterId"`
	Controller int32         `json:"controller"` // -1: none
	Nodes      []nodeState   `json:"nodes"`
	Topics     int           `json:"topics"`
	Partitions int           `json:"partitions"`
	Health     clusterHealth `json:"health"`
}

// clusterHealth counts what is not as it should be.
type clusterHealth struct {
	OK              bool     `json:"ok"`
	DeadNodes       int      `json:"deadNodes"` // or silent
	FailedDisks     int      `json:"failedDisks"`
	FullDisks       int      `json:"fullDisks"`
	Offline         int      `json:"offline"`
	Leaderless      int      `json:"leaderless"`
	UnderMinISR     int      `json:"underMinIsr"`
	UnderReplicated int      `json:"underReplicated"`
	Reassigning     int      `json:"reassigning"`
	NotPreferred    int      `json:"notPreferred"`
	Problems        []string `json:"problems"` // the same in words
}

func newClusterStatus(g *globals) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the nodes, the controller, and what is not well",
		Long: `Status shows every node, alive or not, with its rack, replicas and disks, and says
in words what is not well: partitions that cannot be written or read, replicas
that lag, disks that failed or are full. What is under way and harms nobody, such
as partitions that move, is told but is no problem.`,
		Example: `  troupe cluster status
  troupe cluster status --check && echo all is well
  troupe cluster status -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				s, err := statusOf(ctx, cl, adm)
				if err != nil {
					return err
				}
				if err := g.print(cmd.OutOrStdout(), s, s.write); err != nil {
					return err
				}
				if check && !s.Health.OK {
					return &failure{"the cluster is not well",
						fmt.Sprintf("%s, see above", plural(int64(len(s.Health.Problems)), "problem")), nil}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "fail (exit code 1) when there are problems")
	return cmd
}

func statusOf(ctx context.Context, cl *kgo.Client, adm *kadm.Client) (*clusterStatus, error) {
	meta, err := adm.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	partitions, err := clusterPartitions(ctx, cl, meta)
	if err != nil {
		return nil, err
	}
	nodes, err := clusterNodes(ctx, cl, meta, partitions)
	if err != nil {
		return nil, err
	}
	s := &clusterStatus{ClusterID: meta.Cluster, Controller: meta.Controller,
		Topics: len(meta.Topics), Partitions: len(partitions), Nodes: nodes}
	addDisks(ctx, adm, s.Nodes)
	s.Health = healthOf(s.Nodes, partitions)
	return s, ctx.Err()
}

// diskFullAt is how much of a disk must be free, in percent.
const diskFullAt = 5

func healthOf(nodes []nodeState, partitions []partitionState) clusterHealth {
	var h clusterHealth
	for i := range nodes {
		if !nodes[i].Alive || nodes[i].Silent {
			h.DeadNodes++
		}
		for _, d := range nodes[i].Disks {
			switch {
			case d.Error != "":
				h.FailedDisks++
			case d.TotalBytes > 0 && d.FreeBytes < d.TotalBytes/100*diskFullAt:
				h.FullDisks++
			}
		}
	}
	counts := map[string]*int{stateOffline: &h.Offline, stateLeaderless: &h.Leaderless,
		stateUnderMinISR: &h.UnderMinISR, stateUnderReplicated: &h.UnderReplicated,
		stateReassigning: &h.Reassigning, stateNotPreferred: &h.NotPreferred}
	for i := range partitions {
		for _, state := range partitions[i].State {
			*counts[state]++
		}
	}
	h.Problems = h.words(nodes)
	h.OK = len(h.Problems) == 0
	return h
}

// words say what is not well, the worst first.
func (h *clusterHealth) words(nodes []nodeState) []string {
	all := []string{}
	say := func(n int, one, many string) {
		switch {
		case n == 1:
			all = append(all, "1 "+one)
		case n > 1:
			all = append(all, count(int64(n))+" "+many)
		}
	}
	say(h.Offline, "partition is offline: no node that has it is alive",
		"partitions are offline: no node that has them is alive")
	say(h.Leaderless, "partition has no leader: no replica that is alive has all records",
		"partitions have no leader: no replica that is alive has all records")
	say(h.UnderMinISR, "partition is below min.insync.replicas: writes with acks=all are refused",
		"partitions are below min.insync.replicas: writes with acks=all are refused")
	say(h.UnderReplicated, "partition is under-replicated: replicas lag or are dead",
		"partitions are under-replicated: replicas lag or are dead")
	for i := range nodes {
		n := &nodes[i]
		switch {
		case n.Silent:
			all = append(all, fmt.Sprintf("node %d does not answer", n.ID))
		case !n.Alive:
			all = append(all, fmt.Sprintf("node %d is dead", n.ID))
		}
		for _, d := range n.Disks {
			switch {
			case d.Error != "":
				all = append(all, fmt.Sprintf("node %d: %s has failed: %s", n.ID, d.Path, d.Error))
			case d.TotalBytes > 0 && d.FreeBytes < d.TotalBytes/100*diskFullAt:
				all = append(all, fmt.Sprintf("node %d: the disk of %s is almost full: %s left",
					n.ID, d.Path, byteSize(float64(d.FreeBytes))))
			}
		}
	}
	return all
}

// notes tell what is under way and harms nobody.
func (h *clusterHealth) notes() []string {
	var all []string
	if h.Reassigning > 0 {
		all = append(all, plural(int64(h.Reassigning), "partition")+" on the way to other replicas")
	}
	if h.NotPreferred > 0 {
		all = append(all, plural(int64(h.NotPreferred), "partition")+
			" not led by the preferred replica")
	}
	return all
}

// write prints the status for people.
func (s *clusterStatus) write(w io.Writer) error {
	controller := "no controller"
	if s.Controller >= 0 {
		controller = fmt.Sprintf("controller is node %d", s.Controller)
	}
	if _, err := fmt.Fprintf(w, "Cluster %s: %s, %s\n\n", printable(s.ClusterID),
		plural(int64(len(s.Nodes)), "node"), controller); err != nil {
		return err
	}
	if err := nodeTable(s.Nodes).write(w); err != nil {
		return err
	}
	lines := []string{"", fmt.Sprintf("%s of %s", plural(int64(s.Partitions), "partition"),
		plural(int64(s.Topics), "topic"))}
	lines = append(lines, s.Health.notes()...)
	if s.Health.OK {
		lines = append(lines, "", "All is well.")
	} else {
		lines = append(lines, "", "Not well:")
	}
	for _, p := range s.Health.Problems {
		lines = append(lines, "  "+printable(p))
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}
