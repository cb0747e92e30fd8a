package actors

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors/replicas"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/persistence/commitlog"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Replica is the published face of a replica actor: what readers and writers on
// this node may use without asking it. The actor is the only one that changes
// it; any goroutine may read it.
type Replica struct {
	id    messages.ReplicaID
	topic string
	pid   *actor.PID  // nil in a World
	send  func(m any) // to the replica

	// gate lets appends through while the replica takes them. The actor closes
	// it for good before it leaves, so that no append can slip into a mailbox
	// that is never read again.
	gate   sync.RWMutex
	closed bool

	leads atomic.Pointer[leadership] // nil: it does not lead, or not yet
	// led is Env.Led. The replica's goroutine calls it.
	led   func(topic string, partition int32, epoch messages.LeaderEpoch)
	hint  atomic.Pointer[data.LeaderHint]
	log   atomic.Pointer[commitlog.Log] // nil: not open
	fault atomic.Pointer[error]         // why it is offline; nil: it is not

	// watermark is the highest high watermark that the replica knows of, in
	// every role.
	watermark atomic.Int64
	// leaderEnd is where the leader's log ended when it last answered this
	// follower; NoOffset: it leads itself, or has not heard of it yet.
	leaderEnd atomic.Int64
	deleted   atomic.Bool // its data was deleted

	compaction compactionFace

	waiting waiters
}

// leadership is one moment of a leading replica. It is immutable.
type leadership struct {
	offsets  data.Offsets
	settled  bool // see replicas.Leader
	settings *configs.TopicSettings
}

func (l *leadership) epoch() messages.LeaderEpoch {
	if l == nil {
		return messages.NoEpoch
	}
	return l.offsets.Epoch
}

func newFace(env *Env, id messages.ReplicaID, topic string) *Replica {
	r := &Replica{id: id, topic: topic, led: env.Led}
	r.leaderEnd.Store(int64(messages.NoOffset))
	r.hint.Store(&data.LeaderHint{Leader: messages.NoNode, Epoch: messages.NoEpoch})
	return r
}

// notLeading says why the replica does not serve.
func (r *Replica) notLeading() error {
	if err := r.fault.Load(); err != nil {
		return *err
	}
	return fmt.Errorf("%s-%d: %w", r.topic, r.id.Partition, messages.ErrNotLeader)
}

// Settings returns the topic settings in force, or nil when it does not lead.
func (r *Replica) Settings() *configs.TopicSettings {
	if l := r.leads.Load(); l != nil {
		return l.settings
	}
	return nil
}

// Append hands a batch to the leader; see data.Append.
func (r *Replica) Append(a *data.Append) {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if r.closed || r.leads.Load() == nil {
		a.Done(r.refusal(r.notLeading()))
		return
	}
	r.send(a)
}

// refusal is the result of an append that did not happen.
func (r *Replica) refusal(err error) data.AppendResult {
	return data.AppendResult{
		Err: err, BaseOffset: messages.NoOffset, LogAppendTime: messages.NoTimestamp,
		LogStart: messages.NoOffset, Leader: *r.hint.Load(),
	}
}

// Offsets returns the watermarks as they stand; all are NoOffset when the
// replica does not lead.
func (r *Replica) Offsets() data.Offsets {
	if l := r.leads.Load(); l != nil {
		return l.offsets
	}
	none := messages.NoOffset
	return data.Offsets{LogStart: none, HighWatermark: none, LastStable: none, LogEnd: none,
		Epoch: messages.NoEpoch}
}

// visibleEnd is how far a reader may see.
func visibleEnd(o data.Offsets, isolation data.Isolation) messages.Offset {
	if isolation == data.ReadCommitted {
		return min(o.LastStable, o.HighWatermark)
	}
	return o.HighWatermark
}

