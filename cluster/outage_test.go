package cluster

import (
	"encoding/json"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

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
