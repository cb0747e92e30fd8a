package node

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/wire"
)

// program is a program that uses the SDK, as far as the node sees it.
type program struct {
	t       *testing.T
	system  *actor.ActorSystem
	pid     *actor.PID
	session *actor.PID
	answers chan *wire.ClientResponse
	pushes  chan *wire.ClientPush
}

// newProgram says hello from an actor system to the node at address.
func newProgram(t *testing.T, system *actor.ActorSystem, address string) *program {
	t.Helper()
	p := &program{t: t, system: system, answers: make(chan *wire.ClientResponse, 100),
		pushes: make(chan *wire.ClientPush, 100)}
	p.pid = system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *wire.ClientResponse:
			p.answers <- m
		case *wire.ClientPush:
			p.pushes <- m
		}
	}))
	welcome := p.ask(actor.NewPID(address, "gateway"), &wire.ClientRequest{
		Command: &wire.ClientRequest_Hello{Hello: &wire.ClientHello{ClientId: t.Name()}}})
	p.session = actor.NewPID(address, welcome.GetWelcome().GetSession())
	return p
}

func (p *program) send(to *actor.PID, m *wire.ClientRequest) {
	p.system.Root.RequestWithCustomSender(to, m, p.pid)
}

func (p *program) answer() *wire.ClientResponse {
	p.t.Helper()
	select {
	case r := <-p.answers:
		if r.GetError() != nil {
			p.t.Fatalf("answered %v", r)
		}
		return r
	case <-time.After(30 * time.Second):
		p.t.Fatal("there is no answer")
		return nil
	}
}

func (p *program) push() *wire.ClientPush {
	p.t.Helper()
	select {
	case m := <-p.pushes:
		return m
	case <-time.After(30 * time.Second):
		p.t.Fatal("nothing is told")
		return nil
	}
}

func (p *program) ask(to *actor.PID, m *wire.ClientRequest) *wire.ClientResponse {
	p.t.Helper()
	p.send(to, m)
	return p.answer()
}

// exchange writes to a new topic and reads it back.
func (p *program) exchange() {
	p.t.Helper()
	p.ask(p.session, &wire.ClientRequest{Command: &wire.ClientRequest_Subscribe{
		Subscribe: &wire.ClientSubscribe{Topic: "orders", Create: true}}})
	if r := p.push().GetRoute(); r.GetTopic() != "orders" || len(r.GetPartitions()) != 1 {
		p.t.Errorf("told %v", r)
	}
	p.send(p.session, &wire.ClientRequest{RequestId: 1, Command: &wire.ClientRequest_Fetch{
		Fetch: &wire.ClientFetch{Topic: "orders", MaxBytes: 1 << 20, WaitMs: 60_000,
			LeaderEpoch: -1, LastEpoch: -1}}})
	b := record.NewBuilder(record.Compression{})
	for i := range 3 {
		b.Append(1, nil, []byte(strconv.Itoa(i)))
	}
	batch, err := b.Build()
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(p.session, &wire.ClientRequest{RequestId: 2, Command: &wire.ClientRequest_Append{
		Append: &wire.ClientAppend{Topic: "orders", Acks: -1, Records: batch.Bytes}}})
	for range 2 {
		switch r := p.answer(); r.GetRequestId() {
		case 1:
			got, err := record.ParseOnly(r.GetFetched().GetRecords())
			if err != nil || got.Count != 3 {
				p.t.Errorf("read %v, %v", got.Header, err)
			}
		case 2:
			if o := r.GetAppended().GetBaseOffset(); o != 0 {
				p.t.Errorf("appended at %d", o)
			}
		}
	}
}

func TestAProgramUsesANodeInItsProcess(t *testing.T) {
	n, err := Start(t.Context(), Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	system := n.Actors().(*actor.ActorSystem)
	p := newProgram(t, system, system.Address())
	p.exchange()
	if err := n.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if d := p.push().GetDraining(); d == nil {
		t.Error("it was not told that the node stops")
	}
	if r := p.push().GetRoute(); !r.GetGone() {
		t.Errorf("it was told the route %v", r)
	}
}
