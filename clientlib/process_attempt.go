package clientlib

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages/wire"
)

// settleTimeout bounds how long a transaction takes to end after the context has.
const settleTimeout = 30 * time.Second

// handlerError is an error that says something about the records: those of transactions,
// which pass, do not.
type handlerError struct{ cause error }

func (e *handlerError) Error() string { return e.cause.Error() }

func (e *handlerError) Unwrap() error { return e.cause }

// pick says which records of a batch a transaction handles.
type pick func(batch []*Record) []*Record

func wholeBatch(batch []*Record) []*Record { return batch }

func firstOfBatch(batch []*Record) []*Record { return batch[:min(len(batch), 1)] }

// handleBatch handles the batch: as a whole, and if that keeps failing, record by record.
// It returns nil once nothing is left of it, or ctx ends.
func (p *txnProcessor) handleBatch(ctx context.Context) error {
	which, alone, tries := pick(wholeBatch), false, 0
	for ctx.Err() == nil {
		records, failed, err := p.persist(ctx, which, p.call)
		switch {
		case err != nil || len(records) == 0:
			return err
		case failed == nil:
			continue
		case !alone:
			tries++
		}
		p.mishaps.failures.Add(1)
		switch last := p.last(tries, failed); {
		case !alone && !last:
			p.mishaps.retries.Add(1)
			pause(ctx, backoff(p.cfg.Retry, tries))
		case !alone && len(records) > 1 && p.cfg.DeadLetter != NoDeadLetter:
			which, alone = firstOfBatch, true
			tries++ // the one that each has alone
		default:
			if err := p.bury(ctx, letter{records[0], tries, failed, time.Now()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// last says whether there is no other attempt after so many.
func (p *txnProcessor) last(tries int, failed error) bool {
	most := p.cfg.Retry.Attempts
	return permanent(failed) || most >= 0 && tries >= most
}

// call has the handler handle records. What it returns because its transaction failed is
// not about the records, unless that was about what it sent.
func (p *txnProcessor) call(ctx context.Context, tx *Transaction, records []*Record) error {
	err := guarded(func() error { return p.handler(ctx, tx, records) })
	if err == nil || ctx.Err() != nil {
		return err
	}
	if cause := p.txns.failure(tx); cause != nil && !aboutRecords(cause) {
		return cause
	}
	return &handlerError{err}
}

// bury writes a dead letter, for as long as its record is in the batch.
func (p *txnProcessor) bury(ctx context.Context, l letter) error {
	if err := undeliverable(l, p.cfg); err != nil {
		return err
	}
	this := func(batch []*Record) []*Record {
		if i := slices.Index(batch, l.record); i >= 0 {
			return batch[i : i+1]
		}
		return nil
	}
	for n := 1; ctx.Err() == nil; n++ {
		records, failed, err := p.persist(ctx, this,
			func(ctx context.Context, tx *Transaction, _ []*Record) error {
				return p.txns.bury(ctx, tx, deadLetter(l, p.cfg))
			})
		if failed == nil && err == nil && len(records) > 0 {
			p.mishaps.buried(p.logger, l, &p.cfg)
		}
		if failed == nil {
			return err
		}
		p.logger.Warn("a dead letter cannot be written; the record is held and tried again",
			"group", p.cfg.Group, "error", failed, "reason", l.reason)
		pause(ctx, backoff(p.cfg.Retry, n))
	}
	return nil
}

// persist makes a transaction of what do does with some of the batch and their positions,
// and makes it again while it is the transaction that fails. It returns the records it was
// about, none if there were none left, and why do failed. ctx may have ended.
func (p *txnProcessor) persist(
	ctx context.Context, which pick,
	do func(ctx context.Context, tx *Transaction, records []*Record) error,
) (records []*Record, failed, err error) {
	for failures := 1; ctx.Err() == nil; failures++ {
		who := p.txns.member() // before records are chosen: what it had then, it may commit
		attempt, records := p.begin(ctx, which)
		if len(records) == 0 {
			return nil, nil, nil
		}
		err := p.transact(ctx, attempt, who, records, do)
		interrupted := attempt.Err() != nil
		p.end(records, err == nil)
		var about *handlerError
		switch {
		case err == nil:
			return records, nil, nil
		case errors.Is(err, errUnsettled):
			return nil, nil, err
		case interrupted:
			continue
		case errors.As(err, &about):
			return records, about.cause, nil
		case unrecoverable(err):
			return nil, nil, err
		}
		if end := p.source.finished(); end != nil {
			return nil, nil, end
		}
		p.logger.Warn("a transaction failed; it is made again",
			"group", p.cfg.Group, "error", err)
		pause(ctx, backoff(p.cfg.Retry, failures))
	}
	return nil, nil, nil
}

// begin chooses records, and returns the context of the attempt to handle them. If there
// are some, end has to follow.
func (p *txnProcessor) begin(ctx context.Context, which pick) (context.Context, []*Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.holds > 0 {
		p.quiet.Wait()
	}
	records := slices.Clone(which(p.batch))
	if len(records) > 0 {
		ctx, p.attempt = context.WithCancel(ctx)
	}
	return ctx, records
}

// end ends an attempt to handle records: the whole batch, or one of it.
func (p *txnProcessor) end(records []*Record, handled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempt()
	p.attempt = nil
	p.quiet.Broadcast()
	switch {
	case !handled:
	case len(records) > 1:
		p.batch = nil
	default:
		p.batch = slices.DeleteFunc(p.batch, func(r *Record) bool { return r == records[0] })
	}
}

// transact makes one transaction, and ends it: also when attempt, or ctx, ends before.
func (p *txnProcessor) transact(
	ctx, attempt context.Context, who groupMember, records []*Record,
	do func(ctx context.Context, tx *Transaction, records []*Record) error,
) error {
	tx, err := p.txns.begin(attempt)
	if err != nil {
		return err
	}
	err = do(attempt, tx, records)
	last, cancel := outlasting(ctx, settleTimeout)
	defer cancel()
	if err != nil {
		if failed := p.txns.abort(last, tx); failed != nil {
			return failed
		}
		return err
	}
	ps := positionsBehind(records)
	if err := p.txns.commit(last, tx, who, ps); aboutRecords(err) {
		return &handlerError{err}
	} else if err != nil {
		return err
	}
	for _, at := range ps {
		p.source.handled(
			Partition{at.GetTopic(), at.GetPartition()}, at.GetOffset(), at.GetLeaderEpoch())
	}
	p.txns.committed(ps)
	return nil
}

// outlasting returns a context that ends so long after ctx does.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := time.AfterFunc(time.Hour, cancel)
	timer.Stop()
	stop := context.AfterFunc(ctx, func() { timer.Reset(by) })
	return longer, func() {
		stop()
		cancel()
		timer.Stop()
	}
}

// positionsBehind are where the partitions of records go on.
func positionsBehind(records []*Record) []*wire.ClientPosition {
	var ps []*wire.ClientPosition
	at := map[Partition]*wire.ClientPosition{}
	for _, r := range records {
		name := Partition{r.Topic, r.Partition}
		if at[name] == nil {
			at[name] = &wire.ClientPosition{Topic: r.Topic, Partition: r.Partition}
			ps = append(ps, at[name])
		}
		at[name].Offset, at[name].LeaderEpoch = r.Offset+1, r.epoch
	}
	return ps
}

// aboutRecords says whether a transaction failed because of what was sent in it.
func aboutRecords(err error) bool {
	var offsets *offsetsError
	if errors.As(err, &offsets) {
		return false
	}
	return errors.Is(err, ErrInvalidRecord) || errors.Is(err, ErrTooLarge) ||
		errors.Is(err, ErrInvalidTopic) || errors.Is(err, ErrUnknownTopic)
}

// unrecoverable says whether no other transaction of the producer can succeed.
func unrecoverable(err error) bool {
	return errors.Is(err, ErrFenced) || errors.Is(err, ErrClosed) ||
		errors.Is(err, ErrInvalidRequest) || errors.Is(err, ErrConfig)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
