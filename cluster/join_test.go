package cluster

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/consul/api"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/registry"
	"github.com/troupelog/troupe/testkit"
)

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
			_, err := Open(system, lookup, cfg)
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

func TestJoiningCanBeTriedAgain(t *testing.T) {
	consul := testkit.StartConsul(t)
	consul.Stop()
	system := NewSystem(slog.New(slog.DiscardHandler))
	j, err := Open(system, NewLookup(1, actor.RestartingSupervisorStrategy()), JoinConfig{
		Cluster: "again", Consul: registry.ConsulAPI(consul.Addr), Bind: "127.0.0.1:0",
		TTL: longTTL})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Stop()
	if err := j.Join(t.Context()); err == nil {
		t.Fatal("it joined without Consul")
	}
	consul.Restart()
	testkit.Eventually(t, "the node joins", func() bool { return j.Join(t.Context()) == nil })
	if m := j.Lookup.View().Member(1); m == nil || m.Incarnation != j.Incarnation() {
		t.Errorf("the view has %v for the node itself", m)
	}
}

// It would stand in the place of the other in every view, as controller too.
func TestTheIDOfALiveMemberWithOtherDataIsRefused(t *testing.T) {
	cfg := memberConfig{Cluster: "twins", Consul: testkit.SharedConsul(t), Node: 1,
		TTL: shortTTL, Directory: "a,b"}
	first := start(t, cfg)
	cfg.Directory = "c"
	other := launch(t, cfg)
	<-other.done
	if log := other.log.String(); !strings.Contains(log, "node 1 is alive at") {
		t.Errorf("a second node 1 said %q", log)
	}
	first.expectMembers(first.members())
	first.kill()          // Consul lists it until the TTL has passed
	cfg.Directory = "b,d" // the same machine, after a disk was replaced
	start(t, cfg)
}
