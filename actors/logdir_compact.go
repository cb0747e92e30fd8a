package actors

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/persistence/commitlog"
)

// Messages to a log-dir actor, about compaction.
type (
	// compactionsDue asks for a look at all compacted partitions.
	compactionsDue struct{}
	// compactionJob is a compaction that waits for its turn. swap hands what was
	// cleaned to the replica, which calls done once it is in the log; end says how the
	// run ended. Both are called on the goroutine that runs it.
	compactionJob struct {
		run   *commitlog.Compaction
		dirty float64 // share of the log that is not compacted
		swap  func(done func(error))
		end   func(error)
	}
	// compactionDone frees the place of one.
	compactionDone struct{}
)

var (
	errCompactionStopped = errors.New("the data directory is closing")
	errNoCompaction      = errors.New("nothing is compacted here")
)

// compactor is what a log dir knows of its compactions. There are at most one job
// of each replica, and one that runs: its memory and its share of the disk are
// bounded.
type compactor struct {
	waiting []*compactionJob
	running bool
	timer   *time.Timer
	stop    chan struct{} // closed when the directory closes; nil before the start
	ended   sync.Once
}

func (c *compactor) add(job *compactionJob) { c.waiting = append(c.waiting, job) }

// end stops what runs, soon, and forgets what waits.
func (c *compactor) end() {
	c.waiting = nil
	c.ended.Do(func() {
		if c.stop != nil {
			c.timer.Stop()
			close(c.stop)
		}
	})
}

// next takes the job with the largest share of new records.
func (c *compactor) next() *compactionJob {
	best := 0
	for i, job := range c.waiting {
		if job.dirty > c.waiting[best].dirty {
			best = i
		}
	}
	job := c.waiting[best]
	c.waiting = append(c.waiting[:best], c.waiting[best+1:]...)
	return job
}

func (l *logDir) armCompaction(ctx actor.Context) {
	if l.env.Settings("log.cleaner.enable") != "true" {
		return
	}
	c := &l.compactions
	if c.stop == nil {
		c.stop = make(chan struct{})
	} else {
		c.timer.Stop() // of before a restart of the actor
	}
	self, root := ctx.Self(), l.env.Root
	c.timer = time.AfterFunc(milliseconds(l.env.number("log.cleaner.backoff.ms")), func() {
		root.Send(self, compactionsDue{})
	})
}

// compactAll asks the partitions that may have something to compact. One that
// nobody writes to, and for which no time has come, gets no message.
//
// docs/flows/compaction.md: 1.
func (l *logDir) compactAll(ctx actor.Context) {
	now := l.env.Now()
	for _, face := range l.faces {
		if face.mayCompact(now) {
			ctx.Send(face.pid, compactDue{})
		}
	}
	l.armCompaction(ctx)
}

// startCompaction runs the next compaction, on a goroutine that ends with it or
// when the directory closes.
//
// docs/flows/compaction.md: 3.
func (l *logDir) startCompaction(ctx actor.Context) {
	c := &l.compactions
	if c.running || len(c.waiting) == 0 || l.draining != nil || c.stop == nil {
		return
	}
	c.running = true
	job := c.next()
	p := &pacer{env: l.env, stop: c.stop, last: time.Now()}
	self, root := ctx.Self(), l.env.Root
	go func() {
		err := runCompaction(job, p)
		job.end(err)
		root.Send(self, compactionDone{})
	}()
}

// runCompaction cleans part after part. A panic of it is an error: it would end
// the process otherwise, and the log is as it was.
func runCompaction(job *compactionJob, p *pacer) (err error) {
	defer func() {
		if bug := recover(); bug != nil {
			err = fmt.Errorf("%w: %v\n%s", commitlog.ErrCannotCompact, bug, debug.Stack())
		}
	}()
	for job.run.More() {
		if err := job.run.Clean(p.pace); err != nil {
			return err
		}
		done := make(chan error, 1)
		job.swap(func(err error) { done <- err })
		if err := p.await(done, job.run); err != nil {
			return err
		}
	}
	return nil
}

// pacer holds a compaction to log.cleaner.io.max.bytes.per.second, and ends it
// when the directory closes.
type pacer struct {
	env  *Env
	stop <-chan struct{}
	last time.Time // the bytes before it are paid for
}

func (p *pacer) pace(bytes int64) error {
	rate, err := strconv.ParseFloat(p.env.Settings("log.cleaner.io.max.bytes.per.second"), 64)
	invariant.That(err == nil, "the rate of compaction passed its check: %v", err)
	cost := time.Duration(min(float64(bytes)/rate, maxPause.Seconds()) * float64(time.Second))
	// Time that was not used is lost, but for a moment: no burst follows a wait.
	p.last = later(p.last.Add(cost), time.Now().Add(-cost))
	wait := time.Until(p.last)
	if wait <= 0 {
		select {
		case <-p.stop:
			return errCompactionStopped
		default:
			return nil
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.stop:
		return errCompactionStopped
	}
}

// maxPause bounds the wait after one piece of work at the lowest rates.
const maxPause = time.Minute

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lifeCheck is how often a compaction that waits for its replica looks whether
// that is still there: one that failed answers nobody.
const lifeCheck = time.Second

// await waits for the replica to take what was cleaned.
func (p *pacer) await(done <-chan error, c *commitlog.Compaction) error {
	check := time.NewTicker(lifeCheck)
	defer check.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-p.stop:
			return errCompactionStopped
		case <-check.C:
			if err := c.Log().Failure(); err != nil {
				return err
			}
		}
	}
}
