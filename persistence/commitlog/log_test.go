package commitlog

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/persistence/vfs"
)

func TestANewLogIsEmptyAndHasNoSegmentFile(t *testing.T) {
	m := newMem(t)
	l, rec := mustOpen(t, m, testOptions())
	if l.Start() != 0 || l.End() != 0 || l.Durable() != 0 || l.Segments() != 0 {
		t.Errorf("start %d end %d durable %d segments %d", l.Start(), l.End(), l.Durable(), l.Segments())
	}
	if rec.Reason != "" || rec.Damaged || rec.ScannedBytes != 0 {
		t.Errorf("recovery %+v", rec)
	}
	if names := fileNames(t, m); !slices.Equal(names, []string{"partition.metadata"}) {
		t.Errorf("files %q", names)
	}
	v, err := l.Read(0, 0, 100, true)
	if err != nil || v.Bytes != 0 {
		t.Errorf("read: %v, %d bytes", err, v.Bytes)
	}
	if _, err := l.Read(1, 1, 100, true); !errors.Is(err, messages.ErrOffsetOutOfRange) {
		t.Errorf("read above the end: %v", err)
	}
}

func TestReadReturnsTheBytesAppended(t *testing.T) {
	l, _ := mustOpen(t, newMem(t), testOptions())
	var want []byte
	for l.End() < 500 {
		at := noon.Add(time.Duration(l.End()) * time.Second)
		a := batch(t, l.End(), 3, 3, 40, at)
		b := batch(t, l.End()+3, 3, 7, 11, at)
		mustAppend(t, l, a, b)
		want = append(append(want, a.Bytes...), b.Bytes...)
	}
	if l.Segments() < 5 {
		t.Fatalf("only %d segments", l.Segments())
	}
	if got := readAll(t, l, 0); !bytes.Equal(got, want) {
		t.Fatal("other bytes")
	}
	if l.Size() != int64(len(want)) {
		t.Errorf("size %d, appended %d", l.Size(), len(want))
	}
}

func TestReadRanges(t *testing.T) {
	l, _ := mustOpen(t, newMem(t), testOptions())
	fill(t, l, 400, 5, 30)
	size := len(batch(t, 0, 0, 5, 30, noon).Bytes)
	for _, tt := range []struct {
		name        string
		from, limit messages.Offset
		max         int
		minOne      bool
		want        []messages.Offset
		more        bool
	}{
		{"an offset inside a batch gets the whole batch",
			7, 400, size, false, []messages.Offset{5}, true},
		{"the limit keeps out a batch that ends above it",
			0, 14, 1 << 20, true, []messages.Offset{0, 5}, false},
		{"the limit at a batch's end lets it in",
			0, 15, 1 << 20, true, []messages.Offset{0, 5, 10}, false},
		{"a batch too large is not returned", 10, 400, size - 1, false, nil, true},
		{"a batch too large is returned if one is asked for",
			10, 400, 1, true, []messages.Offset{10}, true},
		{"no bytes and not one wanted is empty", 10, 400, 0, false, nil, true},
		{"only whole batches fill the size",
			10, 400, 3*size - 1, true, []messages.Offset{10, 15}, true},
		{"the batch above the limit is no exception to one", 10, 12, 1, true, nil, false},
		{"at the limit there is nothing", 20, 20, 1 << 20, true, nil, false},
		{"above the limit there is nothing", 30, 20, 1 << 20, true, nil, false},
		{"a limit above the end is the end",
			390, 9999, 1 << 20, true, []messages.Offset{390, 395}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := l.Read(tt.from, tt.limit, tt.max, tt.minOne)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Release()
			b, err := v.AppendTo(nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := bases(mustBatches(t, b)); !slices.Equal(got, tt.want) {
				t.Errorf("batches at %d, want %d", got, tt.want)
			}
			if v.More != tt.more {
				t.Errorf("more to read: %v, want %v", v.More, tt.more)
			}
		})
	}
}

