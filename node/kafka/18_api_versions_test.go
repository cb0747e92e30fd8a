package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestApiVersionsNamesTheFeaturesThatClientsLookAt(t *testing.T) {
	eachVersion(t, 18, func(t *testing.T, v int16) {
		f := newFakeCluster()
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "test", "1"
		resp := ask[*kmsg.ApiVersionsResponse](t, f, req, v)
		if v < 3 {
			equal(t, "features", len(resp.SupportedFeatures)+len(resp.FinalizedFeatures), 0)
			return
		}
		equal(t, "epoch", resp.FinalizedFeaturesEpoch, int64(f.Image().Version))
		supported, finalized := map[string][2]int16{}, map[string]int16{}
		for _, s := range resp.SupportedFeatures {
			supported[s.Name] = [2]int16{s.MinVersion, s.MaxVersion}
		}
		for _, s := range resp.FinalizedFeatures {
			finalized[s.Name] = s.MaxVersionLevel
		}
		lowest := int16(0)
		if v == 3 { // Java clients that speak it fail on 0
			lowest = 1
		}
		equal(t, "supported", supported, map[string][2]int16{
			"group.version": {lowest, 1}, "transaction.version": {lowest, 2}})
		equal(t, "finalized", finalized, map[string]int16{
			"group.version": 1, "transaction.version": 2})
	})
}
