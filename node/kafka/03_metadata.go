package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// Metadata, key 3, versions 0 to 13: brokers, topics, partitions and leaders.
//
//	v0   no topics named means all; dead replicas are left out (error 9)
//	v1   null means all, empty means none; controller, racks, internal topics
//	v2   cluster id
//	v4   the client may forbid auto-creation; below, it always wants it
//	v5   offline replicas
//	v7   leader epochs
//	v8   authorized operations (KIP-430), of the cluster up to v10
//	v9   flexible encoding
//	v10  topic ids in the answer (KIP-516)
//	v12  lookup by topic id
//	v13  top-level error code (KIP-1102), never set
//
// Topics that are named and do not exist are created if request and broker
// allow it. The answer waits for them: clients that get LEADER_NOT_AVAILABLE
// retry at best, and fail at worst.
//
// All topics come sorted by name, named ones in the order of the request, each
// once. Addresses are those of the listener the client came in on.
func (s *Server) metadata(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.MetadataRequest)
	resp := req.ResponseKind().(*kmsg.MetadataResponse)

	var failed map[string]error
	refused := checkMetadataTopics(req)
	if refused == nil {
		failed = s.autoCreate(ctx, req)
	}
	// The image is taken after creation, and all of the answer comes from it.
	v := s.view(c)
	resp.Brokers = metadataBrokers(v)
	resp.ClusterID = &v.image.ClusterID
	resp.ControllerID = v.controller()
	if req.Version <= 10 && req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	switch {
	case refused != nil:
		resp.Topics = refusedTopics(req, errorCode(refused))
	case allTopics(req):
		for _, t := range v.image.Topics() {
			resp.Topics = append(resp.Topics, metadataTopic(v, t, req))
		}
	default:
		resp.Topics = namedTopics(v, req, failed)
	}
	return resp
}

// allTopics reports whether the request asks for every topic. Version 0 cannot
// tell null from empty.
func allTopics(req *kmsg.MetadataRequest) bool {
	return req.Topics == nil || req.Version == 0 && len(req.Topics) == 0
}

// checkMetadataTopics refuses requests of v10 and v11 that use ids: those
// versions have the field, but lookup by id came with v12.
func checkMetadataTopics(req *kmsg.MetadataRequest) error {
	if req.Version >= 12 {
		return nil
	}
	for i := range req.Topics {
		switch t := &req.Topics[i]; {
		case t.Topic == nil:
			return fmt.Errorf("%w: metadata v%d needs topic names", messages.ErrInvalidRequest,
				req.Version)
		case t.TopicID != [16]byte{}:
			return fmt.Errorf("%w: metadata v%d cannot look up topic ids",
				messages.ErrInvalidRequest, req.Version)
		}
	}
	return nil
}

func refusedTopics(req *kmsg.MetadataRequest, code int16) []kmsg.MetadataResponseTopic {
	var all []kmsg.MetadataResponseTopic
	for i := range req.Topics {
		t := kmsg.NewMetadataResponseTopic()
		t.Topic, t.TopicID, t.ErrorCode = req.Topics[i].Topic, req.Topics[i].TopicID, code
		all = append(all, t)
	}
	return all
}

// autoCreateWait bounds how long one Metadata request waits for the topics it
// creates, all together. It is below every client's request timeout.
const autoCreateWait = 10 * time.Second

// autoCreate makes the topics that the request names, the cluster lacks and
// both sides want made. It returns why others could not be.
func (s *Server) autoCreate(ctx context.Context, req *kmsg.MetadataRequest) map[string]error {
	if req.Version >= 4 && !req.AllowAutoTopicCreation || len(req.Topics) == 0 {
		return nil
	}
	missing := missingTopics(s.cluster.Image(), req)
	if len(missing) == 0 || s.settings.Value("auto.create.topics.enable") != "true" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, autoCreateWait)
	defer cancel()
	failed := map[string]error{}
	for _, name := range missing {
		err := s.cluster.AutoCreate(ctx, name)
		if err != nil && !errors.Is(err, messages.ErrTopicAlreadyExists) {
			failed[name] = err
		}
	}
	return failed
}

