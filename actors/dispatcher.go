package actors

import "runtime"

// warmWorkers is how many goroutines wait for a mailbox to run.
var warmWorkers = 4 * runtime.GOMAXPROCS(0)

// dispatcher runs mailboxes on goroutines that are used again. The library's own
// starts one for every mailbox that turns busy; on a busy partition that is one
// for nearly every batch, and each has to grow its stack anew on the way down
// to the disk, which cost a tenth of the produce path.
//
// A mailbox never waits for a worker: without an idle one it gets a goroutine of
// its own. There are never more than warmWorkers workers; close ends them.
type dispatcher struct {
	work  chan func()
	slots chan struct{} // one per worker that may still be started
	quit  chan struct{} // closed by close
}

func newDispatcher() *dispatcher {
	d := &dispatcher{
		work:  make(chan func()),
		slots: make(chan struct{}, warmWorkers),
		quit:  make(chan struct{}),
	}
	for range warmWorkers {
		d.slots <- struct{}{}
	}
	return d
}

// Schedule implements actor.Dispatcher.
func (d *dispatcher) Schedule(run func()) {
	select {
	case d.work <- run:
		return
	default:
	}
	select {
	case <-d.slots:
		go d.worker(run)
	default:
		go run()
	}
}

// Throughput implements actor.Dispatcher: messages between two yields.
func (d *dispatcher) Throughput() int { return 300 }

func (d *dispatcher) worker(run func()) {
	for {
		run()
		select {
		case run = <-d.work:
		case <-d.quit:
			return
		}
	}
}

// close ends the idle workers, and the others once they are idle. Mailboxes
// still run after it, on goroutines of their own. Call it once.
func (d *dispatcher) close() { close(d.quit) }
