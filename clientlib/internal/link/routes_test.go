package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

// routeOf is a push of topic "t" with partition 0 led by a node.
func routeOf(id byte, version int64, leader, epoch int32) *wire.ClientRoute {
	return &wire.ClientRoute{Topic: "t", TopicId: append(make([]byte, 15), id), Version: version,
		MaxMessageBytes: 1 << 20,
		Partitions:      []*wire.ClientLeader{{NodeId: leader, LeaderEpoch: epoch}}}
}

func pushOf(r *wire.ClientRoute) *wire.ClientPush {
	return &wire.ClientPush{Event: &wire.ClientPush_Route{Route: r}}
}

// serveTopic has all nodes answer subscriptions with what route returns.
func (w *world) serveTopic(route func(*wire.ClientSubscribe) (*wire.ClientRoute, error)) {
	w.do(func() {
		for _, n := range w.nodes {
			n.topics = route
		}
	})
}

// subscriptions are those that the nodes were asked for so far.
func (w *world) subscriptions() (all []*wire.ClientSubscribe) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		all = append(all, n.asked...)
	}
	return all
}

// seen collects the routes that a watcher is told.
type seen struct {
	mu     sync.Mutex
	routes []*Route
	busy   bool
	twice  bool
}

func (s *seen) notify(r *Route) {
	s.mu.Lock()
	s.twice = s.twice || s.busy
	s.busy = true
	s.routes = append(s.routes, r)
	s.mu.Unlock()
	s.mu.Lock()
	s.busy = false
	s.mu.Unlock()
}

func (s *seen) last() *Route {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.routes) == 0 {
		return &Route{}
	}
	return s.routes[len(s.routes)-1]
}

var errNoTopic = fmt.Errorf("no such topic: %w", messages.ErrUnknownTopicOrPartition)

func TestARouteComesFromTheActorOfTheTopic(t *testing.T) {
	w := newWorld(t, 2)
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		return routeOf(1, 5, 2, 7), nil
	})
	l := w.link(Config{})
	r, err := l.Route(t.Context(), "t", false)
	if err != nil {
		t.Fatal(err)
	}
	if r.Topic != "t" || r.ID[15] != 1 || r.Version != 5 || r.MaxMessageBytes != 1<<20 ||
		!slices.Equal(r.Partitions, []Leader{{2, 7}}) {
		t.Errorf("the route is %+v", r)
	}
	if _, err := l.Route(t.Context(), "t", false); err != nil || len(w.subscriptions()) != 1 {
		t.Errorf("%v; it was subscribed to %d times", err, len(w.subscriptions()))
	}
}

func TestATopicThatDoesNotExistIsMadeForWhoWantsIt(t *testing.T) {
	w := newWorld(t, 1)
	w.serveTopic(func(s *wire.ClientSubscribe) (*wire.ClientRoute, error) {
		if !s.Create {
			return nil, errNoTopic
		}
		return routeOf(1, 1, 1, 0), nil
	})
	l := w.link(Config{})
	_, err := l.Route(t.Context(), "t", false)
	if !errors.Is(err, messages.ErrUnknownTopicOrPartition) {
		t.Errorf("the route of no topic: %v", err)
	}
	if _, err := l.Route(t.Context(), "t", true); err != nil {
		t.Error(err)
	}
}

func TestAPassingErrorOfASubscriptionIsTriedAgain(t *testing.T) {
	w := newWorld(t, 1)
	tries := 0
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		if tries++; tries < 3 {
			return nil, messages.ErrUnavailable
		}
		return routeOf(1, 1, 1, 0), nil
	})
	l := w.link(Config{})
	if _, err := l.Route(t.Context(), "t", false); err != nil {
		t.Error(err)
	}
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		return nil, messages.ErrOverloaded
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := l.Route(ctx, "other", false)
	if !errors.Is(err, messages.ErrOverloaded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it failed with %v", err)
	}
}

