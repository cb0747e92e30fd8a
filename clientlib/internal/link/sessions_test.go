package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

func TestARequestIsAnsweredByTheNodeThatItIsFor(t *testing.T) {
	w := newWorld(t, 3)
	l := w.link(Config{})
	for id := 1; id <= 3; id++ {
		if _, err := l.Ask(t.Context(), messages.NodeID(id), listGroups()); err != nil {
			t.Fatal(err)
		}
		w.pendingAt(id, 1)
	}
	if nodes := l.Nodes(); len(nodes) != 3 || nodes[2].Address != address(3) {
		t.Errorf("the live nodes are %v", nodes)
	}
	_, err := l.Ask(t.Context(), 9, listGroups())
	if !errors.Is(err, ErrNotSent) || !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("a node that does not exist: %v", err)
	}
}

func TestRequestsUnderWayEndAtOnceWhenTheConnectionBreaks(t *testing.T) {
	w := newWorld(t, 2)
	w.node(2).silent, w.node(2).window = true, 100
	l := w.link(Config{})
	sent := send(l, 2, appendOf(100), time.Minute)
	queued := send(l, 2, appendOf(100), time.Minute)
	w.pendingAt(2, 1)
	w.kill(2, l)
	if o := receive(t, sent); !errors.Is(o.err, ErrNoAnswer) {
		t.Errorf("what was sent ended with %v", o.err)
	}
	if o := receive(t, queued); !errors.Is(o.err, ErrNotSent) {
		t.Errorf("what was queued ended with %v", o.err)
	}
}

func TestASessionThatIsOverIsOpenedAnew(t *testing.T) {
	w := newWorld(t, 1)
	l := w.link(Config{})
	w.do(func() { w.node(1).session = "another" }) // the node forgot the session
	if o := receive(t, send(l, 1, listGroups(), time.Minute)); !errors.Is(o.err, ErrNoAnswer) {
		t.Errorf("the dead session answered %v", o.err)
	}
	if _, err := l.AskAny(t.Context(), listGroups()); err != nil {
		t.Error(err)
	}
}

func TestANodeThatCannotBeReachedFailsWhatWaitsForItSoon(t *testing.T) {
	w := newWorld(t, 2)
	l := w.link(Config{})
	w.do(func() { w.node(2).down = true })
	for range 3 { // with pauses between the attempts from the second on
		if o := receive(t, send(l, 2, listGroups(), time.Minute)); !errors.Is(o.err, ErrNotSent) {
			t.Errorf("it ended with %v", o.err)
		}
	}
	w.revive(2)
	if o := receive(t, send(l, 2, listGroups(), time.Minute)); o.err != nil {
		t.Error(o.err)
	}
}

func TestARefusedHelloIsTriedAgainElsewhere(t *testing.T) {
	w := newWorld(t, 2)
	w.node(1).refuse = fmt.Errorf("it stops: %w", messages.ErrUnavailable)
	l := w.link(Config{Nodes: []string{address(1), address(2)}})
	if _, err := l.AskAny(t.Context(), listGroups()); err != nil {
		t.Fatal(err)
	}
	w.pendingAt(2, 1)
	if o := receive(t, send(l, 1, listGroups(), time.Minute)); !errors.Is(o.err, ErrNotSent) ||
		!strings.Contains(o.err.Error(), "it stops") {
		t.Errorf("the refusal reads %v", o.err)
	}
}

