package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
)

// connectWait bounds how long the other end may take to answer that it is connected.
const connectWait = 3 * time.Second

var errHungUp = errors.New("the other end hung up")

// line is the connection of a Peer to one address, with what waits to be sent on it. The
// queue is guarded by the peer's mu; it is as long as its senders let it be.
type line struct {
	peer    *Peer
	address string
	ctx     context.Context
	cancel  context.CancelCauseFunc
	wake    chan struct{} // there is something in the queue
	queue   []parcel
}

// run connects and sends until the connection breaks.
func (l *line) run() {
	defer l.cancel(nil)
	err := l.serve()
	p := l.peer
	p.mu.Lock()
	closed := p.closed
	delete(p.lines, l.address)
	p.mu.Unlock()
	if !closed {
		p.broken(l.address, err)
	}
}

func (l *line) serve() error {
	conn, err := grpc.NewClient(l.address, l.peer.cfg.DialOptions...)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stream, err := l.connect(conn)
	if err != nil {
		return err
	}
	l.peer.running.Go(func() { // nothing comes in on this side but the end of it
		for {
			m, err := stream.Recv()
			if err == nil && m.GetDisconnectRequest() != nil {
				err = errHungUp
			}
			if err != nil {
				l.cancel(err)
				return
			}
		}
	})
	for {
		select {
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		case <-l.wake:
		}
		for batch := l.take(); len(batch) > 0; batch = l.take() {
			m, err := pack(batch)
			if err == nil {
				err = stream.Send(m)
			}
			if err != nil {
				return err
			}
		}
	}
}

// connect opens the stream on which everything is sent, and says who sends.
func (l *line) connect(conn *grpc.ClientConn) (remote.Remoting_ReceiveClient, error) {
	patience := time.AfterFunc(connectWait, func() {
		l.cancel(fmt.Errorf("no answer within %v", connectWait))
	})
	defer patience.Stop()
	stream, err := remote.NewRemotingClient(conn).Receive(l.ctx, l.peer.cfg.CallOptions...)
	if err != nil {
		return nil, err
	}
	system := l.peer.system
	err = stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_ConnectRequest{
		ConnectRequest: &remote.ConnectRequest{ConnectionType: &remote.ConnectRequest_ServerConnection{
			ServerConnection: &remote.ServerConnection{MemberId: system.ID,
				Address: system.Address()}}}}})
	if err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); err != nil {
		return nil, err
	}
	return stream, nil
}

// take returns the next messages to be sent together.
func (l *line) take() []parcel {
	l.peer.mu.Lock()
	defer l.peer.mu.Unlock()
	n := min(len(l.queue), Batch)
	batch := slices.Clone(l.queue[:n])
	clear(l.queue[:n])
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return batch
}

// pack makes one message of several. A batch names its types and actors once each; there
// are few.
func pack(batch []parcel) (*remote.RemoteMessage, error) {
	b := &remote.MessageBatch{Envelopes: make([]*remote.MessageEnvelope, len(batch))}
	for i, x := range batch {
		data, name, err := remote.Serialize(x.message, 0)
		if err != nil {
			return nil, fmt.Errorf("message of type %T: %w", x.message, err)
		}
		e := &remote.MessageEnvelope{MessageData: data, TargetRequestId: x.to.RequestId}
		e.TypeId = place(&b.TypeNames, name)
		e.Target = place(&b.Targets, x.to.Id)
		if x.sender != nil {
			e.Sender = 1 + placePID(&b.Senders, x.sender)
			e.SenderRequestId = x.sender.RequestId
		}
		b.Envelopes[i] = e
	}
	return &remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{
		MessageBatch: b}}, nil
}

// place returns where a name stands in a list, to which it is added if it does not.
func place(in *[]string, name string) int32 {
	at := slices.Index(*in, name)
	if at < 0 {
		at = len(*in)
		*in = append(*in, name)
	}
	return int32(at)
}

func placePID(in *[]*actor.PID, pid *actor.PID) int32 {
	at := slices.IndexFunc(*in, func(p *actor.PID) bool {
		return p.Id == pid.Id && p.Address == pid.Address
	})
	if at < 0 {
		at = len(*in)
		*in = append(*in, actor.NewPID(pid.Address, pid.Id))
	}
	return int32(at)
}
