package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// patience bounds every wait for the broker; a healthy one needs a fraction.
const patience = 2 * time.Minute

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// seeded returns a source of randomness; a failed test says how to repeat it.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("SEED=%s: %v", s, err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 1))
}

// client returns a franz-go client of the node that is closed with the test.
func client(t *testing.T, n *testkit.Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.Kafka)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func createTopic(t *testing.T, n *testkit.Node, name string, partitions int32) {
	t.Helper()
	admin := kadm.NewClient(client(t, n))
	resp, err := admin.CreateTopic(patient(t), partitions, 1, nil, name)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}

// readAll reads a topic from its start to the end it has now.
func readAll(t *testing.T, n *testkit.Node, topic string, each func(r *kgo.Record)) {
	t.Helper()
	ctx := patient(t)
	c := client(t, n,
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	missing := map[int32]bool{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			missing[o.Partition] = true
		}
	})
	for len(missing) > 0 {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("reading %s, partitions %v to go: %v", topic, missing, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			each(r)
			if end, _ := ends.Lookup(topic, r.Partition); r.Offset >= end.Offset-1 {
				delete(missing, r.Partition)
			}
		})
	}
}

// logLines returns lines like those of a server's log, always the same ones:
// most of some hundred bytes, a few very long, some not ASCII.
func logLines(lines int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	methods := []string{"GET", "PUT", "POST", "DELETE"}
	var b bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&b, "2026-03-%02dT%02d:%02d:%02dZ 10.%d.%d.%d %s /orders/%x?ref=%x %d %d µs",
			1+i*28/lines, r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(256), r.IntN(256), r.IntN(256),
			methods[r.IntN(len(methods))], r.Uint32(), r.Uint64(), 200+r.IntN(4)*100, r.IntN(100_000))
		if r.IntN(5000) == 0 {
			b.WriteString(strings.Repeat(" stack frame ", 1+r.IntN(2000)))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "input.log")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// sameBytes compares two long texts without printing them.
func sameBytes(t *testing.T, got string, want []byte) {
	t.Helper()
	if got == string(want) {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	t.Fatalf("got %d bytes, want %d; they differ from byte %d (line %d) on: got %.80q, want %.80q",
		len(got), len(want), i, 1+bytes.Count(want[:i], []byte("\n")), got[i:], want[i:])
}
