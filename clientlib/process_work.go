package clientlib

import (
	"context"
	"time"
)

// outcome is what became of a task.
type outcome struct {
	task *task
	fate fate
	due  time.Time // when it is tried again
}

type fate int8

const (
	handledFate fate = iota
	retriedFate
	abandonedFate
	postedFate // its letters are under way
)

// worker calls handlers. It takes several records at once if they take no time, to lock
// less often, and one if not, to hold none up.
type worker struct {
	tasks    []*task
	outcomes []outcome
	share    int // of what is ready, at most
}

// labour handles what is ready until the processor stops.
func (p *processor) labour() {
	w := worker{share: 1}
	for p.turn(&w) {
		began := time.Now()
		for _, t := range w.tasks {
			w.outcomes = append(w.outcomes, p.attempt(t))
		}
		w.share = 1
		if n := len(w.tasks); n > 0 && time.Since(began) < time.Duration(n)*claimFast {
			w.share = min(2*n, claimMost)
		}
	}
}

// turn takes in what became of the worker's tasks and gives it the next ones, which it
// waits for. It returns false once the processor stops.
func (p *processor) turn(w *worker) bool {
	p.mu.Lock()
	for _, o := range w.outcomes {
		p.settle(o)
	}
	w.outcomes, w.tasks = w.outcomes[:0], w.tasks[:0]
	p.take(w)
	changed := p.lanes.Changed()
	for len(w.tasks) == 0 && !changed && !p.stopping {
		p.idle++
		p.work.Wait()
		p.idle--
		p.take(w)
		changed = p.lanes.Changed()
	}
	if p.idle > 0 && p.lanes.Ready() > 0 {
		p.work.Signal()
	}
	more := len(w.tasks) > 0 || !p.stopping
	p.mu.Unlock()
	if changed {
		p.tell()
	}
	return more
}

// take gives the worker its share of what is ready. The caller holds mu.
func (p *processor) take(w *worker) {
	most := min(w.share, (p.lanes.Ready()+p.cfg.Concurrency-1)/p.cfg.Concurrency)
	for len(w.tasks) < most && !p.stopping {
		t := p.lanes.Start()
		if t == nil {
			return
		}
		w.tasks = append(w.tasks, t)
	}
}

// settle says what became of a task. The caller holds mu.
func (p *processor) settle(o outcome) {
	from := o.task.Partition
	switch o.fate {
	case postedFate:
		return // answered tells
	case handledFate:
		p.lanes.Done(o.task)
	case abandonedFate:
		p.lanes.Abandon(o.task)
	case retriedFate:
		p.lanes.Retry(o.task, o.due)
		select {
		case p.rearm <- struct{}{}:
		default:
		}
	}
	if p.starved && p.lanes.Bytes() <= p.cfg.BufferBytes/2 {
		p.starved = false
		p.quiet.Broadcast()
	}
	if from.Gone() && !from.Busy() {
		p.quiet.Broadcast()
	}
}

// attempt has a task handled, or what is left of it written to the dead-letter topic.
func (p *processor) attempt(t *task) outcome {
	ctx, j := t.Partition.Owner.ctx, &t.Item
	if j.dead != nil {
		return p.post(ctx, t)
	}
	if ctx.Err() != nil {
		return outcome{task: t, fate: abandonedFate}
	}
	err := p.handle(ctx, j)
	if err != nil && ctx.Err() == nil {
		p.mishaps.failures.Add(1)
	}
	switch {
	case err == nil:
		return outcome{task: t, fate: handledFate}
	case ctx.Err() != nil: // nobody can tell whether it would have failed
		return outcome{task: t, fate: abandonedFate}
	case !permanent(err) && (p.cfg.Retry.Attempts < 0 || t.Tries < p.cfg.Retry.Attempts):
		due := time.Now().Add(backoff(p.cfg.Retry, t.Tries))
		p.mishaps.retries.Add(1)
		return outcome{task: t, fate: retriedFate, due: due}
	case j.record != nil:
		j.dead = &letters{open: []letter{{j.record, t.Tries, err, time.Now()}}}
	case !p.handleAlone(ctx, t, err):
		return outcome{task: t, fate: abandonedFate}
	}
	if j.dead == nil {
		return outcome{task: t, fate: handledFate}
	}
	return p.post(ctx, t)
}

func (p *processor) handle(ctx context.Context, j *job) error {
	return guarded(func() error {
		if j.record != nil {
			return p.options.one(ctx, j.record)
		}
		return p.options.many(ctx, j.records)
	})
}

// handleAlone calls the handler for each record of a batch that failed with err. What
// fails again is a letter then. It returns false if ctx ends.
func (p *processor) handleAlone(ctx context.Context, t *task, err error) bool {
	records, failed := t.Item.records, []letter(nil)
	if len(records) == 1 {
		t.Item.dead = &letters{open: []letter{{records[0], t.Tries, err, time.Now()}}}
		return true
	}
	for i, r := range records {
		err := guarded(func() error { return p.options.many(ctx, records[i:i+1:i+1]) })
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			p.mishaps.failures.Add(1)
			failed = append(failed, letter{r, t.Tries + 1, err, time.Now()})
		}
	}
	if failed != nil {
		t.Item.dead = &letters{open: failed}
	}
	return true
}
