package commitlog

import (
	"fmt"
	"path"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

func benchLog(b *testing.B) *Log {
	b.Helper()
	o := Options{Config: Config{SegmentBytes: 256 << 20, RetentionAge: -1, RetentionBytes: 512 << 20}}
	l, _, err := Open(vfs.OS{}, path.Join(b.TempDir(), "bench-0"), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.Abandon)
	return l
}

// sized returns a batch of one record that is size bytes in all.
func sized(b *testing.B, size int) record.Batch {
	empty := batch(b, 0, 0, 1, 0, noon)
	return batch(b, 0, 0, 1, max(size-len(empty.Bytes)-4, 0), noon)
}

// stampAll gives the batches their places at the log end.
func stampAll(bs []record.Batch, next messages.Offset) {
	for i := range bs {
		bs[i].Stamp(next, 0)
		next = bs[i].NextOffset()
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10} {
		for _, gathered := range []int{1, 16} {
			b.Run(fmt.Sprintf("%dKiB/%d", size>>10, gathered), func(b *testing.B) {
				l := benchLog(b)
				bs := make([]record.Batch, gathered)
				for i := range bs {
					bs[i] = sized(b, size)
				}
				b.SetBytes(int64(len(bs[0].Bytes) * gathered))
				b.ReportAllocs()
				written := 0
				for b.Loop() {
					stampAll(bs, l.End())
					if err := l.Append(noon, bs); err != nil {
						b.Fatal(err)
					}
					if written += size * gathered; written > 256<<20 {
						written = 0
						if _, err := l.Retain(noon, l.End()); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10} {
		for _, maxBytes := range []int{4 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("batches of %dKiB/%dKiB", size>>10, maxBytes>>10), func(b *testing.B) {
				l := benchLog(b)
				one := sized(b, size)
				for l.Size() < 64<<20 {
					one.Stamp(l.End(), 0)
					if err := l.Append(noon, batchesOf(one)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportAllocs()
				from := messages.Offset(0)
				for b.Loop() {
					v, err := l.Read(from, l.End(), maxBytes, true)
					if err != nil {
						b.Fatal(err)
					}
					from = (from + 7919) % l.End()
					v.Release()
				}
			})
		}
	}
}

// BenchmarkOpen recovers a log of 1 GiB after the death of the process.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("recover 1 GiB of %dKiB batches", size>>10), func(b *testing.B) {
			dir := path.Join(b.TempDir(), "bench-0")
			o := Options{Config: Config{SegmentBytes: 1<<31 - 1, RetentionAge: -1, RetentionBytes: -1}}
			l, _, err := Open(vfs.OS{}, dir, o)
			if err != nil {
				b.Fatal(err)
			}
			bs := make([]record.Batch, 64)
			for i := range bs {
				bs[i] = sized(b, size)
			}
			for l.Size() < 1<<30 {
				stampAll(bs, l.End())
				if err := l.Append(noon, bs); err != nil {
					b.Fatal(err)
				}
			}
			l.Abandon()
			b.SetBytes(1 << 30)
			for b.Loop() {
				l, rec, err := Open(vfs.OS{}, dir, o)
				if err != nil || rec.ScannedBytes < 1<<30 {
					b.Fatal(rec, err)
				}
				l.Abandon()
			}
		})
	}
}

// BenchmarkThousandPartitions creates and reopens logs as a node does.
func BenchmarkThousandPartitions(b *testing.B) {
	files := segment.NewCache(0)
	defer files.Close()
	const n = 1000
	open := func(b *testing.B, root string, clean bool) []*Log {
		logs := make([]*Log, n)
		for i := range logs {
			o := Options{TopicID: testID, Config: Config{RetentionAge: -1, RetentionBytes: -1},
				Files: files, Clean: clean}
			l, _, err := Open(vfs.OS{}, path.Join(root, fmt.Sprintf("bench-%d", i)), o)
			if err != nil {
				b.Fatal(err)
			}
			logs[i] = l
		}
		return logs
	}
	each := func(b *testing.B, logs []*Log, f func(*Log) error) {
		for _, l := range logs {
			if err := f(l); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		root := b.TempDir()
		start := b.Elapsed()
		lap := func(name string) {
			now := b.Elapsed()
			b.ReportMetric(float64((now - start).Milliseconds()), name+"-ms")
			start = now
		}
		logs := open(b, root, false)
		lap("create")
		each(b, logs, func(l *Log) error {
			if err := l.AssignEpoch(0, 0); err != nil {
				return err
			}
			return l.Append(noon, batchesOf(batch(b, 0, 0, 1, 900, noon)))
		})
		lap("append")
		each(b, logs, func(l *Log) error { l.Abandon(); return nil })
		lap("abandon")
		logs = open(b, root, false)
		lap("recover")
		each(b, logs, (*Log).Close)
		lap("close")
		logs = open(b, root, true)
		lap("reopen")
		each(b, logs, (*Log).Close)
	}
}
