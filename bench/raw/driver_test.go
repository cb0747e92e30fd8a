//go:build linux

package raw

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fake is a broker that counts the batches of partitions.
type fake struct {
	addr    string
	batch   Batch
	hold    int // Produce requests of a connection that wait for the last of them
	mu      sync.Mutex
	more    sync.Cond // of counts
	counts  map[int32]int64
	stopped bool
}

func newFake(t *testing.T, batch Batch, hold int) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{addr: l.Addr().String(), batch: batch, hold: hold, counts: map[int32]int64{}}
	f.more.L = &f.mu
	var wg sync.WaitGroup
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			conns = append(conns, c)
			f.mu.Unlock()
			wg.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		f.stopped = true
		for _, c := range conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		f.more.Broadcast()
		wg.Wait()
	})
	return f
}

// serve reads requests and answers them. It allocates nothing for a Produce request.
func (f *fake) serve(c net.Conn) {
	buffer, held := make([]byte, 256<<10), 0
	var answer []byte
	for {
		if _, err := io.ReadFull(c, buffer[:4]); err != nil {
			return
		}
		request := buffer[:binary.BigEndian.Uint32(buffer)]
		if _, err := io.ReadFull(c, request); err != nil {
			return
		}
		if binary.BigEndian.Uint16(request) == FetchKey {
			answer = f.fetch(request)
		} else {
			f.mu.Lock()
			place := request[len(request)-len(f.batch.Bytes)-8:]
			f.counts[int32(binary.BigEndian.Uint32(place))]++
			f.mu.Unlock()
			f.more.Broadcast()
			size, _ := ProduceAnswer("orders")
			if held++; held == 1 {
				answer = slices.Grow(answer[:0], min(f.hold, 1<<10)*(4+size))
			}
			answer = answer[:len(answer)+4+size]
			clear(answer[len(answer)-4-size:])
			binary.BigEndian.PutUint32(answer[len(answer)-4-size:], uint32(size))
			if held < f.hold {
				continue
			}
			held = 0
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
		answer = answer[:0]
	}
}

// fetch answers when there is a batch, with one batch, or after a moment with none.
func (f *fake) fetch(request []byte) []byte {
	partition := int32(binary.BigEndian.Uint32(request[len(request)-FetchPartitionFromEnd:]))
	offset := int64(binary.BigEndian.Uint64(request[len(request)-FetchOffsetFromEnd:]))
	f.mu.Lock()
	defer f.mu.Unlock()
	late := false
	defer time.AfterFunc(10*time.Millisecond, func() {
		f.mu.Lock()
		late = true
		f.mu.Unlock()
		f.more.Broadcast()
	}).Stop()
	records := f.batch.Bytes
	for f.counts[partition]*int64(f.batch.Records) <= offset {
		if f.stopped || late {
			records = nil
			break
		}
		f.more.Wait()
	}
	answer := kmsg.FetchResponse{Version: fetchVersion, Topics: []kmsg.FetchResponseTopic{{
		Topic: "orders", Partitions: []kmsg.FetchResponseTopicPartition{{
			Partition: partition, RecordBatches: records}}}}}
	b := answer.AppendTo(make([]byte, 8))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (f *fake) load(conns, partitions int) Load {
	return Load{Leaders: SameLeader(f.addr, partitions), Topic: "orders", Conns: conns,
		Shape: fakeShape, Acks: AcksLeader, Window: 5, Bytes: 1 << 30}
}

var fakeShape = Shape{BatchBytes: 1 << 10, RecordBytes: 100}

func begin(t *testing.T, hold int) *fake {
	t.Helper()
	batch, err := fakeShape.Batch()
	if err != nil {
		t.Fatal(err)
	}
	return newFake(t, batch, hold)
}

func dial(t *testing.T, l Load) *Driver {
	t.Helper()
	d, err := Dial(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestASlowAnswerCountsFromWhenItsRequestWasDue(t *testing.T) {
	const conns, each, every = 2, 25, time.Millisecond
	f := begin(t, each) // answers nothing before it has all requests of a connection
	l := f.load(conns, 3)
	l.For = conns * each * every
	d := dial(t, l)
	o, err := d.ProduceAtRate(t.Context(), float64(time.Second/every))
	if err != nil {
		t.Fatal(err)
	}
	if o.Requests != conns*each || len(o.Latencies) != conns*each {
		t.Fatalf("%d requests, %d latencies", o.Requests, len(o.Latencies))
	}
	for i, l := range d.lanes {
		for n, took := range l.latencies {
			// The last request of the connection was not sent before it was due.
			if least := time.Duration(each-1-n) * conns * every; took < least {
				t.Errorf("request %d of connection %d took %v, but was due %v before its answer",
					n, i, took, least)
			}
		}
	}
	if got := []int64{f.counts[0], f.counts[1], f.counts[2]}; !slices.Equal(got, d.Holds()) {
		t.Errorf("the broker has %v, the driver sent %v", got, d.Holds())
	}
}

func TestConsumersAtTheTailReadWhatIsProduced(t *testing.T) {
	for _, rate := range []float64{0, 2000} {
		f := begin(t, 1)
		l := f.load(2, 3)
		l.Bytes = 200 << 10
		if rate > 0 {
			l.For, l.Bytes = 50*time.Millisecond, 0
		}
		d := dial(t, l)
		if err := d.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.Conns = 3
		o, err := d.Tail(t.Context(), dial(t, l), rate)
		if err != nil || o.Requests < 100 || o.Bytes != o.Requests*int64(d.Batch().Plain) ||
			int64(len(o.Latencies)) != o.Requests || slices.Min(o.Latencies) <= 0 || o.Took <= 0 {
			t.Errorf("at %v/s %d requests, %d bytes, %d latencies, %v: %v",
				rate, o.Requests, o.Bytes, len(o.Latencies), o.Took, err)
		}
	}
}

func TestBatchesAtTheTailAreDueWhenTheirPartitionsTurnCame(t *testing.T) {
	d := &Driver{load: Load{Leaders: SameLeader("a", 3)},
		lanes: []*lane{{partitions: []int32{0, 2}}, {partitions: []int32{1}}}}
	s := &schedule{start: time.Unix(100, 0), rate: 1000, lanes: 2, count: 100}
	due, err := d.dueOf(s)
	if err != nil {
		t.Fatal(err)
	}
	// The first connection has numbers 0, 2, 4 and so on of all, the second 1, 3, 5.
	for _, want := range []struct {
		partition int32
		n, number int64
	}{{0, 0, 0}, {2, 0, 2}, {0, 1, 4}, {2, 1, 6}, {1, 0, 1}, {1, 1, 3}, {1, 2, 5}} {
		if got := due(want.partition, want.n); !got.Equal(s.due(want.number)) {
			t.Errorf("batch %d of partition %d is due at %v", want.n, want.partition, got)
		}
	}
	d.lanes[1].partitions = []int32{2}
	if _, err := d.dueOf(s); err == nil {
		t.Error("a partition on two connections was accepted")
	}
}

func TestARequestAllocatesNothing(t *testing.T) {
	f := begin(t, 1)
	l := f.load(1, 7)
	allocations := func(batches int64) float64 {
		l.Bytes = batches * int64(f.batch.Plain)
		d := dial(t, l)
		return testing.AllocsPerRun(3, func() {
			if _, err := d.Produce(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	few, many := allocations(100), allocations(2100)
	if many > few+200 { // a tenth of an allocation for each of the requests more
		t.Errorf("100 requests allocate %v times, 2,100 %v times", few, many)
	}
}

func TestALoadEndsWhenItIsInterrupted(t *testing.T) {
	f := begin(t, 1<<20) // never answers
	l := f.load(2, 2)
	l.For = time.Hour
	for name, drive := range map[string]func(d *Driver, ctx context.Context) error{
		"closed": func(d *Driver, ctx context.Context) error {
			_, err := d.Produce(ctx)
			return err
		},
		"at a rate": func(d *Driver, ctx context.Context) error {
			_, err := d.ProduceAtRate(ctx, 100)
			return err
		},
		"fetch": func(d *Driver, ctx context.Context) error {
			_, err := d.Fetch(ctx, []int64{1 << 40, 1 << 40})
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := drive(dial(t, l), ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: an interrupted load said %v", name, err)
		}
	}
}

func TestALoadNeedsAnEnd(t *testing.T) {
	l := Load{Leaders: SameLeader("127.0.0.1:1", 1), Conns: 1, Window: 1}
	if _, err := Dial(t.Context(), l); err == nil {
		t.Error("a load without an end was accepted")
	}
}

func TestOnlyAFolderThatIsThereCanBeMadeCold(t *testing.T) {
	if err := DropCache(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := DropCache(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("what is not there was made cold")
	}
}
