package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func newNode(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "List the nodes of the cluster, empty them, and take them away",
		Example: `  troupe node list
  troupe node drain 3 --wait
  troupe node remove 3`,
	}
	cmd.AddCommand(newNodeList(g), newNodeDrain(g), newNodeUndrain(g), newNodeRemove(g))
	return group(cmd)
}

// theNodes returns the nodes and partitions of the cluster.
func theNodes(
	ctx context.Context, cl *kgo.Client, adm *kadm.Client,
) ([]nodeState, []partitionState, error) {
	meta, err := adm.Metadata(ctx)
	if err != nil {
		return nil, nil, err
	}
	partitions, err := clusterPartitions(ctx, cl, meta)
	if err != nil {
		return nil, nil, err
	}
	nodes, err := clusterNodes(ctx, cl, meta, partitions)
	return nodes, partitions, err
}

func newNodeList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the nodes, alive or not",
		Example: `  troupe node list
  troupe node list -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				nodes, _, err := theNodes(ctx, cl, adm)
				if err != nil {
					return err
				}
				addDisks(ctx, adm, nodes)
				return g.print(cmd.OutOrStdout(), nodes, func(w io.Writer) error {
					return nodeTable(nodes).write(w)
				})
			})
		},
	}
}

func nodeTable(nodes []nodeState) *table {
	t := newTable(">NODE", "ADDRESS", "RACK", "STATE", ">REPLICAS", ">LEADERS", ">SIZE", "DISK FREE")
	for i := range nodes {
		n := &nodes[i]
		size := "-"
		if n.SizeBytes != nil {
			size = byteSize(float64(*n.SizeBytes))
		}
		t.add(strconv.Itoa(int(n.ID)), orDash(n.Address), n.Rack, strings.Join(n.State, ", "),
			strconv.Itoa(n.Replicas), strconv.Itoa(n.Leaders), size, n.room())
	}
	return t.withoutEmpty("RACK")
}

// nodeResult is what became of a node of drain, undrain or remove.
type nodeResult struct {
	Node     int32  `json:"node"`
	Result   string `json:"result"`
	Replicas int    `json:"replicas"` // that it has still
}

// Values of nodeResult.Result.
const (
	resultDraining  = "draining"
	resultDrained   = "drained"
	resultUndrained = "undrained"
	resultRemoved   = "removed"
)

func (r nodeResult) sentence() string {
	switch r.Result {
	case resultDraining:
		return fmt.Sprintf("node %d is being drained, it has %s still", r.Node,
			plural(int64(r.Replicas), "replica"))
	case resultDrained:
		return fmt.Sprintf("node %d is drained: it has no replicas, stop it when you like", r.Node)
	case resultUndrained:
		return fmt.Sprintf("node %d takes replicas again", r.Node)
	}
	return fmt.Sprintf("removed node %d from the cluster", r.Node)
}

func (g *globals) tellNode(cmd *cobra.Command, r nodeResult) error {
	return g.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, r.sentence())
		return err
	})
}

func newNodeDrain(g *globals) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move everything off a node",
		Long: `Drain moves the replicas and leaderships of a node to the others, a few at a time,
while clients go on working, and puts nothing new on it. Then it can be stopped and
removed. A node that is dead can be drained, too: its replicas are made anew
elsewhere, from others. "troupe node undrain" ends it.

