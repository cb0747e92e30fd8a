package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// call is one decoded request on its way through a handler.
type call struct {
	req      kmsg.Request // decoded, its version set
	version  int16
	clientID string
	conn     connInfo
}

// connInfo is what handlers may know of the connection a call came in on.
type connInfo struct {
	Remote         string // host:port of the client
	AdvertisedHost string // of the listener the client came in on
	AdvertisedPort int32
}

// handler answers one request; it may block until ctx ends (the connection
// closed or the node stops). The requests of a connection reach handlers one at
// a time and in order; Produce and Fetch have handlers of their own kind that
// do not hold up those behind them. A nil response closes the connection.
type handler func(s *Server, ctx context.Context, c *call) kmsg.Response
