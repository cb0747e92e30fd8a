package kafka

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/testkit"
)

// lending is a topic whose partitions are run by who appends to them.
func lending(partitions int) *fakeCluster {
	f := withTopic(partitions)
	for i := range int32(partitions) {
		f.replica("t", i).lends = true
	}
	return f
}

func TestTheReaderRunsThePartitionsThatItsAppendsWake(t *testing.T) {
	f := lending(1)
	w := dial(t, serveFake(t, f, Config{}))
	const n = 50
	for i := range int64(n) {
		req := produceTo(9, -1, map[int32][]byte{0: batchOf(t, fmt.Sprint(i))})
		w.send(req)
		resp := receive[*kmsg.ProduceResponse](w, int32(i), req)
		if got := resp.Topics[0].Partitions[0].BaseOffset; got != i {
			t.Fatalf("request %d was appended at %d", i, got)
		}
	}
	if p := f.replica("t", 0); p.taken.Load() != n || p.left.Load() != 0 {
		t.Errorf("%d turns taken, %d left", p.taken.Load(), p.left.Load())
	}
}

func TestTheReaderLeavesToWorkersWhatIsMoreThanItsShare(t *testing.T) {
	const partitions = 16
	f := lending(partitions)
	w := dial(t, serveFake(t, f, Config{}))
	batches := map[int32][]byte{}
	for i := range int32(partitions) {
		batches[i] = batchOf(t, "a")
	}
	req := produceTo(9, -1, batches)
	w.send(req)
	resp := receive[*kmsg.ProduceResponse](w, 0, req)
	var taken, left int64
	for i := range int32(partitions) {
		if code := resp.Topics[0].Partitions[i].ErrorCode; code != 0 {
			t.Errorf("partition %d: code %d", i, code)
		}
		taken += f.replica("t", i).taken.Load()
		left += f.replica("t", i).left.Load()
	}
	// Less of them if the machine is slow: see turnsWait.
	if taken < 1 || taken > turnsMax || taken+left != partitions {
		t.Errorf("%d turns taken, %d left", taken, left)
	}
}

// The disk of one partition stands still. The others are no less served, other clients'
// appends to them among it.
func TestAPartitionThatIsStuckHoldsUpNoneThatTheReaderWouldRunNext(t *testing.T) {
	f := lending(3)
	p := f.replica("t", 0)
	p.stuck = make(chan struct{})
	w := dial(t, serveFake(t, f, Config{}))
	release := sync.OnceFunc(func() { close(p.stuck) })
	t.Cleanup(release)
	a := batchOf(t, "a")
	req := produceTo(9, -1, map[int32][]byte{0: a, 1: a, 2: a})
	w.send(req)
	for i := range int32(2) {
		testkit.Eventually(t, "the batch is appended", func() bool {
			return f.replica("t", i+1).Offsets().LogEnd == 1
		})
	}
	release()
	resp := receive[*kmsg.ProduceResponse](w, 0, req)
	for _, p := range resp.Topics[0].Partitions {
		if p.ErrorCode != 0 {
			t.Errorf("partition %d: code %d", p.Partition, p.ErrorCode)
		}
	}
	w.send(req)
	receive[*kmsg.ProduceResponse](w, 1, req)
	for i := range int32(3) {
		if n := f.replica("t", i).Offsets().LogEnd; n != 2 {
			t.Errorf("partition %d has %d records", i, n)
		}
	}
}

func TestAnswersLeaveWhileTheReaderIsStuck(t *testing.T) {
	f := lending(2)
	stuck, other := f.replica("t", 0), f.replica("t", 1)
	stuck.stuck = make(chan struct{})
	other.lends, other.pause = false, true
	w := dial(t, serveFake(t, f, Config{}))
	release := sync.OnceFunc(func() { close(stuck.stuck) })
	t.Cleanup(release)
	first := produceTo(9, -1, map[int32][]byte{1: batchOf(t, "a")})
	second := produceTo(9, -1, map[int32][]byte{0: batchOf(t, "a")})
	first.TimeoutMillis, second.TimeoutMillis = 60000, 60000
	w.send(first, second)
	testkit.Eventually(t, "the reader is stuck", func() bool { return stuck.taken.Load() == 1 })
	other.resume()
	receive[*kmsg.ProduceResponse](w, 0, first)
	release()
	receive[*kmsg.ProduceResponse](w, 1, second)
}

func TestAProduceIsTimedOutWhileTheReaderIsStuck(t *testing.T) {
	f := lending(1)
	p := f.replica("t", 0)
	p.stuck = make(chan struct{})
	w := dial(t, serveFake(t, f, Config{}))
	t.Cleanup(func() { close(p.stuck) })
	req := produceTo(9, -1, map[int32][]byte{0: batchOf(t, "a")})
	req.TimeoutMillis = 1
	w.send(req)
	resp := receive[*kmsg.ProduceResponse](w, 0, req)
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 7 {
		t.Errorf("code %d, want REQUEST_TIMED_OUT", code)
	}
}

func TestATurnThatPanicsLeavesTheOthersToWorkers(t *testing.T) {
	all := turns{slow: func() {}}
	var first, second panicking
	all.add(&first)
	all.add(&second)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		all.run()
	}()
	if first.left || !second.left {
		t.Error("the second one is nobody's")
	}
}

// panicking is a turn that runs into a bug.
type panicking struct{ left bool }

func (p *panicking) Take()  { panic("a bug") }
func (p *panicking) Leave() { p.left = true }