func TestWatchersAreToldOfChangesAndOfTheEndOfATopic(t *testing.T) {
	w := newWorld(t, 1)
	var mu sync.Mutex
	now := routeOf(1, 5, 1, 0)
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		mu.Lock()
		defer mu.Unlock()
		if now == nil {
			return nil, errNoTopic
		}
		return now, nil
	})
	l := w.link(Config{})
	var s seen
	cancel := l.Watch("t", s.notify)
	testkit.Eventually(t, "the first route", func() bool { return s.last().Version == 5 })
	l.pushed(pushOf(routeOf(1, 6, 2, 1)))
	testkit.Eventually(t, "a change", func() bool { return s.last().Version == 6 })
	l.pushed(pushOf(routeOf(1, 4, 9, 0))) // overtaken
	l.Learn("t", 0, &wire.ClientLeader{NodeId: 3, LeaderEpoch: 2})
	testkit.Eventually(t, "a hint", func() bool {
		return len(s.last().Partitions) == 1 && s.last().Partitions[0] == Leader{3, 2}
	})
	l.Learn("t", 0, &wire.ClientLeader{NodeId: 4, LeaderEpoch: 2})

	mu.Lock()
	now = nil
	mu.Unlock()
	l.pushed(pushOf(&wire.ClientRoute{Topic: "t", Gone: true, Version: 7}))
	testkit.Eventually(t, "the end", func() bool { return s.last().Gone })
	mu.Lock()
	now = routeOf(2, 9, 1, 0)
	mu.Unlock()
	testkit.Eventually(t, "another topic of that name", func() bool { return s.last().ID[15] == 2 })

	cancel()
	testkit.Eventually(t, "the subscription ends", func() bool {
		all := w.subscriptions()
		return all[len(all)-1].Cancel
	})
	if s.twice {
		t.Error("the watcher was called twice at the same time")
	}
	for _, r := range s.routes {
		if !r.Gone && r.Partitions[0].Node > 3 {
			t.Errorf("an old route was shown: %+v", r)
		}
	}
}

func TestAMoveOfTheTopicsActorIsNotTheEndOfTheTopic(t *testing.T) {
	w := newWorld(t, 1)
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		return routeOf(1, 5, 1, 0), nil
	})
	l := w.link(Config{})
	var s seen
	defer l.Watch("t", s.notify)()
	testkit.Eventually(t, "the first route", func() bool { return s.last().Version == 5 })
	misses := 1
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		if misses--; misses >= 0 {
			return nil, errNoTopic // a node that does not know yet
		}
		return routeOf(1, 8, 1, 0), nil
	})
	l.pushed(pushOf(&wire.ClientRoute{Topic: "t", Gone: true, Version: 5}))
	testkit.Eventually(t, "the route from its new place", func() bool { return s.last().Version == 8 })
	for _, r := range s.routes {
		if r.Gone {
			t.Error("the topic was declared gone")
		}
	}
}

func TestSubscriptionsAreRenewedAndFollowSessions(t *testing.T) {
	w := newWorld(t, 2)
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		return routeOf(1, 5, 1, 0), nil
	})
	l := w.start(Config{})
	l.lease = 400 * time.Millisecond
	if err := l.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var s seen
	defer l.Watch("t", s.notify)()
	testkit.Eventually(t, "renewals", func() bool { return len(w.subscriptions()) >= 3 })
	w.kill(1, l)
	testkit.Eventually(t, "a subscription through the other node", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.node(2).asked) > 0
	})
}

func TestATopicThatWasAskedForOnceIsForgotten(t *testing.T) {
	w := newWorld(t, 1)
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		return routeOf(1, 5, 1, 0), nil
	})
	l := w.start(Config{})
	l.lease = 200 * time.Millisecond
	if err := l.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Route(t.Context(), "t", false); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the topic is forgotten", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.topics) == 0
	})
}

// TestRoutesNeverGoBack merges pushes and hints in any order and compares with what is
// newest.
func TestRoutesNeverGoBack(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var known *Route
		var newest messages.MetadataVersion
		var highest messages.LeaderEpoch
		for range 30 {
			version, epoch := int64(r.IntN(20)), int32(r.IntN(20))
			var next *Route
			if known != nil && r.IntN(3) == 0 {
				next = learn(known, 0, Leader{Node: 1, Epoch: messages.LeaderEpoch(epoch)})
				highest = max(highest, messages.LeaderEpoch(epoch))
			} else {
				next = merge(known, routeOf(1, version, 1, epoch))
				if v := messages.MetadataVersion(version); v >= newest {
					newest, highest = v, max(highest, messages.LeaderEpoch(epoch))
				}
			}
			if next != nil {
				known = next
			}
			if known.Version != newest || known.Partitions[0].Epoch != highest {
				t.Fatalf("seed %d: version %d, epoch %d; the newest are %d and %d", seed,
					known.Version, known.Partitions[0].Epoch, newest, highest)
			}
		}
	}
}