func TestDialSaysWhatWasTried(t *testing.T) {
	w := newWorld(t, 2)
	w.do(func() { w.node(1).down, w.node(2).refuse = true, errors.New("too many clients") })
	l := w.start(Config{Nodes: []string{address(1), address(2)}})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := l.start(ctx)
	if !errors.Is(err, messages.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial failed with %v", err)
	}
	for _, part := range []string{address(1), "connection refused", address(2), "too many clients"} {
		if err != nil && !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}

func TestAppendsBeyondTheWindowWaitAndNothingElseDoes(t *testing.T) {
	w := newWorld(t, 1)
	n := w.node(1)
	n.window = 250
	var held []uint64
	n.answer = func(req *wire.ClientRequest) []*wire.ClientResponse {
		if req.GetAppend() != nil {
			held = append(held, req.RequestId)
			return nil
		}
		return []*wire.ClientResponse{{RequestId: req.RequestId}}
	}
	l := w.link(Config{})
	var outs []chan outcome
	for range 5 {
		outs = append(outs, send(l, 1, appendOf(100), time.Minute))
	}
	if o := receive(t, send(l, 1, listGroups(), time.Minute)); o.err != nil {
		t.Fatal(o.err)
	}
	for i := range outs {
		want := min(i+2, 5) // two fit; each answer makes room for one
		w.pendingAt(1, want+1)
		var id uint64
		w.do(func() {
			if len(held) != want {
				t.Errorf("%d appends were sent after %d answers, not %d", len(held), i, want)
			}
			id = held[i]
		})
		l.answered(&wire.ClientResponse{RequestId: id})
		if o := receive(t, outs[i]); o.err != nil {
			t.Error(o.err)
		}
	}
}

func TestABatchLargerThanTheWindowIsSentAlone(t *testing.T) {
	w := newWorld(t, 1)
	w.node(1).window = 10
	l := w.link(Config{})
	for range 3 {
		if o := receive(t, send(l, 1, appendOf(100), time.Minute)); o.err != nil {
			t.Error(o.err)
		}
	}
	if o := receive(t, send(l, 1, appendOf(2<<20), time.Minute)); !errors.Is(o.err,
		messages.ErrBatchTooLarge) {
		t.Errorf("a batch that fits in no message: %v", o.err)
	}
}

func TestAppendsWithoutAnAnswerKeepToTheWindowToo(t *testing.T) {
	w := newWorld(t, 1)
	n := w.node(1)
	n.window = 1000
	l := w.link(Config{})
	var outs []chan outcome
	for range 100 {
		req := appendOf(100)
		req.GetAppend().Acks = 0
		outs = append(outs, send(l, 1, req, time.Minute))
	}
	for _, out := range outs {
		if o := receive(t, out); o.err != nil || o.resp.GetAppended().GetBaseOffset() != -1 {
			t.Errorf("it ended with %v, %v", o.resp, o.err)
		}
	}
	unfenced, fences := 0, 0
	w.do(func() {
		for _, req := range n.got {
			if a := req.GetAppend(); a != nil {
				unfenced += len(a.Records)
			} else {
				unfenced, fences = 0, fences+1
			}
			if unfenced > 1000 {
				t.Errorf("%d bytes were sent in a row", unfenced)
			}
		}
	})
	if fences == 0 {
		t.Error("it was never asked whether they arrived")
	}
}

func TestANodeThatStopsIsAvoided(t *testing.T) {
	w := newWorld(t, 2)
	w.node(1).silent = true
	l := w.link(Config{})
	underway := send(l, 1, listGroups(), time.Minute)
	w.pendingAt(1, 1)
	l.pushed(&wire.ClientPush{Event: &wire.ClientPush_Draining{
		Draining: &wire.ClientDraining{NodeId: 1}}})
	testkit.Eventually(t, "a session with the other node", l.ready)
	for range 5 {
		if _, err := l.AskAny(t.Context(), listGroups()); err != nil {
			t.Fatal(err)
		}
	}
	w.pendingAt(2, 5)
	var id uint64
	w.do(func() { id = w.node(1).got[0].RequestId })
	l.answered(&wire.ClientResponse{RequestId: id})
	if o := receive(t, underway); o.err != nil {
		t.Errorf("what was under way ended with %v", o.err)
	}
}

func TestANodeIsFollowedToItsNewAddress(t *testing.T) {
	w := newWorld(t, 2)
	l := w.link(Config{})
	w.node(2).silent = true
	stranded := send(l, 2, listGroups(), time.Minute)
	w.pendingAt(2, 1)
	var list *wire.ClientNodes
	w.do(func() {
		w.node(2).down = true
		w.add(2, "elsewhere:1")
		list = w.list()
	})
	l.pushed(&wire.ClientPush{Event: &wire.ClientPush_Nodes{Nodes: list}})
	if o := receive(t, stranded); !errors.Is(o.err, ErrNoAnswer) {
		t.Errorf("what the node was asked before ended with %v", o.err)
	}
	if o := receive(t, send(l, 2, listGroups(), time.Minute)); o.err != nil {
		t.Error(o.err)
	}
	w.do(func() { delete(w.nodes, address(2)); delete(w.nodes, "elsewhere:1"); list = w.list() })
	l.pushed(&wire.ClientPush{Event: &wire.ClientPush_Nodes{Nodes: list}})
	if o := receive(t, send(l, 2, listGroups(), time.Minute)); !errors.Is(o.err, ErrNotSent) {
		t.Errorf("a node that left: %v", o.err)
	}
}

func TestANodeThatLeftIsGivenUpEvenIfItKnewLessThanOthers(t *testing.T) {
	w := newWorld(t, 2)
	l := w.link(Config{})
	w.do(func() { w.behind, w.node(2).silent = true, true })
	stranded := send(l, 2, listGroups(), time.Minute)
	w.pendingAt(2, 1)
	var list *wire.ClientNodes
	w.do(func() { w.node(2).down = true; list = w.list() }) // it froze: its connection stands
	l.pushed(&wire.ClientPush{Event: &wire.ClientPush_Nodes{Nodes: list}})
	if o := receive(t, stranded); !errors.Is(o.err, ErrNoAnswer) {
		t.Errorf("what the node was asked before ended with %v", o.err)
	}
}

func TestAllNodesGoAwayAndComeBack(t *testing.T) {
	w := newWorld(t, 3)
	l := w.link(Config{})
	for id := 1; id <= 3; id++ {
		w.kill(id, l)
	}
	waits := send(l, messages.NoNode, listGroups(), time.Minute)
	short := send(l, messages.NoNode, listGroups(), 50*time.Millisecond)
	if o := receive(t, short); !errors.Is(o.err, ErrNotSent) {
		t.Errorf("a request whose time is up ended with %v", o.err)
	}
	w.do(func() { w.probes = 0 })
	begun := time.Now()
	testkit.Eventually(t, "some attempts", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.probes >= 12
	})
	// Each round looks at three nodes, and pauses of 25 ms, 50 ms and so on are between.
	if took := time.Since(begun); took < 150*time.Millisecond {
		t.Errorf("12 attempts came within %v", took)
	}
	w.revive(3)
	if o := receive(t, waits); o.err != nil {
		t.Errorf("what waited for any node ended with %v", o.err)
	}
}