// Read returns what is there now; see data.Read.
func (r *Replica) Read(q data.Read) (res data.ReadResult) {
	none := messages.NoOffset
	res = data.ReadResult{
		HighWatermark: none,
		LastStable:    none,
		LogStart:      none,
		Leader:        *r.hint.Load(),
	}
	l, log := r.leads.Load(), r.log.Load()
	if l == nil || log == nil {
		res.Err = r.notLeading()
		return res
	}
	o := l.offsets
	if res.Err = replicas.Fence(o.Epoch, q.CurrentEpoch); res.Err != nil {
		return res
	}
	res.HighWatermark, res.LastStable, res.LogStart = o.HighWatermark, o.LastStable, o.LogStart
	// A reader that has caught up asks after each answer. There is nothing for it, and no
	// file to look at.
	if q.LastEpoch == messages.NoEpoch && q.From == visibleEnd(o, q.Isolation) &&
		q.From >= o.LogStart {
		return res
	}
	return r.readLog(o, log, q, res)
}

// readLog is Read where the log has to be looked at.
func (r *Replica) readLog(
	o data.Offsets, log *commitlog.Log, q data.Read, so data.ReadResult,
) (res data.ReadResult) {
	res = so
	defer r.catchFault(log, &res.Err)()
	if q.LastEpoch != messages.NoEpoch {
		ours := epochEnd(o, log, q.LastEpoch)
		if ours.End == messages.NoOffset {
			res.Err = fmt.Errorf("epoch %d is not in the log: %w", q.LastEpoch, messages.ErrOffsetOutOfRange)
			return res
		}
		if replicas.Diverges(q.From, q.LastEpoch, ours) {
			res.Diverging = &ours
			return res
		}
	}
	if res.Err = replicas.CheckFetchOffset(q.From, o.LogStart, o.LogEnd); res.Err != nil {
		return res
	}
	limit := visibleEnd(o, q.Isolation)
	if q.From >= limit {
		return res
	}
	if q.Isolation == data.ReadCommitted {
		res.View, res.Aborted, res.Err = log.ReadCommitted(q.From, limit, q.MaxBytes, q.MinOne)
	} else {
		res.View, res.Err = log.Read(q.From, limit, q.MaxBytes, q.MinOne)
	}
	return res
}

// catchFault makes a fault on mapped memory an error of this read. Without it a
// file that was cut under its mapping would end the process. It tells the replica
// of faults, its own and those the log found. Use it as
// `defer r.catchFault(log, &err)()`.
func (r *Replica) catchFault(log *commitlog.Log, err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		reason := recover()
		if reason == nil {
			if isFault(*err) {
				r.send(logFaulted{log, *err})
			}
			return
		}
		var fault interface {
			runtime.Error
			Addr() uintptr
		}
		if e, ok := reason.(error); !ok || !errors.As(e, &fault) {
			panic(reason)
		}
		*err = fmt.Errorf("%s-%d: memory fault while reading the log at %#x: %w",
			r.topic, r.id.Partition, fault.Addr(), messages.ErrStorage)
		r.send(logFaulted{log, *err})
	}
}

// isFault reports whether a read failed because a file is not what it was.
func isFault(err error) bool {
	return errors.Is(err, segment.ErrFault) || errors.Is(err, vfs.ErrIO)
}

// epochEnd answers where an epoch ends. The current epoch ends at the log end,
// also before its first record.
func epochEnd(o data.Offsets, log *commitlog.Log, asked messages.LeaderEpoch) data.EpochEnd {
	if asked == o.Epoch {
		return data.EpochEnd{Epoch: asked, End: o.LogEnd}
	}
	if asked > o.Epoch {
		return data.EpochEnd{Epoch: messages.NoEpoch, End: messages.NoOffset}
	}
	if latest := log.LatestEpoch(); asked > latest {
		// Ours has no record yet, and that of the asked one never came here: what is
		// here ends where ours begins.
		if latest == messages.NoEpoch {
			latest = asked
		}
		return data.EpochEnd{Epoch: latest, End: o.LogEnd}
	}
	return log.EpochEnd(asked)
}

// EpochEnd answers OffsetForLeaderEpoch.
func (r *Replica) EpochEnd(current, asked messages.LeaderEpoch) (data.EpochEnd, error) {
	l, log := r.leads.Load(), r.log.Load()
	if l == nil || log == nil {
		return data.EpochEnd{}, r.notLeading()
	}
	if err := replicas.Fence(l.offsets.Epoch, current); err != nil {
		return data.EpochEnd{}, err
	}
	return epochEnd(l.offsets, log, asked), nil
}

