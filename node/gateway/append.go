package gateway

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

// Bounds of how long an answer waits for the leader; the same as for Kafka's clients.
const (
	appendWaitMin    = time.Second
	appendWait       = 30 * time.Second // if the client does not say
	appendWaitLeader = 30 * time.Second // with acks=1
	// sweepEvery is how often appends are looked through for those that wait too long.
	sweepEvery = 500 * time.Millisecond
)

// appending is one batch under way. The leader has data until it calls finish.
type appending struct {
	session *session
	id      uint64
	topic   *messages.Topic // nil: there is none
	index   int32
	txnID   string
	bytes   int64
	memory  []byte // of the batch, if it came from another process
	data    data.Append

	// Guarded by the session's mu.
	deadline   time.Time
	prev, next *appending
	waits      bool // for its answer, in the session's list
}

// appends is a list of those without an answer, in the order in which they came.
type appends struct{ first, last *appending }

func (l *appends) add(a *appending) {
	a.waits, a.prev = true, l.last
	if l.last == nil {
		l.first = a
	} else {
		l.last.next = a
	}
	l.last = a
}

// remove reports whether a was in the list.
func (l *appends) remove(a *appending) bool {
	if !a.waits {
		return false
	}
	if a.prev == nil {
		l.first = a.next
	} else {
		a.prev.next = a.next
	}
	if a.next == nil {
		l.last = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.waits, a.prev, a.next = false, nil, nil
	return true
}

// append hands a batch to its leader, or answers why not.
func (s *session) append(m *wire.ClientRequest, q *wire.ClientAppend) {
	now := time.Now()
	a := &appending{session: s, id: m.GetRequestId(), index: q.GetPartition(),
		txnID: q.GetTransactionalId()}
	// What is no number of acks must not become one by being cut short.
	a.data.Acks = data.Acks(min(max(q.GetAcks(), math.MinInt16), math.MaxInt16))
	to, err := a.plan(q, now)
	if err == nil {
		err = s.admit(a, now, m.GetTimeoutMs())
	}
	if err != nil {
		a.answer(data.AppendResult{Err: err, BaseOffset: messages.NoOffset,
			LogAppendTime: messages.NoTimestamp, LogStart: messages.NoOffset,
			Leader: data.LeaderHint{Leader: messages.NoNode}})
		return
	}
	to.Append(&a.data)
}

// plan finds the leader and checks the batch.
func (a *appending) plan(q *wire.ClientAppend, now time.Time) (door.Partition, error) {
	g := a.session.g
	switch a.data.Acks {
	case data.AcksAll, data.AcksNone, data.AcksLeader:
	default:
		return nil, messages.ErrInvalidRequiredAcks
	}
	if a.topic = g.cfg.Cluster.Image().Topic(q.GetTopic()); a.topic == nil {
		return nil, fmt.Errorf("topic %q: %w", q.GetTopic(), messages.ErrUnknownTopicOrPartition)
	}
	if a.topic.Internal() {
		return nil, fmt.Errorf("topic %q is internal; %w", a.topic.Name, door.ErrInternal)
	}
	to, err := g.cfg.Partitions.Partition(a.topic, a.index)
	if err != nil {
		return nil, err
	}
	records := q.GetRecords()
	if !a.session.local {
		a.memory = records
	} else {
		// The leader stamps the batch, and the client may have to send it again.
		records = slices.Clone(records)
	}
	name := messages.TopicPartition{Topic: a.topic.Name, Partition: a.index}
	if a.data.Batch, _, err = door.Admit(to, name, records, true, now); err != nil {
		return nil, err
	}
	a.bytes = int64(a.data.Batch.Size())
	a.data.Done = a.finish
	if a.data.Batch.Transactional() {
		if a.txnID == "" {
			return nil, fmt.Errorf("a transactional batch needs a transactional id: %w",
				messages.ErrInvalidRequest)
		}
		a.data.FreshEpoch, a.data.Verify = true, a.verify
	}
	return to, nil
}

// verify is the Verify of the append: the coordinator adds the partition to the
// transaction (transaction.version 2).
func (a *appending) verify(reply func(error)) {
	h := &a.data.Batch.Header
	key := door.TxnKey{ID: a.txnID, Producer: h.ProducerID, Epoch: h.ProducerEpoch}
	client := door.TxnClient{Abortable: true}
	a.session.txns.Ask(key, door.TxnQuestion{
		Partition: messages.TopicPartition{Topic: a.topic.Name, Partition: a.index},
		Reply:     func(err error) { reply(client.Refusal(err)) }})
}

// admit notes an append that is about to begin, if there is room for it. One is let in
// whatever its size, or large batches would never be.
func (s *session) admit(a *appending, now time.Time, timeoutMs uint32) error {
	wait := appendWait
	if timeoutMs > 0 {
		wait = time.Duration(timeoutMs) * time.Millisecond
	}
	if a.data.Acks != data.AcksAll {
		wait = max(wait, appendWaitLeader)
	}
	a.deadline = now.Add(max(wait, appendWaitMin))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.appending > 0 && s.appending+a.bytes > windowBytes:
		return fmt.Errorf("%d bytes of batches are under way and %d more do not fit the window of "+
			"the session: %w", s.appending, a.bytes, messages.ErrOverloaded)
	case !s.g.memory.takeAppend(a.bytes):
		return fmt.Errorf("there is no room for %d bytes in queued.max.request.bytes: %w", a.bytes,
			messages.ErrOverloaded)
	}
	s.appending += a.bytes
	if s.appends.first == nil {
		s.ring(now, now.Add(sweepEvery))
	}
	s.appends.add(a)
	s.g.open.Add(1)
	return nil
}

