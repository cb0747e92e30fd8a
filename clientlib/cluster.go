package clientlib

import (
	"context"
	"errors"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
)

// cluster is what producers, consumers and the administration need of the connections to
// the nodes. *link.Link satisfies it, and fakes in tests.
type cluster interface {
	// Route returns where a topic's partitions are led. The first call subscribes to the
	// topic and waits for its actor. It fails with messages.ErrUnknownTopicOrPartition if
	// there is no such topic (create: and it may not be made), and with ctx.
	Route(ctx context.Context, topic string, create bool) (*link.Route, error)
	// Watch has notify called with the route as it is, if known, and after each change,
	// one call at a time; it must not block. The topic stays subscribed until cancel.
	Watch(topic string, notify func(*link.Route)) (cancel func())
	// Learn tells of a leader that a node named in an answer; nil: it named none, and
	// the route is asked for again soon.
	Learn(topic string, partition int32, leader *wire.ClientLeader)
	// Send sends a request to a node's session, which it opens if there is none;
	// messages.NoNode: any node. It returns at once. done is called once, from any
	// goroutine, and must not block: with the response, whose error is err too, or with
	// an error alone: link.ErrNotSent if no node has seen the request, link.ErrNoAnswer if
	// one may have carried it out. Both are messages.ErrUnavailable. Appends that go
	// to one node arrive in the order of the calls or not at all.
	Send(to messages.NodeID, req *wire.ClientRequest, wait time.Duration,
		done func(resp *wire.ClientResponse, err error))
	// Ask is Send for callers that wait.
	Ask(ctx context.Context, to messages.NodeID, req *wire.ClientRequest) (*wire.ClientResponse, error)
	// AskAny asks any node, again and again until ctx ends while the error is one that
	// passes: only for requests that may be carried out twice.
	AskAny(ctx context.Context, req *wire.ClientRequest) (*wire.ClientResponse, error)
	// AskCoordinator is AskAny at the coordinator of a key, wherever it is or moves to.
	AskCoordinator(ctx context.Context, kind coord.Kind, key string, req *wire.ClientRequest) (
		*wire.ClientResponse, error)
	// AskLeader is AskAny at the leader of a partition.
	AskLeader(ctx context.Context, p messages.TopicPartition, req *wire.ClientRequest) (
		*wire.ClientResponse, error)
	// Nodes are the live nodes as last told.
	Nodes() []link.Node
}

// outdated reports whether an error of a partition's leader says that it is another one, or
// leads anew, as the route should have said.
func outdated(err error) bool {
	return errors.Is(err, messages.ErrNotLeader) || errors.Is(err, messages.ErrFencedLeaderEpoch)
}
