package actors

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

func TestWhatIsProducedIsReadBackInOrder(t *testing.T) {
	for name, disk := range map[string]func(t *testing.T) plan{
		"in memory": func(*testing.T) plan { return plan{} },
		"on disk": func(t *testing.T) plan {
			return plan{disk: vfs.OS{}, dirs: []string{t.TempDir()}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, disk(t))
			w.create("orders", 1)
			want := values("v", 50)
			w.produce("orders", want...)
			if got := w.consume("orders"); !slices.Equal(got, want) {
				t.Fatalf("read %v", got)
			}
			o := w.leader("orders", 0).Offsets()
			if o.LogStart != 0 || o.HighWatermark != 50 || o.LogEnd != 50 || o.LastStable != 50 {
				t.Errorf("offsets are %+v", o)
			}
			if err := w.stop(); err != nil {
				t.Errorf("the shutdown was not clean: %v", err)
			}
		})
	}
}

func TestEveryKindOfAcksIsAnsweredOnce(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	for i, acks := range []data.Acks{data.AcksAll, data.AcksLeader, data.AcksNone} {
		res := w.append(r, acks, batchOf("a", "b"))
		if res.Err != nil || res.BaseOffset != messages.Offset(2*i) {
			t.Errorf("acks=%d: %+v", acks, res)
		}
		if res.LogAppendTime != messages.NoTimestamp || res.Leader.Leader != self {
			t.Errorf("acks=%d: %+v", acks, res)
		}
	}
}

func TestAnIdempotentProducerIsNotDoubledAndMayNotSkip(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	send := func(sequence messages.Sequence) data.AppendResult {
		return w.append(r, data.AcksAll, build(newBatch("a", "b").Producer(7, 0, sequence)))
	}
	if res := send(0); res.Err != nil || res.BaseOffset != 0 {
		t.Fatalf("first: %+v", res)
	}
	if res := send(2); res.Err != nil || res.BaseOffset != 2 {
		t.Fatalf("second: %+v", res)
	}
	if res := send(0); res.Err != nil || res.BaseOffset != 0 {
		t.Errorf("a duplicate is answered with the first outcome, got %+v", res)
	}
	if res := send(6); !errors.Is(res.Err, messages.ErrOutOfOrderSequence) {
		t.Errorf("a gap: %+v", res)
	}
	if got := w.consume("orders"); len(got) != 4 {
		t.Errorf("read %v", got)
	}
}

func TestDuplicatesInOneGatheredWriteAreFound(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	release := holdWrites(w, disk, r)
	var answers []<-chan data.AppendResult
	for range 3 {
		b := build(newBatch("a").Producer(7, 0, 0))
		answers = append(answers, appendAsync(r, data.AcksAll, b))
	}
	release()
	for _, a := range answers {
		if res := receive(t, "an answer", a); res.Err != nil || res.BaseOffset != 1 {
			t.Errorf("got %+v", res)
		}
	}
	if got := w.consume("orders"); !slices.Equal(got, []string{"first", "a"}) {
		t.Errorf("read %v", got)
	}
}

// holdWrites keeps the replica busy with the write of one record, "first", so
// that what is appended before release waits in its mailbox together.
func holdWrites(w *world, disk *vfs.Faulty, r *Replica) (release func()) {
	w.t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	rule := disk.Inject(vfs.Rule{Ops: vfs.OpWritev, Path: "*.log", Nth: 1, Hook: hookOnce(func() {
		close(entered)
		<-leave
	})})
	first := appendAsync(r, data.AcksAll, batchOf("first"))
	receive(w.t, "the write", entered)
	return func() {
		rule.Remove()
		close(leave)
		if res := receive(w.t, "the first answer", first); res.Err != nil {
			w.t.Errorf("first: %v", res.Err)
		}
	}
}

// hookOnce runs f at the first call only: a rule's hook runs at every call the
// rule is about.
func hookOnce(f func()) func(vfs.Call) {
	var done atomic.Bool
	return func(vfs.Call) {
		if !done.Swap(true) {
			f()
		}
	}
}

func TestAppendsThatWaitTogetherAreWrittenTogether(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	release := holdWrites(w, disk, r)
	disk.Record(vfs.OpWritev)
	var answers []<-chan data.AppendResult
	const n = 3 * gatherBatches
	for i := range n {
		answers = append(answers, appendAsync(r, data.AcksAll, batchOf(fmt.Sprint(i))))
	}
	release()
	for i, a := range answers {
		res := receive(t, "an answer", a)
		if res.Err != nil || res.BaseOffset != messages.Offset(i+1) {
			t.Fatalf("append %d: %+v", i, res)
		}
	}
	writes := 0
	for _, call := range disk.Recorded() {
		if strings.Contains(call, ".log ") {
			writes++
		}
	}
	if most := n/gatherBatches + 1; writes > most {
		t.Errorf("%d appends took %d writes, at most %d are needed", n, writes, most)
	}
}

func TestAnAppendThatMayNotBeIsRefusedForItsOwnReason(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1, "segment.bytes", "1048576", "max.message.bytes", "4194304")
	r := w.leader("orders", 0)
	big := strings.Repeat("x", 2<<20)
	for _, c := range []struct {
		name  string
		acks  data.Acks
		batch record.Batch
		want  error
	}{
		{"a batch larger than a segment", data.AcksLeader, batchOf(big),
			messages.ErrBatchLargerThanSegment},
		{"a transaction", data.AcksLeader,
			build(newBatch("a").Producer(1, 0, 0).Transactional()), messages.ErrInvalidTxnState},
	} {
		res := w.append(r, c.acks, c.batch)
		if !errors.Is(res.Err, c.want) || res.BaseOffset != messages.NoOffset {
			t.Errorf("%s: %+v", c.name, res)
		}
	}
	if o := r.Offsets(); o.LogEnd != 0 {
		t.Errorf("something was appended: %+v", o)
	}
}

func TestLogAppendTimeIsTheBrokersAndTheDuplicateHasTheFirst(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1, "message.timestamp.type", "LogAppendTime")
	r := w.leader("orders", 0)
	first := w.append(r, data.AcksAll, build(newBatch("a").Producer(7, 0, 0)))
	w.clockMs.Add(1000)
	again := w.append(r, data.AcksAll, build(newBatch("a").Producer(7, 0, 0)))
	for _, res := range []data.AppendResult{first, again} {
		if res.Err != nil || res.LogAppendTime != 1_700_000_000_000 {
			t.Errorf("got %+v", res)
		}
	}
}
