package gateway

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

const (
	// fetchesMax bounds the fetches of a session that have no answer.
	fetchesMax = 1 << 16
	// fetchWaitMax bounds how long a fetch may ask to be parked.
	fetchWaitMax = 5 * time.Minute
	// partBytes is how many bytes of records one message to another process has.
	partBytes = 1 << 20
)

// fetch is one ClientFetch under way. It is with the session's goroutine, which parks it,
// or with a reader, and goes back and forth by messages.
type fetch struct {
	session  *session
	id       uint64
	asked    *wire.ClientFetch
	topic    *messages.Topic // nil: there is none
	from     door.Partition
	read     data.Read
	reserved int64 // bytes set aside while it is read
	deadline time.Time

	result data.ReadResult // of the last try, which found nothing
	cancel func()          // of what it waits for while parked
	place  int             // in the parking; less than 0: it is not parked

	answered bool // guarded by the session's mu
}

// fetch begins a fetch.
func (s *session) fetch(m *wire.ClientRequest, q *wire.ClientFetch) {
	wait := min(time.Duration(q.GetWaitMs())*time.Millisecond, fetchWaitMax)
	f := &fetch{session: s, id: m.GetRequestId(), asked: q, place: -1,
		deadline: time.Now().Add(wait)}
	f.read = data.Read{
		From:         messages.Offset(q.GetOffset()),
		MaxBytes:     min(max(int(q.GetMaxBytes()), 0), s.g.cfg.FetchMaxBytes, windowBytes),
		MinOne:       true,
		CurrentEpoch: messages.LeaderEpoch(q.GetLeaderEpoch()),
		LastEpoch:    messages.LeaderEpoch(q.GetLastEpoch()),
	}
	if q.GetReadCommitted() {
		f.read.Isolation = data.ReadCommitted
	}
	f.reserved = max(1, int64(f.read.MaxBytes))
	s.mu.Lock()
	full := len(s.fetches) >= fetchesMax
	if !full {
		s.fetches[f] = struct{}{}
		s.g.open.Add(1)
	}
	s.mu.Unlock()
	if full {
		s.refuse(m, fmt.Errorf("the session has %d fetches under way: %w", fetchesMax,
			messages.ErrOverloaded))
		return
	}
	s.start(f)
}

// start has a fetch read when there is room for what it may bring.
func (s *session) start(f *fetch) {
	if err := f.plan(); err != nil {
		none := messages.NoOffset
		f.answer(data.ReadResult{Err: err, HighWatermark: none, LastStable: none, LogStart: none,
			Leader: data.LeaderHint{Leader: messages.NoNode}}, nil)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, f)
	s.serveLocked()
}

// serveLocked sends the fetches that wait on to be read, as far as the window reaches. One
// is let in whatever its size.
func (s *session) serveLocked() {
	for len(s.waiting) > 0 {
		f := s.waiting[0]
		if s.sending > 0 && s.sending+f.reserved > windowBytes {
			return
		}
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		s.sending += f.reserved
		s.g.memory.read(f)
	}
}

// plan finds the leader.
func (f *fetch) plan() (err error) {
	g, q := f.session.g, f.asked
	f.topic = g.cfg.Cluster.Image().Topic(q.GetTopic())
	if id := q.GetTopicId(); len(id) > 0 && (f.topic == nil || string(id) != string(f.topic.ID[:])) {
		return fmt.Errorf("topic %q is another one: %w", q.GetTopic(), messages.ErrUnknownTopicID)
	}
	if f.topic == nil {
		return fmt.Errorf("topic %q: %w", q.GetTopic(), messages.ErrUnknownTopicOrPartition)
	}
	f.from, err = g.cfg.Partitions.Partition(f.topic, q.GetPartition())
	return err
}

