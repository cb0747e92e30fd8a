package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// Messages to the actor "gateway", besides *wire.ClientRequest.
type (
	// endpointGone tells that the connection to an actor system broke.
	endpointGone struct{ address string }
	nodesChanged struct{}
	// drain has the gateway, and each session, refuse what is new. done is to be called
	// once that is so, any number of times.
	drain struct{ done func() }
)

// front is the actor "gateway". Its fields belong to the goroutine that runs Receive.
type front struct {
	g        *Gateway
	sessions map[string]*session // by the id of their PID
	clients  map[string]*session // by the client, as key says; not those on their way out
	nodes    *wire.ClientNodes   // as last told
	draining bool
}

func newFront(g *Gateway) *front {
	return &front{g: g, sessions: map[string]*session{}, clients: map[string]*session{},
		nodes: &wire.ClientNodes{}}
}

func key(client *actor.PID) string { return client.Address + "/" + client.Id }

// Receive implements actor.Actor.
func (f *front) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *wire.ClientRequest:
		f.request(ctx, m)
	case endpointGone:
		f.cutOff(ctx, m.address)
	case nodesChanged:
		f.tellNodes()
	case drain:
		f.drain(m)
	case *actor.Terminated:
		f.terminated(ctx, m.Who)
	case *actor.Restarting, *actor.Stopping:
		f.close()
	}
}

// request answers a hello. Everything else is for a session.
func (f *front) request(ctx actor.Context, m *wire.ClientRequest) {
	client := ctx.Sender()
	if client == nil {
		return // nobody to answer
	}
	hello := m.GetHello()
	if hello == nil {
		f.answer(client, m, nil, fmt.Errorf("the gateway knows no %T: %w", m.GetCommand(),
			wire.ErrUnsupported))
		return
	}
	welcome, err := f.hello(ctx, client, hello)
	f.answer(client, m, welcome, err)
}

func (f *front) answer(to *actor.PID, m *wire.ClientRequest, welcome *wire.ClientWelcome,
	err error) {
	resp := &wire.ClientResponse{RequestId: m.GetRequestId()}
	if err != nil {
		resp.Error = wire.FromError(err)
	} else {
		resp.Result = &wire.ClientResponse_Welcome{Welcome: welcome}
	}
	f.g.cfg.Root.Send(to, resp)
}

// hello gives a client a session.
func (f *front) hello(ctx actor.Context, client *actor.PID, hello *wire.ClientHello) (
	*wire.ClientWelcome, error) {
	if f.draining {
		return nil, fmt.Errorf("the node stops: %w", messages.ErrUnavailable)
	}
	if before := f.clients[key(client)]; before != nil {
		f.end(ctx, before)
	}
	if len(f.sessions) >= f.g.cfg.MaxSessions {
		return nil, fmt.Errorf("the node has %d sessions, as many as max.connections allows: %w",
			len(f.sessions), messages.ErrOverloaded)
	}
	f.tellNodes()
	s := newSession(f.g, client, hello.GetClientId())
	// Nobody guesses the name, and none comes again: what is sent to a session that has
	// ended, or of an earlier life of the node, finds nobody.
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	pid, err := ctx.SpawnNamed(actor.PropsFromProducer(func() actor.Actor { return s },
		f.g.cfg.Props(SessionKind)...), hex.EncodeToString(random[:]))
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("session: %w", err)
	}
	f.sessions[pid.Id], f.clients[key(client)], s.pid = s, s, pid
	f.g.cfg.Metrics.SessionOpened()
	if s.local { // its process does not end before ours
		ctx.Watch(client)
	}
	return &wire.ClientWelcome{
		Session: pid.Id, ClusterId: f.g.cfg.Cluster.Image().ClusterID,
		NodeId: int32(f.g.cfg.Cluster.Self()), Nodes: f.nodes,
		WindowBytes: windowBytes, MessageBytes: int32(f.g.cfg.MessageBytes),
	}, nil
}

// end ends a session.
func (f *front) end(ctx actor.Context, s *session) {
	f.forget(ctx, s)
	ctx.Stop(s.pid)
}

// cutOff ends the sessions of a process that the connection broke to. A client that
// lives all the same may be waiting for an answer and notice nothing, so it is told what
// it would be if it sent something: at worst the connection is tried in vain, once.
func (f *front) cutOff(ctx actor.Context, address string) {
	for _, s := range f.sessions {
		if s.client.Address == address {
			f.end(ctx, s)
			ctx.Send(s.client, &actor.DeadLetterResponse{Target: s.pid})
		}
	}
}

// forget notes that a client has this session no more.
func (f *front) forget(ctx actor.Context, s *session) {
	if k := key(s.client); f.clients[k] == s {
		delete(f.clients, k)
		if s.local {
			ctx.Unwatch(s.client)
		}
	}
}

// terminated hears of the end of a session, or of a client in this process.
func (f *front) terminated(ctx actor.Context, who *actor.PID) {
	if s := f.sessions[who.Id]; s != nil && who.Address == f.g.self {
		f.forget(ctx, s)
		f.gone(s)
		delete(f.sessions, who.Id)
	} else if s := f.clients[key(who)]; s != nil {
		f.end(ctx, s)
	}
}

// gone counts a session that has ended.
func (f *front) gone(s *session) {
	f.g.cfg.Metrics.SessionClosed()
	if s.drained != nil {
		s.drained()
	}
}

// close counts all sessions, which end with the gateway.
func (f *front) close() {
	for _, s := range f.sessions {
		f.gone(s)
	}
	clear(f.sessions)
	clear(f.clients)
}

func (f *front) drain(m drain) {
	f.draining = true
	var left sync.WaitGroup
	left.Add(len(f.sessions))
	for _, s := range f.sessions {
		s.drained = sync.OnceFunc(left.Done)
		f.g.cfg.Root.Send(s.pid, drain{s.drained})
	}
	f.g.running.Go(func() { // sessions that end say so, too
		left.Wait()
		m.done()
	})
}

// versionStep is how far the versions of nodes are apart that come of different metadata.
const versionStep = 1 << 16

// refreshNodes reads which nodes live, and reports whether that is news. A higher
// version is newer wherever it comes from: they count from that of the metadata.
func (f *front) refreshNodes() (changed bool) {
	image := f.g.cfg.Cluster.Image()
	var nodes []*wire.ClientNode
	for i := range image.Nodes {
		n := &image.Nodes[i]
		address := f.g.cfg.Address(n.ID)
		if n.Fenced || address == "" {
			continue
		}
		nodes = append(nodes, &wire.ClientNode{NodeId: int32(n.ID), Address: address, Rack: n.Rack,
			Kafka: fmt.Sprintf("%s:%d", n.Host, n.Port)})
	}
	if f.nodes.GetVersion() > 0 && slices.EqualFunc(nodes, f.nodes.GetNodes(), sameNode) {
		return false
	}
	f.nodes = &wire.ClientNodes{Nodes: nodes,
		Version: max(int64(image.Version)*versionStep, f.nodes.GetVersion()+1)}
	return true
}

func sameNode(a, b *wire.ClientNode) bool {
	return a.GetNodeId() == b.GetNodeId() && a.GetAddress() == b.GetAddress() &&
		a.GetRack() == b.GetRack() && a.GetKafka() == b.GetKafka()
}

// tellNodes tells all clients when the nodes have changed.
func (f *front) tellNodes() {
	if !f.refreshNodes() {
		return
	}
	push := &wire.ClientPush{Event: &wire.ClientPush_Nodes{Nodes: f.nodes}}
	for _, s := range f.clients {
		f.g.cfg.Root.Send(s.client, push)
	}
}
