package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	pcluster "github.com/asynkron/protoactor-go/cluster"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/testkit"
)

// alone is a cluster of one whose kinds tests make up.
type alone struct {
	*Embedded
	t      *testing.T
	events *journal
}

// journal is what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, ", ")
}

// expect waits until what happened is what was wanted.
func (j *journal) expect(t *testing.T, want string) {
	t.Helper()
	testkit.Eventually(t, want, func() bool { return len(j.String()) >= len(want) })
	if got := j.String(); got != want {
		t.Errorf("what happened is %q, want %q", got, want)
	}
}

type (
	crash     struct{}
	leave     struct{}
	whoAreYou struct{}
)

// props makes an actor that says who it is, crashes when told to, and notes its
// starts and ends.
func (a *alone) props(identity string) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		return actor.ReceiveFunc(func(ctx actor.Context) {
			switch ctx.Message().(type) {
			case *actor.Started:
				a.events.add("start %s", identity)
			case *actor.Stopped:
				a.events.add("end %s", identity)
			case whoAreYou:
				ctx.Respond(identity)
			case crash:
				panic("told to")
			case leave:
				a.events.add("leave %s", identity)
				ctx.Stop(ctx.Self())
			}
		})
	})
}

func here(v *View, _ string) messages.NodeID { return v.Self }