// run reads, on a reader's goroutine, which has set aside what f reserves.
func (f *fetch) run() {
	s := f.session
	left := f.reserved // of what was set aside and is not needed any more
	defer func() {
		s.giveBack(left)
		if cause := recover(); cause != nil {
			s.failed(cause)
		}
	}()
	if s.ended.Load() {
		return
	}
	r := f.from.Read(f.read)
	defer r.View.Release()
	if r.Err == nil && r.Diverging == nil && r.View.Bytes == 0 && time.Now().Before(f.deadline) {
		f.result = r
		s.g.cfg.Root.Send(s.pid, found{f})
		return
	}
	var records []byte
	if n := r.View.Bytes; n > 0 && r.Err == nil {
		if more := int64(n) - left; more > 0 { // the first batch always comes whole
			s.giveBack(-more)
			left += more
		}
		if records, r.Err = copied(&r.View); r.Err != nil {
			r.Err = fmt.Errorf("%s-%d: %w: %w", f.topic.Name, f.asked.GetPartition(),
				messages.ErrStorage, r.Err)
		}
	}
	if f.answer(r, records) {
		left -= int64(len(records)) // that is given back when they have left
	}
}

// copied returns the bytes of a view in memory of their own. Part of a view may be a
// mapped file, which faults when the disk fails or the file was cut.
func copied(v *messages.View) (b []byte, err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		switch cause := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			b, err = nil, fmt.Errorf("memory fault while reading the log at %#x", cause.Addr())
		default:
			panic(cause)
		}
	}()
	b = make([]byte, v.Bytes)
	rest := b
	for _, e := range v.Extents {
		if e.Mem != nil {
			copy(rest, e.Mem)
		} else if _, err := e.File.ReadAt(rest[:e.Len], e.Pos); err != nil {
			return nil, err
		}
		rest = rest[e.Len:]
	}
	return b, nil
}

// giveBack gives back bytes that were set aside for reads or answers; less than 0 takes
// some more.
func (s *session) giveBack(n int64) {
	s.g.memory.giveFetch(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending -= n
	s.serveLocked()
}

// park has a fetch that found nothing wait until there may be something.
func (s *session) park(f *fetch) {
	now := time.Now()
	if s.draining || !now.Before(f.deadline) {
		f.answer(f.result, nil)
		return
	}
	visible := f.result.HighWatermark
	if f.read.Isolation == data.ReadCommitted {
		visible = f.result.LastStable
	}
	root, pid := s.g.cfg.Root, s.pid
	s.parked.push(f)
	f.cancel = f.from.Await(f.read.Isolation, visible, func() { root.Send(pid, woken{f}) })
	s.ring(now, f.deadline)
}

// woken reads again for a fetch, unless it was answered meanwhile.
func (s *session) woken(f *fetch) {
	if s.parked.remove(f) {
		f.cancel = nil
		s.start(f)
	}
}

// unpark answers a fetch that was parked and waits no longer.
func (f *fetch) unpark() {
	f.cancel()
	f.cancel = nil
	f.answer(f.result, nil)
}

// endFetches gives up the answers of a session that ends, and what is on the way to
// the client.
func (s *session) endFetches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.fetches {
		f.answered = true
		s.g.open.Done()
	}
	clear(s.fetches)
	s.waiting = nil
	s.g.memory.giveFetch(s.outgoing)
	s.outgoing = 0
}

// fetched is an answer, in one piece of memory.
type fetched struct {
	resp   wire.ClientResponse
	result wire.ClientResponse_Fetched
	body   wire.ClientFetched
}

// answer counts the outcome of a fetch and tells the client. It reports whether the
// records are on their way: not if the session has ended.
func (f *fetch) answer(r data.ReadResult, records []byte) bool {
	s := f.session
	s.mu.Lock()
	answered := f.answered
	if !answered {
		f.answered = true
		delete(s.fetches, f)
		s.outgoing += int64(len(records))
	}
	s.mu.Unlock()
	if answered {
		return false
	}
	defer s.g.open.Done()
	if f.topic != nil { // a name that a client made up is no label
		if r.Err != nil {
			s.g.cfg.Metrics.Topic(f.topic.Name).FetchFailed()
		} else {
			s.g.cfg.Metrics.Topic(f.topic.Name).Fetched(len(records))
		}
	}
	f.send(&r, records)
	return true
}

