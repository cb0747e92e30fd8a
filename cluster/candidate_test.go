package cluster

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

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
