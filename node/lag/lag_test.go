package lag

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/group"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a node 1 of a cluster whose other node is 2, and the groups on node 1.
type world struct {
	mu       sync.Mutex
	now      time.Time
	max      int
	image    *messages.Image
	groups   map[string][]group.Offset
	failed   map[string]error
	listErr  error
	mute     bool // groups do not answer
	replicas map[messages.TopicPartition]*replica
	asked    int // groups listed

	remoteEnds  map[messages.TopicPartition]messages.Offset
	remoteTimes map[place]messages.Timestamp
	looked      []place // for timestamps, elsewhere
	closed      bool
}

// replica is a partition that leads here; its batches are in memory.
type replica struct {
	end       messages.Offset
	batches   []byte
	reads     int
	unsettled bool // it leads, and does not know yet how far its log is safe
}

func (r *replica) ByTimestamp(_ context.Context, t messages.Timestamp, _ data.Isolation,
	_ messages.LeaderEpoch) (data.TimestampOffset, error) {
	if t != data.TimestampLatest || r.unsettled {
		return data.TimestampOffset{}, messages.ErrOffsetNotAvailable
	}
	return data.TimestampOffset{Offset: r.end}, nil
}

func (r *replica) Read(data.Read) data.ReadResult {
	r.reads++
	return data.ReadResult{View: messages.View{Bytes: len(r.batches),
		Extents: []messages.Extent{{Mem: r.batches}}}}
}

func (w *world) Groups(context.Context) ([]group.Listed, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	var out []group.Listed
	for id := range w.groups {
		out = append(out, group.Listed{GroupID: id})
	}
	slices.SortFunc(out, func(a, b group.Listed) int {
		if a.GroupID < b.GroupID {
			return -1
		}
		return 1
	})
	return out, w.listErr
}

func (w *world) Group(id string, r coord.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mute {
		return
	}
	switch r := r.(type) {
	case *group.Describe:
		go r.Reply(group.Description{Members: make([]group.Member, len(id))})
	case *group.FetchOffsets:
		f := group.Fetched{Err: w.failed[id]}
		for _, o := range w.groups[id] {
			f.Offsets = append(f.Offsets, group.FetchedOffset{Offset: o})
		}
		go r.Reply(f)
	}
}

func (w *world) ends(
	_ context.Context, of []messages.TopicPartition,
) map[messages.TopicPartition]messages.Offset {
	out := map[messages.TopicPartition]messages.Offset{}
	for _, tp := range of {
		if end, ok := w.remoteEnds[tp]; ok {
			out[tp] = end
		}
	}
	return out
}

func (w *world) times(_ context.Context, of []place) map[place]messages.Timestamp {
	w.looked = append(w.looked, of...)
	out := map[place]messages.Timestamp{}
	for _, at := range of {
		if t, ok := w.remoteTimes[at]; ok {
			out[at] = t
		}
	}
	return out
}

func (w *world) close() { w.closed = true }

func orders(partition int32) messages.TopicPartition {
	return messages.TopicPartition{Topic: "orders", Partition: partition}
}

func at(partition int32, offset messages.Offset) group.Offset {
	return group.Offset{Topic: "orders", Partition: partition, Offset: offset}
}

// imageOf returns metadata of a topic "orders" whose partitions have these leaders.
func imageOf(t *testing.T, nodes []messages.Node, leaders ...messages.NodeID) *messages.Image {
	t.Helper()
	topic := &messages.Topic{Name: "orders", ID: messages.TopicID{1}}
	for _, l := range leaders {
		topic.Partitions = append(topic.Partitions, messages.Partition{Leader: l,
			Replicas: []messages.NodeID{1, 2}, ISR: []messages.NodeID{1, 2}})
	}
	im, ok := messages.NewImage().Apply(&messages.Delta{To: 1, Snapshot: true,
		Topics: []*messages.Topic{topic}, Nodes: nodes})
	if !ok {
		t.Fatal("the image is refused")
	}
	return im
}

