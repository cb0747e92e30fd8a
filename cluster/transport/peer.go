package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
)

// Peer connects the actor system of a program that is no node with those of nodes. It
// speaks what Proto.Actor's remote speaks, and stands in its place: that one has the logs
// of gRPC in the whole process fall silent, cannot be stopped, and sleeps for seconds
// where nobody answers, which is nothing to put into the programs of others.
//
// Messages to one address arrive in the order of sending, or not at all once the
// connection broke; the next message makes a new one. Nobody can stop an actor of this
// side: of system messages only those about the end of actors are taken in. Any goroutine
// may call its methods.
type Peer struct {
	remote.UnimplementedRemotingServer

	system  *actor.ActorSystem
	cfg     *remote.Config
	broken  func(address string, cause error)
	server  *grpc.Server
	ctx     context.Context // of all connections
	cancel  context.CancelFunc
	running sync.WaitGroup // the server, and for each line two

	mu     sync.Mutex
	closed bool
	lines  map[string]*line
}

// Attach listens at e and has system reach the actors of others through it, which it must
// not do yet. broken is told when the connection to an address broke, or was never made,
// and nothing is told to whoever waits for an answer; it is not called any more once Close
// has returned.
func (e Endpoint) Attach(
	system *actor.ActorSystem, broken func(address string, cause error),
) (*Peer, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", e.Bind)
	if err != nil {
		return nil, fmt.Errorf("actor listener: %w", err)
	}
	host, _, _ := net.SplitHostPort(e.Bind) // it was checked
	e.Bind = net.JoinHostPort(host, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	cfg, err := e.configure()
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	p := &Peer{system: system, cfg: cfg, broken: broken, lines: map[string]*line{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	system.ProcessRegistry.Address = cfg.AdvertisedHost
	system.ProcessRegistry.RegisterAddressResolver(func(*actor.PID) (actor.Process, bool) {
		return process{p}, true
	})
	// Handlers are waited for: they hand messages to the actors.
	p.server = grpc.NewServer(append(cfg.ServerOptions, grpc.WaitForHandlers(true))...)
	remote.RegisterRemotingServer(p.server, p)
	p.running.Go(func() { _ = p.server.Serve(listener) }) // it ends with Close
	return p, nil
}

// Close ends all connections and waits until nothing runs any more. What is not sent yet
// is dropped. Call it once.
func (p *Peer) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.server.Stop()
	p.running.Wait()
}

// process stands for all actors of other systems.
type process struct{ peer *Peer }

func (r process) SendUserMessage(to *actor.PID, message any) {
	_, m, sender := actor.UnwrapEnvelope(message)
	r.peer.post(parcel{to, sender, m})
}

func (r process) SendSystemMessage(to *actor.PID, message any) {
	r.peer.post(parcel{to, nil, message})
}

// Stop implements actor.Process. The actors of others are theirs to stop.
func (process) Stop(*actor.PID) {}

// parcel is a message on its way out.
type parcel struct {
	to, sender *actor.PID
	message    any
}

// post puts a message on the line to its address, and opens that if there is none.
func (p *Peer) post(x parcel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	l := p.lines[x.to.Address]
	if l == nil {
		l = &line{peer: p, address: x.to.Address, wake: make(chan struct{}, 1)}
		l.ctx, l.cancel = context.WithCancelCause(p.ctx)
		p.lines[l.address] = l
		p.running.Go(l.run)
	}
	l.queue = append(l.queue, x)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Receive implements remote.RemotingServer: what comes in on the connection of one other
// system.
func (p *Peer) Receive(
	stream grpc.BidiStreamingServer[remote.RemoteMessage, remote.RemoteMessage],
) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil // they hung up
		}
		switch m := m.MessageType.(type) {
		case *remote.RemoteMessage_ConnectRequest:
			err = stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_ConnectResponse{
				ConnectResponse: &remote.ConnectResponse{MemberId: p.system.ID}}})
		case *remote.RemoteMessage_MessageBatch:
			err = p.takeIn(m.MessageBatch)
		}
		if err != nil {
			return err
		}
	}
}

var errBatch = errors.New("batch of messages refers to what is not in it")

// takeIn delivers a batch of messages to the actors of this side.
func (p *Peer) takeIn(b *remote.MessageBatch) error {
	for _, e := range b.Envelopes {
		if outside(e.TypeId, b.TypeNames) || outside(e.Target, b.Targets) ||
			e.Sender != 0 && outside(e.Sender-1, b.Senders) {
			return errBatch
		}
		m, err := remote.Deserialize(e.MessageData, b.TypeNames[e.TypeId], e.SerializerId)
		if err != nil {
			return err
		}
		to := actor.NewPID(p.system.Address(), b.Targets[e.Target])
		to.RequestId = e.TargetRequestId
		var sender *actor.PID
		if e.Sender != 0 {
			s := b.Senders[e.Sender-1]
			sender = actor.NewPID(s.GetAddress(), s.GetId())
			sender.RequestId = e.SenderRequestId
		}
		p.deliver(to, sender, m)
	}
	return nil
}

func outside[T any](index int32, in []T) bool { return index < 0 || int(index) >= len(in) }

func (p *Peer) deliver(to, sender *actor.PID, m any) {
	switch m.(type) {
	case *actor.Terminated, *actor.Watch, *actor.Unwatch:
		if process, ok := p.system.ProcessRegistry.GetLocal(to.Id); ok {
			process.SendSystemMessage(to, m)
		}
	case actor.SystemMessage, actor.AutoReceiveMessage: // they could end an actor
	default:
		if sender == nil {
			p.system.Root.Send(to, m)
		} else {
			p.system.Root.RequestWithCustomSender(to, m, sender)
		}
	}
}
