package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions, key 18, versions 0 to 4: which APIs and versions there are.
//
//	v0-2  the table of APIs
//	v3    flexible encoding; the client names its software (KIP-511); features
//	v4    as v3; features with minimum 0 are allowed (KAFKA-17011)
//
// The response header is always version 0, because the client cannot know yet
// what the broker speaks. A version above 4 is answered in version 0 by
// unsupportedAPIVersions.
func (s *Server) apiVersions(_ context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ApiVersionsRequest)
	resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
	if req.Version >= 3 &&
		(!validSoftwareName(req.ClientSoftwareName) || !validSoftwareName(req.ClientSoftwareVersion)) {
		resp.ErrorCode = codeInvalidRequest
		return resp
	}
	resp.ApiKeys = make([]kmsg.ApiVersionsResponseApiKey, 0, keyMax)
	for _, a := range s.apis {
		if a == nil {
			continue
		}
		resp.ApiKeys = append(resp.ApiKeys, apiRange(a))
	}
	if req.Version >= 3 {
		appendFeatures(resp, int64(s.cluster.Image().Version))
	}
	return resp
}

// features are the features of the cluster that clients look at (KIP-584), all
// finalized at their highest level:
//
//   - group.version 1 lets consumers use the protocol of KIP-848;
//   - transaction.version 2 makes Java and franz-go producers speak the second part
//     of KIP-890: Produce 12, TxnOffsetCommit 5, EndTxn 5.
var features = []struct {
	name  string
	level int16
}{
	{"group.version", 1},
	{"transaction.version", 2},
}

// appendFeatures adds the features. Their lowest level is 0, which Java clients
// that speak version 3 cannot read: they are told 1 (KAFKA-17011).
func appendFeatures(resp *kmsg.ApiVersionsResponse, epoch int64) {
	var lowest int16
	if resp.Version < 4 {
		lowest = 1
	}
	for _, f := range features {
		sup := kmsg.NewApiVersionsResponseSupportedFeature()
		sup.Name, sup.MinVersion, sup.MaxVersion = f.name, lowest, f.level
		resp.SupportedFeatures = append(resp.SupportedFeatures, sup)
		fin := kmsg.NewApiVersionsResponseFinalizedFeature()
		fin.Name, fin.MinVersionLevel, fin.MaxVersionLevel = f.name, f.level, f.level
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, fin)
	}
	resp.FinalizedFeaturesEpoch = epoch
}

// unsupportedAPIVersions answers an ApiVersions request of a version that is
// not served: a version 0 body that lists ApiVersions alone, so that any client
// can read it and ask again (KIP-511).
func (s *Server) unsupportedAPIVersions() kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = codeUnsupportedVersion
	resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{apiRange(s.apis.find(keyAPIVersions))}
	return resp
}

func apiRange(a *api) kmsg.ApiVersionsResponseApiKey {
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
	return k
}

// validSoftwareName reports whether s matches
// [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?, Kafka's rule for the name and the
// version of a client's software.
func validSoftwareName(s string) bool {
	if s == "" || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