// newWorld has partitions 0 led here, 1 led elsewhere, and 2 without a leader.
func newWorld(t *testing.T) (*world, *Watch) {
	w := &world{now: noon, max: 100, image: imageOf(t, nil, 1, 2, messages.NoNode),
		groups: map[string][]group.Offset{}, failed: map[string]error{},
		replicas: map[messages.TopicPartition]*replica{
			orders(0): {end: 10, batches: batchOf(4, noon.Add(-time.Minute), noon.Add(-30*time.Second))},
		},
		remoteEnds: map[messages.TopicPartition]messages.Offset{orders(1): 20},
		remoteTimes: map[place]messages.Timestamp{
			{orders(1), 15}: messages.Timestamp(noon.Add(-time.Hour).UnixMilli()),
		},
	}
	watch := newWatch(Config{
		Self: 1, Groups: w, Image: func() *messages.Image { return w.image },
		Leading: func(t *messages.Topic, partition int32) (Partition, error) {
			if r := w.replicas[messages.TopicPartition{Topic: t.Name, Partition: partition}]; r != nil {
				return r, nil
			}
			return nil, messages.ErrNotLeader
		},
		MaxPartitions: func() int { return w.max },
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		},
	}, w)
	t.Cleanup(func() {
		watch.Close()
		if !w.closed {
			t.Error("the client is left open")
		}
	})
	return w, watch
}

