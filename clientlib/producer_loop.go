package clientlib

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/clientlib/internal/outgoing"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/wire"
)

// answerWait is how long a node may take to answer before a batch is sent again.
const answerWait = 20 * time.Second

// idleTick is when the loop looks around if nothing is due.
const idleTick = time.Minute

// inbox is what the loop is asked to do.
type inbox struct {
	mu     sync.Mutex
	asked  []func()
	spare  []func()
	signal chan struct{}
}

// post has the loop call f soon, after what was posted before. It never blocks.
func (i *inbox) post(f func()) {
	i.mu.Lock()
	i.asked = append(i.asked, f)
	i.mu.Unlock()
	select {
	case i.signal <- struct{}{}:
	default:
	}
}

// take returns what was posted, for the loop to do before it takes more.
func (i *inbox) take() []func() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.spare)
	i.asked, i.spare = i.spare[:0], i.asked
	return i.spare
}

// sendLoop is what one goroutine of a producer does: it carries out what the lines of the
// partitions decide. Its fields and methods are for that goroutine.
type sendLoop struct {
	p       *Producer
	stopped chan struct{} // closed when it ended
	over    bool
	dropped int // records without an answer at the end; to be read once stopped is closed

	who        identity // of partitions that have none yet
	generation int      // of who; 0: there is none
	known      bool     // who may be known where a line begins
	asking     bool     // for another producer id
	txn        *Transaction
	abandoned  error // txn is, until the next one

	active  map[*partition]struct{} // have something to send or to wait for
	touched []*partition            // something happened to them
	linger  []lingering             // from the one that is due first on
	scan    time.Time               // when to look at the active ones; zero: never
	latest  time.Time               // when something was sent

	packers int // may run at the same time
	packing int
	toPack  []*payload
}

// lingering is a batch that is being filled until a time. If it was closed before, its
// memory may be another batch by then: it is for the partition to tell.
type lingering struct {
	part  *partition
	pl    *payload
	until time.Time
}

func (l *sendLoop) init(p *Producer, packers int) {
	l.p, l.packers = p, packers
	l.stopped = make(chan struct{})
	l.active = map[*partition]struct{}{}
}

func (l *sendLoop) run() {
	defer close(l.stopped)
	timer := time.NewTimer(idleTick)
	defer timer.Stop()
	for {
		for _, f := range l.p.inbox.take() {
			f()
		}
		if l.over {
			return
		}
		timer.Reset(l.tick(time.Now()))
		select {
		case <-l.p.inbox.signal:
		case at := <-timer.C:
			if at.Sub(l.latest) > idleTick {
				l.p.trim()
			}
		}
	}
}

// tick does what is due, and returns how long nothing else is.
func (l *sendLoop) tick(now time.Time) time.Duration {
	for len(l.linger) > 0 && !l.linger[0].until.After(now) {
		l.due(l.linger[0].part, l.linger[0].pl)
		l.linger[0] = lingering{}
		l.linger = l.linger[1:]
	}
	if !l.scan.IsZero() && !l.scan.After(now) {
		l.scan = time.Time{}
		for part := range l.active {
			l.touch(part)
		}
	}
	for len(l.touched) > 0 {
		part := l.touched[len(l.touched)-1]
		l.touched = l.touched[:len(l.touched)-1]
		part.touched = false
		l.pump(part, now)
	}
	next := now.Add(idleTick)
	if len(l.linger) > 0 {
		next = l.linger[0].until
	}
	if !l.scan.IsZero() && l.scan.Before(next) {
		next = l.scan
	}
	return max(next.Sub(now), time.Millisecond/10)
}

func (l *sendLoop) touch(part *partition) {
	l.active[part] = struct{}{}
	if !part.touched {
		part.touched = true
		l.touched = append(l.touched, part)
	}
}

// opened is told of a batch that begins to be filled.
func (l *sendLoop) opened(part *partition, pl *payload, at time.Time) {
	l.linger = append(l.linger, lingering{part, pl, at.Add(l.p.cfg.Linger)})
}

// due has a batch sent as soon as it can be, and filled until then.
func (l *sendLoop) due(part *partition, pl *payload) {
	part.mu.Lock()
	open := part.open == pl
	part.mu.Unlock()
	if open {
		part.due = pl
		l.touch(part)
	}
}

// hurry has all batches sent that are being filled, as soon as they can be.
func (l *sendLoop) hurry() {
	for _, w := range l.linger {
		l.due(w.part, w.pl)
	}
	clear(l.linger)
	l.linger = l.linger[:0]
}

// closeOpen closes the batch that is being filled, if there is one.
func (l *sendLoop) closeOpen(part *partition) {
	part.mu.Lock()
	if part.open != nil {
		part.close()
	}
	part.mu.Unlock()
	l.collect(part)
}

// collect puts the batches that are full into their line. They are not handed over one by
// one: the loop may close a batch before it hears of the ones in front of it.
func (l *sendLoop) collect(part *partition) {
	for {
		part.mu.Lock()
		if len(part.full) == 0 {
			part.mu.Unlock()
			return
		}
		pl := part.full[0]
		part.full = slices.Delete(part.full, 0, 1)
		part.mu.Unlock()
		l.closed(pl)
	}
}

// closed puts a batch into its line.
func (l *sendLoop) closed(pl *payload) {
	part := pl.part
	if part.due == pl { // else it is one behind this
		part.due = nil
	}
	l.identify(part)
	if l.p.cfg.Compression == Uncompressed {
		l.packed(pl, pl.pack())
	} else {
		l.toPack = append(l.toPack, pl)
		l.packMore()
	}
	part.line.Add(&pl.out)
	l.touch(part)
}