func TestRoutesOfAClusterThatBeganAnewCount(t *testing.T) {
	w := newWorld(t, 1)
	version, id := int64(50), byte(1)
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		return routeOf(id, version, 1, 9), nil
	})
	l := w.link(Config{})
	var s seen
	defer l.Watch("t", s.notify)()
	testkit.Eventually(t, "the first route", func() bool { return s.last().Version == 50 })
	w.kill(1, l)
	w.do(func() { w.cluster, version, id = "another", 2, 2 })
	w.revive(1)
	testkit.Eventually(t, "the route in the new one", func() bool {
		return s.last().Version == 2 && s.last().ID[15] == 2
	})
}

func TestACoordinatorIsFoundAgainAfterItMoved(t *testing.T) {
	w := newWorld(t, 2)
	home := int32(1)
	finds := 0
	for id := 1; id <= 2; id++ {
		w.node(id).answer = func(req *wire.ClientRequest) []*wire.ClientResponse {
			resp := &wire.ClientResponse{RequestId: req.RequestId}
			switch {
			case req.GetFindCoordinator() != nil:
				finds++
				resp.Result = &wire.ClientResponse_Coordinator{
					Coordinator: &wire.ClientCoordinator{NodeId: home}}
			case int32(id) != home:
				resp.Error = wire.FromError(messages.ErrNotCoordinator)
			}
			return []*wire.ClientResponse{resp}
		}
	}
	l := w.link(Config{})
	for range 2 {
		if _, err := l.AskCoordinator(t.Context(), coord.Group, "g", listGroups()); err != nil {
			t.Fatal(err)
		}
	}
	w.do(func() { home = 2 })
	if _, err := l.AskCoordinator(t.Context(), coord.Group, "g", listGroups()); err != nil {
		t.Fatal(err)
	}
	w.do(func() {
		if finds != 2 {
			t.Errorf("it was looked for %d times", finds)
		}
	})
}

