package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// CreateTopics, key 19, versions 0 to 7: new topics, each succeeding or failing
// on its own.
//
//	v1  validate only; error message
//	v4  -1 partitions or replicas mean the broker's defaults (KIP-464); taken
//	    from older clients too
//	v5  flexible encoding; the answer has partitions, replicas and all configs
//	    in force (KIP-525)
//	v6  THROTTLING_QUOTA_EXCEEDED may be answered (KIP-599)
//	v7  topic id in the answer (KIP-516)
//
// The answer leaves when this node's metadata shows the topics and their
// replicas are open: Connect and Streams read them back at once.
func (s *Server) createTopics(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.CreateTopicsRequest)
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	ctx, cancel := door.WaitFor(ctx, req.TimeoutMillis)
	defer cancel()

	asked := make([]door.NewTopic, len(req.Topics))
	for i := range req.Topics {
		asked[i].CreateTopic, asked[i].Err = createTopicOf(&req.Topics[i])
	}
	results := door.CreateTopics(ctx, s.cluster, asked, req.ValidateOnly)
	layers := s.layers(s.cluster.Image())
	done := make(map[string]bool, len(results))
	for i := range results {
		res := &results[i]
		if done[res.Name] {
			continue
		}
		done[res.Name] = true
		t := kmsg.NewCreateTopicsResponseTopic()
		t.Topic = res.Name
		t.ErrorCode, t.ErrorMessage = topicErrorCode(res.Err, req.Version >= 6), errorMessage(res.Err)
		t.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
		if res.Err == nil {
			t.TopicID = res.ID
			t.NumPartitions, t.ReplicationFactor = res.Partitions, res.ReplicationFactor
			if req.Version >= 5 {
				t.Configs = createdConfigs(layers, res.Configs)
			}
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// createdConfigs shows all settings in force for a new topic with those
// overrides.
func createdConfigs(layers *door.Layers,
	overrides messages.Config,
) []kmsg.CreateTopicsResponseTopicConfig {
	var all []kmsg.CreateTopicsResponseTopicConfig
	for _, e := range topicConfigs(layers, overrides) {
		entry := kmsg.NewCreateTopicsResponseTopicConfig()
		entry.Name, entry.Value = e.def.Name, e.shown()
		entry.Source, entry.IsSensitive = int8(e.source()), e.def.Sensitive
		all = append(all, entry)
	}
	return all
}

// createTopicOf reads one topic of the request. It finds what the message to
// the controller cannot express; the controller judges the rest.
func createTopicOf(rt *kmsg.CreateTopicsRequestTopic) (messages.CreateTopic, error) {
	create := messages.CreateTopic{
		Name:              rt.Topic,
		Partitions:        rt.NumPartitions,
		ReplicationFactor: rt.ReplicationFactor,
	}
	if len(rt.ReplicaAssignment) > 0 {
		if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
			return create, fmt.Errorf("%w: topic %q has a manual assignment, so partitions and "+
				"replication factor must be -1", messages.ErrInvalidRequest, rt.Topic)
		}
		create.Assignment = make(map[int32][]messages.NodeID, len(rt.ReplicaAssignment))
	}
	for i := range rt.ReplicaAssignment {
		ra := &rt.ReplicaAssignment[i]
		if _, ok := create.Assignment[ra.Partition]; ok {
			return create, fmt.Errorf("%w: topic %q assigns partition %d more than once",
				messages.ErrInvalidReplicaAssignment, rt.Topic, ra.Partition)
		}
		create.Assignment[ra.Partition] = nodeIDs(ra.Replicas)
	}
	var err error
	create.Configs, err = createConfigs(rt)
	return create, err
}

func createConfigs(rt *kmsg.CreateTopicsRequestTopic) (messages.Config, error) {
	set := make(messages.Config, len(rt.Configs))
	var null []string
	for i := range rt.Configs {
		rc := &rt.Configs[i]
		if rc.Value == nil {
			null = append(null, rc.Name)
			continue
		}
		set[rc.Name] = *rc.Value
	}
	if len(null) > 0 {
		slices.Sort(null)
		return nil, fmt.Errorf("%w: topic %q sets %s to null; leave a setting out to get its default",
			messages.ErrInvalidConfig, rt.Topic, strings.Join(null, ", "))
	}
	return set, nil
}

func nodeIDs(ids []int32) []messages.NodeID {
	out := make([]messages.NodeID, len(ids))
	for i, id := range ids {
		out[i] = messages.NodeID(id)
	}
	return out
}
