package transport

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"

	"github.com/troupelog/troupe/messages/wire"
)

// end is an actor system that listens, with the codec of gRPC or with the own one.
func end(t testing.TB, own bool) *actor.ActorSystem {
	t.Helper()
	system := quiet()
	var r *remote.Remote
	err := Endpoint{Bind: "127.0.0.1:0"}.Listen(func(rc *remote.Config) *remote.Remote {
		if !own {
			rc.ServerOptions = append(rc.ServerOptions, grpc.ForceServerCodecV2(stock()))
			rc.CallOptions = append(rc.CallOptions, grpc.ForceCodecV2(stock()))
		}
		r = remote.NewRemote(system, rc)
		return r
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Shutdown(false)
		system.Shutdown()
	})
	return system
}

// attached is the actor system of a program that is connected with those of nodes.
func attached(t testing.TB) *actor.ActorSystem {
	t.Helper()
	system := quiet()
	p, err := Endpoint{Bind: "127.0.0.1:0"}.Attach(system, func(string, error) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		system.Shutdown()
	})
	return system
}

func quiet() *actor.ActorSystem {
	return actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler)
	}))
}

// exchange sends n requests with inFlight under way at most, from an actor to an actor,
// as clients and gateways do it.
type exchange struct {
	from, to *actor.ActorSystem
	peer     *actor.PID
	self     *actor.PID
	answered chan *wire.ClientResponse
}

type answerer func(*wire.ClientRequest) *wire.ClientResponse

func newExchange(t testing.TB, own bool, answer answerer) *exchange {
	x := &exchange{to: end(t, own), answered: make(chan *wire.ClientResponse, 64)}
	if own { // as programs are connected with nodes
		x.from = attached(t)
	} else {
		x.from = end(t, own)
	}
	x.peer = x.to.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if req, ok := ctx.Message().(*wire.ClientRequest); ok {
			ctx.Respond(answer(req))
		}
	}))
	x.self = x.from.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if resp, ok := ctx.Message().(*wire.ClientResponse); ok {
			x.answered <- resp
		}
	}))
	return x
}

func (x *exchange) run(n, inFlight int, request func(id int) *wire.ClientRequest) {
	x.await(x.answered, n, inFlight, request)
}

// await is run with answers that somebody else has looked at.
func (x *exchange) await(
	answers <-chan *wire.ClientResponse, n, inFlight int, request func(id int) *wire.ClientRequest,
) {
	for sent, got := 0, 0; got < n; {
		if sent < n && sent-got < inFlight {
			x.from.Root.RequestWithCustomSender(x.peer, request(sent), x.self)
			sent++
			continue
		}
		<-answers
		got++
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func records(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func appendOf(records []byte) func(int) *wire.ClientRequest {
	return func(id int) *wire.ClientRequest {
		return &wire.ClientRequest{RequestId: uint64(id), Command: &wire.ClientRequest_Append{
			Append: &wire.ClientAppend{Topic: "topic", Partition: 1, Acks: -1, Records: records}}}
	}
}

// BenchmarkRecords measures records on their way to a node (append) and back (fetch),
// with gRPC's own codec and with the one of this package by turns, so that the ratio
// means something on a machine that is shared. Sixteen are under way.
func BenchmarkRecords(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		payload := records(size)
		ask := func(id int) *wire.ClientRequest { return &wire.ClientRequest{RequestId: uint64(id)} }
		for name, request := range map[string]func(int) *wire.ClientRequest{
			"append": appendOf(payload), "fetch": ask,
		} {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				compare(b, size, request, func(req *wire.ClientRequest) *wire.ClientResponse {
					resp := &wire.ClientResponse{RequestId: req.RequestId}
					if req.GetAppend() == nil {
						resp.Result = &wire.ClientResponse_Fetched{
							Fetched: &wire.ClientFetched{Records: payload}}
					}
					return resp
				})
			})
		}
	}
}

// compare has both codecs take turns and reports the speed of each, and the ratios.
func compare(
	b *testing.B, size int, request func(int) *wire.ClientRequest, answer answerer,
) {
	ends := [2]*exchange{newExchange(b, false, answer), newExchange(b, true, answer)}
	var took, used [2]time.Duration
	turn := max(1, min(b.N, 64<<20/size))
	n := 0
	b.ResetTimer()
	for ; n < b.N; n += turn {
		var wg sync.WaitGroup
		for i, x := range ends {
			began, before := time.Now(), cpu()
			wg.Go(func() { x.run(turn, 16, request) })
			wg.Wait()
			took[i] += time.Since(began)
			used[i] += cpu() - before
		}
	}
	mb := float64(n) * float64(size) / 1e6
	for i, name := range []string{"stock", "own"} {
		b.ReportMetric(mb/took[i].Seconds(), name+"-MB/s")
		b.ReportMetric(float64(used[i].Microseconds())/mb, name+"-cpu-µs/MB")
	}
	b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "faster")
	b.ReportMetric(used[1].Seconds()/used[0].Seconds(), "cpu-ratio")
}