// A member that waits for a frozen coordinator outlives its session.
func TestACoordinatorThatHangsDoesNotHoldUpItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		home := int32(1)
		for id := 1; id <= 2; id++ {
			w.node(id).answer = func(req *wire.ClientRequest) []*wire.ClientResponse {
				resp := &wire.ClientResponse{RequestId: req.RequestId}
				if req.GetFindCoordinator() != nil {
					resp.Result = &wire.ClientResponse_Coordinator{
						Coordinator: &wire.ClientCoordinator{NodeId: home}}
				}
				return []*wire.ClientResponse{resp}
			}
		}
		l := w.link(Config{})
		if _, err := l.AskCoordinator(t.Context(), coord.Group, "g", listGroups()); err != nil {
			t.Fatal(err)
		}
		w.do(func() { w.node(1).silent, home = true, 2 })
		ctx, cancel := context.WithTimeout(t.Context(), coordinatorMax+lookupMax+time.Second)
		defer cancel()
		if _, err := l.AskCoordinator(ctx, coord.Group, "g", listGroups()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestALeaderIsAskedWhereItIs(t *testing.T) {
	w := newWorld(t, 2)
	w.serveTopic(func(*wire.ClientSubscribe) (*wire.ClientRoute, error) {
		return routeOf(1, 5, 1, 0), nil
	})
	w.node(1).answer = func(req *wire.ClientRequest) []*wire.ClientResponse {
		return []*wire.ClientResponse{{RequestId: req.RequestId,
			Error: wire.FromError(messages.ErrNotLeader),
			Result: &wire.ClientResponse_Fetched{Fetched: &wire.ClientFetched{
				Leader: &wire.ClientLeader{NodeId: 2, LeaderEpoch: 1}}}}}
	}
	l := w.link(Config{})
	p := messages.TopicPartition{Topic: "t"}
	if _, err := l.AskLeader(t.Context(), p, listGroups()); err != nil {
		t.Fatal(err)
	}
	w.pendingAt(2, 1)
	p.Partition = 1
	_, err := l.AskLeader(t.Context(), p, listGroups())
	if !errors.Is(err, messages.ErrUnknownTopicOrPartition) {
		t.Errorf("a partition that does not exist: %v", err)
	}
}

func TestWhoAsksUntilTheEndIsToldTheCause(t *testing.T) {
	w := newWorld(t, 1)
	w.node(1).answer = func(req *wire.ClientRequest) []*wire.ClientResponse {
		return []*wire.ClientResponse{{RequestId: req.RequestId,
			Error: wire.FromError(fmt.Errorf("it loads: %w", messages.ErrCoordinatorLoading))}}
	}
	l := w.link(Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := l.AskAny(ctx, listGroups())
	if !errors.Is(err, messages.ErrCoordinatorLoading) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it failed with %v", err)
	}
	w.do(func() {
		w.node(1).answer = func(req *wire.ClientRequest) []*wire.ClientResponse {
			return []*wire.ClientResponse{{RequestId: req.RequestId,
				Error: wire.FromError(messages.ErrInvalidTopic)}}
		}
	})
	if _, err := l.AskAny(t.Context(), listGroups()); !errors.Is(err, messages.ErrInvalidTopic) {
		t.Errorf("an error that stays: %v", err)
	}
}

func TestWhoGivesUpAskingBlamesNobodyUnlessSomebodyFailed(t *testing.T) {
	w := newWorld(t, 1)
	w.node(1).silent = true
	l := w.link(Config{})
	for name, call := range map[string]func(ctx context.Context) error{
		"a node":   func(ctx context.Context) error { _, err := l.Ask(ctx, 1, listGroups()); return err },
		"any node": func(ctx context.Context) error { _, err := l.AskAny(ctx, listGroups()); return err },
		"a route":  func(ctx context.Context) error { _, err := l.Route(ctx, "t", false); return err },
	} {
		for _, late := range []bool{false, true} {
			ctx, cancel := context.WithCancel(t.Context())
			if late {
				time.AfterFunc(20*time.Millisecond, cancel)
			} else {
				cancel()
			}
			err := call(ctx)
			if !errors.Is(err, context.Canceled) || errors.Is(err, messages.ErrUnavailable) {
				t.Errorf("%s, late %v: %v", name, late, err)
			}
			cancel()
		}
	}
	w.do(func() {
		w.node(1).silent, w.node(1).answer = false,
			func(req *wire.ClientRequest) []*wire.ClientResponse {
				return []*wire.ClientResponse{{RequestId: req.RequestId,
					Error: wire.FromError(messages.ErrCoordinatorLoading)}}
			}
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	_, err := l.AskAny(ctx, listGroups())
	if !errors.Is(err, context.Canceled) || !errors.Is(err, messages.ErrCoordinatorLoading) {
		t.Errorf("after a failure: %v", err)
	}
}

func TestAnAnswerInPartsIsOneUnlessAPartWasLost(t *testing.T) {
	w := newWorld(t, 1)
	part := func(id uint64, number int32, records string, more bool) *wire.ClientResponse {
		return &wire.ClientResponse{RequestId: id, Result: &wire.ClientResponse_Fetched{
			Fetched: &wire.ClientFetched{HighWatermark: 9, Part: number, More: more,
				Records: []byte(records)}}}
	}
	lost := -1
	w.node(1).answer = func(req *wire.ClientRequest) (answers []*wire.ClientResponse) {
		for i, records := range []string{"ab", "cd", "e"} {
			if i != lost {
				answers = append(answers, part(req.RequestId, int32(i), records, i < 2))
			}
		}
		return answers
	}
	l := w.link(Config{})
	fetch := &wire.ClientRequest{Command: &wire.ClientRequest_Fetch{
		Fetch: &wire.ClientFetch{Topic: "t"}}}
	resp, err := l.Ask(t.Context(), 1, fetch)
	f := resp.GetFetched()
	if err != nil || string(f.GetRecords()) != "abcde" || f.More || f.HighWatermark != 9 {
		t.Errorf("the answer is %v, %v", f, err)
	}
	for i := range 2 {
		w.do(func() { lost = i })
		if _, err := l.Ask(t.Context(), 1, fetch); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("without part %d it ended with %v", i, err)
		}
	}
}
