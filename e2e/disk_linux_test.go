package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

func TestAFullDiskIsSurvivedOnASmallDisk(t *testing.T) {
	disk := testkit.SmallDisk(t, 24)
	node := testkit.StartNode(t, testkit.Dir(filepath.Join(disk.Dir, "data")))
	createTopic(t, node, "orders", 1)
	ctx := patient(t)
	producer := client(t, node,
		kgo.RecordRetries(2), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.DisableIdempotentWrite(), kgo.DefaultProduceTopic("orders"))

	// A value of 100 KiB begins with its number.
	value := func(i int) []byte {
		return append(fmt.Appendf(nil, "%06d ", i), bytes.Repeat([]byte{'x'}, 100<<10)...)
	}
	var acked []int64 // offsets, by number
	var full error
	for i := 0; full == nil && i < 1000; i++ {
		r, err := producer.ProduceSync(ctx, &kgo.Record{Value: value(i)}).First()
		if full = err; err == nil {
			acked = append(acked, r.Offset)
		}
	}
	if full == nil || len(acked) == 0 {
		t.Fatalf("%d records of 100 KiB fit on a disk of 24 MiB: %v", len(acked), full)
	}
	t.Logf("%d records fit; then: %v", len(acked), full)
	if !strings.Contains(full.Error(), "KAFKA_STORAGE_ERROR") {
		t.Errorf("a full disk is answered with %v, not KAFKA_STORAGE_ERROR", full)
	}

	expect := func(when string) {
		t.Helper()
		found := map[int64]string{}
		readAll(t, node, "orders", func(r *kgo.Record) { found[r.Offset] = string(r.Value) })
		for i, offset := range acked {
			if found[offset] != string(value(i)) {
				t.Fatalf("%s: record %d is not at offset %d", when, i, offset)
			}
		}
	}
	expect("on the full disk")
	node.Kill()
	node.Restart()
	expect("after kill -9 on the full disk")

	// Room is made; no restart is needed to go on.
	disk.Grow(256)
	testkit.Eventually(t, "records are accepted again", func() bool {
		r, err := producer.ProduceSync(ctx, &kgo.Record{Value: value(len(acked))}).First()
		if err == nil {
			acked = append(acked, r.Offset)
		}
		return err == nil
	})
	expect("after room was made")
}

func TestAReadOnlyDiskIsNamedOnAReadOnlyDisk(t *testing.T) {
	disk := testkit.SmallDisk(t, 64)
	dir := filepath.Join(disk.Dir, "data")
	node := testkit.StartNode(t, testkit.Dir(dir))
	node.Troupe("topic", "create", "orders")
	produceOne(t, node, "first")
	node.Stop()

	disk.ReadOnly(true)
	expectRefusal(t, []string{dir, "read-only"}, testkit.Dir(dir))
	disk.ReadOnly(false)
	node.Restart(testkit.Dir(dir))
	expectRecords(t, node, "first")
}
