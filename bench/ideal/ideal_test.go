//go:build linux

package ideal

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/bench/raw"
	"github.com/troupelog/troupe/messages/record"
)

// begin runs an ideal broker, and returns its address and its folder.
func begin(t *testing.T) (addr, dir string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { accept(ctx, l, dir) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return l.Addr().String(), dir
}

func dial(t *testing.T, l raw.Load) *raw.Driver {
	t.Helper()
	d, err := raw.Dial(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestTheIdealBrokerStoresAndServes(t *testing.T) {
	const bytes = 8 << 20
	for _, shape := range []raw.Shape{{BatchBytes: 64 << 10, RecordBytes: 1 << 10},
		{BatchBytes: 16 << 10, RecordBytes: 100}, {BatchBytes: 64 << 10, RecordBytes: 100, LZ4: true}} {
		for _, n := range [][2]int{{1, 1}, {1, 3}, {4, 3}, {3, 20}} {
			t.Run(fmt.Sprintf("%+v, %d connections, %d partitions", shape, n[0], n[1]),
				func(t *testing.T) {
					for _, window := range []int{1, 3, 40} { // 40 are more than its buffer holds
						addr, _ := begin(t)
						l := raw.Load{Leaders: raw.SameLeader(addr, n[1]), Topic: "orders", Conns: n[0],
							Shape: shape, Acks: raw.AcksLeader, Window: window, Bytes: bytes}
						storesAndServes(t, l)
					}
				})
		}
	}
}

func storesAndServes(t *testing.T, l raw.Load) {
	d := dial(t, l)
	if err := d.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	warm := total(d.Holds())
	wrote, err := d.Produce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch := d.Batch()
	if wrote.Bytes > l.Bytes || wrote.Bytes < l.Bytes-int64(batch.Plain) ||
		wrote.Records != wrote.Requests*int64(batch.Records) ||
		int64(len(wrote.Latencies)) != wrote.Requests || total(d.Holds()) != warm+wrote.Requests {
		t.Errorf("wrote %d bytes, %d records, %d latencies, with %d requests; warmed with %d",
			wrote.Bytes, wrote.Records, len(wrote.Latencies), wrote.Requests, warm)
	}
	l.Conns = 1
	read, err := dial(t, l).Fetch(t.Context(), d.Holds())
	if want := (warm + wrote.Requests) * int64(batch.Plain); err != nil || read.Bytes != want {
		t.Errorf("read %d of %d bytes: %v", read.Bytes, want, err)
	}
}

func total(ns []int64) (sum int64) {
	for _, n := range ns {
		sum += n
	}
	return sum
}

func TestEveryPartitionHasOffsetsOfItsOwn(t *testing.T) {
	addr, _ := begin(t)
	const partitions = 20 // more than have large files
	l := raw.Load{Leaders: raw.SameLeader(addr, partitions), Topic: "orders", Conns: 1,
		Shape: raw.Shape{BatchBytes: 16 << 10, RecordBytes: 1 << 10}, Acks: raw.AcksLeader, Window: 5,
		Bytes: 8 << 20}
	d := dial(t, l)
	if _, err := d.Produce(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	records := int64(d.Batch().Records)
	for p, holds := range d.Holds() {
		if holds < 4 {
			t.Fatalf("partition %d has %d batches", p, holds)
		}
		got := fetch(t, c, int32(p), 2*records, 3*len(d.Batch().Bytes)-1)
		if got.end != holds*records || len(got.records) != 2*len(d.Batch().Bytes) {
			t.Errorf("partition %d ends at %d, expected %d; %d bytes", p, got.end,
				holds*records, len(got.records))
		}
		for want, rest := 2*records, got.records; len(rest) > 0; want += records {
			var b record.Batch
			if b, rest, err = record.Parse(rest); err != nil || int64(b.BaseOffset) != want {
				t.Fatalf("partition %d: batch at %d, expected %d: %v", p, b.BaseOffset, want, err)
			}
		}
	}
}

// fetch sends a Fetch as the driver does, and decodes the answer.
func fetch(
	t *testing.T, c net.Conn, partition int32, offset int64, most int,
) answer {
	t.Helper()
	request := kmsg.FetchRequest{Version: 4, ReplicaID: -1, MaxBytes: int32(most),
		Topics: []kmsg.FetchRequestTopic{{Topic: "orders",
			Partitions: []kmsg.FetchRequestTopicPartition{{Partition: partition, FetchOffset: offset,
				PartitionMaxBytes: int32(most)}}}}}
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID(raw.ClientID))
	if _, err := c.Write(f.AppendRequest(nil, &request, 1)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	// The broker fills in only what the driver reads.
	head, errorAt := raw.FetchAnswerHead("orders")
	return answer{end: int64(binary.BigEndian.Uint64(body[errorAt+2:])), records: body[head:]}
}

// answer is what a Fetch was answered.
type answer struct {
	end     int64 // offset
	records []byte
}

func TestTheIdealBrokerForgetsEverything(t *testing.T) {
	addr, dir := begin(t)
	l := raw.Load{Leaders: raw.SameLeader(addr, 2), Topic: "orders", Conns: 1,
		Shape: raw.Shape{BatchBytes: 16 << 10, RecordBytes: 1 << 10}, Acks: raw.AcksLeader, Window: 5,
		Bytes: 1 << 20}
	if _, err := dial(t, l).Produce(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) != 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the broker answered")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it still has %v, %v", left, err)
	}
}

func TestALargeBatchIsStoredThoughItIsReadByAndBy(t *testing.T) {
	addr, _ := begin(t)
	l := raw.Load{Leaders: raw.SameLeader(addr, 2), Topic: "orders", Conns: 1,
		Shape: raw.Shape{BatchBytes: 1 << 20, RecordBytes: 1 << 10}, Acks: raw.AcksLeader, Window: 3,
		Bytes: 8 << 20}
	storesAndServes(t, l)
}
