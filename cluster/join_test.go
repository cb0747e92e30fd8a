package cluster

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/registry"
	"github.com/troupelog/troupe/testkit"
)

// shortTTL keeps the tests quick; longTTL says that something did not take the TTL.
const (
	shortTTL = 2 * time.Second
	longTTL  = time.Minute
)

// process is a member process as the test sees it.
type process struct {
	t    *testing.T
	node messages.NodeID
	cmd  *exec.Cmd
	in   io.WriteCloser
	log  lockedBuffer
	done chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	events  []note
	answers map[int]note
	ids     int
	ended   bool
}

// lockedBuffer takes what a process writes to standard error.
type lockedBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// launch starts a member process and does not wait for it.
func launch(t *testing.T, cfg memberConfig) *process {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, node: cfg.Node, done: make(chan struct{}), answers: map[int]note{}}
	p.changed = sync.NewCond(&p.mu)
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), memberEnv+"="+string(text))
	p.cmd.Stderr = &p.log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of node %d:\n%s", p.node, p.log.String())
		}
	})
	return p
}

// start is launch, and waits until the member has joined.
func start(t *testing.T, cfg memberConfig) *process {
	t.Helper()
	p := launch(t, cfg)
	p.await("ready", cfg.Node, 0)
	return p
}

func (p *process) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var n note
		if json.Unmarshal(lines.Bytes(), &n) != nil {
			continue
		}
		p.mu.Lock()
		if n.ID > 0 {
			p.answers[n.ID] = n
		} else {
			p.events = append(p.events, n)
		}
		p.changed.Broadcast()
		p.mu.Unlock()
	}
	_ = p.cmd.Wait()
	p.mu.Lock()
	p.ended = true
	p.changed.Broadcast()
	p.mu.Unlock()
	close(p.done)
}

