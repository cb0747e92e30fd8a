package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func TestUnregisterBrokerForgetsADeadNode(t *testing.T) {
	f := replicated()
	forget := func(id int32) int16 {
		req := kmsg.NewPtrUnregisterBrokerRequest()
		req.BrokerID = id
		resp := ask[*kmsg.UnregisterBrokerResponse](t, f, req, 0)
		if resp.ErrorCode != codeNone {
			hasText(t, "refusal", resp.ErrorMessage)
		}
		return resp.ErrorCode
	}
	equal(t, "a live one", forget(2), codeInvalidRequest)
	equal(t, "a dead one", forget(3), codeNone)
	equal(t, "again", forget(3), codeBrokerIDNotRegistered)
	equal(t, "it is gone", f.Image().Node(3) == nil, true)
	f.failControl(messages.ErrUnavailable)
	equal(t, "without a controller", forget(2), codeNotController)
}
