package cluster

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// What writes may stand still for after a leader was killed: the goal of a long
// run. A short run on a busy machine has a single outlier for a maximum.
const (
	goalMedian  = time.Second
	goalMaximum = 3 * time.Second
)

// kills is how many leaders a run kills: CHAOS_KILLS, or a few.
func kills(t *testing.T) int {
	t.Helper()
	s := os.Getenv("CHAOS_KILLS")
	if s == "" {
		return 4
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("CHAOS_KILLS=%s is not a number of kills", s)
	}
	return n
}

func TestAcknowledgedRecordsSurviveTheDeathOfLeaders(t *testing.T) {
	const partitions = 6
	c := testkit.StartCluster(t, 3)
	c.Create("orders", partitions, 3, "min.insync.replicas", "2")
	load := testkit.StartLoad(t, c, "orders")
	var outages, returns times
	for i := range kills(t) {
		load.AwaitAcks(5000)
		c.AwaitInSync("orders")
		victim := c.Leader("orders", int32(i)%partitions)
		led := c.Led("orders", victim)
		load.Mark()
		victim.Kill()
		load.AwaitProgressOf(led...)
		outages = append(outages, load.Still(led...))
		t.Logf("kill %d: node %d led %v, writes stood still for %v",
			i+1, victim.ID, led, outages[i].Round(time.Millisecond))
		load.Mark()
		victim.Restart()
		c.AwaitInSync("orders")
		load.AwaitProgress()
		returns = append(returns, load.Still(led...))
	}
	finish(t, c, load, partitions)
	t.Logf("%d leaders killed; writes stood still for %v; when the node came back for %v",
		len(outages), outages, returns)
	if m := outages.median(); m > goalMedian {
		t.Errorf("writes stood still for %v at the median, more than %v", m, goalMedian)
	}
	if m := slices.Max(outages); m > goalMaximum {
		t.Errorf("writes stood still for %v once, more than %v", m, goalMaximum)
	}
}

// times are durations of the same thing.
type times []time.Duration

func (s times) median() time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

func (s times) String() string {
	var b strings.Builder
	for i, d := range []time.Duration{slices.Min(s), s.median(), slices.Max(s)} {
		fmt.Fprintf(&b, "%s%v %s", []string{"", ", ", ", "}[i], d.Round(time.Millisecond),
			[]string{"min", "median", "max"}[i])
	}
	return b.String()
}
