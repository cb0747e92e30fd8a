package commitlog

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

var noon = time.UnixMilli(1_700_000_000_000)

const testDir = "data/orders-0"

var testID = messages.TopicID{1, 2, 3}

// testConfig rolls often, so that tests meet every border.
func testConfig() Config {
	return Config{
		SegmentBytes:   4096,
		IndexInterval:  200,
		RetentionAge:   -1,
		RetentionBytes: -1,
	}
}

func testOptions() Options {
	return Options{Topic: "orders", TopicID: testID, Config: testConfig()}
}

func newMem(t testing.TB) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	if err := m.MkdirAll("data"); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	return m
}

func mustOpen(t testing.TB, fsys vfs.FS, o Options) (*Log, Recovery) {
	t.Helper()
	l, rec, err := Open(fsys, testDir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(l.Abandon)
	return l, rec
}

// batch makes a stamped batch of n records whose values have size bytes; the
// records' times are at, at+1, ...
func batch(
	t testing.TB, base messages.Offset, epoch messages.LeaderEpoch, n, size int, at time.Time,
) record.Batch {
	t.Helper()
	bu := record.NewBuilder(record.Compression{})
	for i := range n {
		value := bytes.Repeat([]byte{byte(base) + byte(i)}, size)
		bu.Append(messages.Timestamp(at.UnixMilli()+int64(i)), fmt.Appendf(nil, "k%d", i), value)
	}
	b, err := bu.Build()
	if err != nil {
		t.Fatal(err)
	}
	b.Stamp(base, epoch)
	return b
}

func mustAppend(t testing.TB, l *Log, batches ...record.Batch) {
	t.Helper()
	if err := l.Append(noon, batches); err != nil {
		t.Fatalf("append: %v", err)
	}
}

// fill appends batches of n records each until the log ends at end or above.
func fill(t testing.TB, l *Log, end messages.Offset, n, size int) {
	t.Helper()
	for l.End() < end {
		at := noon.Add(time.Duration(l.End()) * time.Second)
		mustAppend(t, l, batch(t, l.End(), max(l.LatestEpoch(), 0), n, size, at))
	}
}

// readAll returns all bytes from an offset to the log end.
func readAll(t testing.TB, l *Log, from messages.Offset) []byte {
	t.Helper()
	v, err := l.Read(from, l.End(), 1<<30, true)
	if err != nil {
		t.Fatalf("read from %d: %v", from, err)
	}
	defer v.Release()
	b, err := v.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != v.Bytes {
		t.Fatalf("view says %d bytes, has %d", v.Bytes, len(b))
	}
	return b
}

// mustBatches parses bytes that must be whole batches with good CRCs.
func mustBatches(t testing.TB, b []byte) []record.Batch {
	t.Helper()
	var all []record.Batch
	for len(b) > 0 {
		one, rest, err := record.Parse(b)
		if err != nil {
			t.Fatalf("batch %d: %v", len(all), err)
		}
		all, b = append(all, one), rest
	}
	return all
}

func bases(batches []record.Batch) []messages.Offset {
	var all []messages.Offset
	for _, b := range batches {
		all = append(all, b.BaseOffset)
	}
	return all
}

func mustFlush(t testing.TB, l *Log) {
	t.Helper()
	f, dirty := l.PrepareFlush()
	if !dirty {
		return
	}
	if err := f.Run(); err != nil {
		t.Fatal(err)
	}
	l.Flushed(f)
}

func fileNames(t testing.TB, fsys vfs.FS) []string {
	t.Helper()
	entries, err := fsys.ReadDir(testDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

func batchesOf(bs ...record.Batch) []record.Batch { return bs }
