package clientlib

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
)

// adminCluster is a cluster that answers as a test says, and remembers who was asked.
type adminCluster struct {
	answer func(to string, req *wire.ClientRequest) (*wire.ClientResponse, error)
	routes map[string]*link.Route
	nodes  []link.Node

	mu    sync.Mutex
	asked []string // "any", "group ID", "leader TOPIC-N", "node N"; in order
	reqs  []*wire.ClientRequest
}

// stays is of a client that is not closed.
func stays() error { return nil }

func (c *adminCluster) ask(ctx context.Context, to string, req *wire.ClientRequest) (
	*wire.ClientResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.asked, c.reqs = append(c.asked, to), append(c.reqs, req)
	c.mu.Unlock()
	resp, err := c.answer(to, req)
	if err == nil && resp.GetError() != nil {
		err = wire.ToError(resp.GetError())
	}
	return resp, err
}

// whom returns who was asked, sorted: some questions are asked at once.
func (c *adminCluster) whom() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(slices.Values(c.asked))
}

func (c *adminCluster) Ask(ctx context.Context, to messages.NodeID, req *wire.ClientRequest) (
	*wire.ClientResponse, error) {
	return c.ask(ctx, fmt.Sprintf("node %d", to), req)
}

func (c *adminCluster) AskAny(ctx context.Context, req *wire.ClientRequest) (
	*wire.ClientResponse, error) {
	return c.ask(ctx, "any", req)
}

func (c *adminCluster) AskCoordinator(ctx context.Context, kind coord.Kind, key string,
	req *wire.ClientRequest) (*wire.ClientResponse, error) {
	return c.ask(ctx, kind.String()+" "+key, req)
}

func (c *adminCluster) AskLeader(ctx context.Context, p messages.TopicPartition,
	req *wire.ClientRequest) (*wire.ClientResponse, error) {
	return c.ask(ctx, fmt.Sprintf("leader %s-%d", p.Topic, p.Partition), req)
}

func (c *adminCluster) Route(_ context.Context, topic string, _ bool) (*link.Route, error) {
	if r := c.routes[topic]; r != nil {
		return r, nil
	}
	return nil, messages.ErrUnknownTopicOrPartition
}

func (c *adminCluster) Nodes() []link.Node { return c.nodes }

func (c *adminCluster) Watch(string, func(*link.Route)) func() {
	panic("the administration does not watch")
}

func (c *adminCluster) Learn(string, int32, *wire.ClientLeader) {
	panic("the administration does not learn")
}

func (c *adminCluster) Send(messages.NodeID, *wire.ClientRequest, time.Duration,
	func(*wire.ClientResponse, error)) {
	panic("the administration waits for its answers")
}