func TestANodeThatEndsEachSessionIsNotGreetedWithoutPause(t *testing.T) {
	w := newWorld(t, 1)
	l := w.link(Config{})
	begun := time.Now()
	testkit.Eventually(t, "some sessions", func() bool {
		l.broken(address(1), errBroken)
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.node(1).sessions >= 8
	})
	// After the first that did not last come pauses of 25 ms, 50 ms and so on.
	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("8 sessions came within %v", took)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	w := newWorld(t, 2)
	w.node(1).silent = true
	l := w.link(Config{})
	w.do(func() { w.node(2).down = true })
	sent := send(l, 1, listGroups(), time.Minute)
	waiting := send(l, 2, listGroups(), time.Minute)
	route := make(chan error, 1)
	go func() { _, err := l.Route(t.Context(), "t", false); route <- err }()
	ask := make(chan error, 1)
	go func() { _, err := l.AskAny(t.Context(), listGroups()); ask <- err }()
	w.pendingAt(1, 2)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := receive(t, sent); !errors.Is(o.err, ErrClosed) || !errors.Is(o.err, ErrNoAnswer) ||
		errors.Is(o.err, messages.ErrUnavailable) {
		t.Errorf("what was sent ended with %v", o.err)
	}
	if o := receive(t, waiting); !errors.Is(o.err, ErrNotSent) {
		t.Errorf("what waited ended with %v", o.err)
	}
	if err := <-route; !errors.Is(err, ErrClosed) {
		t.Errorf("who waited for a route got %v", err)
	}
	if err := <-ask; !errors.Is(err, ErrClosed) {
		t.Errorf("who asked got %v", err)
	}
	after := []error{receive(t, send(l, 1, listGroups(), 0)).err}
	for _, call := range []func() error{
		func() error { _, err := l.Ask(t.Context(), 1, listGroups()); return err },
		func() error { _, err := l.AskAny(t.Context(), listGroups()); return err },
		func() error {
			_, err := l.AskCoordinator(t.Context(), coord.Group, "g", listGroups())
			return err
		},
		func() error {
			p := messages.TopicPartition{Topic: "t"}
			_, err := l.AskLeader(t.Context(), p, listGroups())
			return err
		},
		func() error { _, err := l.Route(t.Context(), "t", false); return err },
	} {
		after = append(after, call())
	}
	for i, err := range after {
		if !errors.Is(err, ErrClosed) || errors.Is(err, messages.ErrUnavailable) {
			t.Errorf("call %d after Close ended with %v", i, err)
		}
	}
	w.do(func() {
		if n := w.node(1); n.session != "" {
			t.Error("the node was not told goodbye")
		}
	})
}