Only nodes of Troupe can be drained.`,
		Example: `  troupe node drain 3
  troupe node drain 3 --wait && troupe node list`,
		Args: need(1, "the NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := nodeID(args[0])
			if err != nil {
				return err
			}
			stuck, r := 0, nodeResult{Node: id, Result: resultDraining}
			err = g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				nodes, partitions, err := theNodes(ctx, cl, adm)
				if err != nil {
					return err
				}
				if stuck, err = drainFits(cmd.ErrOrStderr(), nodes, partitions, id); err != nil {
					return err
				}
				n, err := setDrain(ctx, cl, nodes, id, true)
				if err == nil {
					r.Replicas = n.Replicas
				}
				return err
			})
			if err == nil && wait {
				err = g.awaitDrained(cmd, &r, stuck)
			}
			if err != nil {
				return err
			}
			if r.Replicas == 0 {
				r.Result = resultDrained
			}
			return g.tellNode(cmd, r)
		},
		ValidArgsFunction: g.nodeIDs(1),
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the node is empty, and say how far it is")
	return cmd
}

// drainFits refuses to drain the last node, and warns of partitions that have more
// replicas than there are other nodes: those are stuck.
func drainFits(
	stderr io.Writer, nodes []nodeState, partitions []partitionState, id int32,
) (stuck int, err error) {
	if _, err := knownNode(nodes, id); err != nil {
		return 0, err
	}
	others := 0
	for i := range nodes {
		if n := &nodes[i]; n.ID != id && n.Alive && !n.Draining {
			others++
		}
	}
	if others == 0 {
		return 0, &failure{fmt.Sprintf("no other node could take over from node %d", id),
			"start one first", nil}
	}
	for i := range partitions {
		if target := partitions[i].target(); slices.Contains(target, id) && len(target) > others {
			stuck++
		}
	}
	if stuck > 0 {
		fmt.Fprintf(stderr, "troupe: %s more replicas than there are other nodes (%d) and will stay; "+
			"start another node\n", has(stuck), others)
	}
	return stuck, nil
}

func has(partitions int) string {
	if partitions == 1 {
		return "1 partition has"
	}
	return count(int64(partitions)) + " partitions have"
}

// setDrain has a node emptied, or ends that, through any node that is alive.
func setDrain(
	ctx context.Context, cl *kgo.Client, nodes []nodeState, id int32, on bool,
) (*nodeState, error) {
	n, err := knownNode(nodes, id)
	if err != nil {
		return nil, err
	}
	_, via := askDraining(ctx, cl, nodes)
	if via < 0 {
		return nil, &failure{"the nodes of this cluster cannot be drained",
			"move partitions with \"troupe partition reassign\"", nil}
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(id))
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Op = drainSetting, kmsg.IncrementalAlterConfigOpDelete
	if on {
		c.Op, c.Value = kmsg.IncrementalAlterConfigOpSet, kmsg.StringPtr("true")
	}
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	answer, err := cl.Broker(int(via)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, r := range answer.(*kmsg.IncrementalAlterConfigsResponse).Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return nil, refusal(fmt.Sprintf("node %d", id), err, r.ErrorMessage)
		}
	}
	return n, nil
}

// awaitDrained waits until the node has no replicas, or those alone that are stuck.
func (g *globals) awaitDrained(cmd *cobra.Command, r *nodeResult, stuck int) error {
	cl, err := g.adminClient(cmd)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm, last := kadm.NewClient(cl), -1
	return g.poll(cmd.Context(), func(ctx context.Context) (bool, error) {
		meta, err := adm.Metadata(ctx)
		if err != nil {
			return false, err
		}
		r.Replicas = 0
		for _, t := range meta.Topics {
			for _, p := range t.Partitions {
				if slices.Contains(p.Replicas, r.Node) {
					r.Replicas++
				}
			}
		}
		if r.Replicas != last && r.Replicas > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "node %d has %s\n", r.Node,
				plural(int64(r.Replicas), "replica"))
		}
		last = r.Replicas
		if r.Replicas > 0 && r.Replicas <= stuck {
			return false, &failure{fmt.Sprintf("node %d keeps %s that no other node can take", r.Node,
				plural(int64(r.Replicas), "replica")),
				"start another node, or give the topics fewer replicas", nil}
		}
		return r.Replicas == 0, nil
	})
}

func newNodeUndrain(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "undrain NODE",
		Short:   "Let a node take replicas again",
		Example: `  troupe node undrain 3`,
		Args:    need(1, "the NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := nodeID(args[0])
			if err != nil {
				return err
			}
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				nodes, _, err := theNodes(ctx, cl, adm)
				if err != nil {
					return err
				}
				n, err := setDrain(ctx, cl, nodes, id, false)
				if err != nil {
					return err
				}
				return g.tellNode(cmd, nodeResult{id, resultUndrained, n.Replicas})
			})
		},
		ValidArgsFunction: g.nodeIDs(1),
	}
}

func newNodeRemove(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NODE",
		Aliases: []string{"rm"},
		Short:   "Forget a node that is gone for good",
		Long: `Remove takes a node that is dead and has no replicas out of the cluster. Drain it
first, then stop it.`,
		Example: `  troupe node remove 3`,
		Args:    need(1, "the NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := nodeID(args[0])
			if err != nil {
				return err
			}
			return g.connect(cmd, func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error {
				if err := removeNode(ctx, cl, adm, id); err != nil {
					return err
				}
				return g.tellNode(cmd, nodeResult{Node: id, Result: resultRemoved})
			})
		},
		ValidArgsFunction: g.nodeIDs(1),
	}
}

func removeNode(ctx context.Context, cl *kgo.Client, adm *kadm.Client, id int32) error {
	nodes, _, err := theNodes(ctx, cl, adm)
	if err != nil {
		return err
	}
	n, err := knownNode(nodes, id)
	switch {
	case err != nil:
		return err
	case n.Replicas > 0:
		return &failure{fmt.Sprintf("node %d has %s", id, plural(int64(n.Replicas), "replica")),
			fmt.Sprintf("move them away with \"troupe node drain %d --wait\"", id), nil}
	case n.Alive:
		return &failure{fmt.Sprintf("node %d is alive", id), "stop it first", nil}
	}
	req := kmsg.NewPtrUnregisterBrokerRequest()
	req.BrokerID = id
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return refusal(fmt.Sprintf("node %d", id), err, resp.ErrorMessage)
	}
	return nil
}

// nodeIDs completes up to most ids of nodes (0: any number) from the cluster.
func (g *globals) nodeIDs(most int) completer {
	return func(cmd *cobra.Command, args []string, start string,
	) (found []string, _ cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if most > 0 && len(args) >= most {
			return nil, none
		}
		g.completing(cmd, func(ctx context.Context, adm *kadm.Client) {
			brokers, err := adm.ListBrokers(ctx)
			if err != nil {
				return
			}
			for _, b := range brokers {
				if id := strconv.Itoa(int(b.NodeID)); strings.HasPrefix(id, start) {
					found = append(found, id)
				}
			}
		})
		return found, none
	}
}
