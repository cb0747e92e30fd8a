package actors

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/persistence/datadir"
	"github.com/troupelog/troupe/persistence/registry"
	"github.com/troupelog/troupe/persistence/vfs"
)

const marker = ".kafka_cleanshutdown"

// deleteRecords moves the log start of a topic's only partition.
func (w *world) deleteRecords(topic string, before messages.Offset) {
	w.t.Helper()
	if _, err := w.leader(topic, 0).DeleteRecords(w.t.Context(), before); err != nil {
		w.t.Fatal(err)
	}
}

// A log that a crash left and that could not be opened since must not be
// trusted by the start after.
func TestAnUncleanLogThatWasNotRecoveredKeepsItsDirectoryUnclean(t *testing.T) {
	for _, unclean := range []bool{false, true} {
		mem := vfs.NewMem()
		w := start(t, plan{disk: mem})
		w.create("bad", 1)
		w.produce("bad", "a")
		crashed := mem.CrashClone(1, vfs.KeepAll)
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		if unclean {
			mem = crashed
		}
		disk := vfs.NewFaulty(mem, 1)
		disk.Inject(vfs.Rule{Ops: vfs.OpRead, Path: "data/bad-0/leader-epoch-checkpoint",
			Err: errors.New("bad sector")})
		w = start(t, plan{disk: disk, store: w.store})
		if err := w.stop(); err == nil || !strings.Contains(err.Error(), "bad sector") {
			t.Errorf("unclean %v: the shutdown says %v", unclean, err)
		}
		if w.exists("data", marker) {
			t.Errorf("unclean %v: marked clean", unclean)
		}
	}
}

func TestADirectoryThatEndsBeforeItsLogsOpenedIsNotClean(t *testing.T) {
	mem := vfs.NewMem()
	w := start(t, plan{disk: mem})
	w.create("orders", 1)
	w.produce("orders", "a")
	crashed := mem.CrashClone(1, vfs.KeepAll)
	dir, err := datadir.Open(crashed, "data", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	l := &logDir{handle: newDirHandle(dir, w.env.Root, -1)}
	if err := l.closeDir(); err == nil || !strings.Contains(err.Error(), "orders-0") {
		t.Errorf("got %v", err)
	}
	if _, err := crashed.Stat("data/" + marker); err == nil {
		t.Error("marked clean")
	}
}

// A partition that is set aside has nothing to do with a later topic of its name.
func TestANewTopicDoesNotInheritTheBoundsOfAStray(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	w.produce("orders", values("old", 5)...)
	w.deleteRecords("orders", 4)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w = start(t, plan{disk: w.disk, store: registry.NewMemory()})
	w.eventually("the stray is set aside", func() bool { return !w.exists("data", "orders-0") })
	w.create("orders", 1)
	w.produce("orders", "new")
	if o := w.leader("orders", 0).Offsets(); o.LogStart != 0 || o.LogEnd != 1 {
		t.Errorf("got %+v", o)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
}

// A crash between the deletion of a topic and the checkpoint leaves entries of
// the old topic, which must not be taken for those of the new one.
func TestANewTopicDoesNotInheritWhatACheckpointStillSays(t *testing.T) {
	for _, tt := range []struct {
		name   string
		reborn bool // the old node crashed in between
	}{{"full disk", false}, {"crash", true}} {
		t.Run(tt.name, func(t *testing.T) {
			mem := vfs.NewMem()
			disk := vfs.NewFaulty(mem, 1)
			w := start(t, plan{disk: disk})
			w.create("orders", 1)
			w.produce("orders", values("old", 5)...)
			w.deleteRecords("orders", 4)
			disk.Inject(vfs.Rule{Ops: vfs.OpCreate, Path: "data/*.tmp", Err: vfs.ErrNoSpace, Times: 1})
			w.delete("orders")
			w.eventually("the folder is gone", func() bool { return !w.exists("data", "orders-0") })
			if tt.reborn {
				mem = mem.CrashClone(1, vfs.KeepAll)
				w = start(t, plan{disk: mem, store: w.store})
			}
			w.create("orders", 1)
			w.produce("orders", "new")
			mem = mem.CrashClone(1, vfs.KeepAll)
			w = start(t, plan{disk: mem, store: w.store})
			if got := w.consume("orders"); !slices.Equal(got, []string{"new"}) {
				t.Errorf("after the crash: %q", got)
			}
		})
	}
}

// A topic that was deleted and made again just before a crash: the folder is
// still the old topic's.
func TestAFolderOfAnEarlierLifeMakesWay(t *testing.T) {
	mem := vfs.NewMem()
	w := start(t, plan{disk: mem})
	w.create("orders", 1)
	w.produce("orders", "old")
	crashed := mem.CrashClone(1, vfs.KeepAll)
	w.delete("orders")
	w.create("orders", 1)
	w = start(t, plan{disk: crashed, store: w.store})
	w.produce("orders", "new")
	if got := w.consume("orders"); !slices.Equal(got, []string{"new"}) {
		t.Errorf("got %q", got)
	}
}

// Long recoveries, more of them than may run at the same time, keep nobody else
// from opening.
func TestLongRecoveriesDoNotHoldUpOtherPartitions(t *testing.T) {
	mem := vfs.NewMem()
	w := start(t, plan{disk: mem})
	for _, name := range []string{"slow1", "slow2", "slow3"} {
		w.create(name, 1)
		for range 12 {
			w.produce(name, strings.Repeat("x", 1<<19))
		}
	}
	w.create("well", 1)
	w.produce("well", "a")
	disk := vfs.NewFaulty(mem.CrashClone(1, vfs.KeepAll), 1)
	leave := make(chan struct{})
	disk.Inject(vfs.Rule{Ops: vfs.OpPopulate, Path: "data/slow*/*.log", Hook: func(c vfs.Call) {
		if c.Off > 5<<20 {
			<-leave
		}
	}})
	again := begin(t, plan{disk: disk, store: w.store})
	defer close(leave)
	again.await(1) // clients are let in
	if strings.Contains(again.log.String(), "still opening") {
		t.Error("the start has waited until its patience ended")
	}
	again.eventually("the healthy one leads", func() bool {
		topic := again.client.Image().Topic("well")
		if topic == nil {
			return false
		}
		r := again.env.Replica(messages.PartitionID{Topic: topic.ID})
		return r != nil && r.Status().Leading
	})
}

func TestAReplicaThatFoundTheDiskFullOpensWhenThereIsSpace(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk})
	full := disk.Inject(vfs.Rule{Ops: vfs.OpCreate, Path: "data/orders-0/*", Err: vfs.ErrNoSpace})
	topic := w.create("orders", 1)
	r := w.env.Replica(messages.PartitionID{Topic: topic.ID})
	if s := r.Status(); !errors.Is(s.Fault, messages.ErrDiskFull) {
		t.Errorf("on a full disk it is %+v", s)
	}
	full.Remove()
	w.eventually("it leads", func() bool { return r.Status().Leading })
	w.produce("orders", "a")
	if s := r.Status(); s.Fault != nil {
		t.Errorf("it is %+v", s)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
}

// A sync that fails for want of space ends the log, and the next one goes on
// from what is on the disk.
func TestASyncOnAFullDiskIsFollowedByARecovery(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk})
	w.create("orders", 1, "flush.ms", "1")
	w.produce("orders", "a")
	full := disk.Inject(vfs.Rule{Ops: vfs.OpSync, Path: "data/orders-0/*.log", Err: vfs.ErrNoSpace})
	w.produce("orders", "b")
	r := w.env.Replica(messages.PartitionID{Topic: w.client.Image().Topic("orders").ID})
	w.eventually("the sync failed", func() bool { return r.Status().Fault != nil })
	full.Remove()
	w.eventually("it leads again", func() bool { return r.Status().Leading })
	w.produce("orders", "c")
	if got := w.consume("orders"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %q", got)
	}
}

