package clientlib

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/troupelog/troupe/messages/wire"
)

// ProcessTransactions handles records so that each takes effect exactly once: what handler
// sends within tx, and the positions of the records, become visible together or not at
// all. It calls handler for what the consumer gets, one batch at a time: records of one or
// more partitions, those of each in order. If handler returns nil the transaction is
// committed with the positions behind the records; handler itself neither commits nor
// aborts. p needs a TransactionalID, and the consumer a Group; those who read what is
// written must not set ReadUncommitted.
//
// If handler returns an error or panics the transaction is aborted, and handler is called
// with the same records again as Retry says. After the last attempt, and at once if the
// error is Permanent or wraps ErrDecode, it is called for each record alone, and those
// that fail again go to the dead-letter topic as in Process, in a transaction with their
// position; with NoDeadLetter the error is returned. When it is the transaction that
// fails, and not the handler, it is made again, without end and without being counted.
// Records of partitions that are given up or lost meanwhile are left out of the next
// attempt, and a member that was fenced cannot commit. A handler must take less than the
// producer's TransactionTimeout.
//
// ProcessTransactions returns nil once ctx ends, with the transaction under way committed
// or aborted; or an error: what ended the consumer, ErrFenced if another producer has the
// TransactionalID or the TransactionTimeout has passed, ErrClosed, ErrInvalidRequest if
// the producer has no TransactionalID or another open transaction, that of a record that
// cannot be handled, and ErrUnavailable if no node says within 30 seconds after the end of
// ctx what became of the transaction: then make a new consumer to go on.
func (c *Consumer) ProcessTransactions(
	ctx context.Context, p *Producer,
	handler func(ctx context.Context, tx *Transaction, records []*Record) error,
) error {
	switch {
	case handler == nil || p == nil:
		return fmt.Errorf("no handler, or no producer: %w", ErrConfig)
	case c.cfg.Group == "":
		return fmt.Errorf("consumer has no Group to commit to: %w", ErrConfig)
	}
	txns := &groupTxns{Consumer: c, producer: p, box: clientBox{client: c.client}}
	x := newTxnProcessor(c, c.cfg, txns, handler, c.log)
	x.mishaps = &c.mishaps
	return c.exclusively(ctx, x.run)
}

// txns is what exactly-once processing needs of a producer and of the group.
type txns interface {
	// member is who commits.
	member() groupMember
	begin(ctx context.Context) (*Transaction, error)
	// bury writes a dead letter in a transaction. Its topic is made if there is none.
	bury(ctx context.Context, tx *Transaction, r *Record) error
	// failure is why a transaction cannot be committed, if it is known.
	failure(tx *Transaction) error
	// commit commits a transaction and with it positions of the group, or aborts it. Once
	// ctx has ended it may not be known what became of it.
	commit(ctx context.Context, tx *Transaction, who groupMember, ps []*wire.ClientPosition) error
	abort(ctx context.Context, tx *Transaction) error
	// committed takes note of what was committed.
	committed(ps []*wire.ClientPosition)
}

// txnProcessor runs a handler, one transaction at a time, in the goroutine of run. The
// hooks are called by the consumer's.
type txnProcessor struct {
	source  source
	cfg     ConsumerConfig
	txns    txns
	handler func(ctx context.Context, tx *Transaction, records []*Record) error
	logger  *slog.Logger
	mishaps *mishaps

	intake                     // its mu guards what follows
	batch   []*Record          // not handled yet
	going   map[Partition]bool // are being given up
	attempt context.CancelFunc // ends the transaction under way; nil: there is none
}

func newTxnProcessor(
	s source, cfg ConsumerConfig, t txns,
	handler func(ctx context.Context, tx *Transaction, records []*Record) error,
	logger *slog.Logger,
) *txnProcessor {
	p := &txnProcessor{
		source: s, cfg: processDefaults(cfg), txns: t, handler: handler, logger: logger,
		mishaps: &mishaps{},
		going:   map[Partition]bool{},
	}
	p.quiet = sync.NewCond(&p.mu)
	return p
}

func (p *txnProcessor) run(ctx context.Context) error {
	p.source.hooks(p.draining, p.lost)
	defer p.source.hooks(nil, nil)
	defer p.giveBack()
	defer p.wakeAfter(ctx)()
	for ctx.Err() == nil {
		if err := p.take(ctx); err != nil {
			return err
		}
		if err := p.handleBatch(ctx); err != nil {
			return err
		}
	}
	return nil
}

// take waits for the next batch.
func (p *txnProcessor) take(ctx context.Context) error {
	p.mu.Lock()
	for p.holds > 0 && ctx.Err() == nil {
		p.quiet.Wait()
	}
	asking := p.ask(ctx)
	p.mu.Unlock()
	records, err := p.source.next(asking)
	interrupted := asking.Err() != nil
	p.mu.Lock()
	p.took()
	p.batch = records
	p.dropGoing()
	p.mu.Unlock()
	end := p.source.finished()
	if err != nil && !interrupted && end == nil {
		p.logger.Warn("a partition cannot be read; it is tried again",
			"group", p.cfg.Group, "error", err)
	}
	return end
}

// dropGoing leaves out what is being given up. The caller holds mu.
func (p *txnProcessor) dropGoing() {
	p.batch = slices.DeleteFunc(p.batch, func(r *Record) bool {
		return p.going[Partition{r.Topic, r.Partition}]
	})
}

// draining waits for the transaction under way, and drops what is left of partitions that
// another member gets. If ctx ends before, the transaction is aborted, if it can be.
func (p *txnProcessor) draining(ctx context.Context, ps []Partition) {
	defer p.wakeAfter(ctx)()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.giveUp(ps)
	for p.attempt != nil && ctx.Err() == nil {
		p.quiet.Wait()
	}
	p.release(ps)
}

// lost aborts the transaction under way, if it can be, and drops what is left of partitions
// that are another's.
func (p *txnProcessor) lost(ps []Partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.giveUp(ps)
	p.release(ps)
}

// giveUp keeps anything of partitions from being taken. The caller holds mu.
func (p *txnProcessor) giveUp(ps []Partition) {
	for _, at := range ps {
		p.going[at] = true
	}
	p.hold()
}

// release drops what is left of partitions. The caller holds mu.
func (p *txnProcessor) release(ps []Partition) {
	had := len(p.batch)
	p.dropGoing()
	if p.attempt != nil && len(p.batch) < had {
		p.attempt()
	}
	for _, at := range ps {
		delete(p.going, at)
	}
	p.holds--
	p.quiet.Broadcast()
}

// giveBack has what is not handled read again.
func (p *txnProcessor) giveBack() {
	p.mu.Lock()
	batch := p.batch
	p.batch = nil
	p.mu.Unlock()
	seen := map[Partition]bool{}
	for _, r := range batch {
		if at := (Partition{r.Topic, r.Partition}); !seen[at] {
			seen[at] = true
			p.source.rewind(at, r.Offset)
		}
	}
}
