package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

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
	Listener       string // name of the listener the client came in on
	AdvertisedHost string // of that listener
	AdvertisedPort int32
}

// handler answers one request; it may block until ctx ends (the connection
// closed or the node stops). The requests of a connection reach handlers one at
// a time and in order; Produce and Fetch have handlers of their own kind that
// do not hold up those behind them. A nil response closes the connection.
type handler func(s *Server, ctx context.Context, c *call) kmsg.Response

// requestHeader is the header of a request, version 1, or 2 without its tags.
type requestHeader struct {
	key         int16
	version     int16
	correlation int32
	clientID    string // "" for null
}

// errShortHeader: the frame ends before its header does.
var errShortHeader = errors.New("request header is cut short")

// parseHeader reads the fixed part of the request header and returns what
// follows: for flexible versions the header's tags, then the body. The client id
// is never compact, not even in header version 2.
func parseHeader(b []byte) (h requestHeader, rest []byte, err error) {
	if len(b) < 10 {
		return h, nil, errShortHeader
	}
	h.key = int16(binary.BigEndian.Uint16(b[0:]))
	h.version = int16(binary.BigEndian.Uint16(b[2:]))
	h.correlation = int32(binary.BigEndian.Uint32(b[4:]))
	n, rest := int(int16(binary.BigEndian.Uint16(b[8:]))), b[10:]
	switch {
	case n < -1:
		return h, nil, fmt.Errorf("client id has %d bytes", n)
	case n > len(rest):
		return h, nil, errShortHeader
	case n > 0:
		h.clientID, rest = string(rest[:n]), rest[n:]
	}
	return h, rest, nil
}
