package link

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

const (
	// subscribeWait bounds an attempt, and pushWait how long the first route may take
	// after it.
	subscribeWait = 5 * time.Second
	pushWait      = 2 * time.Second
	// unknownMax is how often it is asked whether a topic exists that somebody watches.
	unknownMax = 5 * time.Second
	// learnPause is how soon a topic's actor is asked for what it should have told.
	learnPause = 500 * time.Millisecond
	// confirmAfter is when it is asked again whether a topic that was there is gone.
	confirmAfter = 250 * time.Millisecond
)

// topic is a topic that somebody in this program wants to know the route of.
type topic struct {
	name    string
	route   *Route        // nil: not known
	changed chan struct{} // closed at the next change of what Route waits for

	watchers map[*watcher]struct{}
	callers  int       // of Route, that wait
	until    time.Time // it was asked for, and is kept until then

	due      time.Time // when to subscribe (again)
	asking   bool      // an attempt is under way
	again    bool      // subscribe anew when it has ended: something happened meanwhile
	through  *peer     // whose session subscribed
	create   bool      // somebody wants it made
	failures int       // in a row
	unknown  int       // answers in a row that it does not exist
	cause    error     // why the last attempt failed
	refused  int       // attempts so far that failed for good, for those who wait
}

// watcher is told of the routes of a topic.
type watcher struct {
	notify  func(*Route)
	next    *Route // to be told
	telling bool   // a goroutine does
	over    bool   // cancelled
}

// tell has those who wait look again.
func (t *topic) tell() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *topic) known() bool { return t.route != nil && !t.route.Gone }

func (t *topic) wanted(now time.Time) bool {
	return len(t.watchers) > 0 || t.callers > 0 || t.until.After(now)
}

// topic returns the one of a name.
func (l *Link) topic(name string) *topic {
	t := l.topics[name]
	if t == nil {
		t = &topic{name: name, changed: make(chan struct{}), watchers: map[*watcher]struct{}{}}
		l.topics[name] = t
	}
	return t
}

// Route returns where a topic's partitions are led. The first call subscribes to the topic
// and waits for its actor. It fails with messages.ErrUnknownTopicOrPartition if there is
// no such topic (create: and it may not be made), with ErrClosed, and with ctx.
func (l *Link) Route(ctx context.Context, name string, create bool) (*Route, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	l.mu.Lock()
	t := l.topic(name)
	if len(t.watchers) == 0 {
		t.until = time.Now().Add(l.lease)
	}
	t.callers++
	defer func() {
		t.callers--
		l.mu.Unlock()
	}()
	if !t.known() && !l.closed {
		t.create = t.create || create
		l.subscribeSoon(t, time.Now())
	}
	for refused := t.refused; ; {
		switch {
		case l.closed:
			return nil, closedError{}
		case t.known():
			return t.route, nil
		case t.refused > refused:
			if strings.Contains(t.cause.Error(), strconv.Quote(name)) { // as the node said it
				return nil, t.cause
			}
			return nil, fmt.Errorf("topic %q: %w", name, t.cause)
		}
		changed := t.changed
		l.mu.Unlock()
		select {
		case <-changed:
			l.mu.Lock()
		case <-ctx.Done():
			l.mu.Lock()
			cause := t.cause
			if cause == nil && errors.Is(ctx.Err(), context.Canceled) {
				return nil, fmt.Errorf("route of topic %q: %w", name, ctx.Err())
			}
			if cause == nil {
				cause = messages.ErrUnavailable
			}
			return nil, fmt.Errorf("route of topic %q: %w (%w)", name, cause, ctx.Err())
		}
	}
}

// Watch has notify called with the route as it is, if known, and after each change, one
// call at a time, by a goroutine that holds no lock; it must not block. The topic stays
// subscribed until cancel, after which no call begins.
func (l *Link) Watch(name string, notify func(*Route)) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topic(name)
	w := &watcher{notify: notify}
	t.watchers[w] = struct{}{}
	if l.closed {
		return func() {}
	}
	if t.route != nil {
		l.show(w, t.route)
	}
	if t.through == nil {
		l.subscribeSoon(t, time.Now())
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		w.over = true
		delete(t.watchers, w)
		l.rouse() // it may be time to unsubscribe
	}
}

// show tells a watcher of a route on a goroutine of its own.
func (l *Link) show(w *watcher, route *Route) {
	w.next = route
	if w.telling || l.closed {
		return
	}
	w.telling = true
	l.running.Go(func() {
		l.mu.Lock()
		for w.next != nil && !w.over && !l.closed {
			route := w.next
			w.next = nil
			l.mu.Unlock()
			w.notify(route)
			l.mu.Lock()
		}
		w.telling = false
		l.mu.Unlock()
	})
}