// Whatever comes behind an append, or nothing, the append is not left lying.
func TestWhatTheReaderPutOffIsDoneBeforeItWaitsOrEnds(t *testing.T) {
	produce := produceTo(9, 1, map[int32][]byte{0: batchOf(t, "a")})
	large := produceTo(9, 1, map[int32][]byte{0: largeBatch(t, 300<<10)})
	for _, tt := range []struct {
		name   string
		config Config
		next   []byte
		closed bool
	}{
		{name: "nothing"},
		{name: "another request", next: frame(1, anyAPIVersions())},
		{name: "a bad frame", next: []byte{0xff, 0, 0, 0}, closed: true},
		{name: "a part of a frame", next: frame(1, produce)[:20]},
		{name: "a part of a large frame", next: frame(1, large)[:200<<10]},
		{name: "a request that has no place yet", config: Config{MaxInFlight: 1},
			next: frame(1, produce)},
		{name: "a frame that finds no memory", config: Config{QueuedMaxBytes: 100 << 10},
			next: frame(1, large)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dial(t, serveFake(t, lending(1), tt.config))
			w.raw(append(frame(0, produce), tt.next...))
			receive[*kmsg.ProduceResponse](w, 0, produce)
			if tt.closed {
				w.expectClosed()
			}
		})
	}
}

func TestAnswersThatDoNotLeaveWholeAreFinishedByTheWriterInOrder(t *testing.T) {
	p := newPipeline(4, 1<<20, func(*exchange) {})
	first, second := &exchange{}, &exchange{}
	p.push(first)
	p.push(second)
	p.finish(first, answer{head: []byte("first")})
	ready := p.leave(nil)
	if len(ready) != 1 || ready[0] != first {
		t.Fatalf("the reader got %d answers", len(ready))
	}
	p.finish(second, answer{head: []byte("second")})
	p.sent(1, []byte("st"))
	if ready = p.leave(ready[:0]); len(ready) != 0 || p.idle() {
		t.Fatalf("the reader got %d answers behind one that is not sent whole", len(ready))
	}
	ready, rest := p.take(t.Context(), nil)
	if !bytes.Equal(rest, []byte("st")) || len(ready) != 1 || ready[0] != second {
		t.Fatalf("the writer got %q and %d answers", rest, len(ready))
	}
	p.sent(1, nil)
	if !p.idle() {
		t.Error("something is still under way")
	}
}

func TestTheReaderLeavesLargeAnswersAndTheirOrderToTheWriter(t *testing.T) {
	p := newPipeline(4, 1<<20, func(*exchange) {})
	large, small := &exchange{}, &exchange{}
	p.push(large)
	p.push(small)
	p.finish(small, answer{head: []byte("small")})
	p.finish(large, answer{head: make([]byte, sendSelfMax+1)})
	if ready := p.leave(nil); len(ready) != 0 {
		t.Fatalf("the reader got %d answers", len(ready))
	}
	if ready, _ := p.take(t.Context(), nil); len(ready) != 2 || ready[0] != large {
		t.Fatalf("the writer got %d answers", len(ready))
	}
	late := &exchange{}
	p.push(late)
	p.finish(late, answer{head: []byte("late")})
	if ready := p.leave(nil); len(ready) != 0 {
		t.Error("the reader sends while the writer does")
	}
	p.sent(2, nil)
	if ready, _ := p.take(t.Context(), nil); len(ready) != 1 || ready[0] != late {
		t.Errorf("the writer got %d answers", len(ready))
	}
}

// timeUp answers a request when its time is up.
type timeUp struct {
	p       *pipeline
	e       *exchange
	expired atomic.Bool
}

func (x *timeUp) expire() {
	x.expired.Store(true)
	x.p.finish(x.e, answer{})
}

// The writer looks at the deadline of the oldest request alone, and of what is sent by
// somebody else it is not told.
func TestARequestIsTimedOutBehindAnAnswerThatTheWriterDidNotSend(t *testing.T) {
	for _, tt := range []struct {
		name string
		send func(p *pipeline, e *exchange)
	}{
		{"by who finished it", func(p *pipeline, e *exchange) {
			if !p.claim(e, answer{}) {
				t.Error("the oldest answer may not leave")
			}
			p.unclaim(e, true)
		}},
		{"by the reader", func(p *pipeline, e *exchange) {
			behind := &exchange{}
			p.push(behind)
			p.finish(e, answer{})
			for ready := p.leave(nil); len(ready) > 0; ready = p.leave(nil) {
				p.sent(len(ready), nil)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeline(4, 1<<20, func(*exchange) {})
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				oldest := &exchange{}
				p.push(oldest)
				late := &exchange{deadline: time.Now().Add(time.Second)}
				up := &timeUp{p: p, e: late}
				late.expire = up
				p.push(late)
				p.leave(nil)
				go p.take(ctx, nil)
				<-time.After(2 * time.Second)
				synctest.Wait()
				if up.expired.Load() {
					t.Fatal("timed out before it is its turn")
				}
				tt.send(p, oldest)
				<-time.After(time.Second)
				synctest.Wait()
				if !up.expired.Load() {
					t.Error("not timed out")
				}
			})
		})
	}
}

func TestAnAnswerThatIsBeingSentKeepsItsPlace(t *testing.T) {
	p := newPipeline(2, 1<<20, func(*exchange) {})
	over, stop := context.WithCancel(t.Context())
	stop()
	first, second, third := &exchange{}, &exchange{}, &exchange{}
	p.push(first)
	if !p.claim(first, answer{}) {
		t.Fatal("the oldest answer may not leave")
	}
	p.push(second)
	if p.admit(over, func() {}) == nil {
		t.Error("a third request of two is let in")
	}
	p.unclaim(first, false)
	ready, _ := p.take(t.Context(), nil)
	if len(ready) != 1 || ready[0] != first {
		t.Fatalf("the writer got %d answers", len(ready))
	}
	if err := p.admit(over, func() {}); err != nil {
		t.Fatal(err)
	}
	p.push(third)
}
