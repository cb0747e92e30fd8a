package commitlog

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/vfs"
)

// prepared is a log with two compactions' worth of records, all of them flushed.
func prepared(t testing.TB, seed uint64, disk vfs.FS) *keyed {
	t.Helper()
	k := newKeyed(t, seed, disk)
	for k.log.Segments() < 4 {
		k.step()
	}
	for id := range k.open {
		k.endTxn(id)
	}
	k.mark = k.log.End()
	mustFlush(t, k.log)
	return k
}

// reopened is the twin over what a crash left, opened anew.
func (k *keyed) reopenedOn(t testing.TB, disk vfs.FS, cleaned messages.Offset) *keyed {
	t.Helper()
	again := k.clone()
	again.t, again.disk = t, disk
	again.state = producers.New()
	o := keyedOptions(again.state)
	o.Cleaned, o.RecoveryPoint = cleaned, k.log.Durable()
	l, rec, err := Open(disk, testDir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if rec.Damaged {
		t.Fatalf("recovery %+v", rec)
	}
	again.log = l
	return again
}

// clone returns a twin that goes its own way.
func (k *keyed) clone() *keyed {
	c := *k
	c.next, c.open = maps.Clone(k.next), map[messages.ProducerID]*twinTxn{}
	c.records = map[messages.Offset]*twinRecord{}
	txns := map[*twinTxn]*twinTxn{nil: nil}
	own := func(x *twinTxn) *twinTxn {
		if _, ok := txns[x]; !ok {
			made := *x
			txns[x] = &made
		}
		return txns[x]
	}
	for o, r := range k.records {
		made := *r
		made.txn = own(r.txn)
		c.records[o] = &made
	}
	for id, x := range k.open {
		c.open[id] = own(x)
	}
	return &c
}

// whole checks a log after a crash or a fault: it is all there, old or new, and
// can be compacted, appended to and opened again.
func (k *keyed) whole() {
	k.t.Helper()
	for _, name := range fileNames(k.t, k.disk) {
		for _, suffix := range []string{".swap", ".cleaned"} {
			if strings.HasSuffix(name, suffix) {
				k.t.Fatalf("%s is left", name)
			}
		}
	}
	k.check(k.log)
	k.checkProducers(k.log, k.state)
	k.compact()
	k.step()
	k.check(k.log)
	k.log.Abandon()
	k.reopen(false, k.log.Cleaned())
	k.check(k.log)
	k.log.Abandon()
}

func TestACrashAtAnyOperationOfACompactionLeavesTheOldOrTheNew(t *testing.T) {
	for seed := range uint64(2) {
		disk := newMem(t)
		faulty := vfs.NewFaulty(disk, seed)
		k := prepared(t, seed, faulty)
		end := k.log.End()
		points := 0
		crash := func(vfs.Call) {
			points++
			for _, mode := range []vfs.CrashMode{vfs.KeepAll, vfs.LoseUnsynced, vfs.Torn, vfs.Torn} {
				crashed := disk.CrashClone(uint64(points)*7+uint64(mode), mode)
				again := k.reopenedOn(t, crashed, k.log.Cleaned())
				if again.log.End() != end {
					t.Fatalf("log ends at %d, had %d", again.log.End(), end)
				}
				again.whole()
			}
		}
		for range 2 {
			c := k.prepare()
			if c == nil {
				t.Fatal("nothing to compact")
			}
			rule := faulty.Inject(vfs.Rule{Ops: vfs.OpChanging, Hook: crash})
			for c.More() {
				if err := c.Clean(nil); err != nil {
					t.Fatal(err)
				}
				if err := k.log.Swap(c); err != nil {
					t.Fatal(err)
				}
			}
			rule.Remove()
			k.noteCleaned(c, nil)
			k.now = k.now.Add(keyedRetention)
			k.log.cleaned.Store(0)
		}
		if points < 30 {
			t.Errorf("only %d operations", points)
		}
		k.log.Abandon()
	}
}

// A crash while the next Open completes the exchange is made up for by the one
// after it.
func TestACrashInTheRecoveryOfACompactionLosesNothing(t *testing.T) {
	disk := newMem(t)
	faulty := vfs.NewFaulty(disk, 1)
	k := prepared(t, 1, faulty)
	var cut []*vfs.Mem
	rule := faulty.Inject(vfs.Rule{Ops: vfs.OpChanging, Hook: func(vfs.Call) {
		cut = append(cut, disk.CrashClone(uint64(len(cut)), vfs.Torn))
	}})
	c := k.prepare()
	for c.More() {
		if err := c.Clean(nil); err != nil {
			t.Fatal(err)
		}
		if err := k.log.Swap(c); err != nil {
			t.Fatal(err)
		}
	}
	rule.Remove()
	for i, first := range cut {
		if i%3 > 0 {
			continue // each takes as many openings as one has operations
		}
		opening := vfs.NewFaulty(first, 1)
		var second []*vfs.Mem
		opening.Inject(vfs.Rule{Ops: vfs.OpChanging, Hook: func(vfs.Call) {
			second = append(second, first.CrashClone(uint64(i), vfs.Torn))
		}})
		k.reopenedOn(t, opening, 0).log.Abandon()
		for _, disk := range second {
			k.reopenedOn(t, disk, 0).whole()
		}
	}
	k.log.Abandon()
}

// Any operation of a compaction may fail, once or from then on: the log is as it
// was or as it should be, and either takes appends or says why it does not.
func TestAFaultAtAnyOperationOfACompactionLosesNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		ops  vfs.Op
		rule vfs.Rule
	}{
		{"full disk", vfs.OpCreate | vfs.OpWrite | vfs.OpWritev | vfs.OpAllocate | vfs.OpRename,
			vfs.Rule{Err: vfs.ErrNoSpace}},
		{"failing disk", vfs.OpChanging &^ vfs.OpRemove, vfs.Rule{Err: vfs.ErrIO}},
		{"lost answers", vfs.OpRename | vfs.OpSyncDir, vfs.Rule{Err: vfs.ErrIO, Happens: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n, fired := 1, true; fired; n++ {
				for times := range 2 {
					disk := newMem(t)
					faulty := vfs.NewFaulty(disk, 1)
					k := prepared(t, 1, faulty)
					c := k.prepare()
					rule := tt.rule
					rule.Ops, rule.Nth = tt.ops, n
					injected := faulty.Inject(rule)
					var err error
					for err == nil && c.More() {
						if err = c.Clean(nil); err == nil {
							err = k.log.Swap(c)
						}
					}
					if fired = injected.Fired() > 0; !fired {
						k.log.Abandon()
						break
					}
					k.noteCleaned(c, nil)
					k.afterFault(fmt.Sprintf("%s at %d", tt.name, n), disk, err, times == 1)
				}
				if n > 500 {
					t.Fatal("there is no end of operations")
				}
			}
		})
	}
}

// afterFault checks the log in memory, if it goes on, and then on the disk.
func (k *keyed) afterFault(what string, disk *vfs.Mem, err error, cut bool) {
	k.t.Helper()
	if err != nil {
		if failed := k.log.Failure(); failed == nil {
			k.check(k.log)
			k.step()
			k.check(k.log)
			mustFlush(k.t, k.log)
		}
	}
	mode := vfs.KeepAll
	if cut {
		mode = vfs.Torn
	}
	end, durable := k.log.End(), k.log.Durable()
	again := k.reopenedOn(k.t, disk.CrashClone(1, mode), 0)
	if got := again.log.End(); got < durable || !cut && got != end {
		k.t.Fatalf("%s: log ends at %d, had %d, durable %d (%v)", what, got, end, durable, err)
	}
	if again.log.End() == end {
		again.whole()
	}
	k.log.Abandon()
}
