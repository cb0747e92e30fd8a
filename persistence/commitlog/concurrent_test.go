package commitlog

import (
	"errors"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Readers on many goroutines, and a flusher, while the owner appends, rolls,
// truncates, deletes and lets go of files, with a cache too small for all.
func TestReadersNeverSeeTheOwnerAtWork(t *testing.T) {
	for name, fsys := range map[string]vfs.FS{"memory": newMem(t), "disk": vfs.OS{}} {
		t.Run(name, func(t *testing.T) { readersAndOwner(t, fsys) })
	}
}

func readersAndOwner(t *testing.T, fsys vfs.FS) {
	files := segment.NewCache(3)
	defer files.Close()
	o := testOptions()
	o.Files = files
	dir := testDir
	if _, ok := fsys.(vfs.OS); ok {
		dir = path.Join(t.TempDir(), "orders-0")
	}
	l, _, err := Open(fsys, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Abandon()
	var stop atomic.Bool
	var group sync.WaitGroup
	flushes := make(chan Flush)
	flushed := make(chan Flush)
	group.Go(func() {
		for f := range flushes {
			if err := f.Run(); err != nil {
				t.Errorf("flush: %v", err)
			}
			flushed <- f
		}
	})
	for i := range 4 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for !stop.Load() {
				readSomething(t, l, r)
			}
		})
	}
	owner(t, l, flushes, flushed)
	stop.Store(true)
	close(flushes)
	group.Wait()
}

// readSomething reads a range and checks that it is whole batches in a row.
func readSomething(t *testing.T, l *Log, r *rand.Rand) {
	start, end := l.Start(), l.End()
	if end <= start {
		return
	}
	from := start + messages.Offset(r.Int64N(int64(end-start)))
	v, err := l.Read(from, end, 1+r.IntN(6000), true)
	if errors.Is(err, messages.ErrOffsetOutOfRange) {
		return // it was truncated or deleted meanwhile
	}
	if err != nil {
		t.Errorf("read: %v", err)
		return
	}
	defer v.Release()
	b, err := v.AppendTo(nil)
	if err != nil {
		t.Errorf("view: %v", err)
	}
	for next := messages.NoOffset; len(b) > 0; {
		one, rest, err := record.Parse(b)
		if err != nil || (next >= 0 && one.BaseOffset != next) {
			t.Errorf("batch at %d after %d: %v", one.BaseOffset, next, err)
			return
		}
		next, b = one.NextOffset(), rest
	}
	if _, _, err := l.OffsetForTimestamp(messages.Timestamp(noon.UnixMilli())+5, end); err != nil {
		t.Errorf("timestamp: %v", err)
	}
}

func owner(t *testing.T, l *Log, flushes, flushed chan Flush) {
	r := rand.New(rand.NewPCG(9, 9))
	c := testConfig()
	c.RetentionBytes = 20000
	l.SetConfig(c)
	inFlight := false
	for i := range 400 {
		at := noon.Add(time.Duration(i) * time.Second)
		bs := []record.Batch{batch(t, l.End(), l.LatestEpoch()+1, 1+r.IntN(5), r.IntN(300), at)}
		bs = append(bs, batch(t, bs[0].NextOffset(), bs[0].LeaderEpoch, 1, r.IntN(300), at))
		if i%50 != 0 && i > 0 {
			for k := range bs {
				bs[k].Stamp(bs[k].BaseOffset, max(l.LatestEpoch(), 0))
			}
		}
		if err := l.Append(at, bs); err != nil {
			t.Errorf("append: %v", err)
			return
		}
		switch {
		case i%40 == 0:
			back := messages.Offset(r.IntN(30))
			if err := l.TruncateTo(max(l.Start(), l.End()-back)); err != nil {
				t.Errorf("truncate: %v", err)
			}
		case i%30 == 0:
			if _, err := l.Retain(at, l.End()); err != nil {
				t.Errorf("retain: %v", err)
			}
		case i%25 == 0:
			l.Idle()
		case i%20 == 0 && !inFlight:
			if f, dirty := l.PrepareFlush(); dirty {
				flushes <- f
				inFlight = true
			}
		}
		select {
		case f := <-flushed:
			l.Flushed(f)
			inFlight = false
		default:
		}
	}
	if inFlight {
		l.Flushed(<-flushed)
	}
}
