package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// drainSetting is the setting of a Troupe node that has it emptied.
const drainSetting = "node.drain"

// nodeState is one node of the cluster, alive or not.
type nodeState struct {
	ID         int32    `json:"id"`
	Address    string   `json:"address"` // for clients
	Rack       string   `json:"rack"`
	Alive      bool     `json:"alive"`  // as far as the cluster knows
	Silent     bool     `json:"silent"` // but it did not answer us
	Controller bool     `json:"controller"`
	Draining   bool     `json:"draining"`
	Replicas   int      `json:"replicas"`
	Leaders    int      `json:"leaders"`
	Disks      []disk   `json:"disks"`
	SizeBytes  *int64   `json:"sizeBytes"` // of its logs; null: nobody could say
	State      []string `json:"state"`     // in words
}

// disk is a data directory of a node.
type disk struct {
	Path       string `json:"path"`
	SizeBytes  int64  `json:"sizeBytes"`  // of the logs in it
	TotalBytes int64  `json:"totalBytes"` // -1: unknown
	FreeBytes  int64  `json:"freeBytes"`  // -1: unknown
	Error      string `json:"error,omitempty"`
}

// clusterNodes returns the nodes by id, alive or not, without their disks.
func clusterNodes(
	ctx context.Context, cl *kgo.Client, meta kadm.Metadata, partitions []partitionState,
) ([]nodeState, error) {
	nodes := []nodeState{}
	for _, b := range meta.Brokers {
		n := nodeState{ID: b.NodeID, Address: hostPort(b.Host, b.Port), Alive: true,
			Controller: b.NodeID == meta.Controller}
		if b.Rack != nil {
			n.Rack = *b.Rack
		}
		nodes = append(nodes, n)
	}
	find := func(id int32) int {
		return slices.IndexFunc(nodes, func(n nodeState) bool { return n.ID == id })
	}
	// Clusters that cannot tell (Kafka below 4.0) do not show dead nodes; those that
	// partitions name are known all the same.
	req := kmsg.NewPtrDescribeClusterRequest()
	req.IncludeFencedBrokers = true
	resp := &kmsg.DescribeClusterResponse{}
	answer, _, err := askInTurn(ctx, cl, meta.Brokers.NodeIDs(), req)
	switch {
	case err == nil:
		resp = answer.(*kmsg.DescribeClusterResponse)
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return nil, refusal("", err, resp.ErrorMessage)
		}
	case !tooOld(err):
		return nil, err
	}
	for _, b := range resp.Brokers {
		if at := find(b.NodeID); at >= 0 {
			continue
		}
		n := nodeState{ID: b.NodeID, Address: hostPort(b.Host, b.Port), Alive: !b.IsFenced}
		if b.Rack != nil {
			n.Rack = *b.Rack
		}
		nodes = append(nodes, n)
	}
	for i := range partitions {
		for _, id := range partitions[i].Replicas {
			if find(id) < 0 {
				nodes = append(nodes, nodeState{ID: id})
			}
			nodes[find(id)].Replicas++
		}
		if at := find(partitions[i].Leader); at >= 0 {
			nodes[at].Leaders++
		}
	}
	slices.SortFunc(nodes, func(a, b nodeState) int { return int(a.ID) - int(b.ID) })
	draining, _ := askDraining(ctx, cl, nodes)
	for i := range nodes {
		nodes[i].Disks = []disk{}
		nodes[i].Draining = draining[nodes[i].ID]
		nodes[i].State = nodes[i].words()
	}
	return nodes, nil
}