// missingTopics returns the names that may be auto-created, each once. Internal
// topics need settings of their own, so only their coordinator makes them.
func missingTopics(image *messages.Image, req *kmsg.MetadataRequest) []string {
	var missing []string
	for i := range req.Topics {
		t := &req.Topics[i]
		if t.Topic == nil || t.TopicID != [16]byte{} || image.Topic(*t.Topic) != nil {
			continue
		}
		if name := *t.Topic; door.CheckTopicName(name) == nil && !internalName(name) {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func metadataBrokers(v *clusterView) []kmsg.MetadataResponseBroker {
	brokers := make([]kmsg.MetadataResponseBroker, 0, len(v.image.Nodes))
	for i := range v.image.Nodes {
		n := &v.image.Nodes[i]
		if n.Fenced {
			continue
		}
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Rack = int32(n.ID), rackOf(n)
		b.Host, b.Port = v.endpoint(n)
		brokers = append(brokers, b)
	}
	return brokers
}

// namedTopics answers the topics of the request, by id where there is one.
// failed says why topics could not be created.
func namedTopics(v *clusterView, req *kmsg.MetadataRequest,
	failed map[string]error,
) []kmsg.MetadataResponseTopic {
	all := make([]kmsg.MetadataResponseTopic, 0, len(req.Topics))
	type key struct {
		id   messages.TopicID
		name string
	}
	seen := make(map[key]bool, len(req.Topics))
	for i := range req.Topics {
		rt := &req.Topics[i]
		k := key{id: rt.TopicID}
		var t *messages.Topic
		if k.id.IsZero() {
			if rt.Topic != nil {
				k.name = *rt.Topic
				t = v.image.Topic(k.name)
			}
		} else {
			t = v.image.TopicByID(k.id)
		}
		if t != nil {
			k = key{id: t.ID, name: t.Name}
		}
		if seen[k] {
			continue
		}
		seen[k] = true
		if t != nil {
			all = append(all, metadataTopic(v, t, req))
		} else {
			all = append(all, absentTopic(rt, req, failed))
		}
	}
	return all
}

// absentTopic says why there is no topic for this entry of the request.
func absentTopic(rt *kmsg.MetadataRequestTopic, req *kmsg.MetadataRequest,
	failed map[string]error,
) kmsg.MetadataResponseTopic {
	t := kmsg.NewMetadataResponseTopic()
	switch {
	case rt.TopicID != [16]byte{}:
		t.TopicID, t.ErrorCode = rt.TopicID, codeUnknownTopicID
		return t
	case rt.Topic == nil:
		t.ErrorCode = codeInvalidRequest
		return t
	}
	t.Topic, t.IsInternal = rt.Topic, internalName(*rt.Topic)
	if req.IncludeTopicAuthorizedOperations {
		t.AuthorizedOperations = topicOperations
	}
	switch err := failed[*rt.Topic]; {
	case door.CheckTopicName(*rt.Topic) != nil:
		t.ErrorCode = codeInvalidTopic
	case err == nil:
		t.ErrorCode = codeUnknownTopicOrPartition
	case controlPathBusy(err):
		t.ErrorCode = codeLeaderNotAvailable // clients ask again
	default:
		t.ErrorCode = errorCode(err)
	}
	return t
}

func metadataTopic(v *clusterView, topic *messages.Topic,
	req *kmsg.MetadataRequest,
) kmsg.MetadataResponseTopic {
	t := kmsg.NewMetadataResponseTopic()
	t.Topic, t.TopicID, t.IsInternal = &topic.Name, topic.ID, topic.Internal()
	if req.IncludeTopicAuthorizedOperations {
		t.AuthorizedOperations = topicOperations
	}
	t.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, len(topic.Partitions))
	for i := range topic.Partitions {
		pv := v.partition(&topic.Partitions[i])
		if req.Version == 0 {
			pv = v.withoutDead(pv, &topic.Partitions[i])
		}
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition, p.ErrorCode = int32(i), pv.code
		p.Leader, p.LeaderEpoch = pv.leader, pv.epoch
		p.Replicas, p.ISR, p.OfflineReplicas = pv.replicas, pv.isr, pv.offline
		t.Partitions = append(t.Partitions, p)
	}
	return t
}

// codeReplicaNotAvailable tells clients of v0 that replicas are left out.
const codeReplicaNotAvailable int16 = 9

// withoutDead is the view of a client that expects every replica it is told of
// to be among the brokers.
func (v *clusterView) withoutDead(pv partitionView, p *messages.Partition) partitionView {
	if len(pv.offline) == 0 {
		return pv
	}
	pv.replicas, pv.isr = v.list(p.Replicas, v.alive), v.list(p.ISR, v.alive)
	if pv.code == codeNone {
		pv.code = codeReplicaNotAvailable
	}
	return pv
}
