package actors

import (
	"context"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// WriteMarker ends a transaction in this partition and returns at once. done is
// called once, from any goroutine, when the marker is below the high watermark,
// after the Done of every batch with acks=all that stands before it in the log, or
// with an error that wraps messages.ErrNotLeader, messages.ErrNotEnoughReplicas,
// messages.ErrStorage, messages.ErrInvalidProducerEpoch (a later transaction, or a
// later life of the producer, was here) or txn.ErrCoordinatorFenced. It must not
// block.
//
// A marker may be written again: that ends nothing else, and is answered like the
// first one.
func (r *Replica) WriteMarker(m data.Marker, done func(error)) {
	if m.Producer < 0 || m.Epoch < 0 {
		done(fmt.Errorf("a marker of producer %d, epoch %d: %w", m.Producer, m.Epoch,
			messages.ErrInvalidRequest))
		return
	}
	if err := r.tell(&writeMarker{m, done}); err != nil {
		done(err)
	}
}

// Guard prepares a question to the coordinator about the transaction that a batch
// of that producer, epoch and sequence (NoSequence: none) is going to begin here:
// reply brings the number to hand over as data.Append.Guard with the batch, once
// the coordinator has said yes. 0 without an error means that the transaction is
// open and needs no question. It is called once, from any goroutine, with an error
// that wraps messages.ErrNotLeader or messages.ErrInvalidProducerEpoch otherwise,
// and must not block.
//
// data.Append.Verify is the simpler way for whoever can ask after Append.
func (r *Replica) Guard(id messages.ProducerID, epoch messages.ProducerEpoch,
	sequence messages.Sequence, reply func(guard uint64, err error),
) {
	if err := r.tell(&guardTxn{id, epoch, sequence, reply}); err != nil {
		reply(0, err)
	}
}

// Producers describes the producers that the partition remembers, by id. It fails
// with messages.ErrNotLeader, or messages.ErrRequestTimedOut when ctx ends first.
func (r *Replica) Producers(ctx context.Context) ([]data.Producer, error) {
	type outcome struct {
		producers []data.Producer
		err       error
	}
	done := make(chan outcome, 1)
	if err := r.tell(&describeProducers{func(p []data.Producer, err error) {
		done <- outcome{p, err}
	}}); err != nil {
		return nil, err
	}
	select {
	case out := <-done:
		return out.producers, out.err
	case <-ctx.Done():
		return nil, fmt.Errorf("describing producers: %w", messages.ErrRequestTimedOut)
	}
}

// tell sends m to the replica if it leads.
func (r *Replica) tell(m any) error {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if r.closed || r.leads.Load() == nil {
		return r.notLeading()
	}
	r.send(m)
	return nil
}