func startAlone(t *testing.T, kinds func(a *alone) []Kind) *alone {
	a := &alone{t: t, events: &journal{}}
	lookup := NewLookup(1, actor.RestartingSupervisorStrategy(), kinds(a)...)
	var err error
	a.Embedded, err = StartEmbedded(NewSystem(slog.New(slog.DiscardHandler)), "test", lookup, nil,
		nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop := a.Embedded.Stop
	t.Cleanup(func() { once.Do(stop) })
	return a
}

// plain is one kind, "thing", that lives here.
func plain(a *alone) []Kind { return []Kind{{Name: "thing", Props: a.props, Owner: here}} }

// ask sends a message to an actor and returns its answer.
func (a *alone) ask(pid *actor.PID) string {
	a.t.Helper()
	answer, err := a.System.Root.RequestFuture(pid, whoAreYou{}, 10*time.Second).Result()
	if err != nil {
		a.t.Fatalf("%v does not answer: %v", pid, err)
	}
	return answer.(string)
}

func TestAnIdentityIsActivatedOnce(t *testing.T) {
	a := startAlone(t, plain)
	pids := make(chan *actor.PID)
	for range 8 {
		go func() { pids <- a.Resolve("thing", "x") }()
	}
	first := <-pids
	for range 7 {
		if pid := <-pids; !pid.Equal(first) {
			t.Errorf("x is %v and %v", first, pid)
		}
	}
	if got := a.ask(first); got != "x" {
		t.Errorf("x says it is %q", got)
	}
	if other := a.Resolve("thing", "y"); other == nil || other.Equal(first) {
		t.Errorf("y is %v, x is %v", other, first)
	}
	a.events.expect(t, "start x, start y")
}

func TestWhatHasNoHomeIsNotFound(t *testing.T) {
	a := startAlone(t, func(a *alone) []Kind {
		return append(plain(a),
			Kind{Name: "homeless", Props: a.props,
				Owner: func(*View, string) messages.NodeID { return messages.NoNode }},
			Kind{Name: "abroad", Props: a.props,
				Owner: func(*View, string) messages.NodeID { return 7 }},
			Kind{Name: "nickname", Alias: func(*View, string) (string, string, bool) {
				return "", "", false
			}},
			Kind{Name: "riddle", Alias: func(*View, string) (string, string, bool) {
				return "no such kind", "x", true
			}})
	})
	for _, kind := range []string{"homeless", "abroad", "nickname", "riddle", "no such kind"} {
		if pid := a.Resolve(kind, "x"); pid != nil {
			t.Errorf("%s x is %v", kind, pid)
		}
	}
	a.events.expect(t, "")
}

func TestAnActorThatFailsIsRestartedInPlace(t *testing.T) {
	a := startAlone(t, plain)
	pid := a.Resolve("thing", "x")
	a.System.Root.Send(pid, crash{})
	if got := a.ask(pid); got != "x" {
		t.Errorf("after the restart x says it is %q", got)
	}
	if again := a.Resolve("thing", "x"); !again.Equal(pid) {
		t.Errorf("x was %v and is %v", pid, again)
	}
	a.events.expect(t, "start x, start x")
}

func TestAnActorThatStoppedIsActivatedAnewWhenCalled(t *testing.T) {
	a := startAlone(t, plain)
	pid := a.Resolve("thing", "x")
	if err := a.System.Root.StopFuture(pid).Wait(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "x is another", func() bool {
		again := a.Resolve("thing", "x")
		return again != nil && !again.Equal(pid)
	})
	a.events.expect(t, "start x, end x, start x")
}

func TestAnAliasFollowsWhatItStandsFor(t *testing.T) {
	var target sync.Map
	a := startAlone(t, func(a *alone) []Kind {
		return append(plain(a), Kind{Name: "leader",
			Alias: func(_ *View, identity string) (string, string, bool) {
				to, ok := target.Load(identity)
				if !ok {
					return "", "", false
				}
				return "thing", to.(string), true
			}})
	})
	if pid := a.Resolve("leader", "p"); pid != nil {
		t.Errorf("without a leader p is %v", pid)
	}
	target.Store("p", "x")
	x := a.Resolve("leader", "p")
	if got := a.ask(x); got != "x" {
		t.Errorf("the leader is %q", got)
	}
	if same := a.Resolve("thing", "x"); !same.Equal(x) {
		t.Errorf("x is %v under its own name and %v as the leader", same, x)
	}
	target.Store("p", "y")
	a.Lookup.Forget("leader", "p")
	if got := a.ask(a.Resolve("leader", "p")); got != "y" {
		t.Errorf("the next leader is %q", got)
	}
	target.Delete("p")
	if pid := a.Resolve("leader", "p"); pid != nil {
		t.Errorf("without a leader p is still %v", pid)
	}
}

func TestWhatMustRunRunsUnaskedUntilItIsRetired(t *testing.T) {
	a := startAlone(t, func(a *alone) []Kind {
		return []Kind{{Name: "thing", Props: a.props, Owner: here, Retire: leave{}}}
	})
	a.Lookup.Ensure("thing", []string{"x"})
	a.events.expect(t, "start x")
	if err := a.System.Root.StopFuture(a.Resolve("thing", "x")).Wait(); err != nil {
		t.Fatal(err)
	}
	a.events.expect(t, "start x, end x, start x")
	a.Lookup.Retire("thing", []string{"x", "never started"})
	a.events.expect(t, "start x, end x, start x, leave x, end x")
	a.Lookup.Ensure("thing", []string{"y"}) // all before is done when this is
	a.events.expect(t, "start x, end x, start x, leave x, end x, start y")
}

func TestAnActorWhoseHomeIsElsewhereIsRetired(t *testing.T) {
	a := startAlone(t, func(a *alone) []Kind {
		return []Kind{{Name: "thing", Props: a.props,
			Owner: func(v *View, _ string) messages.NodeID { return v.Controller }}}
	})
	pid := a.Resolve("thing", "x")
	a.Lookup.Update(func(v *View) { v.Controller = 2 })
	if again := a.Resolve("thing", "x"); again != nil {
		t.Errorf("x lives elsewhere and is %v", again)
	}
	a.events.expect(t, "start x, end x")
	a.Lookup.Update(func(v *View) { v.Controller = 1 })
	testkit.Eventually(t, "x is back", func() bool {
		again := a.Resolve("thing", "x")
		return again != nil && !again.Equal(pid)
	})
}

func TestAnActorOnItsWayOutIsNotFound(t *testing.T) {
	hold := make(chan struct{})
	a := startAlone(t, func(a *alone) []Kind {
		return []Kind{{Name: "thing", Owner: here, Retire: leave{}, Props: func(string) *actor.Props {
			return actor.PropsFromFunc(func(ctx actor.Context) {
				if _, ok := ctx.Message().(leave); ok {
					<-hold
					ctx.Stop(ctx.Self())
				}
			})
		}}}
	})
	old := a.Resolve("thing", "x")
	a.Lookup.Retire("thing", []string{"x"})
	ci := pcluster.NewClusterIdentity("x", "thing")
	if pid := a.Lookup.Get(ci); pid != nil {
		t.Errorf("x is leaving and %v was found", pid)
	}
	close(hold)
	testkit.Eventually(t, "x may start again", func() bool {
		pid := a.Lookup.Get(ci)
		return pid != nil && !pid.Equal(old)
	})
}

func TestShutdownEndsAllActorsAndStartsNone(t *testing.T) {
	a := startAlone(t, plain)
	a.Lookup.Ensure("thing", []string{"x"})
	a.events.expect(t, "start x")
	a.Lookup.Shutdown()
	a.Lookup.Shutdown()
	if got := a.events.String(); got != "start x, end x" {
		t.Errorf("after the shutdown: %s", got)
	}
}

func TestASpawnByOthersIsWaitedForByAFew(t *testing.T) {
	type order struct {
		name string
		done func(*actor.PID, error)
	}
	orders := make(chan order, 16)
	a := startAlone(t, func(a *alone) []Kind {
		return []Kind{{Name: "thing", Props: a.props, Owner: here,
			Spawn: func(_, name string, _ *actor.Props, done func(*actor.PID, error)) {
				orders <- order{name, done}
			}}}
	})
	request := &pcluster.ActivationRequest{
		ClusterIdentity: pcluster.NewClusterIdentity("x", "thing")}
	ask := func() actor.Future {
		return a.System.Root.RequestFuture(a.Lookup.activator, request, 30*time.Second)
	}
	answer := func(f actor.Future) *pcluster.ActivationResponse {
		r, err := f.Result()
		if err != nil {
			t.Fatal(err)
		}
		return r.(*pcluster.ActivationResponse)
	}
	waiting := make([]actor.Future, maxWaiters)
	for i := range waiting {
		waiting[i] = ask()
	}
	if r := answer(ask()); !r.Failed {
		t.Errorf("one more than may wait got %v", r)
	}
	o := <-orders
	o.done(nil, errors.New("the disk is full"))
	for _, w := range waiting {
		if r := answer(w); !r.Failed {
			t.Errorf("nothing was started and a caller got %v", r)
		}
	}
	again := ask()
	o = <-orders
	pid, err := a.System.Root.SpawnNamed(a.props("x"), o.name)
	o.done(pid, err)
	if r := answer(again); r.Failed || !r.Pid.Equal(pid) {
		t.Errorf("%v was started and a caller got %v", pid, r)
	}
	if len(orders) != 0 {
		t.Error("x was started more often than asked for")
	}
	// The activator did not spawn it, and hears of its end all the same.
	if err := a.System.Root.StopFuture(pid).Wait(); err != nil {
		t.Fatal(err)
	}
	go a.Resolve("thing", "x")
	o = <-orders
	o.done(nil, errors.New("the test is over"))
}

func TestIdentitiesSpreadEvenlyAndMoveLittle(t *testing.T) {
	const identities = 6000
	three := &View{Members: []Member{{Node: 1}, {Node: 2}, {Node: 3}}}
	four := &View{Members: append([]Member{{Node: 4}}, three.Members...)}
	shares, moved := map[messages.NodeID]int{}, 0
	for i := range identities {
		id := fmt.Sprintf("topic-%d", i)
		home := three.Rendezvous(id)
		shares[home]++
		if now := four.Rendezvous(id); now != home {
			moved++
			if now != 4 {
				t.Fatalf("%s moved from %d to %d when 4 joined", id, home, now)
			}
		}
	}
	for n, share := range shares {
		if share < identities/3*9/10 || share > identities/3*11/10 {
			t.Errorf("node %d has %d of %d identities", n, share, identities)
		}
	}
	if moved > identities/4*11/10 {
		t.Errorf("%d of %d identities moved to a fourth node", moved, identities)
	}
	if home := (&View{}).Rendezvous("x"); home != messages.NoNode {
		t.Errorf("without members x lives on node %d", home)
	}
}

// What lived on a node that died is found elsewhere as soon as the metadata says so, and
// nothing else moves.
func TestIdentitiesLeaveNodesThatAreFenced(t *testing.T) {
	whole := &View{Members: []Member{{Node: 1}, {Node: 2}, {Node: 3}}, Image: messages.NewImage()}
	fenced := *whole
	fenced.Image = messages.NewImage()
	fenced.Image.Nodes = []messages.Node{{ID: 1}, {ID: 2, Fenced: true}, {ID: 3}}
	left := &View{Members: []Member{{Node: 1}, {Node: 3}}}
	for i := range 100 {
		id := fmt.Sprint("topic-", i)
		if got, want := fenced.Rendezvous(id), left.Rendezvous(id); got != want {
			t.Errorf("%s lives on node %d, and on %d without the fenced node", id, got, want)
		}
	}
	for i := range fenced.Image.Nodes {
		fenced.Image.Nodes[i].Fenced = true
	}
	if got, want := fenced.Rendezvous("x"), whole.Rendezvous("x"); got != want {
		t.Errorf("with all nodes fenced x lives on node %d instead of %d", got, want)
	}
}
