package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

// createTable makes a compacted topic of small segments.
func createTable(t *testing.T, n *testkit.Node, name string) {
	t.Helper()
	configs := map[string]*string{}
	for key, value := range map[string]string{
		"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.bytes": "1048576",
		"segment.index.bytes": "600", "index.interval.bytes": "512", "file.delete.delay.ms": "100",
	} {
		configs[key] = &value
	}
	resp, err := kadm.NewClient(client(t, n)).CreateTopic(patient(t), 1, 1, configs, name)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}

// Two real clients write over each other's keys; both read back the last value of
// each, before and after a restart, and the log on disk is a fraction of what was
// written.
func TestACompactedTopicHoldsTheLastValueOfEachKey(t *testing.T) {
	const keys, records = 200, 40_000
	node := testkit.StartNode(t, testkit.Set("log.cleaner.backoff.ms", "100"))
	createTable(t, node, "table")
	want := writeTable(t, node, keys, records)
	overwriteWithKcat(t, node, want)

	written := int64(records * 100)
	testkit.Eventually(t, "the log has shrunk", func() bool {
		return folderSize(t, filepath.Join(node.Dir, "table-0")) < written/5
	})
	expectTable(t, node, want)
	got := testkit.Command(t, "", "kcat", "-b", node.Kafka, "-C", "-t", "table", "-o", "beginning",
		"-e", "-q", "-f", "%k=%s\n", "-X", "check.crcs=true")
	last := map[string]string{}
	for line := range strings.Lines(got) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		last[key] = value
	}
	expectSame(t, "kcat", last, want)

	node.Restart()
	expectTable(t, node, want)
}

// writeTable writes records over a few keys and deletes some in the end. It
// returns what is to be left.
func writeTable(t *testing.T, n *testkit.Node, keys, records int) map[string]string {
	t.Helper()
	r, ctx, want := seeded(t), patient(t), map[string]string{}
	c := client(t, n, kgo.DefaultProduceTopic("table"), kgo.MaxBufferedRecords(1000),
		kgo.ProducerBatchMaxBytes(8<<10))
	var failed error
	for i := range records {
		key := fmt.Sprintf("key-%d", r.IntN(keys))
		value := fmt.Sprintf("%d %s", i, strings.Repeat("x", 90))
		want[key] = value
		c.Produce(ctx, &kgo.Record{Key: []byte(key), Value: []byte(value)},
			func(_ *kgo.Record, err error) {
				if err != nil {
					failed = err
				}
			})
	}
	for i := range keys / 10 {
		key := fmt.Sprintf("key-%d", i)
		delete(want, key)
		c.Produce(ctx, &kgo.Record{Key: []byte(key)}, nil)
	}
	if err := c.Flush(ctx); err != nil || failed != nil {
		t.Fatalf("producing: %v, %v", err, failed)
	}
	return want
}

// overwriteWithKcat writes another value to some of the keys, compressed.
func overwriteWithKcat(t *testing.T, n *testkit.Node, want map[string]string) {
	t.Helper()
	var lines strings.Builder
	for i := range 2000 {
		key, value := fmt.Sprintf("key-%d", 50+i%50), fmt.Sprintf("kcat %d", i)
		want[key] = value
		fmt.Fprintf(&lines, "%s=%s\n", key, value)
	}
	testkit.Command(t, "", "kcat", "-b", n.Kafka, "-P", "-t", "table", "-p", "0", "-K", "=",
		"-z", "lz4", "-X", "acks=all", "-X", "enable.idempotence=true",
		"-l", writeFile(t, []byte(lines.String())))
}

func expectTable(t *testing.T, n *testkit.Node, want map[string]string) {
	t.Helper()
	last := map[string]string{}
	readAll(t, n, "table", func(r *kgo.Record) {
		if r.Value == nil {
			delete(last, string(r.Key))
			return
		}
		last[string(r.Key)] = string(r.Value)
	})
	expectSame(t, "franz-go", last, want)
}

func expectSame(t *testing.T, who string, got, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s reads %q for %s, %q was written last", who, got[key], key, value)
		}
	}
	for key, value := range got {
		if _, ok := want[key]; !ok && value != "" {
			t.Errorf("%s reads %q for %s, which was deleted", who, value, key)
		}
	}
}

// folderSize is the size of the log files in a folder that count.
func folderSize(t *testing.T, dir string) (sum int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil { // it may be on its way out
			sum += info.Size()
		}
	}
	return sum
}