// send sends the answer, in parts if it goes to another process.
func (f *fetch) send(r *data.ReadResult, records []byte) {
	s := f.session
	aborted := abortedTxns(r.Aborted)
	for number := int32(0); number == 0 || len(records) > 0; number++ {
		part := records
		if !s.local {
			part = records[:min(len(records), partBytes)]
		}
		records = records[len(part):]
		m := &fetched{}
		m.resp.RequestId = f.id
		m.body.HighWatermark, m.body.LastStable = int64(r.HighWatermark), int64(r.LastStable)
		m.body.LogStart, m.body.Aborted = int64(r.LogStart), aborted
		m.body.Records, m.body.More, m.body.Part = part, len(records) > 0, number
		if d := r.Diverging; d != nil {
			m.body.Diverging = &wire.ClientEpochEnd{Epoch: int32(d.Epoch), End: int64(d.End)}
		}
		if r.Err != nil {
			m.resp.Error = wire.FromError(r.Err)
			m.body.Leader = leaderHint(r.Err, r.Leader, f.topic, f.asked.GetPartition())
		}
		m.result.Fetched = &m.body
		m.resp.Result = &m.result
		if s.local || len(part) == 0 {
			s.send(&m.resp)
			s.left(int64(len(part)))
		} else {
			s.send(&outgoing{&m.resp, s, int64(len(part))})
		}
	}
}

func abortedTxns(txns []data.AbortedTxn) []*wire.ClientAborted {
	var out []*wire.ClientAborted
	for _, t := range txns {
		out = append(out, &wire.ClientAborted{ProducerId: int64(t.Producer),
			FirstOffset: int64(t.FirstOffset)})
	}
	return out
}

// left notes that records have left for the client, or their answer was given up.
func (s *session) left(n int64) {
	s.mu.Lock()
	n = min(n, s.outgoing) // nothing, once the session has ended
	s.outgoing -= n
	s.mu.Unlock()
	if n > 0 {
		s.giveBack(n)
	}
}

// outgoing is an answer with records on its way to another process. The connection's
// queue has no bound; it asks for what it sends only when it is about to send it, and
// that is when the memory is given back.
type outgoing struct {
	*wire.ClientResponse
	session *session
	bytes   int64
}

// Serialize implements remote.RootSerializable.
func (o *outgoing) Serialize() (remote.RootSerialized, error) {
	o.session.left(o.bytes)
	return leaving{o.ClientResponse}, nil
}

// leaving is a ClientResponse as the connection wants it.
type leaving struct{ *wire.ClientResponse }

// Deserialize implements remote.RootSerialized. It is never called: what arrives is a
// ClientResponse.
func (l leaving) Deserialize() (remote.RootSerializable, error) {
	return nil, errors.New("a client's answer is not to be read here")
}

// leaderHint says who leads a partition, for errors that tell a client to ask another
// node: what the replica said, or what the metadata says.
func leaderHint(err error, said data.LeaderHint, t *messages.Topic, index int32,
) *wire.ClientLeader {
	if !errors.Is(err, messages.ErrNotLeader) && !errors.Is(err, messages.ErrFencedLeaderEpoch) {
		return nil
	}
	if said.Leader == messages.NoNode && t != nil && index >= 0 && int(index) < len(t.Partitions) {
		p := &t.Partitions[index]
		said = data.LeaderHint{Leader: p.Leader, Epoch: p.LeaderEpoch}
	}
	if said.Leader == messages.NoNode {
		return nil
	}
	return &wire.ClientLeader{NodeId: int32(said.Leader), LeaderEpoch: int32(said.Epoch)}
}
