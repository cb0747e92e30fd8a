package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func alterRequest(kind messages.ConfigResourceType, name string, pairs ...[2]string,
) *kmsg.AlterConfigsRequest {
	req := kmsg.NewPtrAlterConfigsRequest()
	r := kmsg.NewAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceType(kind), name
	for _, p := range pairs {
		c := kmsg.NewAlterConfigsRequestResourceConfig()
		c.Name, c.Value = p[0], &p[1]
		r.Configs = append(r.Configs, c)
	}
	req.Resources = append(req.Resources, r)
	return req
}

func TestAlterConfigsReplacesTheWholeSet(t *testing.T) {
	eachVersion(t, 33, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 1)
		f.change("a", func(t *messages.Topic) {
			t.Configs = messages.Config{"retention.ms": "1000", "segment.bytes": "5000"}
		})
		req := alterRequest(messages.ConfigTopic, "a", [2]string{"segment.bytes", "6000"})
		req.ValidateOnly = true
		resp := ask[*kmsg.AlterConfigsResponse](t, f, req, v)
		equal(t, "code of the trial", resp.Resources[0].ErrorCode, codeNone)
		equal(t, "configs after the trial", f.Image().Topic("a").Configs["segment.bytes"], "5000")

		req.ValidateOnly = false
		resp = ask[*kmsg.AlterConfigsResponse](t, f, req, v)
		equal(t, "code", resp.Resources[0].ErrorCode, codeNone)
		equal(t, "message", resp.Resources[0].ErrorMessage, nil)
		equal(t, "name", resp.Resources[0].ResourceName, "a")
		equal(t, "type", resp.Resources[0].ResourceType, kmsg.ConfigResourceTypeTopic)
		equal(t, "configs", f.Image().Topic("a").Configs, messages.Config{"segment.bytes": "6000"})
	})
}

func TestAlterConfigsFailsResourcesOneByOne(t *testing.T) {
	eachVersion(t, 33, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 1)
		f.addTopic("b", 1)
		set := [2]string{"segment.bytes", "6000"}
		req := alterRequest(messages.ConfigTopic, "a", set)
		for _, more := range []*kmsg.AlterConfigsRequest{
			alterRequest(messages.ConfigTopic, "gone", set),
			alterRequest(messages.ConfigTopic, "a b", set),
			alterRequest(messages.ConfigTopic, "b", set, set),
			alterRequest(messages.ConfigBroker, "one", set),
			alterRequest(8, "1", set),
			alterRequest(messages.ConfigTopic, "twice", set),
			alterRequest(messages.ConfigTopic, "twice", set),
		} {
			req.Resources = append(req.Resources, more.Resources...)
		}
		null := alterRequest(messages.ConfigTopic, "b").Resources[0]
		null.ResourceName = "c"
		null.Configs = []kmsg.AlterConfigsRequestResourceConfig{{Name: "segment.bytes"}}
		req.Resources = append(req.Resources, null)
		resp := ask[*kmsg.AlterConfigsResponse](t, f, req, v)
		var got []int16
		for i, r := range resp.Resources {
			equal(t, "name", r.ResourceName, req.Resources[i].ResourceName)
			got = append(got, r.ErrorCode)
			if r.ErrorCode != codeNone {
				hasText(t, r.ResourceName, r.ErrorMessage)
			}
		}
		equal(t, "codes", got, []int16{codeNone, codeUnknownTopicOrPartition, codeInvalidTopic,
			codeInvalidRequest, codeInvalidRequest, codeInvalidRequest, codeInvalidRequest,
			codeInvalidRequest, codeInvalidRequest})
		equal(t, "configs of b", len(f.Image().Topic("b").Configs), 0)
	})
}
