package kafka

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/node/door"
)

// Produce, key 0, versions 3 to 13 (advertised from 0): append record batches
// to partitions.
//
//	v3   record batch format v2, exactly one batch for each partition
//	v7   zstd (KIP-110)
//	v8   which records of a batch are bad (KIP-467)
//	v9   flexible encoding
//	v10  where the leader is, for a producer that guessed wrong (KIP-951)
//	v11  TRANSACTION_ABORTABLE (KIP-890)
//	v12  a transactional batch adds its partition to the transaction (KIP-890)
//	v13  topic ids instead of names (KIP-516)
//
// Partitions succeed or fail one by one. The reader checks the batches, CRC
// included, and hands them to the partitions' leaders in the order of the
// requests; the answer leaves when the slowest partition is done. What a
// partition has not answered in time is REQUEST_TIMED_OUT, though its batch may
// still be appended. With acks=0 there is no answer at all, and the first error
// closes the connection: that is the only sign the client can see.
//
// Internal topics take batches of the client that Kafka's own tools call
// __admin_client alone.

// Bounds of how long an answer waits for the leaders.
const (
	// produceWaitMin keeps clients with tiny time-outs from failing appends that
	// are a moment away: in Kafka the append itself does not count.
	produceWaitMin = time.Second
	// produceWaitLeader is for acks=1, which Kafka does not time at all.
	produceWaitLeader = 30 * time.Second
)

// produceCall is one Produce request under way.
type produceCall struct {
	conn    *conn
	e       *exchange
	version int16
	acks    data.Acks
	txnID   string         // transactional
	asks    bool           // the coordinator, about transactional batches
	mem     *requestMemory // until the last leader is done with its batch
	topics  []produceTopic
	appends []produceAppend // of all topics, in the order of the request

	mu       sync.Mutex
	outcomes []produceOutcome // one for each of appends
	left     int              // outcomes that are not done
	answered bool             // by the leaders or by expire

	// one is where the lists above lie in a request for one partition, the usual one.
	one struct {
		topic   [1]produceTopic
		append  [1]produceAppend
		outcome [1]produceOutcome
	}
}

// produceTopic is one topic of a request.
type produceTopic struct {
	name  string
	id    messages.TopicID
	topic *messages.Topic // nil: there is none
	end   int             // outcomes up to here are of this topic or one before
}

// produceAppend is what one partition is asked to append. It belongs to the
// partition's leader once it was handed over, and is never used again.
type produceAppend struct {
	call *produceCall
	part int       // index of call.outcomes
	to   Partition // nil: not to be appended
	data data.Append
	// partition is for a transactional batch: what its coordinator is asked about.
	partition messages.TopicPartition
}

// produceOutcome is what became of one partition of a request.
type produceOutcome struct {
	index   int32
	records int
	bytes   int
	done    bool
	code    int16
	result  data.AppendResult
}

// newProduce checks a Produce request and makes it ready to be dispatched. From
// here on the call owns mem.
func (c *conn) newProduce(e *exchange, req *kmsg.ProduceRequest, mem *requestMemory) *produceCall {
	p := &produceCall{conn: c, e: e, version: req.Version, acks: data.Acks(req.Acks), mem: mem}
	if req.TransactionID != nil {
		p.txnID = *req.TransactionID
		p.asks = p.asksCoordinator()
	}
	checked := false
	defer func() {
		if !checked { // a panic on its way out; nobody else has the memory yet
			mem.release()
		}
	}()
	p.plan(req)
	p.check(req)
	checked = true
	wait := time.Duration(req.TimeoutMillis) * time.Millisecond
	if p.acks != data.AcksAll {
		wait = max(wait, produceWaitLeader)
	}
	e.deadline, e.expire = e.started.Add(max(wait, produceWaitMin)), p
	return p
}

// plan lays out the topics and partitions of the request.
func (p *produceCall) plan(req *kmsg.ProduceRequest) {
	image := p.conn.s.cluster.Image()
	n := 0
	p.topics = room(p.one.topic[:0], len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		n += len(t.Partitions)
		p.topics[i] = produceTopic{name: t.Topic, id: t.TopicID, end: n}
		if p.version >= 13 {
			p.topics[i].topic = image.TopicByID(t.TopicID)
		} else {
			p.topics[i].topic = image.Topic(t.Topic)
		}
	}
	p.appends, p.outcomes = room(p.one.append[:0], n), room(p.one.outcome[:0], n)
}

// room returns n zero elements, in what is there if they fit.
func room[T any](there []T, n int) []T {
	if n <= cap(there) {
		return there[:n]
	}
	return make([]T, n)
}

// check decides for each partition whether its batch may be appended.
func (p *produceCall) check(req *kmsg.ProduceRequest) {
	part := 0
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			asked := &req.Topics[i].Partitions[j]
			p.appends[part] = produceAppend{call: p, part: part}
			p.outcomes[part].index = asked.Partition
			if err := p.checkPart(&p.topics[i], part, asked.Records); err != nil {
				p.refuse(part, produceErrorCode(err), err)
			}
			part++
		}
	}
	if code := p.checkWhole(); code != codeNone {
		for part := range p.appends {
			p.refuse(part, code, nil)
		}
	}
	p.left = 1 // dispatch itself: no leader finishes while others are to come
	for part := range p.appends {
		if p.appends[part].to != nil {
			p.left++
		}
	}
}

