package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestDeleteGroupsAnswersForEachGroup(t *testing.T) {
	eachVersion(t, 42, func(t *testing.T, v int16) {
		f := withGroups()
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = []string{"a", "b", "gone", "b"}
		resp := ask[*kmsg.DeleteGroupsResponse](t, f, req, v)
		got := map[string]int16{}
		for _, g := range resp.Groups {
			got[g.Group] = g.ErrorCode
		}
		equal(t, "codes", got, map[string]int16{"a": 68, "b": 0, "gone": 69})
		equal(t, "b is gone", f.coords.groups["b"] == nil, true)
	})
}
