package txns

import (
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// topicMax is the length of the longest topic name, in bytes.
const topicMax = 249

// add takes partitions into the transaction, or tells which are in it.
func (t *Txn) add(now time.Time, r *txn.Add) {
	if err := t.checkAdd(r); err != nil {
		r.Refuse(fmt.Errorf("transactional id %q: producer %d, epoch %d: %w",
			t.id, r.Producer, r.Epoch, err))
		return
	}
	m := t.meta
	isNew := func(p messages.TopicPartition) bool { return m.state != txn.Ongoing || !m.contains(p) }
	switch {
	case r.VerifyOnly:
		errs := make([]error, len(r.Partitions))
		for i, p := range r.Partitions {
			if isNew(p) {
				errs[i] = fmt.Errorf("%v is not in the transaction of %q: %w",
					p, t.id, messages.ErrInvalidTxnState)
			}
		}
		r.Reply(txn.Added{Errs: errs})
	case !slices.ContainsFunc(r.Partitions, isNew):
		r.Reply(txn.Added{})
	default:
		t.decide(m.with(r.Partitions, toMs(now)), func(err error) { r.Reply(txn.Added{Err: err}) })
	}
}

func (t *Txn) checkAdd(r *txn.Add) error {
	if t.meta == nil {
		return txn.ErrInvalidMapping
	}
	if err := t.meta.owner(r.Producer, r.Epoch); err != nil {
		return err
	}
	for _, p := range r.Partitions {
		if p.Partition < 0 || p.Topic == "" || len(p.Topic) > topicMax {
			return fmt.Errorf("partition %v: %w", p, messages.ErrInvalidRequest)
		}
	}
	if t.busy() || t.meta.prepared() {
		return txn.ErrConcurrent
	}
	return nil
}

// describe tells what is durable.
func (t *Txn) describe(r *txn.Describe) {
	m := t.meta
	if m == nil {
		r.Refuse(t.refusal(txn.ErrNotFound))
		return
	}
	started := messages.NoTimestamp
	if m.state == txn.Ongoing || m.prepared() {
		started = m.startedMs
	}
	r.Reply(txn.Description{
		ID: t.id, State: m.state, TimeoutMs: m.timeoutMs, StartedMs: started,
		Producer: m.producer, Epoch: m.epoch, Partitions: m.partitions, UpdatedMs: m.updatedMs,
	})
}
