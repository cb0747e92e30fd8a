package door

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

// Bounds of how long a client may hold up what serves it.
const (
	// waitDefault is used when a request names no timeout; Kafka's own admin
	// requests default to it.
	waitDefault = 15 * time.Second
	// waitMax caps what a request may ask for: a client that gave up long ago must
	// not keep a queue waiting.
	waitMax = 5 * time.Minute
)

// WaitFor bounds ctx by the timeout a request carries, in milliseconds. Zero
// and less means 15 seconds: Kafka lets such requests expire before they do
// anything, which helps nobody. No request waits longer than 5 minutes.
func WaitFor(ctx context.Context, timeoutMs int32) (context.Context, context.CancelFunc) {
	wait := time.Duration(timeoutMs) * time.Millisecond
	if wait <= 0 {
		wait = waitDefault
	}
	return context.WithTimeout(ctx, min(wait, waitMax))
}

// gatherMax bounds the questions of one request that are with coordinators at
// the same time.
const gatherMax = 64

// Gather asks n questions and returns the answers in their order. build makes
// question i, whose answer goes to reply; it may be called again for a question
// whose answer was not waited for, so it makes a new one each time. When ctx ends
// first, what is not answered yet is refused with messages.ErrUnavailable.
func Gather[A any](ctx context.Context, ask func(key string, r coord.Request), n int,
	build func(i int, reply func(A)) (key string, r coord.Request),
) []A {
	type answer struct {
		i int
		a A
	}
	answers := make([]A, n)
	missing := make(map[int]struct{}, min(n, gatherMax))
	// There is room for every question under way, so no reply blocks, not even one
	// that comes when nobody waits any more.
	came := make(chan answer, min(n, gatherMax))
	for next := 0; next < n || len(missing) > 0; {
		if next < n && len(missing) < gatherMax {
			i := next
			missing[i] = struct{}{}
			ask(build(i, func(a A) { came <- answer{i, a} }))
			next++
			continue
		}
		select {
		case got := <-came:
			answers[got.i] = got.a
			delete(missing, got.i)
		case <-ctx.Done():
			err := fmt.Errorf("%w: %w", messages.ErrUnavailable, context.Cause(ctx))
			refuse := func(i int) {
				_, r := build(i, func(a A) { answers[i] = a })
				r.Refuse(err)
			}
			for i := range missing {
				refuse(i)
			}
			for i := next; i < n; i++ {
				refuse(i)
			}
			return answers
		}
	}
	return answers
}

// Await is Gather for one question.
func Await[A any](ctx context.Context, ask func(key string, r coord.Request), key string,
	build func(reply func(A)) coord.Request,
) A {
	return Gather(ctx, ask, 1, func(_ int, reply func(A)) (string, coord.Request) {
		return key, build(reply)
	})[0]
}

// AskGroup hands a request to a group. One without an id does not exist, although
// Kafka once let consumers commit offsets under it.
func AskGroup(c Coordinators, id string, r coord.Request) {
	if id == "" {
		r.Refuse(emptyGroupID())
		return
	}
	c.Group(id, r)
}

func emptyGroupID() error { return fmt.Errorf("%w: it is empty", group.ErrInvalidGroupID) }

// AskTxn hands a request to a transactional id.
func AskTxn(c Coordinators, id string, r coord.Request) {
	if id == "" {
		r.Refuse(fmt.Errorf("%w: the transactional id is empty", messages.ErrInvalidRequest))
		return
	}
	c.Txn(id, r)
}

// ErrorAt is the error of item i of a request that is answered by one error for
// all or by one for each.
func ErrorAt(all error, each []error, i int) error {
	switch {
	case all != nil || each == nil:
		return all
	case i >= len(each):
		return fmt.Errorf("coordinator answered only %d items", len(each))
	}
	return each[i]
}

// FindCoordinator returns the live node that coordinates a key. It makes the
// internal topic if there is none. That there is no such node now is
// messages.ErrUnavailable.
func FindCoordinator(ctx context.Context, cluster Cluster, c Coordinators, kind coord.Kind,
	key string,
) (*messages.Node, error) {
	id, err := c.Find(ctx, kind, key)
	if err != nil {
		return nil, err
	}
	// The node may have joined while the topic was made, so the newest image counts.
	if n := cluster.Image().Node(id); n != nil && !n.Fenced {
		return n, nil
	}
	return nil, fmt.Errorf("node %d coordinates %s %q and is not alive: %w",
		id, kind, key, messages.ErrUnavailable)
}

// OffsetsPartition is the partition of the internal topic that keeps a group's
// offsets. The topic is made if there is none.
func OffsetsPartition(ctx context.Context, c Coordinators, id string,
) (messages.TopicPartition, error) {
	if id == "" {
		return messages.TopicPartition{}, emptyGroupID()
	}
	if tp, err := c.Partition(coord.Group, id); err == nil {
		return tp, nil
	}
	if _, err := c.Find(ctx, coord.Group, id); err != nil {
		return messages.TopicPartition{}, err
	}
	return c.Partition(coord.Group, id)
}

// GroupJoinsTxn makes the partition of a group's offsets part of a transaction.
func GroupJoinsTxn(ctx context.Context, c Coordinators, groupID, txnID string,
	producer messages.ProducerID, epoch messages.ProducerEpoch,
) error {
	if txnID == "" {
		return fmt.Errorf("%w: the transactional id is empty", messages.ErrInvalidRequest)
	}
	tp, err := OffsetsPartition(ctx, c, groupID)
	if err != nil {
		return err
	}
	added := c.AddToTxn(ctx, txnID, txn.Add{Producer: producer, Epoch: epoch,
		Partitions: []messages.TopicPartition{tp}})
	return ErrorAt(added.Err, added.Errs, 0)
}

// ClientHost is where a client is, as Kafka shows it; remote is HOST or HOST:PORT.
func ClientHost(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	return "/" + host
}

// HeartbeatFault says what cannot be in a heartbeat of a consumer group's member,
// "" if nothing. ownID: the member makes its id itself.
func HeartbeatFault(groupID string, b *group.ConsumerHeartbeat, ownID bool) string {
	joins := b.MemberEpoch == group.EpochJoin
	switch {
	case groupID == "":
		return "the group id is empty"
	case b.Rack != nil && *b.Rack == "":
		return "the rack id is empty; leave it out if there is none"
	case b.MemberID == "" && (!joins || ownID):
		return "the member id is empty"
	case b.MemberEpoch < group.EpochLeaveStatic:
		return "there is no such member epoch"
	case b.MemberEpoch == group.EpochLeaveStatic && b.InstanceID == "":
		return "only static members leave to come back"
	case !joins:
		return ""
	case b.RebalanceTimeoutMs < 0:
		return "a member that joins must have a rebalance timeout"
	case !b.HasOwned || len(b.Owned) > 0:
		return "a member that joins owns no partitions, and says so with an empty list"
	case !b.HasTopics && b.Regex == nil:
		return "a member that joins must say what it reads, if only an empty list of topics"
	}
	return ""
}
