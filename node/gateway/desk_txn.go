package gateway

import (
	"context"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

// initProducer gives a producer without a transactional id an id that nobody ever had,
// whatever it names: only partitions know the epochs of idempotent producers. One with
// a transactional id is answered by that id's coordinator.
func (d *desk) initProducer(ctx context.Context, w *wire.ClientInitProducer) *wire.ClientResponse {
	id, init, err := wire.ToInit(w)
	if err != nil {
		return failed(invalid(err))
	}
	if id == "" {
		fresh, err := d.cluster.NewProducerID(ctx)
		if err != nil {
			return failed(controllerError(err))
		}
		return producer(fresh, 0)
	}
	got := door.Await(ctx, d.askTxn, id, func(reply func(txn.Initialized)) coord.Request {
		r := *init
		r.Reply = reply
		return &r
	})
	if got.Err != nil {
		return failed(coordinatorError(got.Err))
	}
	return producer(got.Producer, got.Epoch)
}

func producer(id messages.ProducerID, epoch messages.ProducerEpoch) *wire.ClientResponse {
	return &wire.ClientResponse{Result: &wire.ClientResponse_Producer{
		Producer: wire.FromProducer(id, epoch)}}
}

// endTxn answers when the decision is durable; readers see the outcome a moment later.
func (d *desk) endTxn(ctx context.Context, w *wire.ClientEndTxn) *wire.ClientResponse {
	id, end, err := wire.ToEnd(w)
	if err != nil {
		return failed(invalid(err))
	}
	got := door.Await(ctx, d.askTxn, id, func(reply func(txn.Ended)) coord.Request {
		r := *end
		r.Reply = reply
		return &r
	})
	if got.Err != nil {
		return failed(coordinatorError(got.Err))
	}
	return producer(got.Producer, got.Epoch)
}

// txnCommitOffsets makes the group part of the transaction and stores positions that
// count once it commits. The group's coordinator is asked, so that the transaction's
// cannot be asked is no reason to look for another one: the client asks again here.
func (d *desk) txnCommitOffsets(ctx context.Context, w *wire.ClientTxnCommitOffsets,
) *wire.ClientResponse {
	id, commit, err := wire.ToTxnCommit(w)
	if err != nil {
		return failed(invalid(err))
	}
	plan := d.planCommit(commit.Offsets)
	if len(plan.offsets) == 0 {
		return errorList(plan.errs)
	}
	err = coordinatorError(door.GroupJoinsTxn(ctx, d.coordinators, id, commit.TransactionalID,
		commit.Producer, commit.Epoch))
	if isAny(err, messages.ErrNotCoordinator, messages.ErrUnavailable) {
		err = fmt.Errorf("the transaction's coordinator cannot be asked (%v): %w", err,
			messages.ErrCoordinatorLoading)
	}
	if err != nil {
		return failed(err)
	}
	commit.Offsets = plan.offsets
	return plan.answer(door.Await(ctx, d.askGroup, id,
		func(reply func(group.Committed)) coord.Request {
			c := *commit
			c.Reply = reply
			return &c
		}))
}
