package cli

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What can be wrong with a partition, or going on with it: partitionState.State.
const (
	stateOffline         = "offline"       // no leader, and no replica is on a live node
	stateLeaderless      = "leaderless"    // neither read nor written
	stateUnderMinISR     = "under-min-isr" // writes with acks=all are refused
	stateUnderReplicated = "under-replicated"
	stateReassigning     = "reassigning"
	stateNotPreferred    = "not-preferred" // led, but not by the first replica
)

// partitionState is one partition as the cluster sees it.
type partitionState struct {
	Topic       string   `json:"topic"`
	Partition   int32    `json:"partition"`
	Leader      int32    `json:"leader"` // -1: none
	LeaderEpoch int32    `json:"leaderEpoch"`
	Replicas    []int32  `json:"replicas"`
	ISR         []int32  `json:"isr"`
	Offline     []int32  `json:"offline"`
	Adding      []int32  `json:"adding"`
	Removing    []int32  `json:"removing"`
	State       []string `json:"state"` // empty: all is well
}

func (p *partitionState) is(state string) bool { return slices.Contains(p.State, state) }

func (p *partitionState) name() topicPartition { return topicPartition{p.Topic, p.Partition} }

func (p *partitionState) moving() bool { return len(p.Adding)+len(p.Removing) > 0 }

// target is the replicas once the reassignment in progress is done.
func (p *partitionState) target() []int32 {
	return slices.DeleteFunc(slices.Clone(p.Replicas), func(n int32) bool {
		return slices.Contains(p.Removing, n)
	})
}

// settle finds the state of the partition by the same rules as the metrics of its
// leader; minISR is 0 if it has all its replicas in sync.
func (p *partitionState) settle(minISR int) {
	settled := slices.DeleteFunc(slices.Clone(p.Replicas), func(n int32) bool {
		return slices.Contains(p.Adding, n)
	})
	has := func(state string, yes bool) {
		if yes {
			p.State = append(p.State, state)
		}
	}
	p.State = []string{}
	dead := !slices.ContainsFunc(p.Replicas, func(n int32) bool {
		return !slices.Contains(p.Offline, n)
	})
	has(stateOffline, p.Leader < 0 && dead)
	has(stateLeaderless, p.Leader < 0 && !dead)
	has(stateUnderMinISR, len(p.ISR) < min(minISR, len(p.Replicas)))
	has(stateUnderReplicated, slices.ContainsFunc(settled, func(n int32) bool {
		return !slices.Contains(p.ISR, n)
	}))
	has(stateReassigning, p.moving())
	has(stateNotPreferred, p.Leader >= 0 && len(p.Replicas) > 0 && p.Leader != p.Replicas[0])
}

// clusterPartitions returns the partitions of topics (none named: of all) with their
// state, by topic and number. A topic that is not there is an error.
func clusterPartitions(
	ctx context.Context, cl *kgo.Client, meta kadm.Metadata, topics ...string,
) ([]partitionState, error) {
	for _, t := range topics {
		if err := meta.Topics[t].Err; err != nil {
			return nil, topicError(t, err, "")
		}
	}
	moving, err := reassignments(ctx, cl, meta.Brokers)
	if err != nil {
		return nil, err
	}
	out := []partitionState{}
	var suspects []string // topics that may have partitions below min.insync.replicas
	for _, t := range meta.Topics.Sorted() {
		if len(topics) > 0 && !slices.Contains(topics, t.Topic) {
			continue
		}
		suspect := false
		for _, d := range t.Partitions.Sorted() {
			m := moving[d.Topic][d.Partition]
			out = append(out, partitionState{Topic: d.Topic, Partition: d.Partition,
				Leader: d.Leader, LeaderEpoch: d.LeaderEpoch, Replicas: nonNil(d.Replicas),
				ISR: nonNil(d.ISR), Offline: nonNil(d.OfflineReplicas),
				Adding: nonNil(m.AddingReplicas), Removing: nonNil(m.RemovingReplicas)})
			suspect = suspect || len(d.ISR) < len(d.Replicas)
		}
		if suspect {
			suspects = append(suspects, t.Topic)
		}
	}
	minISR, err := minInsyncReplicas(ctx, cl, suspects)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].settle(minISR[out[i].Topic])
	}
	return out, ctx.Err()
}

// reassignments returns what is being reassigned, by topic and partition. Any broker
// knows; the client would insist on the controller, which may be what is missing.
// Kafka below 2.4 cannot tell, and moves nothing this way.
func reassignments(ctx context.Context, cl *kgo.Client, brokers kadm.BrokerDetails) (
	map[string]map[int32]kmsg.ListPartitionReassignmentsResponseTopicPartition, error,
) {
	req := kmsg.NewPtrListPartitionReassignmentsRequest() // null topics: all
	answer, _, err := askInTurn(ctx, cl, brokers.NodeIDs(), req)
	if err != nil {
		if tooOld(err) {
			return nil, nil
		}
		return nil, err
	}
	resp := answer.(*kmsg.ListPartitionReassignmentsResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, refusal("", err, resp.ErrorMessage)
	}
	all := map[string]map[int32]kmsg.ListPartitionReassignmentsResponseTopicPartition{}
	for _, t := range resp.Topics {
		all[t.Topic] = map[int32]kmsg.ListPartitionReassignmentsResponseTopicPartition{}
		for _, p := range t.Partitions {
			all[t.Topic][p.Partition] = p
		}
	}
	return all, nil
}

// nodePatience is how long one node has to tell of itself: what a node that hangs
// would say is not worth waiting for.
const nodePatience = 3 * time.Second

// askInTurn asks nodes, one after the other, until one answers: via.
func askInTurn(
	ctx context.Context, cl *kgo.Client, ids []int32, req kmsg.Request,
) (answer kmsg.Response, via int32, err error) {
	err = kerr.BrokerNotAvailable
	for _, id := range ids {
		once, cancel := context.WithTimeout(ctx, nodePatience)
		answer, err = cl.Broker(int(id)).Request(once, req)
		cancel()
		if err == nil || tooOld(err) || ctx.Err() != nil {
			return answer, id, err
		}
	}
	return nil, -1, err
}

// tooOld reports whether a cluster does not know a request. The client finds out
// before it asks, and has no name for that error.
func tooOld(err error) bool {
	return errors.Is(err, kerr.UnsupportedVersion) ||
		strings.Contains(err.Error(), "broker is too old") ||
		strings.Contains(err.Error(), "request key is unknown")
}

// minInsyncReplicas returns the setting of topics.
func minInsyncReplicas(
	ctx context.Context, cl *kgo.Client, topics []string,
) (map[string]int, error) {
	const name = "min.insync.replicas"
	if len(topics) == 0 {
		return nil, nil
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, t := range topics {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, t
		r.ConfigNames = []string{name}
		req.Resources = append(req.Resources, r)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, r := range resp.Resources {
		err := kerr.ErrorForCode(r.ErrorCode)
		if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) { // deleted meanwhile
			return nil, refusal(r.ResourceName, err, r.ErrorMessage)
		}
		for _, c := range r.Configs {
			if c.Name == name && c.Value != nil {
				out[r.ResourceName], _ = strconv.Atoi(*c.Value)
			}
		}
	}
	return out, nil
}

// refusal is an error of the cluster about what, with what it said.
func refusal(what string, err error, said *string) error {
	text := ""
	if said != nil {
		text = *said
	}
	text = kafkaText(err, text)
	if what != "" {
		text = what + ": " + text
	}
	return &told{text, err}
}
