package coordinator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/testkit"
)

// fakeLog is a partition's log whose high watermark a test may hold back.
type fakeLog struct {
	mu      sync.Mutex
	bytes   []byte // batches
	starts  []int  // of each offset's batch, by offset
	end, hw messages.Offset
	epoch   messages.LeaderEpoch
	held    bool
	waiting []func() // what is to be called when the watermark reaches the end
	watches []func()
	appends int
	fail    error
	verdict error // on writes that are part of a transaction
}

func (l *fakeLog) Offsets() data.Offsets {
	l.mu.Lock()
	defer l.mu.Unlock()
	return data.Offsets{HighWatermark: l.hw, LastStable: l.hw, LogEnd: l.end, Epoch: l.epoch}
}

func (l *fakeLog) Append(a *data.Append) {
	l.mu.Lock()
	if err := l.fail; err != nil || a.Fenced && a.Epoch != l.epoch {
		l.mu.Unlock()
		a.Done(data.AppendResult{Err: errors.Join(err, messages.ErrNotLeader)})
		return
	}
	if err := l.verdict; err != nil && a.Verify != nil {
		l.mu.Unlock()
		a.Done(data.AppendResult{Err: err})
		return
	}
	l.put(a.Batch, func() { a.Done(data.AppendResult{}) })
}

// put appends with the lock held, and gives it back.
func (l *fakeLog) put(b record.Batch, done func()) {
	l.appends++
	b.Stamp(l.end, l.epoch)
	for range b.Header.LastOffsetDelta + 1 {
		l.starts = append(l.starts, len(l.bytes))
	}
	l.bytes = append(l.bytes, b.Bytes...)
	l.end = b.NextOffset()
	l.waiting = append(l.waiting, done)
	held := l.held
	l.mu.Unlock()
	if !held {
		l.release()
	}
}

// release lets the high watermark reach the end.
func (l *fakeLog) release() {
	l.mu.Lock()
	l.held, l.hw = false, l.end
	all := append(l.waiting, l.watches...)
	l.waiting, l.watches = nil, nil
	l.mu.Unlock()
	for _, f := range all {
		f()
	}
}

func (l *fakeLog) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

func (l *fakeLog) WriteMarker(m data.Marker, done func(error)) {
	l.mu.Lock()
	l.put(record.EndTxnMarker(record.Marker{Commit: m.Commit,
		CoordinatorEpoch: m.CoordinatorEpoch}, m.Producer, m.Epoch, 0), func() { done(nil) })
}

func (l *fakeLog) Read(r data.Read) data.ReadResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	res := data.ReadResult{HighWatermark: l.hw}
	if r.From >= l.hw {
		return res
	}
	to := len(l.bytes)
	if l.hw < l.end {
		to = l.starts[l.hw]
	}
	b := l.bytes[l.starts[r.From]:to]
	res.View = messages.View{Bytes: len(b), Extents: []messages.Extent{{Mem: b, Len: len(b)}}}
	return res
}

func (l *fakeLog) Await(_ data.Isolation, _ messages.Offset, notify func()) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watches = append(l.watches, func() { notify() })
	return func() {}
}

// sum is a machine that adds up what it is given.
type sum struct {
	id      string
	total   uint64
	staged  map[messages.ProducerID]uint64
	decided uint64
	write   *coord.Write
	ended   []messages.ProducerID
}

// add is its request; answers are the total so far.
type add struct {
	n        uint64
	producer messages.ProducerID
	reply    func(total uint64, err error)
}

func (r *add) Refuse(err error) { r.reply(0, err) }
func (r *add) Merges()          {}

// boom makes the machine panic.
type boom struct{ add }

func (r *boom) Merges() {}

func (s *sum) Replay(r coord.Replayed) error {
	n := binary.BigEndian.Uint64(r.Value)
	if r.Producer != messages.NoProducerID {
		s.staged[r.Producer] += n
		return nil
	}
	s.total += n
	s.decided = s.total
	return nil
}

func (s *sum) ReplayEnd(p messages.ProducerID, commit bool) {
	if commit {
		s.total += s.staged[p]
		s.decided = s.total
	}
	delete(s.staged, p)
	s.ended = append(s.ended, p)
}

func (s *sum) Loaded(time.Time) {}
func (s *sum) Tick(time.Time)   {}
func (s *sum) Due() time.Time   { return time.Time{} }
func (s *sum) Empty() bool      { return s.total == 0 && len(s.staged) == 0 && s.write == nil }
func (s *sum) Stop(error)       {}

