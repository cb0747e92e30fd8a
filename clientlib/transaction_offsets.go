package clientlib

import (
	"context"
	"fmt"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
)

// commitOffsets has positions of a group count once the transaction is committed. member
// is who read up to there: if it is no longer in the group, the transaction has to be
// aborted, and the error is the group's, such as group.ErrFencedMemberEpoch.
func (t *Transaction) commitOffsets(ctx context.Context, group string, member groupMember,
	positions []*wire.ClientPosition) error {
	if err := t.refusal(); err != nil {
		return err
	}
	p := t.p
	p.txn.mu.Lock()
	who := p.txn.who
	p.txn.mu.Unlock()
	t.used.Store(true)
	// Of a topic that was deleted they are never taken. If that went on until the transaction
	// times out, the producer would be fenced for it.
	open, end := during(p.open, ctx)
	defer end()
	limited, cancel := context.WithTimeout(open, p.cfg.TransactionTimeout/2)
	defer cancel()
	err := patiently(limited, func() error {
		resp, err := p.link.AskCoordinator(limited, coord.Group, group,
			&wire.ClientRequest{Command: &wire.ClientRequest_TxnCommitOffsets{
				TxnCommitOffsets: &wire.ClientTxnCommitOffsets{
					TransactionalId: p.cfg.TransactionalID,
					ProducerId:      int64(who.id), ProducerEpoch: int32(who.epoch),
					Group: group, MemberId: member.id, MemberEpoch: member.epoch,
					InstanceId: member.instance, Positions: positions,
				}}})
		if err != nil {
			return err
		}
		return positionsError(positions, resp.GetErrors())
	})
	if err == nil {
		return nil
	}
	if ended := p.endErr(); ended != nil {
		err = ended
	}
	err = p.txnError(fmt.Errorf("positions of group %q: %w", group, err))
	t.fail(err)
	return err
}

// positionsError is the first error of an answer about positions.
func positionsError(positions []*wire.ClientPosition, errs *wire.ErrorList) error {
	for i, e := range errs.GetErrors() {
		if err := wire.ToError(e); err != nil && i < len(positions) {
			return fmt.Errorf("topic %q, partition %d: %w", positions[i].GetTopic(),
				positions[i].GetPartition(), err)
		}
	}
	return nil
}
