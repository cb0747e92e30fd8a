package actors

import (
	"sync"
	"time"
)

// maxFlushes is how many fdatasyncs one data directory runs at the same time:
// enough for a group commit over many partitions, few enough to bound threads.
const maxFlushes = 16

// flushJob is a flush of one log; reply is called with how it ended, on the
// goroutine that ran it.
type flushJob struct {
	run   func() error
	reply func(error)
}

// flusher runs the flushes of one data directory, several at the same time and
// in the order in which they were asked for. A log asks for one at a time, so
// that order is fair: a busy partition waits for its next turn like all others.
// What is appended while a flush runs, or waits here, is the group of the next.
//
// Two flushes of one file never run at the same time, though it would shorten
// the wait of those who come just behind the begin of one: the kernel reports a
// failed write-out to one fdatasync of a file description only, and the other
// would return without an error for bytes that are lost.
//
// Its goroutines are there only while something waits. Any goroutine may call
// run; wait is for the owner, the log-dir actor, once no replica is left.
type flusher struct {
	took func(time.Duration) // measures each flush

	mu      sync.Mutex
	waiting []flushJob // at most one per log
	running int
	workers sync.WaitGroup
}

// run runs the job once it is its turn. It does not block.
func (f *flusher) run(job flushJob) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, job)
	if f.running < maxFlushes {
		f.running++
		f.workers.Go(f.work)
	}
}

// work runs what waits, until nothing does.
func (f *flusher) work() {
	for {
		job, ok := f.next()
		if !ok {
			return
		}
		began := time.Now()
		err := job.run()
		f.took(time.Since(began))
		job.reply(err)
	}
}

func (f *flusher) next() (flushJob, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.waiting = nil
		f.running--
		return flushJob{}, false
	}
	job := f.waiting[0]
	f.waiting[0] = flushJob{} // or what is behind it would keep it alive
	f.waiting = f.waiting[1:]
	return job, true
}

// wait returns when every flush has ended.
func (f *flusher) wait() { f.workers.Wait() }
