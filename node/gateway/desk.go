package gateway

import (
	"context"

	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

// desk answers what concerns groups, transactions and the administration. Any
// goroutine may call it.
type desk struct {
	cluster      door.Cluster
	coordinators door.Coordinators
	settings     door.Settings
}

// who is a client.
type who struct{ clientID, host string }

// answer answers a request. It may block until ctx ends.
func (d *desk) answer(_ context.Context, _ who, req *wire.ClientRequest) *wire.ClientResponse {
	return &wire.ClientResponse{RequestId: req.GetRequestId(),
		Error: wire.FromError(wire.ErrUnsupported)}
}