// packMore has batches compressed, as many at a time as there are processors.
func (l *sendLoop) packMore() {
	for len(l.toPack) > 0 && l.packing < l.packers {
		pl := l.toPack[0]
		l.toPack[0] = nil
		l.toPack = l.toPack[1:]
		l.packing++
		l.p.work.Go(func() {
			err := pl.pack()
			l.p.inbox.post(func() {
				l.packing--
				l.packed(pl, err)
				l.touch(pl.part)
				l.packMore()
			})
		})
	}
}

func (l *sendLoop) packed(pl *payload, err error) {
	invariant.That(err == nil, "a batch of %d bytes cannot be built: %v", pl.builder.Size(), err)
	pl.out.Records = len(pl.waits)
	pl.out.Ready = true
}

// pump does what is to be done for a partition now.
func (l *sendLoop) pump(part *partition, now time.Time) {
	line := part.line
	line.Expire(now)
	if part.due != nil && !now.Before(part.due.out.Expires) {
		l.closeOpen(part)
		line.Expire(now)
	}
	l.identify(part)
	for {
		if part.due != nil && line.Idle(now) {
			l.closeOpen(part)
		}
		if part.leader.Node == messages.NoNode {
			break
		}
		b := line.Next(now)
		if b == nil {
			break
		}
		l.send(part, b, now)
	}
	for _, b := range line.Finished() {
		l.finished(b.Of, now)
	}
	if !line.Busy() && part.due == nil {
		delete(l.active, part)
		return
	}
	at := line.Due(now)
	if part.due != nil && (at.IsZero() || part.due.out.Expires.Before(at)) {
		at = part.due.out.Expires
	}
	if !at.IsZero() && (l.scan.IsZero() || at.Before(l.scan)) {
		l.scan = at
	}
}

// send hands a batch over on its way to the partition's leader.
func (l *sendLoop) send(part *partition, b *outgoing.Batch[*payload], now time.Time) {
	p, pl, node := l.p, b.Of, part.leader.Node
	l.latest = now
	pl.stamp()
	req := &wire.ClientRequest{Command: &wire.ClientRequest_Append{Append: &wire.ClientAppend{
		Topic: part.topic.name, Partition: part.index, Acks: p.cfg.Acks.wire(),
		TransactionalId: p.cfg.TransactionalID, Records: pl.batch.Bytes,
	}}}
	p.counts.inFlight.Add(1)
	if b.Tries > 1 {
		p.counts.retries.Add(1)
	}
	if l.txn != nil {
		l.txn.used.Store(true)
	}
	p.link.Send(node, req, remaining(b.Expires, now, answerWait),
		func(resp *wire.ClientResponse, err error) {
			p.inbox.post(func() { l.answered(part, b, node, resp, err) })
		})
}

// answered takes note of what became of a batch.
func (l *sendLoop) answered(part *partition, b *outgoing.Batch[*payload], node messages.NodeID,
	resp *wire.ClientResponse, err error) {
	l.p.counts.inFlight.Add(-1)
	appended := resp.GetAppended()
	if err == nil && l.p.cfg.Acks != AcksNone {
		b.Of.base = appended.GetBaseOffset()
	}
	part.line.Answered(b, outgoing.Answer{Err: err, Unsent: errors.Is(err, link.ErrNotSent),
		At: time.Now(), Chance: rand.Float64()})
	if outdated(err) {
		l.p.link.Learn(part.topic.name, part.index, appended.GetLeader())
	}
	if err != nil && part.leader.Node != node {
		part.line.Wake() // another node leads meanwhile
	}
	l.touch(part)
}

// routed takes note of where a topic is led.
func (l *sendLoop) routed(t *sendTopic, v *topicView) {
	if v.route.Gone {
		l.gone(t, v)
		return
	}
	for i, part := range v.parts {
		leader := link.Leader{Node: messages.NoNode}
		if i < len(v.route.Partitions) {
			leader = v.route.Partitions[i]
		}
		if leader == part.leader {
			continue
		}
		part.leader = leader
		part.line.Wake()
		if part.line.Busy() || part.due != nil {
			l.touch(part)
		}
	}
}

// everyPartition calls f for all partitions that were sent to.
func (l *sendLoop) everyPartition(f func(*partition)) {
	l.p.mu.RLock()
	topics := make([]*sendTopic, 0, len(l.p.topics))
	for _, t := range l.p.topics {
		topics = append(topics, t)
	}
	l.p.mu.RUnlock()
	for _, t := range topics {
		for _, part := range t.view.Load().parts {
			f(part)
		}
	}
}

// flush has f told once all that was sent before is done.
func (l *sendLoop) flush(f *flusher) {
	l.everyPartition(l.closeOpen)
	f.left.Store(1)
	for part := range l.active {
		if last := part.line.Last(); last != nil {
			f.left.Add(1)
			last.Of.flush = append(last.Of.flush, f)
		}
	}
	l.p.outbox.put(delivery{flush: f})
}

// end fails what is not done, and ends the loop.
func (l *sendLoop) end() {
	l.everyPartition(l.closeOpen)
	now := time.Now()
	err := fmt.Errorf("the producer was closed before an answer came, it may be written: %w",
		ErrClosed)
	for part := range l.active {
		part.line.Drop(err)
		for _, b := range part.line.Finished() {
			if b.Err != nil {
				l.dropped += len(b.Of.waits)
			}
			l.finished(b.Of, now)
		}
	}
	l.over = true
}
