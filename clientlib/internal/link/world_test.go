package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(gatewayEnv); text != "" {
		runGateway(text)
		return
	}
	testkit.Main(m)
}

// world is a cluster without sockets: nodes that do what tests have them do.
type world struct {
	t *testing.T

	mu      sync.Mutex
	nodes   map[string]*fake // by address
	version int64
	behind  bool // welcomes have old lists
	probes  int
	lives   int
	cluster string // its id
}

// fake is a node.
type fake struct {
	id       messages.NodeID
	address  string
	down     bool
	refuse   error  // of hellos
	session  string // "": none
	window   int64
	got      []*wire.ClientRequest // by the session, but for subscriptions
	asked    []*wire.ClientSubscribe
	silent   bool // the session does not answer
	answer   func(*wire.ClientRequest) []*wire.ClientResponse
	topics   func(*wire.ClientSubscribe) (*wire.ClientRoute, error)
	sessions int
}

func newWorld(t *testing.T, nodes int) *world {
	w := &world{t: t, nodes: map[string]*fake{}, cluster: "c"}
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	for id := range nodes {
		w.add(messages.NodeID(id+1), address(id+1))
	}
	return w
}

func address(id int) string { return fmt.Sprintf("node-%d:1", id) }

func (w *world) add(id messages.NodeID, address string) *fake {
	n := &fake{id: id, address: address, window: 1 << 20}
	w.nodes[address] = n
	return n
}

func (w *world) node(id int) *fake { return w.nodes[address(id)] }

// list is what the nodes know of each other. The caller holds mu.
func (w *world) list() *wire.ClientNodes {
	w.version++
	list := &wire.ClientNodes{Version: w.version}
	for _, n := range w.nodes {
		if !n.down {
			list.Nodes = append(list.Nodes, &wire.ClientNode{NodeId: int32(n.id), Address: n.address})
		}
	}
	return list
}

// do changes something under the lock.
func (w *world) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// plugged is the network of one link.
type plugged struct {
	w    *world
	l    *Link
	mail chan func() // unbounded enough
	done chan struct{}
}

// link returns a Link to the world that has a session.
func (w *world) link(cfg Config) *Link {
	w.t.Helper()
	l := w.start(cfg)
	if err := l.start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *world) start(cfg Config) *Link {
	if cfg.Nodes == nil {
		cfg.Nodes = []string{address(1)}
	}
	l := newLink(cfg)
	p := &plugged{w: w, l: l, mail: make(chan func(), 1<<16), done: make(chan struct{})}
	l.net = p
	go func() {
		defer close(p.done)
		for f := range p.mail {
			f()
		}
	}()
	w.t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			w.t.Error(err)
		}
		if n := len(l.pending); n > 0 {
			w.t.Errorf("%d requests are pending after Close", n)
		}
	})
	return l
}

func (p *plugged) self() string { return "" }

func (p *plugged) probe(_ context.Context, address string) error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.probes++
	if n := p.w.nodes[address]; n == nil || n.down {
		return errors.New("connection refused")
	}
	return nil
}

func (p *plugged) watch(*actor.PID) {}

func (p *plugged) close() {
	close(p.mail)
	<-p.done
}

func (p *plugged) send(to *actor.PID, req *wire.ClientRequest) {
	p.mail <- func() { p.deliver(to, req) }
}

// deliver runs what a node does with a request.
func (p *plugged) deliver(to *actor.PID, req *wire.ClientRequest) {
	w := p.w
	w.mu.Lock()
	n := w.nodes[to.Address]
	if n == nil || n.down {
		w.mu.Unlock()
		p.l.broken(to.Address, errBroken)
		return
	}
	if to.Id == gateway {
		resp := w.greet(n, req)
		w.mu.Unlock()
		p.l.answered(resp)
		return
	}
	if to.Id != n.session {
		w.mu.Unlock()
		p.l.missing(to.Address, to.Id)
		return
	}
	answers, push := n.serve(req)
	w.mu.Unlock()
	for _, a := range answers {
		p.l.answered(a)
	}
	if push != nil {
		p.l.pushed(push)
	}
}

func (w *world) greet(n *fake, req *wire.ClientRequest) *wire.ClientResponse {
	if n.refuse != nil {
		return &wire.ClientResponse{RequestId: req.RequestId, Error: wire.FromError(n.refuse)}
	}
	w.lives++
	n.sessions++
	n.session = fmt.Sprintf("session-%d", w.lives)
	list := w.list()
	if w.behind {
		list.Version = 1
	}
	return &wire.ClientResponse{RequestId: req.RequestId, Result: &wire.ClientResponse_Welcome{
		Welcome: &wire.ClientWelcome{Session: n.session, NodeId: int32(n.id), ClusterId: w.cluster,
			Nodes: list, WindowBytes: n.window, MessageBytes: 2 << 20}}}
}

func (n *fake) serve(req *wire.ClientRequest) (
	answers []*wire.ClientResponse, push *wire.ClientPush) {
	if s := req.GetSubscribe(); s != nil {
		n.asked = append(n.asked, s)
		if n.topics == nil || s.Cancel {
			return []*wire.ClientResponse{{RequestId: req.RequestId}}, nil
		}
		route, err := n.topics(s)
		if route != nil {
			push = &wire.ClientPush{Event: &wire.ClientPush_Route{Route: route}}
		}
		return []*wire.ClientResponse{{RequestId: req.RequestId, Error: wire.FromError(err)}}, push
	}
	n.got = append(n.got, req)
	switch {
	case req.GetGoodbye() != nil:
		n.session = ""
	case n.silent || req.GetAppend() != nil && req.GetAppend().Acks == 0:
		return nil, nil
	case n.answer != nil:
		return n.answer(req), nil
	}
	return []*wire.ClientResponse{{RequestId: req.RequestId}}, nil
}

// kill takes a node away; its connections break.
func (w *world) kill(id int, links ...*Link) {
	w.do(func() { w.node(id).down, w.node(id).session = true, "" })
	for _, l := range links {
		l.broken(address(id), errBroken)
	}
}

func (w *world) revive(id int) { w.do(func() { w.node(id).down = false }) }

// outcome is how a request ended.
type outcome struct {
	resp *wire.ClientResponse
	err  error
}

// send sends and returns where the outcome comes.
func send(l *Link, to messages.NodeID, req *wire.ClientRequest, wait time.Duration) chan outcome {
	out := make(chan outcome, 2)
	l.Send(to, req, wait, func(resp *wire.ClientResponse, err error) { out <- outcome{resp, err} })
	return out
}

func receive(t *testing.T, out chan outcome) outcome {
	t.Helper()
	select {
	case o := <-out:
		return o
	case <-time.After(10 * time.Second):
		t.Fatal("a request does not end")
		return outcome{}
	}
}

func appendOf(bytes int) *wire.ClientRequest {
	return &wire.ClientRequest{Command: &wire.ClientRequest_Append{Append: &wire.ClientAppend{
		Topic: "t", Acks: -1, Records: make([]byte, bytes)}}}
}

func listGroups() *wire.ClientRequest {
	return &wire.ClientRequest{Command: &wire.ClientRequest_ListGroups{
		ListGroups: &wire.ClientListGroups{}}}
}

// pendingAt waits until a session of a node was sent that many requests.
func (w *world) pendingAt(id, n int) {
	w.t.Helper()
	testkit.Eventually(w.t, fmt.Sprintf("%d requests at node %d", n, id), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.node(id).got) >= n
	})
}