// checkWhole returns the error of a request that fails as a whole. A
// transactional batch needs a transactional id, and all of them have to be of
// one producer.
func (p *produceCall) checkWhole() int16 {
	switch p.acks {
	case data.AcksAll, data.AcksNone, data.AcksLeader:
	default:
		return codeInvalidRequiredAcks
	}
	producer := messages.NoProducerID
	for i := range p.appends {
		b := &p.appends[i].data.Batch
		if p.appends[i].to == nil || !b.Transactional() {
			continue
		}
		switch {
		case p.txnID == "":
			return codeTransactionalIDAuthFailed
		case producer != messages.NoProducerID && producer != b.ProducerID:
			return codeInvalidProducerIDMapping
		}
		producer = b.ProducerID
	}
	return codeNone
}

// adminClient is the client id with which Kafka's own tools may write to internal
// topics.
const adminClient = "__admin_client"

// checkPart finds the partition's leader and checks the batch.
func (p *produceCall) checkPart(t *produceTopic, part int, records []byte) error {
	index := p.outcomes[part].index
	switch {
	case t.topic == nil && p.version >= 13:
		return messages.ErrUnknownTopicID
	case t.topic == nil:
		return messages.ErrUnknownTopicOrPartition
	case t.topic.Internal() && p.e.header.clientID != adminClient:
		return fmt.Errorf("topic %q is internal; %w", t.topic.Name, door.ErrInternal)
	}
	to, err := p.conn.s.partitions.Partition(t.topic, index)
	if err != nil {
		return err
	}
	name := messages.TopicPartition{Topic: t.topic.Name, Partition: index}
	admitted, anew, err := door.Admit(to, name, records, p.version >= 7, p.e.started)
	if err != nil {
		return err
	}
	if anew {
		p.mem.charge(int64(len(admitted.Bytes)))
	}
	a, o := &p.appends[part], &p.outcomes[part]
	o.records, o.bytes = int(admitted.Count), admitted.Size()
	a.to, a.data = to, data.Append{Batch: admitted, Acks: p.acks, Done: a.finish,
		Turns: p.conn.post}
	if admitted.Transactional() {
		a.partition = name
		a.data.FreshEpoch = p.version >= produceAdds
		if p.asks {
			a.data.Verify = a.verify
		}
	}
	return nil
}

// refuse makes code the partition's outcome: nothing is appended.
func (p *produceCall) refuse(part int, code int16, err error) {
	p.appends[part].to = nil
	p.outcomes[part].fail(code, err)
}

func (o *produceOutcome) fail(code int16, err error) {
	o.done, o.code = true, code
	o.result = data.AppendResult{Err: err, BaseOffset: messages.NoOffset,
		LogAppendTime: messages.NoTimestamp, LogStart: messages.NoOffset,
		Leader: data.LeaderHint{Leader: messages.NoNode}}
}

// dispatch hands the batches to their leaders, without waiting for any.
func (p *produceCall) dispatch() {
	for i := range p.appends {
		if a := &p.appends[i]; a.to != nil {
			a.to.Append(&a.data)
		}
	}
	p.arrive(nil, data.AppendResult{})
}

// finish is the Done of the append.
func (a *produceAppend) finish(r data.AppendResult) { a.call.arrive(a, r) }

// arrive notes the result of one append, or the end of dispatch. The last one
// answers, unless time was up before, and gives the request's memory back.
func (p *produceCall) arrive(a *produceAppend, r data.AppendResult) {
	p.mu.Lock()
	if o := p.outcomeOf(a); o != nil {
		o.done, o.result, o.code = true, r, produceErrorCode(r.Err)
	}
	p.left--
	last := p.left == 0
	answer := last && !p.answered
	p.answered = p.answered || last
	p.mu.Unlock()
	if last {
		p.mem.release()
	}
	if answer {
		p.answer()
	}
}

// outcomeOf returns the outcome to fill in, unless the answer has left: then
// the outcomes are not the leaders' to write any more. The caller holds mu.
func (p *produceCall) outcomeOf(a *produceAppend) *produceOutcome {
	if a == nil || p.answered {
		return nil
	}
	return &p.outcomes[a.part]
}

// expire answers when time is up; what is not done yet has timed out.
func (p *produceCall) expire() {
	p.mu.Lock()
	late := !p.answered
	p.answered = true
	p.mu.Unlock()
	if !late {
		return
	}
	for i := range p.outcomes {
		if o := &p.outcomes[i]; !o.done {
			o.fail(codeRequestTimedOut, messages.ErrRequestTimedOut)
		}
	}
	p.answer()
}

// answer encodes the response and hands it to the writer. Every outcome stands
// and nobody writes to them any more.
func (p *produceCall) answer() {
	failed := p.count()
	if p.acks == data.AcksNone {
		if failed != nil {
			p.conn.log.Debug("Produce without acknowledgement failed; closing the connection",
				"partition", failed.index, "code", failed.code, "error", failed.result.Err)
		}
		p.conn.finish(p.e, answer{fatal: failed != nil})
		return
	}
	p.conn.respondWith(p.e, p.appendResponse)
}

// count reports every outcome to the metrics and returns the first that is an
// error, or nil.
func (p *produceCall) count() (failed *produceOutcome) {
	m := p.conn.s.config.Metrics
	part := 0
	for i := range p.topics {
		t := &p.topics[i]
		for ; part < t.end; part++ {
			o := &p.outcomes[part]
			if o.code != codeNone {
				if failed == nil {
					failed = o
				}
				m.RequestError(keyProduce, o.code)
			}
			switch {
			case t.topic == nil: // a name that a client made up is no label
			case o.code != codeNone:
				m.Topic(t.topic.Name).ProduceFailed()
			default:
				m.Topic(t.topic.Name).Produced(o.records, o.bytes)
			}
		}
	}
	return failed
}

// recordErrors returns the bad records of the batch, or nil.
func (o *produceOutcome) recordErrors() []record.RecordError {
	if o.result.Err == nil {
		return nil
	}
	var bad *record.RecordErrors
	if errors.As(o.result.Err, &bad) {
		return bad.Records
	}
	return nil
}
