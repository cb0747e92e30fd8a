package gateway

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

// answerMax bounds an answer in bytes: what crosses nodes is bounded, and the answer
// stands in an envelope.
const answerMax = 2<<20 - 64<<10

// who is the client that asks.
type who struct {
	clientID string
	host     string // HOST or HOST:PORT
}

// desk answers what clients ask of groups, transactions, and topics as a whole: all
// that is no business of one partition. It has no state; any goroutine may ask.
type desk struct {
	cluster      door.Cluster
	coordinators door.Coordinators
	settings     door.Settings
}

// answer answers one request, never with nil. It may block until
// the request has waited as long as it may, or ctx ends. A command that is none of the
// desk's is wire.ErrUnsupported.
func (d *desk) answer(ctx context.Context, w who, req *wire.ClientRequest) *wire.ClientResponse {
	ctx, cancel := door.WaitFor(ctx, int32(min(req.GetTimeoutMs(), math.MaxInt32)))
	defer cancel()
	resp := d.coordinated(ctx, w, req)
	if resp == nil {
		resp = d.administer(ctx, req)
	}
	if resp == nil {
		resp = failed(fmt.Errorf("%T: %w", req.GetCommand(), wire.ErrUnsupported))
	}
	resp.RequestId = req.GetRequestId()
	return bounded(resp)
}

// bounded returns an answer that may be sent: the one given, or that it is too large.
func bounded(resp *wire.ClientResponse) *wire.ClientResponse {
	n := resp.Size()
	if n <= answerMax {
		return resp
	}
	large := failed(fmt.Errorf("%w: the answer has %d bytes, %d may be sent; ask about less at a time",
		messages.ErrInvalidRequest, n, answerMax))
	large.RequestId = resp.RequestId
	return large
}

// coordinated answers what groups and transactions are asked; nil: it is none of that.
func (d *desk) coordinated(ctx context.Context, w who, req *wire.ClientRequest,
) *wire.ClientResponse {
	switch c := req.GetCommand().(type) {
	case *wire.ClientRequest_FindCoordinator:
		return d.findCoordinator(ctx, c.FindCoordinator)
	case *wire.ClientRequest_GroupHeartbeat:
		return d.groupHeartbeat(ctx, w, c.GroupHeartbeat)
	case *wire.ClientRequest_CommitOffsets:
		return d.commitOffsets(ctx, c.CommitOffsets)
	case *wire.ClientRequest_FetchOffsets:
		return d.fetchOffsets(ctx, c.FetchOffsets)
	case *wire.ClientRequest_ListGroups:
		return d.listGroups(ctx)
	case *wire.ClientRequest_DescribeGroup:
		return d.describeGroup(ctx, c.DescribeGroup)
	case *wire.ClientRequest_DeleteGroup:
		return d.deleteGroup(ctx, c.DeleteGroup)
	case *wire.ClientRequest_DeleteOffsets:
		return d.deleteOffsets(ctx, c.DeleteOffsets)
	case *wire.ClientRequest_InitProducer:
		return d.initProducer(ctx, c.InitProducer)
	case *wire.ClientRequest_EndTxn:
		return d.endTxn(ctx, c.EndTxn)
	case *wire.ClientRequest_TxnCommitOffsets:
		return d.txnCommitOffsets(ctx, c.TxnCommitOffsets)
	}
	return nil
}

// administer answers what is asked of topics; nil: it is none of that.
func (d *desk) administer(ctx context.Context, req *wire.ClientRequest) *wire.ClientResponse {
	switch c := req.GetCommand().(type) {
	case *wire.ClientRequest_CreateTopics:
		return d.createTopics(ctx, c.CreateTopics)
	case *wire.ClientRequest_DeleteTopics:
		return d.deleteTopics(ctx, c.DeleteTopics)
	case *wire.ClientRequest_CreatePartitions:
		return d.createPartitions(ctx, c.CreatePartitions)
	case *wire.ClientRequest_AlterConfigs:
		return d.alterConfigs(ctx, c.AlterConfigs)
	case *wire.ClientRequest_DescribeConfigs:
		return d.describeConfigs(c.DescribeConfigs)
	case *wire.ClientRequest_DescribeTopics:
		return d.describeTopics(c.DescribeTopics)
	}
	return nil
}

func (d *desk) askGroup(id string, r coord.Request) { door.AskGroup(d.coordinators, id, r) }

func (d *desk) askTxn(id string, r coord.Request) { door.AskTxn(d.coordinators, id, r) }

// failed answers a request that failed as a whole.
func failed(err error) *wire.ClientResponse {
	return &wire.ClientResponse{Error: wire.FromError(err)}
}

// errorList answers a request of several items with one outcome for each.
func errorList(errs []error) *wire.ClientResponse {
	return &wire.ClientResponse{Result: &wire.ClientResponse_Errors{Errors: wire.FromErrors(errs)}}
}

// invalid says that a request cannot be read.
func invalid(err error) error { return fmt.Errorf("%w: %w", messages.ErrInvalidRequest, err) }

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// coordinatorError is what a client is told that asked a coordinator. It looks for the
// coordinator again on messages.ErrNotCoordinator and ErrUnavailable, and asks the same
// one again on ErrCoordinatorLoading and ErrOverloaded; the errors of the partition
// that keeps its state become one of them.
func coordinatorError(err error) error {
	switch {
	case err == nil, isAny(err, messages.ErrUnavailable):
		return err
	case isAny(err, messages.ErrNotLeader, messages.ErrFencedLeaderEpoch,
		messages.ErrUnknownLeaderEpoch, messages.ErrStorage, messages.ErrDiskFull):
		return fmt.Errorf("%w: %v", messages.ErrNotCoordinator, err)
	case isAny(err, messages.ErrBatchTooLarge, messages.ErrBatchLargerThanSegment):
		// Of the coordinator's own batch: the client has none.
		return fmt.Errorf("the coordinator cannot keep it: %v", err)
	case isAny(err, messages.ErrNotEnoughReplicas) || isAny(err, passes...):
		return unavailable(err)
	}
	return err
}

// passes are errors that are over after a while: the controller cannot be asked now,
// or did not answer in time.
var passes = []error{
	messages.ErrNotController, messages.ErrFencedController, messages.ErrRequestTimedOut,
	context.DeadlineExceeded, context.Canceled,
}

// controllerError is what a client is told that changed something through the
// controller. It may ask again on messages.ErrUnavailable.
func controllerError(err error) error {
	if isAny(err, passes...) && !isAny(err, messages.ErrUnavailable) {
		return unavailable(err)
	}
	return err
}

func unavailable(err error) error { return fmt.Errorf("%w: %v", messages.ErrUnavailable, err) }