func TestEveryReadEqualsASlowTwins(t *testing.T) {
	l, _ := mustOpen(t, newMem(t), testOptions())
	fill(t, l, 120, 3, 150)
	all := mustBatches(t, readAll(t, l, 0))
	for from := messages.Offset(0); from <= l.End(); from++ {
		for _, limit := range []messages.Offset{from, from + 1, from + 4, 60, 61, 62, l.End()} {
			for _, maxBytes := range []int{0, 1, 700, 1500, 5000, 1 << 20} {
				var want []messages.Offset
				left, more := maxBytes, false
				for _, b := range all {
					if b.LastOffset() < from || from >= limit {
						continue
					}
					if b.NextOffset() > limit {
						break
					}
					if more = len(b.Bytes) > left && len(want) > 0; more {
						break
					}
					want = append(want, b.BaseOffset)
					left -= len(b.Bytes)
				}
				v, err := l.Read(from, limit, maxBytes, true)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := v.AppendTo(nil)
				gotMore := v.More
				v.Release()
				if got := bases(mustBatches(t, b)); !slices.Equal(got, want) || gotMore != more {
					t.Fatalf("from %d limit %d max %d: %d, want %d", from, limit, maxBytes, got, want)
				}
			}
		}
	}
}

func TestALogReopensAsItWasClosed(t *testing.T) {
	for _, clean := range []bool{true, false} {
		m := newMem(t)
		l, _ := mustOpen(t, m, testOptions())
		if err := l.AssignEpoch(4, 0); err != nil {
			t.Fatal(err)
		}
		fill(t, l, 300, 3, 100)
		want := readAll(t, l, 0)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		o := testOptions()
		o.Clean = clean
		again, rec := mustOpen(t, m, o)
		if got := readAll(t, again, 0); !bytes.Equal(got, want) {
			t.Errorf("clean %v: other bytes", clean)
		}
		if rec.Reason != "" || (clean && rec.ScannedBytes > 0) || again.LatestEpoch() != 4 {
			t.Errorf("clean %v: recovery %+v, epoch %d", clean, rec, again.LatestEpoch())
		}
		fill(t, again, 400, 3, 100)
		mustBatches(t, readAll(t, again, 0))
	}
}

func TestNothingAppendedIsLostWhenTheProcessDies(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 300, 3, 100)
	want := readAll(t, l, 0)
	again, rec := mustOpen(t, m.CrashClone(1, vfs.KeepAll), testOptions())
	if got := readAll(t, again, 0); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d", len(got), len(want))
	}
	if rec.ScannedBytes != int64(len(want)) || rec.Reason != "" {
		t.Errorf("recovery %+v", rec)
	}
}

func TestAppendRefusesWhatCannotBeStored(t *testing.T) {
	l, _ := mustOpen(t, newMem(t), testOptions())
	fill(t, l, 10, 5, 30)
	if err := l.Append(noon, nil); err != nil {
		t.Errorf("nothing: %v", err)
	}
	if err := l.AssignEpoch(5, 10); err != nil {
		t.Fatal(err)
	}
	old := batch(t, 10, 4, 1, 5, noon)
	if err := l.Append(noon, batchesOf(old)); !errors.Is(err, messages.ErrFencedLeaderEpoch) {
		t.Errorf("old epoch: %v", err)
	}
	if err := l.AssignEpoch(4, 10); !errors.Is(err, messages.ErrFencedLeaderEpoch) {
		t.Errorf("assigning an old epoch: %v", err)
	}
	if l.End() != 10 {
		t.Errorf("end %d", l.End())
	}
}

// It was acknowledged when segment.bytes was larger, and is copied now.
func TestABatchLargerThanSegmentBytesHasASegmentToItself(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 10, 5, 30)
	before := l.Segments()
	small, big, next := batch(t, 10, 0, 1, 5, noon), batch(t, 11, 0, 1, 5000, noon),
		batch(t, 12, 0, 1, 5, noon)
	if err := l.Append(noon, batchesOf(small, big, next)); err != nil {
		t.Fatal(err)
	}
	if l.End() != 13 || l.Segments() != before+2 {
		t.Errorf("the log ends at %d and has %d segments after %d", l.End(), l.Segments(), before)
	}
	want := readAll(t, l, 0)
	again, _ := mustOpen(t, m.CrashClone(1, vfs.KeepAll), testOptions())
	if got := readAll(t, again, 0); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d", len(got), len(want))
	}
}