func hostPort(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// words say what there is to say about the node.
func (n *nodeState) words() []string {
	state := []string{"dead"}
	switch {
	case n.Silent:
		state[0] = "no answer"
	case n.Alive:
		state[0] = "alive"
	}
	if n.Controller {
		state = append(state, "controller")
	}
	if n.Draining {
		state = append(state, "draining")
		if n.Replicas == 0 {
			state[len(state)-1] = "drained"
		}
	}
	return state
}

// askDraining asks live nodes, until one answers, which nodes are being drained.
// via is the node that did; -1: nodes of this cluster cannot be drained, as those
// of Kafka. Any node of Troupe knows of all.
func askDraining(
	ctx context.Context, cl *kgo.Client, nodes []nodeState,
) (draining map[int32]bool, via int32) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	var alive []int32
	for i := range nodes {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType = kmsg.ConfigResourceTypeBroker
		r.ResourceName = strconv.Itoa(int(nodes[i].ID))
		r.ConfigNames = []string{drainSetting}
		req.Resources = append(req.Resources, r)
		if nodes[i].Alive {
			alive = append(alive, nodes[i].ID)
		}
	}
	answer, via, err := askInTurn(ctx, cl, alive, req)
	if err != nil {
		return nil, -1
	}
	draining, known := drainSettings(answer.(*kmsg.DescribeConfigsResponse))
	if !known {
		return nil, -1
	}
	return draining, via
}

// drainSettings reads an answer. A node of Troupe shows its own setting, set or not.
func drainSettings(resp *kmsg.DescribeConfigsResponse) (draining map[int32]bool, known bool) {
	draining = map[int32]bool{}
	for _, r := range resp.Resources {
		id, err := strconv.ParseInt(r.ResourceName, 10, 32)
		if err != nil {
			continue
		}
		for _, c := range r.Configs {
			if c.Name == drainSetting {
				known = true
				draining[int32(id)] = c.Value != nil && *c.Value == "true"
			}
		}
	}
	return draining, known
}

// addDisks adds what the nodes say of their data directories. Those that do not
// answer have none.
func addDisks(ctx context.Context, adm *kadm.Client, nodes []nodeState) {
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	all, err := adm.DescribeAllLogDirs(ctx, nil)
	silent := map[int32]bool{}
	if failed := (*kadm.ShardErrors)(nil); errors.As(err, &failed) {
		for _, s := range failed.Errs {
			silent[s.Broker.NodeID] = !isKafka(s.Err)
		}
	}
	for i := range nodes {
		dirs, ok := all[nodes[i].ID]
		if !ok {
			nodes[i].Silent = nodes[i].Alive && silent[nodes[i].ID]
			nodes[i].State = nodes[i].words()
			continue
		}
		size := dirs.Size()
		nodes[i].SizeBytes = &size
		for _, d := range dirs.Sorted() {
			entry := disk{Path: d.Dir, SizeBytes: d.Size(),
				TotalBytes: d.TotalBytes, FreeBytes: d.UsableBytes}
			if d.Err != nil {
				entry.Error = kafkaText(d.Err, "")
			}
			nodes[i].Disks = append(nodes[i].Disks, entry)
		}
	}
}

// room is how much is free on the disks of a node, in words.
func (n *nodeState) room() string {
	free, total := int64(0), int64(0)
	for _, d := range n.Disks {
		if d.Error == "" && d.TotalBytes > 0 {
			free, total = free+d.FreeBytes, total+d.TotalBytes
		}
	}
	if total == 0 {
		return "-"
	}
	return fmt.Sprintf("%s of %s", byteSize(float64(free)), byteSize(float64(total)))
}

// nodeID reads the id of a node from the command line.
func nodeID(arg string) (int32, error) {
	id, err := strconv.ParseInt(arg, 10, 32)
	if err != nil || id < 0 {
		return 0, &usageError{fmt.Sprintf("%q is no id of a node", arg),
			"give its number, see \"troupe node list\""}
	}
	return int32(id), nil
}

// knownNode finds a node of the cluster.
func knownNode(nodes []nodeState, id int32) (*nodeState, error) {
	for i := range nodes {
		if nodes[i].ID == id {
			return &nodes[i], nil
		}
	}
	return nil, &failure{fmt.Sprintf("the cluster has no node %d", id),
		"see \"troupe node list\"", nil}
}
