package actors

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/persistence/vfs"
)

// A file that is cut while it is mapped costs the readers of that moment an
// error, and the partition a restart; nobody else notices.
func TestALogThatIsCutUnderItsReadersIsRecovered(t *testing.T) {
	dir := t.TempDir()
	w := start(t, plan{disk: vfs.OS{}, dirs: []string{dir}})
	w.create("orders", 1)
	w.create("other", 1)
	w.produce("other", "a")
	value := strings.Repeat("x", 16<<10)
	for range 100 {
		w.produce("orders", value)
	}
	r := w.leader("orders", 0)
	if got := w.consume("orders"); len(got) != 100 {
		t.Fatalf("%d records", len(got))
	}
	name := filepath.Join(dir, "orders-0", "00000000000000000000.log")
	if err := os.Truncate(name, 40<<10); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for from := range messages.Offset(32) {
		readers.Go(func() {
			q := data.Read{From: 60 + from, MaxBytes: 1, MinOne: true, CurrentEpoch: -1, LastEpoch: -1}
			res := r.Read(q)
			res.View.Release()
			if res.Err == nil || !errors.Is(res.Err, messages.ErrStorage) &&
				!errors.Is(res.Err, messages.ErrNotLeader) &&
				!errors.Is(res.Err, messages.ErrOffsetOutOfRange) {
				t.Errorf("a reader behind the cut is told %v", res.Err)
			}
		})
	}
	readers.Wait()
	w.eventually("the log is cut", func() bool { return r.Offsets().LogEnd == 2 })
	w.produce("orders", "after")
	if got := w.consume("orders"); len(got) != 3 || got[2] != "after" {
		t.Errorf("%d records", len(got))
	}
	w.produce("other", "b")
	if n := w.metrics.restarted.Load(); n != 1 {
		t.Errorf("%d restarts", n)
	}
	if !strings.Contains(w.log.String(), "acknowledged records are gone") {
		t.Error("the loss is not reported")
	}
	w.checkDirs(0)
}
