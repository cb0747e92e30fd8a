package coordinator

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/troupelog/troupe/actors/txns"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// bodyTxn is txnMachine with the outbox of a Body.
type bodyTxn struct {
	*txns.Txn
	out *bodyTxnOut
}

func (t *bodyTxn) Stop(err error) {
	t.out.stopped = true
	t.Txn.Stop(err)
}

// bodyTxnOut is txnOut without goroutines.
type bodyTxnOut struct {
	b       *Body
	m       *bodyMember
	stopped bool
}

// NewProducerID implements txns.Outbox.
func (o *bodyTxnOut) NewProducerID() {
	o.b.out.NewProducerID(func(id messages.ProducerID, err error) {
		o.b.out.Self(memberAnswer{o.m, &txn.FreshID{ID: id, Err: err}})
	})
}

// SendMarkers implements txns.Outbox.
func (o *bodyTxnOut) SendMarkers(m txn.Markers) {
	s := &sending{o: o, m: m, left: slices.Clone(m.Partitions), pause: markerFirst}
	o.b.out.Self(markersDue{s})
}

// sending is sendMarkers without a goroutine: it tries until every partition has its
// marker or is gone.
type sending struct {
	o      *bodyTxnOut
	m      txn.Markers
	left   []messages.TopicPartition
	pause  time.Duration
	asked  int // leaders that have not answered
	done   []messages.TopicPartition
	fenced error
}

// send is sendOnce.
func (s *sending) send() {
	if s.o.stopped {
		return
	}
	byLeader, done, left := route(s.o.b.c.cfg.Image(), s.left)
	s.done, s.left, s.asked = done, left, len(byLeader)
	for _, n := range slices.Sorted(maps.Keys(byLeader)) {
		part := s.m
		part.Partitions = byLeader[n]
		s.o.b.out.WriteMarkers(n, part, func(errs []error, err error) {
			d, l, f := tally(part.Partitions, outcome{err, errs})
			s.done, s.left = append(s.done, d...), append(s.left, l...)
			s.fenced = errors.Join(s.fenced, f)
			if s.asked--; s.asked == 0 {
				s.answered()
			}
		})
	}
	if len(byLeader) == 0 {
		s.answered()
	}
}

func (s *sending) answered() {
	b := s.o.b
	if len(s.done) > 0 || s.fenced != nil {
		b.out.Self(memberAnswer{s.o.m, &txn.MarkersWritten{Sending: s.m.Sending,
			Producer: s.m.Producer, Epoch: s.m.Epoch, Partitions: s.done, Err: s.fenced}})
	}
	if len(s.left) > 0 && s.fenced == nil {
		b.out.After(s.pause, markersDue{s})
		s.pause = min(2*s.pause, markerLimit)
	}
}
