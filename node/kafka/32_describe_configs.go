package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// DescribeConfigs, key 32, versions 1 to 4: every setting of topics and of this
// node, with value, default and where the value comes from.
//
//	v1  source and synonyms (KIP-226)
//	v2  throttling starts after the answer (KIP-219)
//	v3  type and documentation (KIP-569)
//	v4  flexible encoding
//
// Null or no names mean all settings. A broker is described in full by itself
// alone, others know what is set for it at run time; an empty broker name means
// what is set at run time for all brokers. Sensitive
// values are null. A resource that is named twice is described once: an answer
// is a thousand times larger than the request that names a topic.
//
// A consumer group has the settings of the node, which cannot be changed for one
// group (KIP-848).
//
// Not there: version 0, which has no source, and resources of other types
// (loggers, client metrics): INVALID_REQUEST.
func (s *Server) describeConfigs(_ context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeConfigsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	image := s.cluster.Image()
	layers := s.layers(image)
	done := make(map[messages.ConfigResource]bool, len(req.Resources))
	for i := range req.Resources {
		rr := &req.Resources[i]
		resource := messages.ConfigResource{
			Type: messages.ConfigResourceType(rr.ResourceType),
			Name: rr.ResourceName,
		}
		if done[resource] {
			continue
		}
		done[resource] = true
		r := kmsg.NewDescribeConfigsResponseResource()
		r.ResourceType, r.ResourceName = rr.ResourceType, rr.ResourceName
		entries, err := s.describeResource(image, layers, resource)
		r.ErrorCode, r.ErrorMessage = errorCode(err), errorMessage(err)
		wanted := wantedConfigs(rr.ConfigNames)
		for j := range entries {
			if e := &entries[j]; wanted(e.def.Name) {
				r.Configs = append(r.Configs, describedConfig(e, req))
			}
		}
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}

// wantedConfigs tells which settings the request asks for.
func wantedConfigs(names []string) func(string) bool {
	if len(names) == 0 {
		return func(string) bool { return true }
	}
	wanted := make(map[string]bool, len(names))
	for _, n := range names {
		wanted[n] = true
	}
	return func(name string) bool { return wanted[name] }
}

func (s *Server) describeResource(image *messages.Image, layers *door.Layers,
	resource messages.ConfigResource,
) ([]configEntry, error) {
	switch name := resource.Name; resource.Type {
	case messages.ConfigTopic:
		if err := door.CheckTopicName(name); err != nil {
			return nil, err
		}
		topic := image.Topic(name)
		if topic == nil {
			return nil, fmt.Errorf("topic %q: %w", name, messages.ErrUnknownTopicOrPartition)
		}
		return topicConfigs(layers, topic.Configs), nil
	case messages.ConfigBroker:
		if name == "" {
			return changedConfigs(image, messages.NoNode), nil
		}
		id, err := door.BrokerID(name)
		if err != nil {
			return nil, err
		}
		switch {
		case id == s.cluster.Self():
			return brokerConfigs(layers), nil
		case image.Node(id) != nil:
			return changedConfigs(image, id), nil
		}
		return nil, fmt.Errorf("%w: there is no broker %d", messages.ErrInvalidRequest, id)
	case messages.ConfigGroup:
		if name == "" {
			return nil, fmt.Errorf("%w: the group id is empty", messages.ErrInvalidRequest)
		}
		return groupConfigs(layers), nil
	}
	return nil, door.Unconfigurable(resource.Type)
}

func describedConfig(e *configEntry,
	req *kmsg.DescribeConfigsRequest,
) kmsg.DescribeConfigsResponseResourceConfig {
	out := kmsg.NewDescribeConfigsResponseResourceConfig()
	out.Name, out.Value = e.def.Name, e.shown()
	out.Source = kmsg.ConfigSource(e.source())
	out.ReadOnly, out.IsSensitive = e.readOnly, e.def.Sensitive
	out.ConfigType = kmsg.ConfigType(e.def.Type)
	if req.IncludeDocumentation {
		doc := e.documentation()
		out.Documentation = &doc
	}
	if !req.IncludeSynonyms {
		return out
	}
	for i := range e.value.Synonyms {
		syn := &e.value.Synonyms[i]
		o := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		o.Name, o.Source = syn.Name, kmsg.ConfigSource(syn.Origin)
		if !e.def.Sensitive {
			o.Value = &syn.Value
		}
		out.ConfigSynonyms = append(out.ConfigSynonyms, o)
	}
	return out
}