// Learn tells of a leader that a node named in an answer; nil: it named none. The topic's
// actor is asked again soon, too: it should have told.
func (l *Link) Learn(name string, partition int32, leader *wire.ClientLeader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[name]
	if t == nil || l.closed {
		return
	}
	next := learn(t.route, partition, leaderOf(leader))
	if next != nil || leader == nil {
		if soon := time.Now().Add(learnPause); soon.Before(t.due) {
			t.due = soon
			l.remind(soon)
		}
	}
	l.setRoute(t, next)
}

// routed takes the push of a topic's actor.
func (l *Link) routed(push *wire.ClientRoute) {
	t := l.topics[push.Topic]
	if t == nil {
		return // nobody wants to know any more
	}
	if push.Gone {
		l.subscribeSoon(t, time.Now())
		return
	}
	t.unknown, t.failures, t.cause = 0, 0, nil
	l.setRoute(t, merge(t.route, push))
}

// setRoute makes a route the known one, if there is one.
func (l *Link) setRoute(t *topic, next *Route) {
	if next == nil {
		return
	}
	t.route = next
	t.tell()
	for w := range t.watchers {
		l.show(w, next)
	}
}

// subscribeSoon has the keeper subscribe at a time, or earlier if it was to.
func (l *Link) subscribeSoon(t *topic, at time.Time) {
	if t.asking {
		t.again = true
		return
	}
	if t.due.After(at) || t.due.IsZero() {
		t.due = at
	}
	l.rouse()
}

// resubscribe has all subscriptions made anew: their actors may not know of them.
func (l *Link) resubscribe() {
	now := time.Now()
	for _, t := range l.topics {
		l.subscribeSoon(t, now)
	}
}

// beginAnew has routes of another cluster count, of which the versions say nothing about
// those that are known: it lost its data, or is not the one that was at its addresses.
func (l *Link) beginAnew() {
	for _, t := range l.topics {
		if t.route != nil {
			older := *t.route
			older.Version = -1
			t.route = &older
		}
	}
	clear(l.coordinators)
}

// tend subscribes to topics whose time has come, forgets those that nobody wants, and
// returns when there is more to do. It is the keeper's.
func (l *Link) tend(now time.Time) (next time.Time) {
	next = now.Add(time.Hour)
	if l.closed {
		return next
	}
	for name, t := range l.topics {
		if !t.wanted(now) {
			delete(l.topics, name)
			l.unsubscribe(t)
			continue
		}
		if !t.asking && len(l.open) > 0 && !t.due.After(now) {
			l.subscribe(t)
		}
		for _, at := range []time.Time{t.due, t.until} {
			if at.After(now) && at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// subscribe asks for the routes of a topic, through any session.
func (l *Link) subscribe(t *topic) {
	p := l.chooseAny()
	create := t.create
	t.asking, t.again = true, false
	l.post(p, &request{deadline: time.Now().Add(subscribeWait),
		req: &wire.ClientRequest{Command: &wire.ClientRequest_Subscribe{
			Subscribe: &wire.ClientSubscribe{Topic: t.name, Create: create,
				LeaseMs: millis(l.lease)}}},
		done: func(_ *wire.ClientResponse, err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.asking = false
			l.subscribed(t, p, create, err)
			l.remind(t.due)
		}})
}

// subscribed notes the outcome of an attempt to subscribe, and when the next one is due.
func (l *Link) subscribed(t *topic, p *peer, created bool, err error) {
	now := time.Now()
	t.cause = err
	switch {
	case err == nil && t.again: // it may be from before what happened
		t.due = now
	case err == nil:
		t.through, t.create, t.unknown = p, t.create && !created, 0
		t.due = now.Add(l.lease / 2)
		if !t.known() {
			t.failures++
			t.due = now.Add(max(pushWait, backoff(t.failures)))
		}
	case retriable(err):
		t.failures++
		t.due = now.Add(backoff(t.failures))
	case t.create && !created: // who wants it made came after the question
		t.due = now
	default:
		l.refusedBy(t, now, errors.Is(err, messages.ErrUnknownTopicOrPartition))
	}
}

// refusedBy notes that there is no such topic, or none that could be subscribed to. One
// that was there must be missed twice: a node may not know yet what others do.
func (l *Link) refusedBy(t *topic, now time.Time, unknown bool) {
	t.create = false
	t.unknown++
	if unknown && t.known() {
		if t.unknown == 1 {
			t.due = now.Add(confirmAfter)
			return
		}
		l.setRoute(t, gone(t.route))
	}
	t.refused++
	t.tell()
	t.until = now // who asked has the answer
	t.due = now.Add(min(unknownMax, backoff(t.unknown)<<min(t.unknown, 3)))
}

// unsubscribe ends the subscription of a topic that nobody wants to know of.
func (l *Link) unsubscribe(t *topic) {
	if t.through == nil || t.through.state != open {
		return
	}
	l.post(t.through, &request{deadline: time.Now().Add(subscribeWait),
		done: func(*wire.ClientResponse, error) {},
		req: &wire.ClientRequest{Command: &wire.ClientRequest_Subscribe{
			Subscribe: &wire.ClientSubscribe{Topic: t.name, Cancel: true}}}})
}