// wait blocks until found says so, a minute at most.
func (p *process) wait(what string, found func() bool) {
	p.t.Helper()
	late := false
	timer := time.AfterFunc(time.Minute, func() {
		p.mu.Lock()
		late = true
		p.changed.Broadcast()
		p.mu.Unlock()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !found() {
		if late || p.ended {
			p.t.Fatalf("node %d (ended: %v) has no %s; it had %+v", p.node, p.ended, what, p.events)
		}
		p.changed.Wait()
	}
}

// await returns the first event of that kind about a node behind the first skip events.
func (p *process) await(event string, node messages.NodeID, skip int) note {
	p.t.Helper()
	var found note
	p.wait(fmt.Sprintf("%q of node %d", event, node), func() bool {
		for _, n := range p.events[skip:] {
			if n.Event == event && n.Node == node {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// mark is how many events there were so far.
func (p *process) mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.events)
}

// seen returns the events of one kind behind the first skip.
func (p *process) seen(event string, skip int) []note {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.events[skip:]), func(n note) bool {
		return n.Event != event
	})
}

// do sends a command and returns the answer.
func (p *process) do(c command) note {
	p.t.Helper()
	p.mu.Lock()
	p.ids++
	c.ID = p.ids
	p.mu.Unlock()
	b, err := json.Marshal(c)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		p.t.Fatalf("node %d: %v", p.node, err)
	}
	var answer note
	p.wait("answer to "+c.Name, func() (ok bool) { answer, ok = p.answers[c.ID]; return ok })
	return answer
}

func (p *process) call(kind, key string) string {
	p.t.Helper()
	return p.do(command{Name: "call", Kind: kind, Key: key}).Text
}

// expectCall waits until a call is answered as it should be.
func (p *process) expectCall(kind, key, want string) {
	p.t.Helper()
	testkit.Eventually(p.t, fmt.Sprintf("%s %s answers %s", kind, key, want), func() bool {
		return p.call(kind, key) == want
	})
}

// members lists the nodes of the process's view: "1 2 3".
func (p *process) members() string {
	p.t.Helper()
	var nodes []string
	for _, m := range p.do(command{Name: "view"}).Members {
		nodes = append(nodes, fmt.Sprint(m.Node))
	}
	return strings.Join(nodes, " ")
}

func (p *process) expectMembers(want string) {
	p.t.Helper()
	testkit.Eventually(p.t, fmt.Sprintf("node %d sees %s", p.node, want), func() bool {
		return p.members() == want
	})
}

// stop ends the process in good order.
func (p *process) stop() {
	p.t.Helper()
	p.do(command{Name: "stop"})
	<-p.done
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ensemble starts nodes 1 to n of a new cluster; all know each other.
func ensemble(t *testing.T, consul string, ttl time.Duration, n int) []*process {
	t.Helper()
	return ensembleOf(t, memberConfig{Cluster: "c" + uuid.NewString(), Consul: consul, TTL: ttl}, n)
}

func ensembleOf(t *testing.T, cfg memberConfig, n int) []*process {
	t.Helper()
	var all []*process
	var names []string
	for i := range n {
		cfg.Node = messages.NodeID(i + 1)
		all = append(all, launch(t, cfg))
		names = append(names, fmt.Sprint(i+1))
	}
	for _, p := range all {
		p.await("ready", p.node, 0)
		p.expectMembers(strings.Join(names, " "))
	}
	return all
}

// controller waits until all agree on a controller and returns its process.
func controller(t *testing.T, all []*process) *process {
	t.Helper()
	var found *process
	testkit.Eventually(t, "all agree on a controller", func() bool {
		said := map[messages.NodeID]bool{}
		for _, p := range all {
			said[p.do(command{Name: "view"}).Controller] = true
		}
		for _, p := range all {
			if len(said) == 1 && said[p.node] {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

func without(all []*process, gone *process) []*process {
	return slices.DeleteFunc(slices.Clone(all), func(p *process) bool { return p == gone })
}

func TestJoiningAndLeavingAreSeenAtOnce(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 1)
	var cfg memberConfig
	if err := json.Unmarshal([]byte(envOf(all[0])), &cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Node = 2
	const limit = 100 * time.Millisecond
	joins, leaves := time.Hour, time.Hour
	for round := 0; round < 10 && (joins > limit || leaves > limit); round++ {
		skip := all[0].mark()
		p := start(t, cfg)
		self := p.await("joined", 2, 0)
		seen := all[0].await("joined", 2, skip)
		joins = min(joins, time.Duration(seen.At-self.At))
		began := time.Now().UnixNano()
		p.stop()
		leaves = min(leaves, time.Duration(all[0].await("left", 2, skip).At-began))
	}
	t.Logf("a join was seen after %v, a leave after %v", joins, leaves)
	if joins > limit || leaves > limit {
		t.Errorf("a join was seen after %v, a leave after %v at best", joins, leaves)
	}
}

func envOf(p *process) string {
	text, _ := strings.CutPrefix(p.cmd.Env[len(p.cmd.Env)-1], memberEnv+"=")
	return text
}

func TestActorsLiveOnTheNodeThatTheViewSays(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), shortTTL, 3)
	homes := map[string]string{}
	for i := range 12 {
		id := fmt.Sprintf("identity-%d", i)
		homes[id] = fmt.Sprint((&View{Members: []Member{{Node: 1}, {Node: 2}, {Node: 3}}}).Rendezvous(id))
		for _, p := range all {
			if got := p.call("spread", id); got != homes[id] {
				t.Errorf("node %d is told that %s lives on %q, not on %s", p.node, id, got, homes[id])
			}
		}
	}
	// What was remembered counts no more once the owner is another, also when
	// nobody said so.
	for _, home := range []messages.NodeID{2, 3, 1, 2} {
		for _, p := range all {
			p.do(command{Name: "pin", Key: "x", Node: home})
		}
		for _, p := range all {
			if got := p.call("pinned", "x"); got != fmt.Sprint(home) {
				t.Errorf("node %d finds x on %q, it lives on %d", p.node, got, home)
			}
		}
	}
	all[2].kill()
	for _, p := range all[:2] {
		p.await("left", 3, 0)
		for id, home := range homes {
			if home == "3" {
				home = fmt.Sprint((&View{Members: []Member{{Node: 1}, {Node: 2}}}).Rendezvous(id))
			}
			p.expectCall("spread", id, home)
		}
	}
}

func TestAKilledMemberIsMissedAfterTheTTL(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), shortTTL, 2)
	all[1].kill()
	began := time.Now().UnixNano()
	took := time.Duration(all[0].await("left", 2, 0).At - began)
	t.Logf("missed after %v, the TTL is %v", took, shortTTL)
	if took < shortTTL/2 || took > 4*shortTTL {
		t.Errorf("a killed member was missed after %v, the TTL is %v", took, shortTTL)
	}
}

func TestANodeThatCameBackReplacesItsEarlierLife(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 2)
	var cfg memberConfig
	if err := json.Unmarshal([]byte(envOf(all[1])), &cfg); err != nil {
		t.Fatal(err)
	}
	all[0].do(command{Name: "pin", Key: "x", Node: 2})
	all[1].do(command{Name: "pin", Key: "x", Node: 2})
	all[0].expectCall("pinned", "x", "2")
	old := all[0].await("joined", 2, 0)
	all[1].kill()
	skip := all[0].mark()
	p := start(t, cfg)
	p.do(command{Name: "pin", Key: "x", Node: 2})
	if now := all[0].await("joined", 2, skip); now.Text == old.Text {
		t.Errorf("both lives have incarnation %s", now.Text)
	}
	all[0].expectCall("pinned", "x", "2")
	p.expectMembers("1 2")
}

func TestABrokenConnectionIsASuspicion(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 2)
	for _, p := range all {
		p.do(command{Name: "pin", Key: "x", Node: 2})
	}
	all[0].expectCall("pinned", "x", "2")
	all[1].kill()
	began := time.Now().UnixNano()
	took := time.Duration(all[0].await("suspect", 2, 0).At - began)
	t.Logf("suspected after %v", took)
	if all[0].members() != "1 2" {
		t.Error("a suspicion was taken for a death")
	}
}

func TestAPausedMemberComesBackAsANewIncarnation(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), shortTTL, 3)
	zombie, others := all[1], without(all, all[1])
	for _, p := range all {
		p.do(command{Name: "pin", Key: "x", Node: 2})
		p.do(command{Name: "pin", Key: "y", Node: 1})
	}
	others[0].expectCall("pinned", "x", "2")
	zombie.signal(syscall.SIGSTOP)
	for _, p := range others {
		p.await("left", 2, 0)
	}
	skips := []int{others[0].mark(), others[1].mark()}
	zombie.signal(syscall.SIGCONT)
	lapse := zombie.await("lapse", 2, 0)
	for i, p := range others {
		p.wait("new incarnation", func() bool {
			return slices.ContainsFunc(p.events[skips[i]:], func(n note) bool {
				return n.Event == "joined" && n.Text == lapse.Text
			})
		})
		p.expectCall("pinned", "x", "2")
		p.expectMembers("1 2 3")
	}
	zombie.expectMembers("1 2 3")
	zombie.expectCall("pinned", "y", "1")
	if n := len(zombie.seen("left", 0)); n > 1 { // itself, as what it was
		t.Errorf("the paused node saw %d members leave", n)
	}
}

