package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// A short run copies a few records under a few kills; EOS_RECORDS and EOS_KILLS make
// it a long one.
const (
	eosRecords    = 60_000
	eosKills      = 6
	eosPartitions = 8
	eosCopiers    = 3
)

// Records are copied from one topic to another by processes that consume, transform
// and produce in transactions, while nodes, coordinators and the processes
// themselves are killed. Every record is in the output once, in its order.
func TestACopyIsExactlyOnceWhateverIsKilled(t *testing.T) {
	records, kills := number(t, "EOS_RECORDS", eosRecords), number(t, "EOS_KILLS", eosKills)
	for _, protocol := range eosProtocols(t) {
		t.Run(string(protocol), func(t *testing.T) {
			c := testkit.StartCluster(t, 3, testkit.FastGroups())
			for _, topic := range []string{"in", "out"} {
				c.Create(topic, eosPartitions, 3, "min.insync.replicas", "2")
			}
			copying := testkit.StartCopy(t, testkit.CopySettings{Brokers: c.Brokers(),
				In: "in", Out: "out", Group: "copy", Copiers: eosCopiers, Protocol: protocol})
			began := time.Now()
			harm := newHarm(t, c, copying)
			for i := range kills {
				// The kill hits while this share of the records is being copied.
				share := records / kills
				c.AwaitInSync("in", "out", "__consumer_offsets", "__transaction_state")
				copying.Feed(share)
				copying.AwaitCopied(i*share + rand.IntN(share))
				harm.strike(i)
			}
			copying.Feed(records - records/kills*kills)
			aborted := copying.Finish()
			report(t, copying, aborted, time.Since(began), harm)
		})
	}
}

// eosProtocols are those the copiers' group speaks, one after the other: in a short
// run the two that do not stop all members at each rebalance.
func eosProtocols(t *testing.T) []testkit.Protocol {
	t.Helper()
	if p := os.Getenv("EOS_PROTOCOL"); p != "" {
		return []testkit.Protocol{testkit.Protocol(p)}
	}
	return []testkit.Protocol{testkit.Cooperative, testkit.ServerSide}
}

// harm kills processes of a cluster and of a copy.
type harm struct {
	t       *testing.T
	c       *testkit.Cluster
	copying *testkit.Copy
	order   []func() string
	done    map[string]int
}

func newHarm(t *testing.T, c *testkit.Cluster, copying *testkit.Copy) *harm {
	h := &harm{t: t, c: c, copying: copying, done: map[string]int{}}
	h.order = []func() string{
		func() string { return h.node("a node", c.Nodes[rand.IntN(len(c.Nodes))]) },
		h.copier,
		func() string { return h.node("the coordinator of the group", c.GroupCoordinator("copy")) },
		h.copier,
		func() string {
			return h.node("a coordinator of transactions",
				c.TxnCoordinator(fmt.Sprintf("copy-%d", rand.IntN(eosCopiers))))
		},
	}
	return h
}

// strike kills the next of all kinds in turn; each turn has an order of its own.
func (h *harm) strike(i int) {
	h.t.Helper()
	if i%len(h.order) == 0 {
		rand.Shuffle(len(h.order), func(a, b int) {
			h.order[a], h.order[b] = h.order[b], h.order[a]
		})
	}
	at := h.copying.Copied()
	what := h.order[i%len(h.order)]()
	h.done[what]++
	h.t.Logf("kill %d: %s, when %d records were copied", i+1, what, at)
}

// node kills a node and starts it again.
func (h *harm) node(what string, victim *testkit.Node) string {
	h.t.Helper()
	victim.Kill()
	testkit.Eventually(h.t, "the group goes on without the node", func() bool {
		return h.copying.Copied() >= 0
	})
	victim.Restart()
	return what
}

func (h *harm) copier() string {
	h.copying.Kill(rand.IntN(eosCopiers))
	return "a copier"
}

func report(t *testing.T, c *testkit.Copy, aborted int, took time.Duration, h *harm) {
	t.Helper()
	sent, read, lost, doubled := c.Tally()
	n := c.Counts()
	t.Logf("%d records, %d in the copy, %d lost, %d doubled; %v, %.0f records/s",
		sent, read, lost, doubled, took.Round(time.Millisecond), float64(sent)/took.Seconds())
	t.Logf("killed: %v; transactions: %d committed, %d aborted; copiers that gave up: %d; "+
		"%d records of aborted transactions were hidden", h.done, n.Committed, n.Aborted, n.GaveUp,
		aborted)
	if aborted == 0 {
		t.Log("no transaction with records was aborted: this run has shown less than others")
	}
}

// number reads how much a run shall do from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is not a number of things to do", name, s)
	}
	return n
}