// batchOf is a batch of one record for each time, from base on.
func batchOf(base int64, times ...time.Time) []byte {
	b := kmsg.RecordBatch{FirstOffset: base, Magic: 2, LastOffsetDelta: int32(len(times) - 1),
		FirstTimestamp: times[0].UnixMilli(), MaxTimestamp: times[len(times)-1].UnixMilli(),
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(len(times))}
	for i, at := range times {
		r := kmsg.Record{OffsetDelta: int32(i), TimestampDelta64: at.UnixMilli() - b.FirstTimestamp,
			Value: []byte("v")}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		b.Records = r.AppendTo(b.Records)
	}
	bytes := b.AppendTo(nil)
	binary.BigEndian.PutUint32(bytes[8:], uint32(len(bytes)-12))
	sum := crc32.Checksum(bytes[21:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(bytes[17:], sum)
	return bytes
}

func lagsOf(r Report) string {
	out := ""
	for _, g := range r.Groups {
		out += fmt.Sprintf("%s %d:", g.ID, g.Members)
		for _, p := range g.Partitions {
			out += fmt.Sprintf(" %v@%d -%d %v", p.TopicPartition, p.Committed, p.Lag, p.Behind)
		}
		out += "\n"
	}
	return out
}

func TestLagsAreToldOfPartitionsLedHereAndElsewhere(t *testing.T) {
	w, watch := newWorld(t)
	w.groups["a"] = []group.Offset{at(1, 15), at(0, 5)}
	w.groups["bb"] = []group.Offset{at(0, 10), at(1, 25), at(2, 3), at(7, 1), at(0, -1)}
	w.groups["ccc"] = nil
	w.groups["dddd"] = []group.Offset{at(0, 1)}
	w.failed["dddd"] = errors.New("moved away meanwhile")
	got := lagsOf(watch.Groups(t.Context()))
	want := "a 1: orders-0@5 -5 30s orders-1@15 -5 1h0m0s\n" +
		"bb 2: orders-0@10 -0 0s orders-1@25 -0 0s orders-2@3 --1 -1ns orders-7@1 --1 -1ns\n" +
		"ccc 3:\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestALeaderThatDoesNotKnowItsEndYetGivesNoLag(t *testing.T) {
	w, watch := newWorld(t)
	w.groups["a"] = []group.Offset{at(0, 5), at(1, 15)}
	w.replicas[orders(0)].end, w.replicas[orders(0)].unsettled = 2, true
	want := "a 1: orders-0@5 --1 -1ns orders-1@15 -5 1h0m0s\n"
	if got := lagsOf(watch.Groups(t.Context())); got != want {
		t.Errorf("got %swant %s", got, want)
	}
}

func TestWhatWasFoundIsKeptForAWhile(t *testing.T) {
	w, watch := newWorld(t)
	w.groups["a"] = []group.Offset{at(0, 5), at(1, 15)}
	first := lagsOf(watch.Groups(t.Context()))
	w.now = noon.Add(keep - 1)
	w.replicas[orders(0)].end = 11
	if got := lagsOf(watch.Groups(t.Context())); got != first || w.asked != 1 {
		t.Errorf("asked %d times, got %s", w.asked, got)
	}
	w.now = noon.Add(keep)
	want := "a 1: orders-0@5 -6 40s orders-1@15 -5 1h0m10s\n"
	if got := lagsOf(watch.Groups(t.Context())); got != want || w.asked != 2 {
		t.Errorf("asked %d times, got %s", w.asked, got)
	}
	if reads := w.replicas[orders(0)].reads; reads != 1 || len(w.looked) != 1 {
		t.Errorf("positions that stand still are looked up again: %d here, %v", reads, w.looked)
	}
}

func TestAScrapeDoesNotWaitForGroupsThatDoNotAnswer(t *testing.T) {
	w, watch := newWorld(t)
	w.groups["a"] = []group.Offset{at(0, 5)}
	before := lagsOf(watch.Groups(t.Context()))
	w.mu.Lock()
	w.now, w.mute = noon.Add(keep), true
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := lagsOf(watch.Groups(ctx)); got != before {
		t.Errorf("got %s, want what was found before, %s", got, before)
	}
	watch.Close() // ends the look: its patience is not waited for, as the leak check shows
	if got := lagsOf(watch.Groups(t.Context())); got != "" {
		t.Errorf("groups that do not answer are told of: %s", got)
	}
}

func TestPartitionsBeyondTheBoundAreLeftOutAndCounted(t *testing.T) {
	w, watch := newWorld(t)
	w.max = 3
	for _, id := range []string{"a", "bb", "ccc"} {
		w.groups[id] = []group.Offset{at(0, 5), at(1, 15)}
	}
	w.listErr = messages.ErrCoordinatorLoading // and these are known all the same
	r := watch.Groups(t.Context())
	want := "a 1: orders-0@5 -5 30s orders-1@15 -5 1h0m0s\nbb 2: orders-0@5 -5 30s\nccc 3:\n"
	if got := lagsOf(r); got != want || r.LeftOut != 3 {
		t.Errorf("left out %d of\n%s", r.LeftOut, got)
	}
	w.max = 0
	w.now = noon.Add(keep)
	if r := watch.Groups(t.Context()); len(r.Groups) != 0 || w.asked != 1 {
		t.Errorf("switched off, it finds %v", r)
	}
}

func TestTheTimeOfTheFirstRecordToReadIsFound(t *testing.T) {
	base := noon.Add(-time.Hour)
	three := batchOf(10, base, base.Add(time.Second), base.Add(2*time.Second))
	for _, tt := range []struct {
		name    string
		batches []byte
		from    messages.Offset
		want    time.Time
	}{
		{"the first of a batch", three, 10, base},
		{"in the middle of a batch", three, 11, base.Add(time.Second)},
		{"before a batch, after a gap", three, 4, base},
		{"behind all that compaction left of a batch", three, 13, base.Add(2 * time.Second)},
		{"more batches follow", slices.Concat(three, batchOf(13, noon)), 12, base.Add(2 * time.Second)},
		{"no bytes", nil, 10, time.UnixMilli(-1)},
		{"half a batch", three[:len(three)-1], 10, time.UnixMilli(-1)},
	} {
		got := firstTime(tt.batches, tt.from)
		if got != messages.Timestamp(tt.want.UnixMilli()) {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want.UnixMilli())
		}
	}
}

func FuzzTimesOfAnyBytes(f *testing.F) {
	f.Add(batchOf(10, noon, noon.Add(time.Second)), int64(11))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(_ *testing.T, batches []byte, from int64) {
		firstTime(batches, messages.Offset(from))
	})
}