func TestAPauseIsToldFromTroubleWithConsul(t *testing.T) {
	const ttl = 3 * time.Second
	type sign struct {
		began, ended float64 // seconds
		taken        bool
	}
	for _, tt := range []struct {
		name   string
		signs  []sign
		paused bool
	}{
		{"a healthy node", []sign{{1, 1, true}, {2, 2.1, true}, {3, 3, true}}, false},
		{"a short pause", []sign{{1, 1, true}, {3.9, 3.9, true}}, false},
		{"a pause between two signs", []sign{{1, 1, true}, {4.1, 4.1, true}}, true},
		{"a pause within a sign that was taken", []sign{{1, 1, true}, {2, 4.1, true}}, true},
		{"a pause within one that was not", []sign{{1, 1, true}, {2, 5.1, false}}, true},
		{"a pause right after joining", []sign{{3.1, 3.1, true}}, true},
		{"Consul is away", []sign{{1, 2, false}, {2, 3, false}, {3, 4, false}, {4, 5, true}}, false},
		{"a pause while Consul is away", []sign{{1, 2, false}, {4.1, 5, true}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			zero := time.Unix(0, 0)
			at := func(s float64) time.Time { return zero.Add(time.Duration(s * float64(time.Second))) }
			p := pulse{ttl: ttl}
			p.tried(zero, true)
			paused := false
			for _, s := range tt.signs {
				paused = paused || p.missed(at(s.began), true) || p.missed(at(s.ended), s.taken)
				p.tried(at(s.began), s.taken)
			}
			if paused != tt.paused {
				t.Errorf("the node was paused: %v, want %v", paused, tt.paused)
			}
		})
	}
}

