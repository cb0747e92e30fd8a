package actors

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/persistence/vfs"
)

func TestWithFlushMessages1AnAnswerWaitsForTheSync(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk})
	w.create("orders", 1, "flush.messages", "1")
	w.produce("orders", "first") // makes the segment
	r := w.leader("orders", 0)
	entered, leave := make(chan struct{}), make(chan struct{})
	disk.Inject(vfs.Rule{Ops: vfs.OpSync, Path: "*.log", Hook: hookOnce(func() {
		close(entered)
		<-leave
	})})
	first := appendAsync(r, data.AcksAll, batchOf("a"))
	receive(t, "the sync", entered)
	second := appendAsync(r, data.AcksAll, batchOf("b"))
	w.eventually("both are in the log", func() bool { return r.Offsets().LogEnd == 3 })
	none := w.append(r, data.AcksNone, batchOf("c"))
	if none.Err != nil {
		t.Errorf("acks=0 waits for nothing: %+v", none)
	}
	if len(first) != 0 || len(second) != 0 {
		t.Error("answered before the sync")
	}
	close(leave)
	for i, a := range []<-chan data.AppendResult{first, second} {
		if res := receive(t, "an answer", a); res.Err != nil || res.BaseOffset != messages.Offset(i+1) {
			t.Errorf("append %d: %+v", i, res)
		}
	}
}

func TestWhatIsAppendedDuringASyncIsTheGroupOfTheNext(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk})
	w.create("orders", 1, "flush.messages", "1")
	w.produce("orders", "first") // makes the segment
	r := w.leader("orders", 0)
	syncs, leave := make(chan struct{}, 10), make(chan struct{})
	disk.Inject(vfs.Rule{Ops: vfs.OpSync, Path: "*.log", Hook: func(vfs.Call) {
		syncs <- struct{}{}
		<-leave
	}})
	first := appendAsync(r, data.AcksAll, batchOf("a"))
	receive(t, "the first sync", syncs)
	var group []<-chan data.AppendResult
	for i := range 5 { // one write each
		group = append(group, appendAsync(r, data.AcksAll, batchOf("b")))
		w.eventually("it is in the log", func() bool {
			return r.Offsets().LogEnd == messages.Offset(3+i)
		})
	}
	leave <- struct{}{}
	if res := receive(t, "the first answer", first); res.Err != nil {
		t.Error(res.Err)
	}
	receive(t, "the second sync", syncs)
	for i, a := range group {
		if len(a) > 0 {
			t.Errorf("append %d was answered by a sync that began before it", i)
		}
	}
	close(leave)
	for i, a := range group {
		if res := receive(t, "an answer", a); res.Err != nil || res.BaseOffset != messages.Offset(i+2) {
			t.Errorf("append %d: %+v", i, res)
		}
	}
	if len(syncs) > 0 {
		t.Errorf("%d more syncs than the group needed", len(syncs))
	}
}

func TestABackgroundFlushComesByItself(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1, "flush.ms", "1")
	w.produce("orders", "a", "b")
	r := w.leader("orders", 0)
	w.eventually("all is durable", func() bool { return r.log.Load().Durable() == 2 })
}

func TestASyncThatFailsTakesItsDirectoryOfflineAndNoOther(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk, dirs: []string{"one", "two"}})
	w.create("orders", 4, "flush.messages", "1")
	for i := range int32(4) {
		r := w.leader("orders", i)
		if res := w.append(r, data.AcksAll, batchOf("a")); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	disk.Inject(vfs.Rule{Ops: vfs.OpSync, Path: "one/*/*.log", Err: vfs.ErrIO})
	for i := range int32(4) {
		r := w.leader("orders", i)
		if !strings.HasPrefix(r.log.Load().Dir(), "one/") {
			continue
		}
		res := w.append(r, data.AcksAll, batchOf("b"))
		if !errors.Is(res.Err, messages.ErrStorage) || !errors.Is(res.Err, vfs.ErrIO) {
			t.Errorf("an append that could not be synced: %+v", res)
		}
		break
	}
	offline, leading := 0, 0
	w.eventually("half of the replicas are offline", func() bool {
		offline, leading = 0, 0
		w.env.EachReplica(func(r *Replica) {
			s := r.Status()
			if s.Fault != nil {
				offline++
			}
			if s.Leading {
				leading++
			}
		})
		return offline == 2 && leading == 2
	})
	w.env.EachReplica(func(r *Replica) {
		res := receive(t, "an answer", appendAsync(r, data.AcksAll, batchOf("c")))
		if ok := res.Err == nil; ok != r.Status().Leading {
			t.Errorf("leading %v: %+v", r.Status().Leading, res)
		}
	})
	w.checkDirs(1)
	w.create("later", 2) // goes to the disk that works
	w.produce("later", "x")
	if err := w.stop(); err == nil || !strings.Contains(err.Error(), "one is offline") {
		t.Errorf("the shutdown says %v", err)
	}
	if w.exists("one", ".kafka_cleanshutdown") || !w.exists("two", ".kafka_cleanshutdown") {
		t.Error("the directory that failed is marked clean, or the other is not")
	}
}

