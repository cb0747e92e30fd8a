package actors

import (
	"errors"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// A process that stood still may have been replaced as a leader. Until its agent
// has spoken it acknowledges nothing, not even to producers that ask for nothing
// but the leader's word.
func TestAfterAPauseNothingIsAcknowledgedBeforeTheAgentHasSpoken(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	w.env.WatchPauses(time.Hour, func() {})
	if res := w.append(r, data.AcksLeader, batchOf("before")); res.Err != nil {
		t.Fatal(res.Err)
	}

	w.env.pauses.begun = w.env.pauses.begun.Add(-2 * time.Hour) // nobody beat for two hours
	refused := func(when string) {
		res := w.append(r, data.AcksLeader, batchOf("zombie"))
		if !errors.Is(res.Err, messages.ErrNotLeader) {
			t.Errorf("%s: %+v", when, res)
		}
	}
	refused("before the watch has noticed")
	if !w.env.pauses.beat() {
		t.Fatal("the pause is not noticed")
	}
	refused("before the agent has heard of it")
	w.client.Lapsed()
	w.eventually("the node leads again", func() bool {
		return w.append(r, data.AcksLeader, batchOf("after")).Err == nil
	})
	if o := r.Offsets(); o.LogEnd != 2 {
		t.Errorf("log ends at %d, two records were acknowledged", o.LogEnd)
	}
}