// Status describes a replica for health checks and metrics.
type Status struct {
	ID      messages.ReplicaID
	Topic   string
	Leading bool
	Opening bool  // its log is not open yet
	Fault   error // why it is offline; nil: it is not
	// Offsets are, of a replica that does not lead, those of its own log.
	Offsets data.Offsets
	// Lag is how many records it is behind its leader, as far as it knows.
	Lag      int64
	Bytes    int64
	Segments int
}

// Status returns what the replica is now.
func (r *Replica) Status() Status {
	s := Status{ID: r.id, Topic: r.topic, Offsets: r.Offsets(), Leading: r.leads.Load() != nil}
	if err := r.fault.Load(); err != nil {
		s.Fault = *err
	}
	if log := r.log.Load(); log != nil {
		s.Bytes, s.Segments = log.Size(), log.Segments()
		if !s.Leading {
			s.Offsets.LogStart, s.Offsets.LogEnd = log.Start(), log.End()
			s.Offsets.HighWatermark = min(messages.Offset(r.watermark.Load()), s.Offsets.LogEnd)
			s.Lag = max(0, r.leaderEnd.Load()-int64(s.Offsets.LogEnd))
		}
	} else {
		s.Opening = s.Fault == nil && !r.deleted.Load()
	}
	return s
}

// Size is how many bytes the replica's log takes on disk.
func (r *Replica) Size() int64 {
	if log := r.log.Load(); log != nil {
		return log.Size()
	}
	return 0
}

// Await calls notify once when a reader at that isolation would see more than
// visible, or should look again; see node/kafka's Partition.
func (r *Replica) Await(
	isolation data.Isolation,
	visible messages.Offset,
	notify func(),
) (cancel func()) {
	w := &waiter{isolation, visible, notify}
	r.waiting.add(w)
	// What changed before the wait was registered is seen here, what changes
	// after it by publish; whoever takes the waiter off the list notifies.
	l := r.leads.Load()
	if (l == nil || visibleEnd(l.offsets, isolation) > visible) && r.waiting.remove(w) {
		notify()
	}
	return func() { r.waiting.remove(w) }
}

// publish makes a new moment visible and wakes the readers it has news for. nil
// means that the replica does not lead any more.
func (r *Replica) publish(l *leadership) {
	before := r.leads.Swap(l)
	if r.led != nil && before.epoch() != l.epoch() {
		r.led(r.topic, r.id.Partition, l.epoch())
	}
	all := l == nil || before == nil || before.offsets.LogStart != l.offsets.LogStart
	r.waiting.wake(func(w *waiter) bool {
		return all || visibleEnd(l.offsets, w.isolation) > w.visible
	})
}

// waiters are readers to be called. There are as many as there are parked fetches and
// fetch sessions of this partition, which the listener bounds.
type waiters struct {
	mu   sync.Mutex
	list []*waiter
	some atomic.Bool // whether list has any, to spare writers the lock
}

type waiter struct {
	isolation data.Isolation
	visible   messages.Offset
	notify    func()
}

func (ws *waiters) add(w *waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.list = append(ws.list, w)
	ws.some.Store(true)
}

// remove takes w off the list and reports whether it was still on it.
func (ws *waiters) remove(w *waiter) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	i := slices.Index(ws.list, w)
	if i >= 0 {
		ws.list = slices.Delete(ws.list, i, i+1)
		ws.some.Store(len(ws.list) > 0)
	}
	return i >= 0
}

func (ws *waiters) wake(ready func(*waiter) bool) {
	if !ws.some.Load() {
		return
	}
	var woken []*waiter
	ws.mu.Lock()
	ws.list = slices.DeleteFunc(ws.list, func(w *waiter) bool {
		if ready(w) {
			woken = append(woken, w)
			return true
		}
		return false
	})
	ws.some.Store(len(ws.list) > 0)
	ws.mu.Unlock()
	for _, w := range woken {
		w.notify()
	}
}