func TestADataDirectoryIsShownWithItsFullPath(t *testing.T) {
	w := start(t, plan{dirs: []string{"here/data", "/elsewhere"}})
	dirs, err := w.client.LogDirs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) != 2 || dirs[0].Path != here+"/here/data" || dirs[1].Path != "/elsewhere" {
		t.Errorf("%+v, want here/data in %s, and /elsewhere", dirs, here)
	}
}

// checkDirs waits until that many directories are offline.
func (w *world) checkDirs(offline int) {
	w.t.Helper()
	w.eventually("directories are offline", func() bool {
		dirs, err := w.client.LogDirs(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		bad := 0
		for _, d := range dirs {
			if errors.Is(d.Err, messages.ErrStorage) {
				bad++
			}
		}
		return bad == offline
	})
}

func TestAReplicaThatCannotOpenIsOfflineAndTheNodeStarts(t *testing.T) {
	mem := vfs.NewMem()
	w := start(t, plan{disk: mem})
	store := w.store
	w.create("good", 1)
	w.create("bad", 1)
	w.produce("good", "a")
	w.produce("bad", "a")
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	disk := vfs.NewFaulty(mem, 1)
	disk.Inject(vfs.Rule{Ops: vfs.OpRead, Path: "data/bad-0/leader-epoch-checkpoint",
		Err: errors.New("bad sector")})
	w = start(t, plan{disk: disk, store: store})
	bad := w.env.Replica(messages.PartitionID{Topic: w.client.Image().Topic("bad").ID})
	if s := bad.Status(); s.Fault == nil || !errors.Is(s.Fault, messages.ErrStorage) || s.Opening {
		t.Errorf("the bad one is %+v", s)
	}
	if got := w.consume("good"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("read %v", got)
	}
}

func TestAFullDiskRefusesAndGoesOnWhenThereIsSpace(t *testing.T) {
	mem := vfs.NewMem()
	w := start(t, plan{disk: mem})
	w.create("orders", 1, "segment.bytes", "1048576", "flush.ms", "1")
	mem.SetCapacity(4 << 20)
	r := w.leader("orders", 0)
	var want []string
	value := strings.Repeat("x", 100<<10)
	full := data.AppendResult{}
	for range 100 {
		if full = w.append(r, data.AcksAll, batchOf(value)); full.Err != nil {
			break
		}
		want = append(want, value)
	}
	if !errors.Is(full.Err, messages.ErrDiskFull) || len(want) == 0 {
		t.Fatalf("after %d appends: %v", len(want), full.Err)
	}
	if s := r.Status(); s.Fault != nil || !s.Leading {
		t.Fatalf("a full disk is no fault of the replica: %+v", s)
	}
	if got := w.consume("orders"); !slices.Equal(got, want) {
		t.Errorf("%d of %d records can be read", len(got), len(want))
	}
	mem.SetCapacity(vfs.Unlimited)
	w.produce("orders", "after")
	if got := w.consume("orders"); len(got) != len(want)+1 {
		t.Errorf("%d records, want %d", len(got), len(want)+1)
	}
	if err := w.stop(); err != nil {
		t.Errorf("the shutdown was not clean: %v", err)
	}
}

func TestLogDirMaxBytesBoundsADirectory(t *testing.T) {
	w := start(t, plan{settings: map[string]string{
		"log.dir.max.bytes": "3000000", "log.retention.check.interval.ms": "1"}})
	w.create("orders", 1, "segment.bytes", "1048576", "retention.ms", "1000",
		"file.delete.delay.ms", "0")
	r := w.leader("orders", 0)
	value, n := strings.Repeat("x", 100_000), 0
	var res data.AppendResult
	for res = w.append(r, data.AcksAll, batchOf(value)); res.Err == nil && n < 100; n++ {
		res = w.append(r, data.AcksAll, batchOf(value))
	}
	if !errors.Is(res.Err, messages.ErrDiskFull) ||
		!strings.Contains(res.Err.Error(), "log.dir.max.bytes is 3000000") {
		t.Fatalf("after %d appends: %v", n, res.Err)
	}
	w.clockMs.Add(time.Hour.Milliseconds())
	w.eventually("retention makes room", func() bool {
		return w.append(r, data.AcksAll, batchOf("b")).Err == nil
	})
}

func TestADiskErrorOfAWriteTakesTheReplicaOfflineWithoutAcknowledging(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk})
	w.create("orders", 1)
	w.produce("orders", "a")
	r := w.leader("orders", 0)
	disk.Inject(vfs.Rule{Ops: vfs.OpWritev | vfs.OpWrite, Path: "data/orders-0/*", Err: vfs.ErrIO})
	res := w.append(r, data.AcksAll, batchOf("b"))
	if !errors.Is(res.Err, messages.ErrStorage) || errors.Is(res.Err, messages.ErrDiskFull) {
		t.Fatalf("got %+v", res)
	}
	w.eventually("the replica is offline", func() bool { return r.Status().Fault != nil })
	if res := w.append(r, data.AcksAll, batchOf("c")); !errors.Is(res.Err, messages.ErrStorage) {
		t.Errorf("afterwards: %+v", res)
	}
	read := r.Read(data.Read{MaxBytes: 100, CurrentEpoch: -1, LastEpoch: -1})
	if !errors.Is(read.Err, messages.ErrStorage) {
		t.Errorf("a reader is told %v", read.Err)
	}
	w.checkDirs(1)
}
