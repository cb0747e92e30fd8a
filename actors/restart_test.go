package actors

import (
	"testing"

	"github.com/troupelog/troupe/persistence/registry"
	"github.com/troupelog/troupe/persistence/vfs"
)

// A node with a thousand partitions that nobody asks for must not hold a file
// and a mapping for each, also after a crash had it read all of them.
func TestARecoveredLogIsIdleUntilSomebodyReadsIt(t *testing.T) {
	disk, store := vfs.NewMem(), registry.NewMemory()
	w := start(t, plan{disk: disk, store: store})
	w.create("orders", 3)
	w.produce("orders", "one", "two")
	w.kill()

	again := start(t, plan{disk: disk, store: store})
	again.leader("orders", 2)
	again.eventually("every file is closed", func() bool { return again.env.Files.Open() == 0 })
	if got := again.consume("orders"); len(got) != 2 {
		t.Errorf("read back %q", got)
	}
}
