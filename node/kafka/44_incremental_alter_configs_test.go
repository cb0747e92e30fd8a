package kafka

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// alterRecorder keeps what the controller is asked.
type alterRecorder struct {
	*fakeCluster
	asked        []messages.AlterConfigs
	validateOnly bool
	answer       []error
}

func (r *alterRecorder) AlterConfigs(_ context.Context, reqs []messages.AlterConfigs,
	validateOnly bool,
) ([]error, error) {
	r.asked, r.validateOnly = reqs, validateOnly
	return r.answer, nil
}

func incremental(kind messages.ConfigResourceType, name string,
	changes ...kmsg.IncrementalAlterConfigsRequestResourceConfig,
) kmsg.IncrementalAlterConfigsRequestResource {
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.Configs = kmsg.ConfigResourceType(kind), name, changes
	return r
}

func op(key string, op int8, value *string) kmsg.IncrementalAlterConfigsRequestResourceConfig {
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Op, c.Value = key, kmsg.IncrementalAlterConfigOp(op), value
	return c
}

func TestIncrementalAlterConfigsPassesEveryOperationOn(t *testing.T) {
	f := newFakeCluster()
	rec := &alterRecorder{fakeCluster: f, answer: []error{nil, messages.ErrInvalidConfig, nil}}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = true
	req.Resources = append(req.Resources,
		incremental(messages.ConfigTopic, "a", op("retention.ms", 0, ptr("1")),
			op("segment.bytes", 1, nil), op("cleanup.policy", 2, ptr("compact")),
			op("flush.ms", 3, ptr("x"))),
		incremental(messages.ConfigBroker, "7"), incremental(messages.ConfigBroker, ""))
	s := &Server{partitions: f, cluster: rec, settings: f, apis: newAPITable()}
	answer := s.incrementalAlterConfigs(t.Context(), &call{req: req, version: 1})
	resp := answer.(*kmsg.IncrementalAlterConfigsResponse)
	equal(t, "trial", rec.validateOnly, true)
	equal(t, "asked", rec.asked, []messages.AlterConfigs{
		{
			Resource: messages.ConfigResource{Type: messages.ConfigTopic, Name: "a"},
			Changes: []messages.ConfigChange{
				{Key: "retention.ms", Op: messages.ConfigSet, Value: "1"},
				{Key: "segment.bytes", Op: messages.ConfigDelete},
				{Key: "cleanup.policy", Op: messages.ConfigAppend, Value: "compact"},
				{Key: "flush.ms", Op: messages.ConfigSubtract, Value: "x"},
			},
		},
		{Resource: messages.ConfigResource{Type: messages.ConfigBroker, Name: "7"}},
		{Resource: messages.ConfigResource{Type: messages.ConfigBroker}},
	})
	equal(t, "first", resp.Resources[0].ErrorCode, codeNone)
	equal(t, "second", resp.Resources[1].ErrorCode, codeInvalidConfig)
	equal(t, "third", resp.Resources[2].ErrorCode, codeNone)
}

func TestIncrementalAlterConfigsChangesSingleSettings(t *testing.T) {
	eachVersion(t, 44, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 1)
		f.change("a", func(t *messages.Topic) {
			t.Configs = messages.Config{"retention.ms": "1000", "segment.bytes": "5000"}
		})
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Resources = append(req.Resources, incremental(messages.ConfigTopic, "a",
			op("segment.bytes", 1, nil), op("flush.ms", 0, ptr("5"))))
		resp := ask[*kmsg.IncrementalAlterConfigsResponse](t, f, req, v)
		equal(t, "code", resp.Resources[0].ErrorCode, codeNone)
		equal(t, "configs", f.Image().Topic("a").Configs,
			messages.Config{"retention.ms": "1000", "flush.ms": "5"})
	})
}

func TestIncrementalAlterConfigsRefusesBeforeItAsks(t *testing.T) {
	eachVersion(t, 44, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 1)
		for _, tt := range []struct {
			name string
			r    kmsg.IncrementalAlterConfigsRequestResource
			want int16
		}{
			{"a set to null", incremental(messages.ConfigTopic, "a", op("flush.ms", 0, nil)),
				codeInvalidRequest},
			{"an append of null", incremental(messages.ConfigTopic, "a", op("flush.ms", 2, nil)),
				codeInvalidRequest},
			{"an unknown operation", incremental(messages.ConfigTopic, "a", op("flush.ms", 4, ptr("1"))),
				codeInvalidRequest},
			{"a negative operation", incremental(messages.ConfigTopic, "a", op("flush.ms", -1, ptr("1"))),
				codeInvalidRequest},
			{"a key named twice", incremental(messages.ConfigTopic, "a", op("flush.ms", 0, ptr("1")),
				op("flush.ms", 1, nil)), codeInvalidRequest},
			{"no topic at all", incremental(messages.ConfigTopic, ""), codeInvalidRequest},
			{"an invalid topic", incremental(messages.ConfigTopic, "a b"), codeInvalidTopic},
			{"client metrics", incremental(16, "m"), codeInvalidRequest},
		} {
			t.Run(tt.name, func(t *testing.T) {
				req := kmsg.NewPtrIncrementalAlterConfigsRequest()
				req.Resources = append(req.Resources, tt.r)
				resp := ask[*kmsg.IncrementalAlterConfigsResponse](t, f, req, v)
				equal(t, "code", resp.Resources[0].ErrorCode, tt.want)
				hasText(t, tt.name, resp.Resources[0].ErrorMessage)
				equal(t, "configs", len(f.Image().Topic("a").Configs), 0)
			})
		}
	})
}

func TestIncrementalAlterConfigsPassesTheControllersFailureOn(t *testing.T) {
	for _, err := range []error{messages.ErrNotController, messages.ErrUnavailable} {
		f := newFakeCluster()
		f.failControl(err)
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Resources = append(req.Resources, incremental(messages.ConfigTopic, "a"),
			incremental(messages.ConfigTopic, "a b"))
		resp := ask[*kmsg.IncrementalAlterConfigsResponse](t, f, req, 1)
		equal(t, "asked", resp.Resources[0].ErrorCode, codeNotController)
		equal(t, "refused before", resp.Resources[1].ErrorCode, codeInvalidTopic)
	}
}
