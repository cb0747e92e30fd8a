package kafka

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestFindCoordinatorRefusesForGood(t *testing.T) {
	f := newFakeCluster()
	eachVersion(t, 10, func(t *testing.T, v int16) {
		for _, tt := range []struct {
			name    string
			keyType int8
			first   int16 // version that has the key type
			want    int16
			words   string
		}{
			{"groups", 0, 0, codeUnsupportedVersion, "consumer groups are not available"},
			{"transactions", 1, 1, codeTransactionalIDAuthFailed, "transactions are not available"},
			{"share groups", 2, 6, codeUnsupportedVersion, "share groups are not available"},
			{"unknown types", 3, 99, codeInvalidRequest, "unknown"},
		} {
			if v == 0 && tt.keyType > 0 {
				continue // version 0 has no key type
			}
			want := tt.want
			if v < tt.first {
				want = codeInvalidRequest
			}
			t.Run(tt.name, func(t *testing.T) {
				req := kmsg.NewPtrFindCoordinatorRequest()
				req.CoordinatorType = tt.keyType
				req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
				resp := ask[*kmsg.FindCoordinatorResponse](t, f, req, v)
				if v < 4 {
					equal(t, "code", resp.ErrorCode, want)
					equal(t, "node", resp.NodeID, int32(-1))
					if v >= 1 && v >= tt.first && !strings.Contains(*resp.ErrorMessage, tt.words) {
						t.Errorf("message is %q", *resp.ErrorMessage)
					}
					return
				}
				equal(t, "answers", len(resp.Coordinators), 2)
				for i, c := range resp.Coordinators {
					equal(t, "key", c.Key, req.CoordinatorKeys[i])
					equal(t, "code", c.ErrorCode, want)
					equal(t, "node", c.NodeID, int32(-1))
					if v >= tt.first && !strings.Contains(*c.ErrorMessage, tt.words) {
						t.Errorf("message is %q", *c.ErrorMessage)
					}
				}
			})
		}
	})
}
