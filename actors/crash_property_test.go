package actors

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

// story is one life of a topic as its clients know it.
type story struct {
	acked    map[messages.Offset]string
	deleted  messages.Offset // no record below it may come back
	doubtful messages.Offset // records below it may be deleted
	id       messages.TopicID
}

// saga runs a node through appends, deletions, full disks, crashes and restarts,
// and checks after each start that the log is what its clients were told.
type saga struct {
	t      *testing.T
	rng    *rand.Rand
	mem    *vfs.Mem
	w      *world
	topics map[string]*story
	serial int
}

func TestWhatClientsWereToldHoldsOverCrashes(t *testing.T) {
	for seed := uint64(20); seed < 26; seed++ { // 21 is one that has found something
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s := &saga{t: t, rng: rand.New(rand.NewPCG(seed, 0)), mem: vfs.NewMem(),
				topics: map[string]*story{}}
			s.w = start(t, plan{disk: s.mem})
			for range 8 {
				for range 5 + s.rng.IntN(20) {
					s.step()
				}
				s.restart()
				s.check()
			}
		})
	}
}

func (s *saga) step() {
	name := []string{"a", "b"}[s.rng.IntN(2)]
	topic := s.topics[name]
	switch p := s.rng.IntN(20); {
	case topic == nil:
		s.mem.SetCapacity(vfs.Unlimited)
		created := s.w.create(name, 1, "flush.messages", "1", "segment.bytes", "1048576")
		s.topics[name] = &story{acked: map[messages.Offset]string{}, id: created.ID}
	case p == 0:
		s.w.delete(name)
		delete(s.topics, name)
	case p == 1:
		s.mem.SetCapacity(s.mem.Used() + s.rng.Int64N(400<<10))
	case p <= 3:
		s.mem.SetCapacity(vfs.Unlimited)
	case p == 4:
		s.deleteRecords(name, topic)
	default:
		s.append(name, topic)
	}
}

// replica is that of a topic, which may be offline because the disk is full.
func (s *saga) replica(topic *story) *Replica {
	s.t.Helper()
	var r *Replica
	s.w.eventually("the replica is there", func() bool {
		r = s.w.env.Replica(messages.PartitionID{Topic: topic.id})
		return r != nil && !r.Status().Opening
	})
	return r
}

func (s *saga) append(name string, topic *story) {
	s.serial++
	size := []int{1, 1000, 200 << 10, 500 << 10}[s.rng.IntN(4)]
	value := fmt.Sprint(name, s.serial, strings.Repeat("x", size))
	if res := s.w.append(s.replica(topic), data.AcksAll, batchOf(value)); res.Err == nil {
		if old, twice := topic.acked[res.BaseOffset]; twice {
			s.t.Fatalf("offset %d of %s was given twice, to %.9s and %.9s", res.BaseOffset, name, old,
				value)
		}
		topic.acked[res.BaseOffset] = value
	}
}

func (s *saga) deleteRecords(name string, topic *story) {
	r := s.replica(topic)
	hw := r.Offsets().HighWatermark
	if hw <= 0 {
		return
	}
	to := messages.Offset(s.rng.Int64N(int64(hw) + 1))
	topic.doubtful = max(topic.doubtful, to)
	if _, err := r.DeleteRecords(s.t.Context(), to); err == nil {
		topic.deleted = max(topic.deleted, to)
	} else if !errors.Is(err, messages.ErrStorage) && !errors.Is(err, messages.ErrNotLeader) {
		s.t.Fatalf("deleting records of %s: %v", name, err)
	}
}

// restart ends the node in one way or another and starts it again.
func (s *saga) restart() {
	s.t.Helper()
	modes := []vfs.CrashMode{vfs.KeepAll, vfs.LoseUnsynced, vfs.Torn}
	store := s.w.store
	if s.rng.IntN(4) == 0 {
		_ = s.w.stop() // a full disk may keep it from being clean
	}
	s.mem = s.mem.CrashClone(s.rng.Uint64(), modes[s.rng.IntN(len(modes))])
	s.w.kill()
	s.mem.SetCapacity(vfs.Unlimited)
	s.w = start(s.t, plan{disk: s.mem, store: store})
}

func (s *saga) check() {
	s.t.Helper()
	for name, topic := range s.topics {
		found := s.read(name)
		for offset, value := range topic.acked {
			got, ok := found[offset]
			if offset >= topic.doubtful && (!ok || got != value) {
				s.t.Fatalf("%s: offset %d has %.9q (%v), acknowledged was %.9q", name, offset, got, ok,
					value)
			}
		}
		for offset := range found {
			if offset < topic.deleted {
				s.t.Fatalf("%s: deleted offset %d came back", name, offset)
			}
		}
	}
}

func (s *saga) read(topic string) map[messages.Offset]string {
	s.t.Helper()
	r := s.w.leader(topic, 0)
	found := map[messages.Offset]string{}
	o := r.Offsets()
	for at := o.LogStart; at < o.HighWatermark; {
		res := r.Read(data.Read{From: at, MaxBytes: 1 << 20, MinOne: true, CurrentEpoch: -1,
			LastEpoch: -1})
		if res.Err != nil {
			s.t.Fatalf("reading %s from %d of %+v: %v", topic, at, o, res.Err)
		}
		b, err := res.View.AppendTo(nil)
		res.View.Release()
		for len(b) > 0 && err == nil {
			var batch record.Batch
			if batch, b, err = record.Parse(b); err == nil {
				for rec, err := range record.Records(&batch, record.InflateLimit) {
					if err != nil {
						s.t.Fatal(err)
					}
					found[rec.Offset] = string(rec.Value)
				}
				at = batch.NextOffset()
			}
		}
		if err != nil {
			s.t.Fatalf("reading %s from %d: %v", topic, at, err)
		}
	}
	return found
}