// A leadership may end before its first write. Whoever leads next may have
// records of an epoch before it that this log lacks.
func TestAnEpochWithoutARecordCanBeForgotten(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 10, 5, 30)
	if err := l.AssignEpoch(5, 10); err != nil {
		t.Fatal(err)
	}
	if err := l.ForgetEmptyEpochs(); err != nil || l.LatestEpoch() == 5 {
		t.Fatalf("latest epoch %d: %v", l.LatestEpoch(), err)
	}
	if err := l.Append(noon, batchesOf(batch(t, 10, 4, 1, 5, noon))); err != nil {
		t.Errorf("epoch 4 after an epoch 5 without records: %v", err)
	}
	if err := l.ForgetEmptyEpochs(); err != nil || l.LatestEpoch() != 4 {
		t.Errorf("an epoch with a record is forgotten: latest %d, %v", l.LatestEpoch(), err)
	}
	again, _ := mustOpen(t, m.CrashClone(1, vfs.LoseUnsynced), testOptions())
	if again.LatestEpoch() == 5 {
		t.Error("it is back after a power cut")
	}
}

func TestAnAppendAcrossSeveralSegmentsIsOne(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 3, 3, 500)
	var many []byte
	var bs = batchesOf()
	for next := l.End(); len(bs) < 9; next += 3 {
		b := batch(t, next, 0, 3, 500, noon)
		bs = append(bs, b)
		many = append(many, b.Bytes...)
	}
	if err := l.Append(noon, bs); err != nil {
		t.Fatal(err)
	}
	if l.Segments() < 5 || !bytes.Equal(readAll(t, l, 3), many) {
		t.Errorf("%d segments, end %d", l.Segments(), l.End())
	}
}

func TestEpochEndFollowsKafkasRules(t *testing.T) {
	l, _ := mustOpen(t, newMem(t), testOptions())
	if got := l.EpochEnd(0); got != (data.EpochEnd{Epoch: -1, End: -1}) {
		t.Errorf("no epochs: %v", got)
	}
	for _, e := range []messages.LeaderEpoch{2, 4, 7} {
		if err := l.AssignEpoch(e, l.End()); err != nil {
			t.Fatal(err)
		}
		fill(t, l, l.End()+10, 5, 10)
	}
	for _, tt := range []struct {
		name  string
		asked messages.LeaderEpoch
		want  data.EpochEnd
	}{
		{"the latest ends at the log end", 7, data.EpochEnd{Epoch: 7, End: 30}},
		{"an older one ends where the next begins", 4, data.EpochEnd{Epoch: 4, End: 20}},
		{"one that never was is the one below", 5, data.EpochEnd{Epoch: 4, End: 20}},
		{"below the first is the first's start", 1, data.EpochEnd{Epoch: 1, End: 0}},
		{"above the latest is unknown", 8, data.EpochEnd{Epoch: -1, End: -1}},
		{"none is unknown", -1, data.EpochEnd{Epoch: -1, End: -1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := l.EpochEnd(tt.asked); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	if l.EpochAt(9) != 2 || l.EpochAt(10) != 4 || l.EpochAt(29) != 7 {
		t.Errorf("epochs at 9, 10, 29: %d %d %d", l.EpochAt(9), l.EpochAt(10), l.EpochAt(29))
	}
}

func TestFlushMakesDurableWhatWasThereWhenItWasPrepared(t *testing.T) {
	l, _ := mustOpen(t, newMem(t), testOptions())
	fill(t, l, 100, 5, 100)
	f, dirty := l.PrepareFlush()
	if !dirty || f.End() != 100 {
		t.Fatalf("dirty %v end %d", dirty, f.End())
	}
	fill(t, l, 120, 5, 100)
	if err := f.Run(); err != nil {
		t.Fatal(err)
	}
	l.Flushed(f)
	if l.Durable() != 100 {
		t.Errorf("durable %d", l.Durable())
	}
	mustFlush(t, l)
	if _, dirty := l.PrepareFlush(); dirty || l.Durable() != 120 {
		t.Errorf("dirty %v durable %d", dirty, l.Durable())
	}
}

func TestSizeIsThatOfAllBatches(t *testing.T) {
	mem := newMem(t)
	l, _ := mustOpen(t, mem, testOptions())
	check := func(when string) {
		t.Helper()
		if got, want := l.Size(), int64(len(readAll(t, l, l.Start()))); got != want {
			t.Errorf("%s: size %d, %d bytes can be read", when, got, want)
		}
	}
	check("empty")
	fill(t, l, 100, 5, 200)
	check("filled")
	if err := l.TruncateTo(57); err != nil {
		t.Fatal(err)
	}
	check("truncated")
	fill(t, l, 200, 5, 200)
	if _, err := l.AdvanceStart(l.state.Load().segments[2].Base()); err != nil {
		t.Fatal(err)
	}
	check("shortened")
	l.Abandon()
	l, _ = mustOpen(t, mem, testOptions())
	check("opened again")
}
