package kafka

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// found is the answer for each key, in any version.
func found(resp *kmsg.FindCoordinatorResponse) []kmsg.FindCoordinatorResponseCoordinator {
	if resp.Version >= 4 {
		return resp.Coordinators
	}
	return []kmsg.FindCoordinatorResponseCoordinator{{
		Key: "g", NodeID: resp.NodeID, Host: resp.Host, Port: resp.Port,
		ErrorCode: resp.ErrorCode, ErrorMessage: resp.ErrorMessage,
	}}
}

func findRequest(keyType int8) *kmsg.FindCoordinatorRequest {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorType = keyType
	req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
	return req
}

func TestFindCoordinatorNamesTheNodeWithTheAddressOfTheListener(t *testing.T) {
	for _, keyType := range []int8{0, 1} {
		eachVersion(t, 10, func(t *testing.T, v int16) {
			f := newFakeCluster()
			f.addNodes()
			for node, want := range map[messages.NodeID]string{1: "listener.example", 2: "two.example"} {
				f.coords.node = node
				resp := ask[*kmsg.FindCoordinatorResponse](t, f, findRequest(keyType), v)
				for i, c := range found(resp) {
					equal(t, "code", c.ErrorCode, codeNone)
					equal(t, "key", c.Key, []string{"g", "h"}[i])
					equal(t, "node", c.NodeID, int32(node))
					equal(t, "host", c.Host, want)
					equal(t, "port", c.Port, map[messages.NodeID]int32{1: 19092, 2: 9093}[node])
				}
			}
		})
	}
}

func TestFindCoordinatorRefusesKeyTypesItDoesNotKnow(t *testing.T) {
	eachVersion(t, 10, func(t *testing.T, v int16) {
		if v == 0 {
			return // version 0 has no key type
		}
		for keyType, words := range map[int8]string{2: "share groups are not", 3: "unknown"} {
			want := codeInvalidRequest
			if keyType == 2 && v >= 6 {
				want = codeUnsupportedVersion
			} else {
				words = "unknown"
			}
			resp := ask[*kmsg.FindCoordinatorResponse](t, newFakeCluster(), findRequest(keyType), v)
			for _, c := range found(resp) {
				equal(t, "code", c.ErrorCode, want)
				equal(t, "node", c.NodeID, int32(-1))
				if c.ErrorMessage == nil || !strings.Contains(*c.ErrorMessage, words) {
					t.Errorf("type %d: message is %v", keyType, c.ErrorMessage)
				}
			}
		}
	})
}

func TestFindCoordinatorTellsClientsToAskAgainWhileThereIsNone(t *testing.T) {
	eachVersion(t, 10, func(t *testing.T, v int16) {
		for name, tt := range map[string]struct {
			scene func(*fakeCluster)
			want  int16
		}{
			"no leader":      {func(f *fakeCluster) { f.coords.err = messages.ErrUnavailable }, 15},
			"no controller":  {func(f *fakeCluster) { f.coords.err = messages.ErrNotController }, 15},
			"too slow":       {func(f *fakeCluster) { f.coords.err = messages.ErrRequestTimedOut }, 15},
			"a node unknown": {func(f *fakeCluster) { f.coords.node = 77 }, 15},
			"a dead node":    {func(f *fakeCluster) { f.coords.node = 2; f.fence(2) }, 15},
			"a bug":          {func(f *fakeCluster) { f.coords.err = errors.New("?") }, -1},
		} {
			f := newFakeCluster()
			f.addNodes()
			tt.scene(f)
			for _, c := range found(ask[*kmsg.FindCoordinatorResponse](t, f, findRequest(0), v)) {
				equal(t, name, c.ErrorCode, tt.want)
				equal(t, "node", c.NodeID, int32(-1))
				if v >= 1 {
					hasText(t, name, c.ErrorMessage)
				}
			}
		}
	})
}
