//go:build clients

package clients

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

const (
	countPartitions = 3
	corpusLines     = 3000
	linesPerSecond  = 100
)

func TestStreamsCountExactlyOnceThroughTheDeathOfANode(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := testkit.StartCluster(t, 3,
		testkit.Set("min.insync.replicas", "2"),
		testkit.Set("offsets.topic.num.partitions", "6"),
		testkit.Set("transaction.state.log.num.partitions", "6"))
	c.Create("lines", countPartitions, 3)
	c.Create("counts", countPartitions, 3)
	lines, want := corpus()
	words := 0
	for _, n := range want {
		words += n
	}
	one := startStreams(t, c, "one")
	two := startStreams(t, c, "two")
	fed := feed(ctx, c, lines)

	steps := newSteps(c)
	steps.read(ctx, t, words/4)
	victim := coordinator(ctx, t, c, "wordcount")
	victim.Kill()
	t.Logf("node %d, which coordinates the application, was killed after %d of %d words",
		victim.ID, steps.seen, words)
	steps.read(ctx, t, words/2)
	victim.Restart()
	t.Logf("node %d is back after %d words", victim.ID, steps.seen)
	steps.read(ctx, t, words*3/5)
	admin := kadm.NewClient(c.Client())
	testkit.Eventually(t, "transactions are open on all partitions of counts", func() bool {
		return openEverywhere(ctx, admin, "counts")
	})
	two.kill(t)
	two = startStreams(t, c, "two")
	t.Logf("an instance of the application was killed after %d words, and another started",
		steps.seen)
	if steps.seen >= words {
		t.Error("all was counted before the harm was done")
	}
	if err := <-fed; err != nil {
		t.Fatalf("feeding lines: %v", err)
	}
	steps.read(ctx, t, words)
	one.stop(t)
	two.stop(t)
	brokers := strings.Join(c.Brokers(), ",")
	line := jvm("Values", brokers, "counts", strconv.Itoa(countPartitions), "read_committed")
	compare(t, testkit.Command(t, "", line[0], line[1:]...), want)
	line[len(line)-1] = "read_uncommitted"
	all := strings.Count(testkit.Command(t, "", line[0], line[1:]...), "\n")
	if all == words {
		t.Error("no step was undone: the instance was killed between two transactions")
	}
	t.Logf("%d lines with %d words, %d of them different: each step of each count is there once; "+
		"read_uncommitted sees %d steps", len(lines), words, len(want), all)
}

// corpus is some text, the same every time, and how often each of its words is there.
func corpus() (lines []string, counts map[string]int) {
	random := rand.New(rand.NewPCG(42, 1))
	counts = map[string]int{}
	for range corpusLines {
		words := make([]string, 1+random.IntN(12))
		for i := range words {
			// Some words are everywhere, and many are rare.
			words[i] = fmt.Sprintf("word%d", random.IntN(1+random.IntN(1+random.IntN(500))))
			counts[words[i]]++
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines, counts
}

// feed writes lines at a steady pace, so that harm meets work; the error comes when
// all are acknowledged.
func feed(ctx context.Context, c *testkit.Cluster, lines []string) <-chan error {
	client := c.Client()
	done := make(chan error, 1)
	go func() {
		pace := time.NewTicker(time.Second / linesPerSecond)
		defer pace.Stop()
		for _, line := range lines {
			select {
			case <-pace.C:
			case <-ctx.Done():
				done <- ctx.Err()
				return
			}
			client.Produce(ctx, &kgo.Record{Topic: "lines",
				Value: []byte(line)}, func(_ *kgo.Record, err error) {
				if err != nil {
					select {
					case done <- err:
					default:
					}
				}
			})
		}
		err := client.Flush(ctx)
		select {
		case done <- err:
		default:
		}
	}()
	return done
}

// steps follows what is committed to the topic of counts.
type steps struct {
	client *kgo.Client
	seen   int
}

func newSteps(c *testkit.Cluster) *steps {
	return &steps{client: c.Client(kgo.ConsumeTopics("counts"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))}
}

// read returns once so many steps of counts were seen.
func (s *steps) read(ctx context.Context, t *testing.T, until int) {
	t.Helper()
	for s.seen < until {
		fetches := s.client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d steps of counts are there, not %d", s.seen, until)
		}
		s.seen += fetches.NumRecords()
	}
}

// openEverywhere reports whether every partition has records of an open transaction.
func openEverywhere(ctx context.Context, admin *kadm.Client, topic string) bool {
	stable, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return false
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return false
	}
	open := true
	ends.Each(func(end kadm.ListedOffset) {
		s, ok := stable.Lookup(topic, end.Partition)
		open = open && ok && s.Err == nil && end.Err == nil && s.Offset < end.Offset
	})
	return open
}

func coordinator(
	ctx context.Context, t *testing.T, c *testkit.Cluster, group string,
) *testkit.Node {
	t.Helper()
	found := kadm.NewClient(c.Client()).FindGroupCoordinators(ctx, group)
	if err := found.Error(); err != nil {
		t.Fatal(err)
	}
	return c.Node(found[group].NodeID)
}

// compare checks that every word was counted from one to what it should be, with no
// step missing, twice or out of order.
func compare(t *testing.T, table string, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for line := range strings.Lines(table) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		word, count := fields[1], fields[2]
		if count != strconv.Itoa(got[word]+1) {
			t.Errorf("%s: %s comes after %d", word, count, got[word])
		}
		got[word]++
	}
	for _, word := range slices.Sorted(maps.Keys(want)) {
		if got[word] != want[word] {
			t.Errorf("%s: counted %d times, want %d", word, got[word], want[word])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d words are counted, want %d", len(got), len(want))
	}
}

func startStreams(t *testing.T, c *testkit.Cluster, name string) *process {
	t.Helper()
	return start(t, "instance "+name, "WordCount",
		strings.Join(c.Brokers(), ","), name, t.TempDir())
}