// Trouble with Consul is no death of anybody, whatever it forgot meanwhile.
func TestNobodyIsRemovedBecauseOfConsul(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kept    bool // the metadata
		trouble func(c *testkit.Consul, while func())
	}{
		{"killed and back with its data", true, func(c *testkit.Consul, while func()) {
			c.Kill()
			while()
			c.Restart()
		}},
		{"killed and back without its data", false, func(c *testkit.Consul, while func()) {
			c.Kill()
			while()
			c.Wipe()
			c.Restart()
		}},
		{"stopped and back with its data", true, func(c *testkit.Consul, while func()) {
			c.Stop()
			while()
			c.Restart()
		}},
		{"paused", true, func(c *testkit.Consul, while func()) {
			c.Pause()
			while()
			c.Resume()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			consul := testkit.StartConsul(t)
			all := ensemble(t, consul.Addr, shortTTL, 3)
			for _, p := range all {
				p.do(command{Name: "pin", Key: "x", Node: 2})
			}
			skip := make([]int, len(all))
			for i, p := range all {
				skip[i] = p.mark()
			}
			tt.trouble(consul, func() {
				// Longer than the TTL, and calls go through all the time.
				for end := time.Now().Add(2 * shortTTL); time.Now().Before(end); {
					for _, p := range all {
						if got := p.call("pinned", "x"); got != "2" {
							t.Errorf("with Consul %s, x answered %q", tt.name, got)
						}
					}
				}
			})
			// Once a newcomer is seen the lists are read again, and Consul is believed
			// again once it has been right for a while: a death shows that.
			var cfg memberConfig
			if err := json.Unmarshal([]byte(envOf(all[0])), &cfg); err != nil {
				t.Fatal(err)
			}
			cfg.Node = 4
			fourth := launch(t, cfg)
			for i, p := range all {
				p.await("joined", 4, skip[i])
			}
			fourth.kill()
			for i, p := range all {
				p.await("left", 4, skip[i])
				for _, n := range p.seen("left", skip[i]) {
					if n.Node != 4 {
						t.Errorf("node %d saw node %d leave: %+v", p.node, n.Node, n)
					}
				}
				if lapses := p.seen("lapse", skip[i]); len(lapses) > 0 {
					t.Errorf("node %d became a new incarnation", p.node)
				}
				p.expectCall("pinned", "x", "2")
			}
			if tt.kept { // the lock is there again, or has an owner again
				testkit.Eventually(t, "a controller commits", func() bool {
					return all[0].call("controller", "controller") != ""
				})
			}
		})
	}
}

func TestTheControllerIsFollowedAfterTheTTL(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), shortTTL, 3)
	first := controller(t, all)
	all[0].expectCall("controller", "controller", fmt.Sprintf("%d@1", first.node))
	// Paused, it breaks no connection and so raises no suspicion.
	first.signal(syscall.SIGSTOP)
	began := time.Now()
	rest := without(all, first)
	next := controller(t, rest)
	took := time.Since(began)
	t.Logf("followed after %v, the TTL is %v", took, shortTTL)
	if took > 4*shortTTL {
		t.Errorf("the controller was followed after %v, the TTL is %v", took, shortTTL)
	}
	for _, p := range rest {
		testkit.Eventually(t, "the new controller commits", func() bool {
			return strings.HasPrefix(p.call("controller", "controller"), fmt.Sprint(next.node, "@"))
		})
	}
	first.signal(syscall.SIGCONT)
	if now := controller(t, all); now != next {
		t.Errorf("node %d is controller after a paused one came back, it was %d", now.node, next.node)
	}
}

func TestAControllerFoundDeadIsFollowedAtOnce(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 3)
	first := controller(t, all)
	rest := without(all, first)
	for _, p := range rest { // they have connections to it
		testkit.Eventually(t, "the controller commits", func() bool {
			return strings.HasPrefix(p.call("controller", "controller"), fmt.Sprint(first.node, "@"))
		})
	}
	first.kill()
	began := time.Now()
	next := controller(t, rest)
	took := time.Since(began)
	t.Logf("followed after %v", took)
	if took > 5*time.Second {
		t.Errorf("a dead controller was followed after %v", took)
	}
	for _, p := range rest {
		testkit.Eventually(t, "the new controller commits", func() bool {
			return strings.HasPrefix(p.call("controller", "controller"), fmt.Sprint(next.node, "@"))
		})
	}
}

