package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

// A group that is small, so that the test is quick; GROUP_MEMBERS and
// GROUP_PARTITIONS make it a big one, to be measured.
const (
	bigMembers    = 10
	bigPartitions = 100
)

// What partitions that stay where they are may stand still for while a member comes,
// goes or dies: the goal of a long run. A short run on a busy machine has outliers.
const goalStill = 3 * time.Second

// A member joins a big group, leaves it, and dies. Partitions that stay where they
// are go on being read meanwhile.
func TestPartitionsThatStayAreReadWhileOthersMove(t *testing.T) {
	members := number(t, "GROUP_MEMBERS", bigMembers)
	partitions := number(t, "GROUP_PARTITIONS", bigPartitions)
	for i, protocol := range []testkit.Protocol{testkit.Cooperative, testkit.ServerSide} {
		t.Run(string(protocol), func(t *testing.T) {
			node := testkit.StartNode(t, testkit.FastGroups())
			name := fmt.Sprint("big-", i)
			createTopic(t, node, name, int32(partitions))
			g := testkit.StartGroup(t, testkit.GroupSettings{
				Brokers: []string{node.Kafka}, Topic: name, ID: name + "-readers",
				Every: 250 * time.Millisecond, Commit: 5 * time.Second})
			b := bigGroup{t: t, node: node, g: g, opts: protocol.Options()}
			b.step(fmt.Sprintf("%d members join at once", members), func() {
				for m := range members {
					b.join(m)
				}
			})
			g.AwaitConsumed()
			b.quiet()
			last := (*testkit.Member)(nil)
			b.step("one more joins", func() { last = b.join(members) })
			b.step("it leaves", func() { last.Leave() })
			b.step("another joins", func() { last = b.join(members + 1) })
			b.step("it dies", func() { last.Die() })
			g.Finish()
		})
	}
}

// bigGroup measures what happens to a group.
type bigGroup struct {
	t    *testing.T
	node *testkit.Node
	g    *testkit.Group
	opts []kgo.Opt
}

func (b *bigGroup) join(number int) *testkit.Member {
	return b.g.Join(fmt.Sprintf("member-%03d", number), b.opts...)
}

// quiet measures a time in which nothing happens, to compare with.
func (b *bigGroup) quiet() {
	all := b.g.Untouched(b.g.Topic, time.Now())
	began, cpu := time.Now(), b.node.Usage().CPU
	b.g.Mark()
	testkit.Eventually(b.t, "nothing happens for a while", func() bool {
		return time.Since(began) > 2*time.Second
	})
	b.t.Logf("nothing happens for %v: %v; the node used %v of CPU",
		time.Since(began).Round(time.Millisecond), gaps(b.g.Still(all...)),
		b.node.Usage().CPU-cpu)
}

// step does something to the group and waits until each partition is owned by one
// member again.
func (b *bigGroup) step(what string, do func()) {
	b.t.Helper()
	began, cpu := time.Now(), b.node.Usage().CPU
	b.g.Mark()
	do()
	balanced := b.g.AwaitBalanced()
	b.settle()
	stayed := b.g.Untouched(b.g.Topic, began)
	still := b.g.Still(stayed...)
	b.t.Logf("%s: balanced after %v; %d partitions stayed: %v; the node used %v of CPU", what,
		balanced.Sub(began).Round(time.Millisecond), len(stayed), gaps(still),
		b.node.Usage().CPU-cpu)
	if len(still) > 0 && slices.Max(still) > goalStill {
		b.t.Errorf("%s: a partition that stayed was not read for %v, more than %v",
			what, slices.Max(still), goalStill)
	}
}

// settle waits until no partition has moved for a while: a group may be balanced on
// its way to another balance.
func (b *bigGroup) settle() {
	b.t.Helper()
	testkit.Eventually(b.t, "nothing moves any more", func() bool {
		return time.Since(b.g.LastEvent()) > 3*testkit.GroupHeartbeat && b.g.Balanced()
	})
}

// gaps are the longest times for which partitions were not read.
type gaps []time.Duration

func (g gaps) String() string {
	if len(g) == 0 {
		return "none"
	}
	sorted := slices.Sorted(slices.Values(g))
	return fmt.Sprintf("a record every %v at the median, every %v at the most",
		sorted[len(sorted)/2].Round(time.Millisecond),
		sorted[len(sorted)-1].Round(time.Millisecond))
}

// number reads how big a test shall be from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is not a number of things", name, s)
	}
	return n
}