func TestTooManyOpenFilesTakeNoReplicaOffline(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	few := disk.Inject(vfs.Rule{Ops: vfs.OpCreate | vfs.OpOpen | vfs.OpOpenWrite,
		Err: vfs.ErrTooManyFiles})
	if res := w.append(r, data.AcksAll, batchOf("a")); !errors.Is(res.Err, messages.ErrStorage) {
		t.Errorf("got %+v", res)
	}
	few.Remove()
	w.produce("orders", "b")
	if got := w.consume("orders"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %q", got)
	}
	if s := r.Status(); s.Fault != nil {
		t.Errorf("it is %+v", s)
	}
}

func TestAFullDiskIsReportedOnceAndItsEndToo(t *testing.T) {
	mem := vfs.NewMem()
	w := start(t, plan{disk: mem})
	w.create("orders", 1)
	mem.SetCapacity(mem.Used())
	r := w.leader("orders", 0)
	for range 3 {
		if res := w.append(r, data.AcksAll, batchOf(strings.Repeat("x", 1<<20))); res.Err == nil {
			t.Fatal("there was space")
		}
	}
	mem.SetCapacity(vfs.Unlimited)
	w.produce("orders", "a")
	for _, text := range []string{"data directory is full", "data directory takes records again"} {
		if n := strings.Count(w.log.String(), text); n != 1 {
			t.Errorf("%q stands %d times in the log", text, n)
		}
	}
}

func TestDeletedRecordsStayDeletedAfterAPowerCut(t *testing.T) {
	mem := vfs.NewMem()
	w := start(t, plan{disk: mem})
	w.create("orders", 1, "flush.messages", "1")
	w.produce("orders", values("v", 5)...)
	w.deleteRecords("orders", 3)
	again := start(t, plan{disk: mem.CrashClone(1, vfs.LoseUnsynced), store: w.store})
	if got := again.consume("orders"); !slices.Equal(got, []string{"v3", "v4"}) {
		t.Errorf("got %q", got)
	}
}

func TestAnIdempotentProducerGoesOnAfterACrash(t *testing.T) {
	mem := vfs.NewMem()
	w := start(t, plan{disk: mem})
	w.create("orders", 1, "segment.bytes", "1048576")
	send := func(r *Replica, sequence messages.Sequence, value string) data.AppendResult {
		return w.append(r, data.AcksAll, build(newBatch(value).Producer(7, 0, sequence)))
	}
	large := strings.Repeat("x", 400<<10)
	r := w.leader("orders", 0)
	for sequence := range messages.Sequence(8) { // several segments, and so snapshots
		if res := send(r, sequence, large); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	again := start(t, plan{disk: mem.CrashClone(1, vfs.KeepAll), store: w.store})
	r = again.leader("orders", 0)
	if res := send(r, 7, large); res.Err != nil || res.BaseOffset != 7 {
		t.Errorf("sent again: %+v", res)
	}
	if res := send(r, 9, "gap"); !errors.Is(res.Err, messages.ErrOutOfOrderSequence) {
		t.Errorf("with a gap: %+v", res)
	}
	if res := send(r, 8, "next"); res.Err != nil || res.BaseOffset != 8 {
		t.Errorf("the next: %+v", res)
	}
}