// finish is the Done of the append.
func (a *appending) finish(r data.AppendResult) {
	s := a.session
	s.mu.Lock()
	s.appending -= a.bytes
	waits := s.appends.remove(a)
	s.mu.Unlock()
	s.g.memory.giveAppend(a.bytes)
	if waits {
		a.answer(r)
		s.g.open.Done()
	}
	if r.Err == nil { // else somebody may look at it yet
		s.g.cfg.Free(a.memory)
	}
}

// expireAppends answers those that waited long enough. Their batches may still be
// appended.
func (s *session) expireAppends(now time.Time) {
	var late []*appending
	s.mu.Lock()
	for a := s.appends.first; a != nil; {
		next := a.next
		if !now.Before(a.deadline) {
			s.appends.remove(a)
			late = append(late, a)
		}
		a = next
	}
	s.mu.Unlock()
	for _, a := range late {
		a.answer(data.AppendResult{Err: fmt.Errorf("the batch is not acknowledged yet: %w",
			messages.ErrRequestTimedOut), BaseOffset: messages.NoOffset,
			LogAppendTime: messages.NoTimestamp, LogStart: messages.NoOffset,
			Leader: data.LeaderHint{Leader: messages.NoNode}})
		s.g.open.Done()
	}
}

// endAppends gives up the answers of a session that ends.
func (s *session) endAppends() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := s.appends.first; a != nil; a = s.appends.first {
		s.appends.remove(a)
		s.g.open.Done()
	}
}

// appended is an answer, in one piece of memory.
type appended struct {
	resp   wire.ClientResponse
	result wire.ClientResponse_Appended
	body   wire.ClientAppended
}

// answer counts the outcome of an append and tells the client.
func (a *appending) answer(r data.AppendResult) {
	s := a.session
	if a.topic != nil { // a name that a client made up is no label
		if r.Err != nil {
			s.g.cfg.Metrics.Topic(a.topic.Name).ProduceFailed()
		} else {
			s.g.cfg.Metrics.Topic(a.topic.Name).Produced(int(a.data.Batch.Count), int(a.bytes))
		}
	}
	if a.data.Acks == data.AcksNone {
		return
	}
	m := &appended{}
	m.resp.RequestId = a.id
	m.body.BaseOffset, m.body.LogStart = int64(r.BaseOffset), int64(r.LogStart)
	m.body.LogAppendTimeMs = int64(r.LogAppendTime)
	if r.Err != nil {
		m.resp.Error = wire.FromError(r.Err)
		m.body.Leader = leaderHint(r.Err, r.Leader, a.topic, a.index)
	}
	m.result.Appended = &m.body
	m.resp.Result = &m.result
	s.send(&m.resp)
}
