package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
)

const (
	// peerWait bounds the wait for one answer of another node.
	peerWait = 10 * time.Second
	// verifyWait bounds the question whether an offset commit belongs to its
	// transaction: meanwhile the group waits. The client asks again.
	verifyWait = 2 * time.Second
	// markerFirst and markerLimit space the attempts to write markers.
	markerFirst = 10 * time.Millisecond
	markerLimit = time.Second
)

// WriteMarkers ends a transaction in partitions that this node leads; the errors
// stand in their order. It returns when the markers are on every in-sync replica.
func (c *Coordinators) WriteMarkers(ctx context.Context, m txn.Markers) []error {
	errs := make([]error, len(m.Partitions))
	type end struct {
		i   int
		err error
	}
	ends := make(chan end, len(errs))
	for i, tp := range m.Partitions {
		c.writeMarker(&m, tp, func(err error) { ends <- end{i, err} })
	}
	for n := range errs {
		errs[n] = messages.ErrRequestTimedOut
	}
	for range errs {
		select {
		case e := <-ends:
			errs[e.i] = e.err
		case <-ctx.Done():
			return errs
		}
	}
	return errs
}

// writeMarker ends a transaction in one partition. done is called once and must
// not block.
func (c *Coordinators) writeMarker(m *txn.Markers, tp messages.TopicPartition, done func(error)) {
	c.appendMarker(m, tp, func(err error) {
		if err == nil && tp.Topic == coord.OffsetsTopic {
			if s, ok := c.shards.Load(shardKey{coord.Group, tp.Partition}); ok {
				s.(*shard).ended(endOfTxn(m))
			}
		}
		done(err)
	})
}

// appendMarker has the leader write the marker; see Partition.
func (c *Coordinators) appendMarker(m *txn.Markers, tp messages.TopicPartition,
	done func(error)) {
	t := c.cfg.Image().Topic(tp.Topic)
	if t == nil {
		done(fmt.Errorf("%s: %w", tp, messages.ErrUnknownTopicOrPartition))
		return
	}
	log, err := c.cfg.Leading(t, tp.Partition)
	if err != nil {
		done(err)
		return
	}
	log.WriteMarker(data.Marker{Producer: m.Producer, Epoch: m.Epoch,
		CoordinatorEpoch: m.CoordinatorEpoch, Commit: m.Commit, V2: m.Raised}, done)
}

func endOfTxn(m *txn.Markers) *group.TxnEnded {
	return &group.TxnEnded{Producer: m.Producer, Epoch: m.Epoch, Commit: m.Commit}
}

// AddToTxn is an Add at the coordinator of that id, on whatever node it is. The
// Reply of a is not used.
func (c *Coordinators) AddToTxn(ctx context.Context, id string, a txn.Add) txn.Added {
	leader, err := c.Find(ctx, coord.Txn, id)
	if err != nil {
		return txn.Added{Err: err}
	}
	answers := make(chan txn.Added, 1)
	if leader == c.cfg.Self {
		a.Reply = func(r txn.Added) { answers <- r }
		c.Txn(id, &a)
	} else {
		c.ask(leader, func(q uint64) *wire.CoordinatorRequest {
			return &wire.CoordinatorRequest{RequestId: q,
				Command: &wire.CoordinatorRequest_AddToTxn{AddToTxn: wire.FromAdd(id, &a)}}
		}, func(o outcome) { answers <- txn.Added{Err: o.err, Errs: o.errs} })
	}
	select {
	case r := <-answers:
		return r
	case <-ctx.Done():
		return txn.Added{Err: fmt.Errorf("transaction %q: %w", id, messages.ErrUnavailable)}
	}
}

// ask sends a request to the coordinators of another node. done is called once.
// It may block while the node's address is looked up.
func (c *Coordinators) ask(n messages.NodeID, request func(id uint64) *wire.CoordinatorRequest,
	done func(outcome)) {
	address := c.cfg.Address(n)
	if address == "" {
		done(outcome{err: fmt.Errorf("node %d cannot be reached: %w", n, messages.ErrUnavailable)})
		return
	}
	to := actor.NewPID(address, rootName)
	id := c.calls.Begin(to, peerWait, done)
	c.cfg.Root.RequestWithCustomSender(to, request(id), c.pid)
}

// serve answers what came from another node. It does not block.
func (c *Coordinators) serve(m *wire.CoordinatorRequest, sender *actor.PID) {
	if sender == nil {
		return
	}
	answer := func(err error, errs []error) {
		c.cfg.Root.Send(sender, wire.FromOutcome(m.GetRequestId(), err, errs))
	}
	switch q := m.GetCommand().(type) {
	case *wire.CoordinatorRequest_AddToTxn:
		id, add := wire.ToAdd(q.AddToTxn)
		add.Reply = func(r txn.Added) { answer(r.Err, r.Errs) }
		c.Txn(id, add)
	case *wire.CoordinatorRequest_WriteMarkers:
		markers := wire.ToMarkers(q.WriteMarkers)
		go func() { // ends when the markers are safe, or the asker waits no more
			ctx, cancel := context.WithTimeout(context.Background(), peerWait)
			defer cancel()
			answer(nil, c.WriteMarkers(ctx, *markers))
		}()
	default:
		answer(wire.ErrUnsupported, nil)
	}
}

