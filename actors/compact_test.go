package actors

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// compacting is a node that compacts as soon as it can.
func compacting(p plan) plan {
	p.settings = map[string]string{"log.cleaner.backoff.ms": "5"}
	return p
}

// compactTopic makes a compacted topic with small segments.
func (w *world) compactTopic(name string, settings ...string) *messages.Topic {
	return w.create(name, 1, append([]string{"cleanup.policy", "compact",
		"segment.bytes", "1048576", "segment.index.bytes", "600", "index.interval.bytes", "512",
		"min.cleanable.dirty.ratio", "0.01", "file.delete.delay.ms", "0"}, settings...)...)
}

func keyedBatch(codec record.Codec, pairs ...[2]string) record.Batch {
	b := record.NewBuilder(record.Compression{Codec: codec})
	for _, p := range pairs {
		b.Append(1_700_000_000_000, []byte(p[0]), []byte(p[1]))
	}
	return build(b)
}

// table reads a topic to its end: the last value of each key, and how many records
// there are.
func (w *world) table(topic string) (last map[string]string, count int) {
	w.t.Helper()
	last = map[string]string{}
	for _, v := range w.consume(topic) {
		key, _, _ := strings.Cut(v, "=")
		last[key] = v
		count++
	}
	return last, count
}

func TestACompactedTopicUnderLoadShrinksAndKeepsTheNewestOfEachKey(t *testing.T) {
	w := start(t, compacting(plan{}))
	w.compactTopic("table")
	leader := w.leader("table", 0)
	const writers, keys, each = 4, 25, 400
	want := map[string]string{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for id := range writers {
		r := rand.New(rand.NewPCG(1, uint64(id)))
		group.Go(func() {
			for i := range each {
				key := fmt.Sprintf("%d-%d", id, r.IntN(keys))
				value := fmt.Sprintf("%s=%d %s", key, i, strings.Repeat("x", 100))
				b := keyedBatch(record.Codec(r.IntN(5)), [2]string{key, value})
				if res := <-appendAsync(leader, data.AcksAll, b); res.Err != nil {
					t.Errorf("appending: %v", res.Err)
					return
				}
				mu.Lock()
				want[key] = value
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				w.table("table") // every batch that is read is checked
			}
		}
	})
	group.Wait()
	w.eventually("the log is compacted to its last segment", func() bool {
		log := leader.log.Load()
		return log.Cleaned() == log.Sealed()
	})
	close(stop)
	reader.Wait()
	last, count := w.table("table")
	for key, value := range want {
		if last[key] != value {
			t.Errorf("%s is %q, %q was written last", key, last[key], value)
		}
	}
	if len(last) != len(want) || count > writers*each/4 || count < len(want) {
		t.Errorf("%d records of %d keys are left, %d keys were written in %d records",
			count, len(last), len(want), writers*each)
	}
	if w.metrics.compacted.Load() == 0 || w.metrics.removed.Load() <= 0 {
		t.Errorf("%d compactions removed %d bytes", w.metrics.compacted.Load(), w.metrics.removed.Load())
	}
	if used, size := w.used(), leader.Size(); used != size {
		t.Errorf("the data directory counts %d bytes, its log has %d", used, size)
	}
}

// used is what the data directory counts.
func (w *world) used() int64 {
	w.t.Helper()
	dirs, err := w.client.LogDirs(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var sum int64
	for _, r := range dirs[0].Replicas {
		sum += r.Bytes
	}
	return sum
}

// fill writes n records over a few keys, one batch each.
func (w *world) fillTable(topic string, n int) map[string]string {
	w.t.Helper()
	leader, want := w.leader(topic, 0), map[string]string{}
	for i := range n {
		key := fmt.Sprintf("key-%d", i%7)
		want[key] = fmt.Sprintf("%s=%d %s", key, i, strings.Repeat("x", 100))
		b := keyedBatch(record.None, [2]string{key, want[key]})
		if res := w.append(leader, data.AcksAll, b); res.Err != nil {
			w.t.Fatalf("appending to %s: %v", topic, res.Err)
		}
	}
	return want
}

func (w *world) expectTable(topic string, want map[string]string) {
	w.t.Helper()
	last, _ := w.table(topic)
	for key, value := range want {
		if last[key] != value {
			w.t.Errorf("%s is %q, %q was written last", key, last[key], value)
		}
	}
}

func (w *world) awaitCompacted(topic string) {
	w.t.Helper()
	leader := w.leader(topic, 0)
	w.eventually(topic+" is compacted", func() bool {
		log := leader.log.Load()
		return log != nil && log.Cleaned() == log.Sealed()
	})
}

func TestHowFarALogIsCompactedSurvivesARestart(t *testing.T) {
	disk := vfs.NewMem()
	p := compacting(plan{disk: disk})
	w := start(t, p)
	w.compactTopic("table")
	want := w.fillTable("table", 300)
	w.awaitCompacted("table")
	cleaned := w.leader("table", 0).log.Load().Cleaned()
	if err := w.stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	p.store = w.store
	p.settings["log.cleaner.enable"] = "false"
	again := start(t, p)
	if got := again.leader("table", 0).log.Load().Cleaned(); got != cleaned || cleaned == 0 {
		t.Errorf("compacted up to %d, was %d", got, cleaned)
	}
	again.expectTable("table", want)
}

func TestNothingIsCompactedThatIsNotToBe(t *testing.T) {
	w := start(t, plan{settings: map[string]string{"log.cleaner.backoff.ms": "5"}})
	w.compactTopic("young", "min.compaction.lag.ms", "60000")
	w.compactTopic("clean", "min.cleanable.dirty.ratio", "1")
	w.create("deleted", 1, "segment.bytes", "1048576", "segment.index.bytes", "600",
		"index.interval.bytes", "512")
	topics := []string{"young", "clean", "deleted"}
	for _, topic := range topics {
		w.fillTable(topic, 200)
	}
	w.compactTopic("table")
	w.fillTable("table", 200)
	w.awaitCompacted("table") // so that every log was looked at in the meantime
	for _, topic := range topics {
		if _, count := w.table(topic); count != 200 {
			t.Errorf("%s: %d records are left", topic, count)
		}
	}
	w.clockMs.Add(time.Hour.Milliseconds())
	w.awaitCompacted("young")
}

// The active segment is rolled for max.compaction.lag.ms, even if nobody writes.
func TestTheMaximalLagRollsTheActiveSegment(t *testing.T) {
	w := start(t, compacting(plan{}))
	w.compactTopic("table", "max.compaction.lag.ms", "60000", "min.cleanable.dirty.ratio", "1")
	w.eventually("the log was looked at while it was empty", func() bool {
		return w.leader("table", 0).compaction.looked.Load() != -1
	})
	want := w.fillTable("table", 10)
	w.clockMs.Add(2 * time.Minute.Milliseconds())
	w.eventually("everything is compacted", func() bool {
		_, count := w.table("table")
		return count == len(want)
	})
	w.expectTable("table", want)
}

func TestAFullDiskGivesACompactionUpAndItIsTriedAgain(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, compacting(plan{disk: faulty}))
	full := faulty.Inject(vfs.Rule{Ops: vfs.OpCreate | vfs.OpAllocate | vfs.OpWritev,
		Path: "*" + segment.CleanedSuffix, Err: vfs.ErrNoSpace})
	w.compactTopic("table")
	want := w.fillTable("table", 200)
	w.eventually("the operator is told", func() bool {
		return strings.Contains(w.log.String(), "for want of space")
	})
	w.expectTable("table", want)
	if res := w.append(w.leader("table", 0), data.AcksAll, keyedBatch(record.None,
		[2]string{"key-1", want["key-1"]})); res.Err != nil {
		t.Errorf("append beside a compaction without space: %v", res.Err)
	}
	full.Remove()
	w.awaitCompacted("table")
	w.expectTable("table", want)
}

func TestADiskThatFailsInACompactionGoesOffline(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, compacting(plan{disk: faulty}))
	faulty.Inject(vfs.Rule{Ops: vfs.OpWritev, Path: "*" + segment.CleanedSuffix, Err: vfs.ErrIO})
	w.compactTopic("table")
	leader := w.leader("table", 0)
	for i := range 300 {
		b := keyedBatch(record.None, [2]string{fmt.Sprint(i % 7), strings.Repeat("x", 100)})
		if res := w.append(leader, data.AcksAll, b); res.Err != nil {
			break // it is offline already
		}
	}
	w.eventually("the directory is offline", func() bool { return leader.fault.Load() != nil })
}

// A log with a batch that is damaged on the disk is left alone, and nothing else is.
func TestADamagedLogIsNotCompacted(t *testing.T) {
	disk := vfs.NewMem()
	w := start(t, plan{disk: disk, settings: map[string]string{"log.cleaner.backoff.ms": "5"}})
	w.compactTopic("damaged", "min.compaction.lag.ms", "60000")
	w.fillTable("damaged", 200)
	names, err := disk.ReadDir("data/damaged-0")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(names, func(e fs.DirEntry) bool {
		return strings.HasSuffix(e.Name(), segment.LogSuffix)
	})
	f, err := disk.OpenWrite("data/damaged-0/" + names[i].Name())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0x55}, 100); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	w.clockMs.Add(time.Hour.Milliseconds())
	leader := w.leader("damaged", 0)
	w.eventually("it is reported", func() bool { _, stuck := leader.Compaction(); return stuck })
	b := keyedBatch(record.None, [2]string{"a", "b"})
	if res := w.append(leader, data.AcksAll, b); res.Err != nil {
		t.Errorf("append: %v", res.Err)
	}
	w.compactTopic("table")
	want := w.fillTable("table", 200)
	w.awaitCompacted("table")
	w.expectTable("table", want)
}