func TestAControllerThatLeavesIsFollowedAtOnce(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 3)
	first := controller(t, all)
	first.stop()
	controller(t, without(all, first))
}

func TestABurstOfTheLargestMessagesArrives(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 2)
	for _, p := range all {
		p.do(command{Name: "pin", Key: "x", Node: 2})
	}
	want := fmt.Sprintf("%d of %d", 2*remoteBatch, 2*remoteBatch)
	if got := all[0].do(command{Name: "burst", Kind: "pinned", Key: "x"}).Text; got != want {
		t.Errorf("%s large messages were answered", got)
	}
}

func TestAMessageThatCannotBeDecodedEndsItsConnectionOnly(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 1)
	address := all[0].do(command{Name: "view"}).Members[0].Address
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := remote.NewRemotingClient(conn).Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad := &remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{
		MessageBatch: &remote.MessageBatch{Envelopes: []*remote.MessageEnvelope{{TypeId: 99}}}}}
	if err := stream.Send(bad); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Internal {
		t.Errorf("the connection ended with %v", err)
	}
	all[0].do(command{Name: "pin", Key: "x", Node: 1})
	all[0].expectCall("pinned", "x", "1")
}

// certificate makes one for 127.0.0.1 that is its own authority.
func certificate(t *testing.T) (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func TestMembersSpeakTLSWithThoseTheyTrust(t *testing.T) {
	cfg := memberConfig{Cluster: "c" + uuid.NewString(), Consul: testkit.SharedConsul(t), TTL: longTTL}
	cfg.Cert, cfg.Key = certificate(t)
	all := ensembleOf(t, cfg, 2)
	cfg.Node, cfg.Cert, cfg.Key = 3, nil, nil
	outsider := start(t, cfg)
	for _, p := range append(all, outsider) {
		p.do(command{Name: "pin", Key: "x", Node: 2})
	}
	all[0].expectCall("pinned", "x", "2")
	if got := outsider.call("pinned", "x"); got != "" {
		t.Errorf("a member without a certificate was answered %q", got)
	}
}

func TestAccessControlOfConsul(t *testing.T) {
	consul := testkit.StartGuardedConsul(t)
	cfg := memberConfig{Cluster: "guarded", Consul: consul.Addr, Node: 1, TTL: shortTTL}
	t.Setenv(api.HTTPTokenEnvName, "00000000-0000-0000-0000-00000000dead")
	p := launch(t, cfg)
	<-p.done
	if log := p.log.String(); !strings.Contains(log, "CONSUL_HTTP_TOKEN") {
		t.Errorf("a member without a token that counts said %q", log)
	}
	t.Setenv(api.HTTPTokenEnvName, consul.Token)
	controller(t, ensemble(t, consul.Addr, shortTTL, 2))
}

func TestJoinRefusesWhatCannotWork(t *testing.T) {
	closed := registry.ConsulAPI("127.0.0.1:1")
	good := JoinConfig{Cluster: "c", Consul: closed, Bind: "127.0.0.1:0"}
	for _, tt := range []struct {
		name   string
		change func(c *JoinConfig)
		want   string
	}{
		{"a cluster without a name", func(c *JoinConfig) { c.Cluster = "" }, "cluster name"},
		{"no Consul", func(c *JoinConfig) { c.Consul = nil }, "through Consul"},
		{"a refresh as long as the TTL", func(c *JoinConfig) {
			c.TTL, c.Refresh = time.Second, time.Second
		}, "refresh"},
		{"all addresses", func(c *JoinConfig) { c.Bind = "0.0.0.0:0" }, "advertise"},
		{"an address that is none", func(c *JoinConfig) { c.Bind = "127.0.0.1" }, "actor address"},
		{"an IPv6 address", func(c *JoinConfig) { c.Bind = "[::1]:0" }, "IPv6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			system := NewSystem(slog.New(slog.DiscardHandler))
			defer system.Shutdown()
			lookup := NewLookup(1, actor.RestartingSupervisorStrategy())
			_, err := Join(t.Context(), system, lookup, cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestWithoutConsulANodeDoesNotJoin(t *testing.T) {
	p := launch(t, memberConfig{Cluster: "c", Consul: "127.0.0.1:1", Node: 1, TTL: shortTTL})
	<-p.done
	if log := p.log.String(); !strings.Contains(log, "Consul at 127.0.0.1:1") {
		t.Errorf("a member that found no Consul said %q", log)
	}
}
