package gateway

import (
	"context"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

func topicResults(results []messages.TopicResult) *wire.ClientResponse {
	for i := range results {
		results[i].Err = controllerError(results[i].Err)
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_Topics{
		Topics: wire.FromTopicResults(results)}}
}

// createTopics answers when this node's metadata shows the topics and their replicas
// are open. Each succeeds or fails on its own.
func (d *desk) createTopics(ctx context.Context, w *wire.CreateTopics) *wire.ClientResponse {
	asked := make([]door.NewTopic, len(w.GetTopics()))
	for i, wt := range w.GetTopics() {
		var err error
		if asked[i].CreateTopic, err = wire.ToNewTopic(wt); err != nil {
			asked[i].Err = invalid(err)
		}
	}
	return topicResults(door.CreateTopics(ctx, d.cluster, asked, false))
}

func (d *desk) deleteTopics(ctx context.Context, w *wire.DeleteTopics) *wire.ClientResponse {
	refs, err := wire.ToDeleteTopics(w)
	if err != nil {
		return failed(invalid(err))
	}
	asked := make([]door.Deletion, len(refs))
	for i := range refs {
		asked[i].ID = refs[i].ID
		if refs[i].Name != "" {
			asked[i].Name = &refs[i].Name
		}
	}
	door.DeleteTopics(ctx, d.cluster, d.settings, asked)
	results := make([]messages.TopicResult, len(refs))
	for i := range asked {
		results[i] = messages.TopicResult{Name: refs[i].Name, ID: refs[i].ID, Err: asked[i].Err}
		if t := asked[i].Topic; t != nil {
			results[i].Name, results[i].ID = t.Name, t.ID
		}
	}
	return topicResults(results)
}

// createPartitions answers when this node's metadata shows the partitions.
func (d *desk) createPartitions(ctx context.Context, w *wire.CreatePartitions,
) *wire.ClientResponse {
	asked, err := wire.ToCreatePartitions(w)
	if err != nil {
		return failed(invalid(err))
	}
	return topicResults(door.CreatePartitions(ctx, d.cluster, asked, false))
}

// alterConfigs changes settings of topics and nodes, each resource wholly or not at all.
func (d *desk) alterConfigs(ctx context.Context, w *wire.AlterConfigs) *wire.ClientResponse {
	reqs, err := wire.ToAlterConfigs(w)
	if err != nil {
		return failed(invalid(err))
	}
	asked := make([]door.Change, len(reqs))
	for i := range reqs {
		asked[i].AlterConfigs = reqs[i]
	}
	errs := door.AlterConfigs(ctx, d.cluster, asked, false)
	for i := range errs {
		errs[i] = controllerError(errs[i])
	}
	return errorList(errs)
}

// describeConfigs answers with every setting in force for a topic, by name. The values
// of secret ones are left out.
func (d *desk) describeConfigs(w *wire.ClientDescribeConfigs) *wire.ClientResponse {
	if err := door.CheckTopicName(w.GetTopic()); err != nil {
		return failed(err)
	}
	image := d.cluster.Image()
	topic := image.Topic(w.GetTopic())
	if topic == nil {
		return failed(unknownTopic(w.GetTopic()))
	}
	layers := door.LayersOf(image, d.cluster.Self(), d.settings)
	out := &wire.ClientConfigs{}
	for _, def := range configs.Topics() {
		v, _ := configs.Effective(def.Name, topic.Configs, layers.Lookup)
		c := &wire.ClientConfig{Name: def.Name, Inherited: v.Origin != configs.OriginTopic}
		if !def.Sensitive && !v.Null {
			c.Value = v.Value
		}
		out.Configs = append(out.Configs, c)
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_Configs{Configs: out}}
}

func unknownTopic(name string) error {
	return fmt.Errorf("topic %q: %w", name, messages.ErrUnknownTopicOrPartition)
}

// describeTopics answers from this node's metadata, internal topics too. A topic that
// is named twice is not described: the answer would be out of all proportion.
func (d *desk) describeTopics(w *wire.ClientDescribeTopics) *wire.ClientResponse {
	image := d.cluster.Image()
	out := &wire.ClientTopics{}
	if len(w.GetTopics()) == 0 {
		for _, t := range image.Topics() {
			out.Topics = append(out.Topics, &wire.ClientTopic{Topic: wire.FromTopic(t)})
		}
	}
	twice := door.Repeated(w.GetTopics())
	for _, name := range w.GetTopics() {
		t, err := described(image, name, twice[name])
		if err != nil {
			out.Topics = append(out.Topics, &wire.ClientTopic{
				Error: wire.FromError(err), Topic: &wire.Topic{Name: name}})
			continue
		}
		out.Topics = append(out.Topics, &wire.ClientTopic{Topic: wire.FromTopic(t)})
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_TopicDescriptions{
		TopicDescriptions: out}}
}

// described returns the topic of that name, or why there is no answer about it.
func described(image *messages.Image, name string, twice bool) (*messages.Topic, error) {
	if twice {
		return nil, fmt.Errorf("%w: topic %q stands in the request more than once",
			messages.ErrInvalidRequest, name)
	}
	if err := door.CheckTopicName(name); err != nil {
		return nil, err
	}
	if t := image.Topic(name); t != nil {
		return t, nil
	}
	return nil, unknownTopic(name)
}
