package clientlib

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/clientlib/internal/outgoing"
	"github.com/troupelog/troupe/messages"
)

// sendTopic is a topic that a producer sends to.
type sendTopic struct {
	p      *Producer
	name   string
	view   atomic.Pointer[topicView]
	sticky atomic.Int32 // where records without a key go
	cancel func()       // of the watch; guarded by p.mu
}

// topicView is what is known of a topic at one moment. It is immutable.
type topicView struct {
	route *link.Route
	parts []*partition
	most  int // bytes of a batch
}

// partition is one that a producer sends to.
type partition struct {
	topic *sendTopic
	index int32

	mu   sync.Mutex
	open *payload   // being filled
	full []*payload // closed, in order, and not in the line yet
	gone error      // the topic is

	// What follows belongs to the loop.
	line       *outgoing.Line[*payload]
	due        *payload // the one being filled is to be sent as soon as it can
	leader     link.Leader
	generation int  // of the producer id that the line has
	touched    bool // is in the loop's list
}

// topic returns what is known of a topic, and asks for it the first time.
func (p *Producer) topic(ctx context.Context, name string) (*sendTopic, error) {
	p.mu.RLock()
	t := p.topics[name]
	p.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	if name == "" {
		return nil, fmt.Errorf("the record has no topic, set Record.Topic or ProducerConfig.Topic: %w",
			ErrInvalidTopic)
	}
	if err := messages.CheckTopicName(name); err != nil {
		return nil, fmt.Errorf("topic: %w", err)
	}
	open, end := during(p.open, ctx)
	defer end()
	waits, cancel := context.WithTimeout(open, p.cfg.DeliveryTimeout)
	defer cancel()
	route, err := p.link.Route(waits, name, p.cfg.CreateTopics)
	switch {
	case err == nil:
		return p.watch(route)
	case p.endErr() != nil:
		return nil, p.endErr()
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: %w", ErrTimedOut, err)
	case errors.Is(err, ErrUnknownTopic) && p.cfg.CreateTopics:
		err = fmt.Errorf("%w; the cluster does not make it (auto.create.topics.enable): create it", err)
	case errors.Is(err, ErrUnknownTopic):
		err = fmt.Errorf("%w; create it, or set ProducerConfig.CreateTopics", err)
	}
	return nil, about("topic", name, err)
}

// watch begins to follow where a topic is led.
func (p *Producer) watch(route *link.Route) (*sendTopic, error) {
	if route.Gone || len(route.Partitions) == 0 {
		return nil, fmt.Errorf("topic %q: %w", route.Topic, ErrUnknownTopic)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.topics == nil {
		return nil, errProducerClosed
	}
	if t := p.topics[route.Topic]; t != nil {
		return t, nil
	}
	t := &sendTopic{p: p, name: route.Topic}
	t.learn(route)
	t.sticky.Store(rand.Int32N(int32(len(route.Partitions))))
	t.cancel = p.link.Watch(t.name, t.learn)
	p.topics[t.name] = t
	return t, nil
}

func (t *sendTopic) unwatch() { t.cancel() }

// learn takes note of where the topic is led. It is called for one route at a time.
func (t *sendTopic) learn(route *link.Route) {
	old := t.view.Load()
	v := &topicView{route: route, most: min(route.MaxMessageBytes, batchBytesMost)}
	if route.MaxMessageBytes <= 0 {
		v.most = batchBytesMost
	}
	if old != nil {
		if route.ID != old.route.ID { // it was deleted, and another one has its name
			t.p.inbox.post(func() { t.p.loop.gone(t, old) })
			return
		}
		if route.Version < old.route.Version && !route.Gone {
			return
		}
		v.parts = old.parts
	}
	if len(route.Partitions) > len(v.parts) {
		v.parts = append([]*partition(nil), v.parts...)
	}
	for i := len(v.parts); i < len(route.Partitions); i++ {
		v.parts = append(v.parts, &partition{topic: t, index: int32(i),
			line:   outgoing.NewLine[*payload](t.p.mode),
			leader: link.Leader{Node: messages.NoNode, Epoch: messages.NoEpoch}})
	}
	t.view.Store(v)
	t.p.inbox.post(func() { t.p.loop.routed(t, v) })
}

// choose returns the partition of a record, and whether any other would do.
func (t *sendTopic) choose(r *Record, v *topicView, custom Partitioner) (
	part *partition, anywhere bool, err error) {
	n, i := len(v.parts), -1
	switch {
	case custom != nil:
		i = custom(r, n)
	case r.Key != nil:
		i = outgoing.PartitionOf(r.Key, n)
	}
	if i >= n {
		return nil, false, fmt.Errorf("topic %q, partition %d: there are %d partitions: %w",
			t.name, i, n, ErrUnknownTopic)
	}
	if i < 0 {
		return t.anywhere(v), true, nil
	}
	return v.parts[i], false, nil
}

// anywhere is the partition where records go that need none in particular.
func (t *sendTopic) anywhere(v *topicView) *partition {
	return v.parts[int(t.sticky.Load())%len(v.parts)]
}

// turn has records without a key go elsewhere once a batch with them is closed, to a
// partition that is led, if there is one.
func (t *sendTopic) turn(from int32) {
	if t.sticky.Load() != from {
		return
	}
	v := t.view.Load()
	n := int32(len(v.parts))
	first := rand.Int32N(n)
	for i := range n {
		to := (first + i) % n
		led := int(to) < len(v.route.Partitions) && v.route.Partitions[to].Node != messages.NoNode
		if to != from && led {
			t.sticky.CompareAndSwap(from, to)
			return
		}
	}
}

// forget removes a topic that does not exist any more.
func (p *Producer) forget(t *sendTopic) {
	p.mu.Lock()
	known := p.topics[t.name] == t
	if known {
		delete(p.topics, t.name)
	}
	p.mu.Unlock()
	if known {
		t.unwatch()
	}
}

// remaining is how long a batch may take, of at most that.
func remaining(expires, now time.Time, most time.Duration) time.Duration {
	return max(min(expires.Sub(now), most), time.Millisecond)
}

// gone fails all that is on its way to a topic that does not exist any more, as it seems:
// nodes that know less than others say so of topics that do. If it is found again its lines
// begin anew, and what they sent under the numbers of earlier batches would be taken for
// these and dropped. So they do not get an identity that the partitions may know, and what
// a transaction has sent there does not go on in other lines.
func (l *sendLoop) gone(t *sendTopic, v *topicView) {
	err := fmt.Errorf("the topic was deleted: %w", ErrUnknownTopic)
	l.known = true
	l.p.forget(t)
	for _, part := range v.parts {
		part.mu.Lock()
		part.gone = fmt.Errorf("topic %q: %w", t.name, err)
		part.mu.Unlock()
		l.closeOpen(part)
		used := l.txn != nil && part.generation == l.generation
		if used && l.txn.open.Load() && l.txn.fail(part.gone) {
			l.p.inbox.post(func() { l.abandon(errTxnFailed) })
		}
		part.line.Abandon(err)
		l.touch(part)
	}
}
