package cluster

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/troupelog/troupe/messages"
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
	log  testkit.LogBuffer
	done chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	events  []note
	answers map[int]note
	ids     int
	ended   bool
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

func envOf(p *process) string {
	text, _ := strings.CutPrefix(p.cmd.Env[len(p.cmd.Env)-1], memberEnv+"=")
	return text
}