func (s *sum) TakeWrite() *coord.Write {
	w := s.write
	s.write = nil
	return w
}

func (s *sum) Handle(_ time.Time, r coord.Request) {
	switch q := r.(type) {
	case *boom:
		panic("boom")
	case *add:
		if q.n == 0 {
			q.reply(s.total, nil)
			return
		}
		if s.write == nil {
			s.write = &coord.Write{Producer: q.producer, Done: func(time.Time, error) {}}
		}
		s.write.Records = append(s.write.Records, coord.Record{Key: []byte(s.id),
			Value: binary.BigEndian.AppendUint64(nil, q.n)})
		before := s.write.Done
		s.write.Done = func(now time.Time, err error) {
			before(now, err)
			if err == nil && q.producer != messages.NoProducerID {
				s.staged[q.producer] += q.n
			} else if err == nil {
				s.total += q.n
			}
			q.reply(s.total, err)
		}
	default:
		if p, commit, ok := endOf(r); ok {
			s.ReplayEnd(p, commit)
		}
	}
}

type sums struct{}

func (sums) owner(key []byte) (string, bool, error) { return string(key), len(key) > 0, nil }

func (sums) machine(id string) coord.Machine {
	return &sum{id: id, staged: map[messages.ProducerID]uint64{}}
}

// stage is the coordinators of a node over a fake log.
type stage struct {
	*Coordinators
	t     *testing.T
	log   *fakeLog
	image *messages.Image
	// failed counts how often a shard began again.
	failed atomic.Int64
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, log: &fakeLog{epoch: 1}}
	im, ok := messages.NewImage().Apply(&messages.Delta{Snapshot: true, To: 1,
		Topics: []*messages.Topic{{ID: messages.TopicID{1}, Name: coord.OffsetsTopic,
			Partitions: make([]messages.Partition, 1)}}})
	if !ok {
		t.Fatal("the image does not apply")
	}
	s.image = im
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	system := actor.NewActorSystem(actor.WithLoggerFactory(
		func(*actor.ActorSystem) *slog.Logger { return quiet }))
	c, err := Start(Config{
		Self: 1, Root: system.Root, Log: zerolog.Nop(),
		Props:    func(string) []actor.PropsOption { return nil },
		Image:    func() *messages.Image { return s.image },
		Settings: func(string) string { return "5000" },
		Leading: func(*messages.Topic, int32) (Partition, error) {
			if s.log.Offsets().Epoch == messages.NoEpoch {
				return nil, messages.ErrNotLeader
			}
			return s.log, nil
		},
		Failed: func(string) { s.failed.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.drivers[coord.Group] = func(*shard) driver { return sums{} }
	c.idle = time.Millisecond
	s.Coordinators = c
	t.Cleanup(system.Shutdown)
	return s
}

// lead has the node lead the partition under an epoch.
func (s *stage) lead(epoch messages.LeaderEpoch) {
	s.log.mu.Lock()
	s.log.epoch = epoch
	s.log.mu.Unlock()
	s.Led(coord.OffsetsTopic, 0, epoch)
}

type answer struct {
	total uint64
	err   error
}

func (s *stage) send(id string, n uint64) chan answer {
	return s.sendIn(id, n, messages.NoProducerID)
}

func (s *stage) sendIn(id string, n uint64, p messages.ProducerID) chan answer {
	answers := make(chan answer, 2)
	s.Group(id, &add{n: n, producer: p, reply: func(total uint64, err error) {
		answers <- answer{total, err}
	}})
	return answers
}

func (s *stage) receive(answers chan answer) answer {
	s.t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(10 * time.Second):
		s.t.Fatal("no answer")
		return answer{}
	}
}

// add adds until it is answered with something else than "ask again".
func (s *stage) add(id string, n uint64) uint64 {
	s.t.Helper()
	for {
		a := s.receive(s.send(id, n))
		if a.err == nil {
			return a.total
		}
		if !errors.Is(a.err, messages.ErrCoordinatorLoading) &&
			!errors.Is(a.err, messages.ErrNotCoordinator) {
			s.t.Fatal(fmt.Errorf("%s + %d: %w", id, n, a.err))
		}
	}
}

// logged waits until that many records are in the log.
func (s *stage) logged(n messages.Offset) {
	s.t.Helper()
	testkit.Eventually(s.t, "the write is in the log",
		func() bool { return s.log.Offsets().LogEnd == n })
}
