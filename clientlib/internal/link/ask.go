package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
)

const (
	// askMax bounds a question whose context has no deadline, with all attempts.
	askMax = time.Minute
	// attemptMax bounds one attempt of a question that is asked again and again: a node
	// that hangs must not use up all the time.
	attemptMax = 15 * time.Second
	// coordinatorMax and lookupMax are that for coordinators and for who they are: they
	// answer at once, and a member that waits for one that hangs outlives its session.
	coordinatorMax = 5 * time.Second
	lookupMax      = 2 * time.Second
	// coordinatorsMax bounds what is remembered of who coordinates what.
	coordinatorsMax = 1024
)

// passing are the errors that pass if one asks again.
var passing = []error{
	messages.ErrUnavailable, messages.ErrNotLeader, messages.ErrNotCoordinator,
	messages.ErrCoordinatorLoading, messages.ErrOverloaded, messages.ErrFencedLeaderEpoch,
	messages.ErrUnknownLeaderEpoch, messages.ErrNotController,
}

// retriable reports whether an error passes if one asks again.
func retriable(err error) bool {
	if errors.Is(err, ErrClosed) {
		return false
	}
	for _, p := range passing {
		if errors.Is(err, p) {
			return true
		}
	}
	return false
}

// bounded returns a context that ends.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, askMax)
}

// Ask is Send for callers that wait. Without a deadline of ctx it waits a minute. It fails
// with ctx, too: at a deadline with ErrNoAnswer. If ctx is cancelled the error is that
// alone, for nobody is to blame; the request may be carried out all the same.
func (l *Link) Ask(ctx context.Context, to messages.NodeID, req *wire.ClientRequest) (
	*wire.ClientResponse, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	type outcome struct {
		resp *wire.ClientResponse
		err  error
	}
	answer := make(chan outcome, 1)
	deadline, _ := ctx.Deadline()
	l.Send(to, req, max(time.Until(deadline), time.Millisecond),
		func(resp *wire.ClientResponse, err error) { answer <- outcome{resp, err} })
	select {
	case a := <-answer:
		return a.resp, a.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, fmt.Errorf("waiting for an answer: %w", ctx.Err())
		}
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	}
}

// AskAny asks any node, again and again until ctx ends while the error is one that passes:
// only for requests that may be carried out twice. Without a deadline it tries for a
// minute.
func (l *Link) AskAny(ctx context.Context, req *wire.ClientRequest) (*wire.ClientResponse, error) {
	return l.persist(ctx, func(ctx context.Context) (*wire.ClientResponse, error) {
		return l.Ask(ctx, messages.NoNode, req)
	})
}

// AskCoordinator is AskAny at the coordinator of a key, wherever it is or moves to.
func (l *Link) AskCoordinator(ctx context.Context, kind coord.Kind, key string,
	req *wire.ClientRequest) (*wire.ClientResponse, error) {
	of := coordinated{kind, key}
	return l.persist(ctx, func(ctx context.Context) (*wire.ClientResponse, error) {
		node, err := l.coordinator(ctx, of)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, coordinatorMax)
		defer cancel()
		resp, err := l.Ask(ctx, node, req)
		if errors.Is(err, messages.ErrNotCoordinator) || errors.Is(err, messages.ErrUnavailable) {
			l.mu.Lock()
			delete(l.coordinators, of)
			l.mu.Unlock()
		}
		return resp, err
	})
}

// coordinator returns the node that coordinates a key, as last told or as any node says.
func (l *Link) coordinator(ctx context.Context, of coordinated) (messages.NodeID, error) {
	l.mu.Lock()
	node, ok := l.coordinators[of]
	l.mu.Unlock()
	if ok {
		return node, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupMax)
	defer cancel()
	resp, err := l.Ask(ctx, messages.NoNode, &wire.ClientRequest{
		Command: &wire.ClientRequest_FindCoordinator{FindCoordinator: &wire.ClientFindCoordinator{
			Transaction: of.kind == coord.Txn, Key: of.key}}})
	if err != nil {
		return messages.NoNode, err
	}
	if resp.GetCoordinator() == nil {
		return messages.NoNode, fmt.Errorf("nobody coordinates %q: %w", of.key,
			messages.ErrUnavailable)
	}
	node = messages.NodeID(resp.GetCoordinator().NodeId)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.coordinators) >= coordinatorsMax {
		clear(l.coordinators)
	}
	l.coordinators[of] = node
	return node, nil
}

// AskLeader is AskAny at the leader of a partition.
func (l *Link) AskLeader(ctx context.Context, p messages.TopicPartition, req *wire.ClientRequest) (
	*wire.ClientResponse, error) {
	return l.persist(ctx, func(ctx context.Context) (*wire.ClientResponse, error) {
		route, err := l.Route(ctx, p.Topic, false)
		if err != nil {
			return nil, err
		}
		if p.Partition < 0 || int(p.Partition) >= len(route.Partitions) {
			return nil, fmt.Errorf("topic %q has %d partitions, and no number %d: %w", p.Topic,
				len(route.Partitions), p.Partition, messages.ErrUnknownTopicOrPartition)
		}
		leader := route.Partitions[p.Partition].Node
		if leader == messages.NoNode {
			return nil, fmt.Errorf("nobody leads %s-%d: %w", p.Topic, p.Partition,
				messages.ErrUnavailable)
		}
		resp, err := l.Ask(ctx, leader, req)
		if err != nil && retriable(err) {
			l.Learn(p.Topic, p.Partition, cmp.Or(resp.GetAppended().GetLeader(),
				resp.GetFetched().GetLeader()))
		}
		return resp, err
	})
}

// persist asks again and again until ctx ends, while the error is one that passes.
func (l *Link) persist(ctx context.Context,
	ask func(ctx context.Context) (*wire.ClientResponse, error)) (*wire.ClientResponse, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err // nobody was tried
	}
	begun := time.Now()
	var last error
	for failures := 1; ; failures++ {
		attempt, end := context.WithTimeout(ctx, attemptMax)
		resp, err := ask(attempt)
		end()
		if err == nil || !retriable(err) && ctx.Err() == nil {
			return resp, err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if errors.Is(last, context.Canceled) {
			return nil, last // before anybody has failed
		}
		pause := time.NewTimer(backoff(failures))
		select {
		case <-pause.C:
		case <-l.ctx.Done():
		case <-ctx.Done():
		}
		pause.Stop()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("tried for %v: %w (%w)", time.Since(begun).Round(time.Millisecond),
				last, ctx.Err())
		}
	}
}
