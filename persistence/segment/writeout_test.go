package segment

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupelog/troupe/persistence/vfs"
	"github.com/troupelog/troupe/testkit"
)

// outsFile counts the bytes whose write-out was started.
type outsFile struct {
	vfs.File
	bytes *atomic.Int64
}

func (f outsFile) WriteBehind(_, n int64) { f.bytes.Add(n) }

func outsOf(c *Cache, bytes *atomic.Int64) *handle {
	return &handle{cache: c, file: outsFile{bytes: bytes}}
}

func TestWriteOutStartsLaterInOrderAndItsGoroutineEnds(t *testing.T) {
	c := NewCache(4)
	c.WriteOutLater(time.Nanosecond)
	var bytes atomic.Int64
	h := outsOf(c, &bytes)
	for range 10 {
		c.outs.add(h, 0, 100)
	}
	testkit.Eventually(t, "write-out", func() bool { return bytes.Load() == 1000 })
	testkit.Eventually(t, "write-out", func() bool {
		c.outs.mu.Lock()
		defer c.outs.mu.Unlock()
		return !c.outs.active && h.pins == 0
	})
	c.outs.add(h, 0, 100) // starts it again
	testkit.Eventually(t, "write-out", func() bool { return bytes.Load() == 1100 })
	c.Close()
}

func TestWriteOutIsStartedAtOnceUnlessItMayWait(t *testing.T) {
	c := NewCache(4)
	defer c.Close()
	var bytes atomic.Int64
	c.outs.add(outsOf(c, &bytes), 0, 100)
	if bytes.Load() != 100 {
		t.Errorf("%d bytes", bytes.Load())
	}
}

func TestWriteOutsThatWaitAreBoundedAndDroppedAtTheEnd(t *testing.T) {
	c := NewCache(4)
	c.WriteOutLater(time.Hour)
	var bytes atomic.Int64
	h := outsOf(c, &bytes)
	for range writeOutsMost + 10 {
		c.outs.add(h, 0, 1)
	}
	c.outs.mu.Lock()
	waiting := len(c.outs.queue)
	c.outs.mu.Unlock()
	if waiting != writeOutsMost {
		t.Errorf("%d wait", waiting)
	}
	c.Close()
	c.outs.add(h, 0, 1)
	if bytes.Load() != 0 || c.outs.active || len(c.outs.queue) != 0 {
		t.Errorf("%d bytes, %d wait", bytes.Load(), len(c.outs.queue))
	}
}

func TestAFileThatIsGoneIsNotWrittenOut(t *testing.T) {
	c := NewCache(4)
	defer c.Close()
	var bytes atomic.Int64
	h := outsOf(c, &bytes)
	h.dead = true
	c.outs.add(h, 0, 100)
	if bytes.Load() != 0 {
		t.Errorf("%d bytes of a file that is gone", bytes.Load())
	}
}
