package actors

import (
	"runtime"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/vfs"
)

func TestAnIdlePartitionHasNoFileAndNoGoroutineAndLittleMemory(t *testing.T) {
	const partitions, most = 500, 20 << 10 // bytes of each; 11 KiB are usual, disk included
	w := start(t, plan{disk: vfs.NewMem()})
	w.create("before", 1) // what the first one makes for all
	w.leader("before", 0)
	goroutines, heap := runtime.NumGoroutine(), heapInUse()

	w.create("orders", partitions)
	for p := range int32(partitions) {
		w.leader("orders", p)
	}
	w.eventually("every file is closed", func() bool { return w.env.Files.Open() == 0 })
	w.eventually("nothing runs but the warm workers", func() bool {
		return runtime.NumGoroutine() <= goroutines+warmWorkers
	})
	if each := (heapInUse() - heap) / partitions; each > most {
		t.Errorf("a partition takes %d bytes of memory, at most %d are meant", each, most)
	}
	runtime.KeepAlive(w)
}

// heapInUse counts the bytes that are reachable.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what the first one finalised
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestLinesOfAReplicaNameItsPartition(t *testing.T) {
	var out strings.Builder
	face := &Replica{topic: "orders", id: messages.ReplicaID{
		PartitionID: messages.PartitionID{Partition: 7}}}
	r := newReplica(&Env{Log: zerolog.New(&out)}, face, nil, "")
	r.log.Info().Msg("hello")
	want := `{"level":"info","topic":"orders","partition":7,"message":"hello"}` + "\n"
	if out.String() != want {
		t.Errorf("logged %s", out.String())
	}
}