// txnOut is the outbox of the machine of one transactional id.
type txnOut struct {
	c    *Coordinators
	m    *member
	stop context.CancelFunc
	ctx  context.Context
}

func newTxnOut(c *Coordinators) *txnOut {
	o := &txnOut{c: c}
	o.ctx, o.stop = context.WithCancel(context.Background())
	return o
}

// NewProducerID has a fresh id brought to the machine. The goroutine ends with
// the call, which has a deadline.
func (o *txnOut) NewProducerID() {
	m := o.m
	go func() {
		ctx, cancel := context.WithTimeout(o.ctx, peerWait)
		defer cancel()
		id, err := o.c.cfg.NewProducerID(ctx)
		o.c.cfg.Root.Send(m.pid, &txn.FreshID{Err: err, ID: id})
	}()
}

// SendMarkers has a transaction ended in its partitions, by their leaders on
// whatever nodes. The goroutine ends when all have their markers, or with the
// member.
func (o *txnOut) SendMarkers(m txn.Markers) {
	pid := o.m.pid
	m.Partitions = slices.Clone(m.Partitions)
	go o.c.sendMarkers(o.ctx, m, func(w *txn.MarkersWritten) { o.c.cfg.Root.Send(pid, w) })
}

// sendMarkers tries until every partition has its marker or is gone.
func (c *Coordinators) sendMarkers(ctx context.Context, m txn.Markers,
	tell func(*txn.MarkersWritten)) {
	left := m.Partitions
	for pause := markerFirst; ; pause = min(2*pause, markerLimit) {
		var done []messages.TopicPartition
		var fenced error
		done, left, fenced = c.sendOnce(ctx, m, left)
		if len(done) > 0 || fenced != nil {
			tell(&txn.MarkersWritten{Sending: m.Sending, Producer: m.Producer, Epoch: m.Epoch,
				Partitions: done, Err: fenced})
		}
		if len(left) == 0 || fenced != nil || ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// sendOnce asks the leaders of partitions to end a transaction. It returns those
// that are done, those to be asked again, and why to give up.
func (c *Coordinators) sendOnce(ctx context.Context, m txn.Markers,
	partitions []messages.TopicPartition) (done, left []messages.TopicPartition, fenced error) {
	// Partitions that stand still must not hold up the next attempt for the others.
	ctx, cancel := context.WithTimeout(ctx, peerWait)
	defer cancel()
	byLeader, done, left := route(c.cfg.Image(), partitions)
	type answer struct {
		asked []messages.TopicPartition
		o     outcome
	}
	answers := make(chan answer, len(byLeader))
	for n, asked := range byLeader {
		part := m
		part.Partitions = asked
		if n == c.cfg.Self {
			go func() { answers <- answer{asked, outcome{errs: c.WriteMarkers(ctx, part)}} }()
			continue
		}
		c.ask(n, func(q uint64) *wire.CoordinatorRequest {
			return &wire.CoordinatorRequest{RequestId: q,
				Command: &wire.CoordinatorRequest_WriteMarkers{WriteMarkers: wire.FromMarkers(&part)}}
		}, func(o outcome) { answers <- answer{asked, o} })
	}
	for range byLeader {
		a := <-answers
		d, l, f := tally(a.asked, a.o)
		done, left, fenced = append(done, d...), append(left, l...), errors.Join(fenced, f)
	}
	return done, left, fenced
}

// route sorts partitions by the nodes that lead them; done are those that do not
// exist, left those without a leader.
func route(im *messages.Image, partitions []messages.TopicPartition) (
	byLeader map[messages.NodeID][]messages.TopicPartition, done, left []messages.TopicPartition) {
	byLeader = map[messages.NodeID][]messages.TopicPartition{}
	for _, tp := range partitions {
		t := im.Topic(tp.Topic)
		switch {
		case t == nil || int(tp.Partition) >= len(t.Partitions):
			done = append(done, tp) // deleted: there is nothing to end
		case t.Partitions[tp.Partition].Leader == messages.NoNode:
			left = append(left, tp)
		default:
			n := t.Partitions[tp.Partition].Leader
			byLeader[n] = append(byLeader[n], tp)
		}
	}
	return byLeader, done, left
}

// tally sorts partitions by what a leader answered; see sendOnce.
func tally(asked []messages.TopicPartition, o outcome) (
	done, left []messages.TopicPartition, fenced error) {
	for i, tp := range asked {
		err := o.err
		switch {
		case err != nil || len(o.errs) == 0: // one outcome for all
		case i < len(o.errs):
			err = o.errs[i]
		default:
			err = messages.ErrUnavailable // not answered: it must not pass for done
		}
		switch {
		case err == nil:
			done = append(done, tp)
		case errors.Is(err, txn.ErrCoordinatorFenced), errors.Is(err, messages.ErrInvalidProducerEpoch):
			fenced = errors.Join(fenced, fmt.Errorf("%s: %w", tp, err))
		default:
			left = append(left, tp)
		}
	}
	return done, left, fenced
}