// TestEachRequestEndsOnceWhateverHappens sends while nodes die, come back, forget their
// sessions and refuse them: each request ends once, and appends to a node arrive in order.
func TestEachRequestEndsOnceWhateverHappens(t *testing.T) {
	w := newWorld(t, 3)
	for id := 1; id <= 3; id++ {
		n := w.node(id)
		n.window = 500
		n.answer = func(req *wire.ClientRequest) []*wire.ClientResponse {
			if rand.N(20) == 0 {
				return nil
			}
			return []*wire.ClientResponse{{RequestId: req.RequestId}, {RequestId: req.RequestId}}
		}
	}
	l := w.link(Config{})
	const senders, each = 4, 500
	var ends [senders * each]atomic.Int32
	stop := make(chan struct{})
	var running, trouble sync.WaitGroup
	trouble.Go(func() { w.trouble(l, stop) })
	for s := range senders {
		running.Go(func() {
			for i := range each {
				number := s*each + i
				req := listGroups()
				if i%2 == 0 {
					req = appendOf(rand.N(400))
					req.GetAppend().Partition = int32(number)
				}
				ended := make(chan struct{}, 2)
				l.Send(messages.NodeID(s%3+1), req, time.Duration(rand.N(300)+1)*time.Millisecond,
					func(*wire.ClientResponse, error) { ends[number].Add(1); ended <- struct{}{} })
				if i%20 == 0 {
					<-ended // for the trouble to come between
				}
			}
		})
	}
	running.Wait()
	close(stop)
	trouble.Wait()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range ends {
		if n := ends[i].Load(); n != 1 {
			t.Errorf("request %d ended %d times", i, n)
		}
	}
	w.checkOrder(each)
}

// trouble does to the nodes what may happen to them.
func (w *world) trouble(l *Link, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		id := rand.N(3) + 1
		switch rand.N(5) {
		case 0:
			w.kill(id, l)
		case 1, 2:
			w.revive(id)
		case 3:
			w.do(func() { w.node(id).session = "forgotten" })
		case 4:
			var list *wire.ClientNodes
			w.do(func() { list = w.list() })
			l.pushed(&wire.ClientPush{Event: &wire.ClientPush_Nodes{Nodes: list}})
		}
	}
}

// checkOrder looks whether the appends of each sender arrived in order.
func (w *world) checkOrder(each int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := 0
	for _, n := range w.nodes {
		last := map[int]int32{}
		for _, req := range n.got {
			a := req.GetAppend()
			if a == nil {
				continue
			}
			seen++
			sender := int(a.Partition) / each
			if a.Partition < last[sender] {
				w.t.Errorf("append %d arrived after %d", a.Partition, last[sender])
			}
			last[sender] = a.Partition
		}
	}
	if seen < each/10 {
		w.t.Errorf("only %d appends arrived: nothing was tested", seen)
	}
}
