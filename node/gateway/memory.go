package gateway

import (
	"runtime"
	"sync"
)

// budget is how many bytes of records are in memory for clients. Batches on their way
// into logs and records on their way out each leave a quarter to the other, so that
// neither can keep the other out for good. Whoever comes first is let in whatever its size.
type budget struct {
	limit            int64
	appends, fetches int64
}

func (b *budget) fits(mine *int64, n int64) bool {
	return *mine == 0 || *mine+n <= b.limit/4*3 && b.appends+b.fetches+n <= b.limit
}

func (b *budget) take(mine *int64, n int64) bool {
	if !b.fits(mine, n) {
		return false
	}
	*mine += n
	return true
}

// memory bounds what the requests of all sessions take: the bytes of records, and how
// many reads run at a time, each of which may wait for a disk. Reads that have no room
// wait their turn. Any goroutine may call its methods.
type memory struct {
	mu      sync.Mutex
	budget  budget
	queue   []*fetch // reads that wait for room, oldest first
	readers int      // goroutines that read
	closed  bool
}

// readersMax bounds the reads at a time.
var readersMax = max(16, 4*runtime.GOMAXPROCS(0))

func newMemory(limit int64) *memory { return &memory{budget: budget{limit: limit}} }

func (m *memory) stats() (used, limit int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.budget.appends + m.budget.fetches, m.budget.limit
}

// takeAppend sets n bytes aside for a batch, and reports false if there is no room.
func (m *memory) takeAppend(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.budget.take(&m.budget.appends, n)
}

func (m *memory) giveAppend(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.budget.appends -= n
	m.serveLocked()
}

// giveFetch gives back n bytes of records read; less than 0 takes some more, for those
// that are there already.
func (m *memory) giveFetch(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.budget.fetches -= n
	m.serveLocked()
}

// read has a fetch read when it is its turn and there is room for what it reserves.
func (m *memory) read(f *fetch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = append(m.queue, f)
	m.serveLocked()
}

// serveLocked starts as many of the reads that wait as may run.
func (m *memory) serveLocked() {
	for m.readers < readersMax {
		f := m.nextLocked()
		if f == nil {
			return
		}
		m.readers++
		f.session.g.running.Go(func() { m.readOn(f) })
	}
}

// nextLocked takes the oldest read if there is room for it.
func (m *memory) nextLocked() *fetch {
	if m.closed || len(m.queue) == 0 {
		return nil
	}
	f := m.queue[0]
	if !m.budget.take(&m.budget.fetches, f.reserved) {
		return nil
	}
	m.queue[0] = nil
	m.queue = m.queue[1:]
	return f
}

// readOn reads until nothing may be read any more. The goroutine is one of readers.
func (m *memory) readOn(f *fetch) {
	for f != nil {
		f.run()
		m.mu.Lock()
		if f = m.nextLocked(); f == nil {
			m.readers--
		}
		m.mu.Unlock()
	}
}

// close ends it: what waits is never read. The caller waits for the goroutines.
func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.queue = true, nil
}
