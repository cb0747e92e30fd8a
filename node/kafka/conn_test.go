package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/testkit"
)

// batchOf builds a batch with one record for each value.
func batchOf(t testing.TB, values ...string) []byte {
	t.Helper()
	return buildBatch(t, record.Compression{}, values...)
}

// produceTo makes a Produce request of one batch to each partition of topic "t".
func produceTo(version int16, acks int16, batches map[int32][]byte) *kmsg.ProduceRequest {
	req := versioned(kmsg.NewPtrProduceRequest(), version)
	req.Acks, req.TimeoutMillis = acks, 10000
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "t"
	for i := range int32(16) {
		if b, ok := batches[i]; ok {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.Records = i, b
			topic.Partitions = append(topic.Partitions, p)
		}
	}
	req.Topics = append(req.Topics, topic)
	return req
}

// fetchFrom makes a Fetch request of partitions of topic "t" from offset 0.
func fetchFrom(version int16, wait time.Duration, partitions ...int32) *kmsg.FetchRequest {
	req := versioned(kmsg.NewPtrFetchRequest(), version)
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(wait.Milliseconds()), 1, 1<<20
	req.SessionEpoch = -1
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic = "t"
	for _, i := range partitions {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.PartitionMaxBytes = i, 1<<20
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = append(req.Topics, topic)
	return req
}

func anyAPIVersions() *kmsg.ApiVersionsRequest {
	return versioned(kmsg.NewPtrApiVersionsRequest(), 0)
}

func TestAnswersLeaveInTheOrderOfTheRequests(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 2)
	w := dial(t, serveFake(t, f, Config{}))
	slow := f.replica("t", 0)
	slow.edit(func(p *fakePartition) { p.pause = true })
	first := produceTo(9, -1, map[int32][]byte{0: batchOf(t, "a")})
	second := produceTo(9, -1, map[int32][]byte{1: batchOf(t, "b")})
	w.send(first, second)
	testkit.Eventually(t, "the second is appended", func() bool {
		return f.replica("t", 1).Offsets().LogEnd == 1
	})
	slow.resume()
	receive[*kmsg.ProduceResponse](w, 0, first)
	receive[*kmsg.ProduceResponse](w, 1, second)
}

func TestARequestBehindAProduceSeesItsEffects(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	w := dial(t, serveFake(t, f, Config{}))
	p := f.replica("t", 0)
	p.edit(func(p *fakePartition) { p.pause = true })
	produce := produceTo(9, 1, map[int32][]byte{0: batchOf(t, "a", "b")})
	list := versioned(kmsg.NewPtrListOffsetsRequest(), 7)
	list.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t",
		Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1, CurrentLeaderEpoch: -1}}}}
	w.send(produce, list)
	testkit.Eventually(t, "the batch is with the leader", func() bool { return p.pending() == 1 })
	p.resume()
	receive[*kmsg.ProduceResponse](w, 0, produce)
	resp := receive[*kmsg.ListOffsetsResponse](w, 1, list)
	if got := resp.Topics[0].Partitions[0].Offset; got != 2 {
		t.Fatalf("latest offset is %d behind a produce of 2 records", got)
	}
}

func TestAParkedFetchHoldsUpNothingButAnswers(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	w := dial(t, serveFake(t, f, Config{}))
	fetch := fetchFrom(11, time.Minute, 0)
	produce := produceTo(9, 1, map[int32][]byte{0: batchOf(t, "a")})
	w.send(fetch)
	testkit.Eventually(t, "the fetch is parked",
		func() bool { return f.replica("t", 0).waiting() == 1 })
	w.send(produce) // wakes the fetch that is before it on the same connection
	resp := receive[*kmsg.FetchResponse](w, 0, fetch)
	if len(resp.Topics[0].Partitions[0].RecordBatches) == 0 {
		t.Fatal("the fetch saw nothing")
	}
	receive[*kmsg.ProduceResponse](w, 1, produce)
}

func TestAParkedFetchIsAnsweredEarlyWhenTooMuchWaitsBehindIt(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	w := dial(t, serveFake(t, f, Config{MaxInFlight: 4}))
	fetch := fetchFrom(11, time.Minute, 0)
	w.send(fetch, anyAPIVersions(), anyAPIVersions(), anyAPIVersions(), anyAPIVersions())
	receive[*kmsg.FetchResponse](w, 0, fetch)
	for i := range int32(4) {
		receive[*kmsg.ApiVersionsResponse](w, i+1, anyAPIVersions())
	}
}

func TestProduceWithoutAcknowledgement(t *testing.T) {
	t.Run("is appended and not answered", func(t *testing.T) {
		f := newFakeCluster()
		f.addTopic("t", 1)
		w := dial(t, serveFake(t, f, Config{}))
		w.send(produceTo(9, 0, map[int32][]byte{0: batchOf(t, "a")}), anyAPIVersions())
		receive[*kmsg.ApiVersionsResponse](w, 1, anyAPIVersions())
		if end := f.replica("t", 0).Offsets().LogEnd; end != 1 {
			t.Fatalf("log ends at %d", end)
		}
	})
	t.Run("closes the connection on an error, after the answers before it", func(t *testing.T) {
		f := newFakeCluster()
		f.addTopic("t", 1)
		w := dial(t, serveFake(t, f, Config{}))
		w.send(anyAPIVersions(), produceTo(9, 0, map[int32][]byte{7: batchOf(t, "a")}))
		receive[*kmsg.ApiVersionsResponse](w, 0, anyAPIVersions())
		w.expectClosed()
	})
}

func TestWhatIsNotServedClosesTheConnectionAfterTheAnswersBeforeIt(t *testing.T) {
	heartbeat := versioned(kmsg.NewPtrLeaderAndISRRequest(), 0)
	for _, tt := range []struct {
		name string
		req  kmsg.Request
	}{
		{"a key that is not served", heartbeat},
		{"a version above the window", versioned(kmsg.NewPtrFetchRequest(), 19)},
		{"a version below the window", versioned(kmsg.NewPtrFetchRequest(), 3)},
		{"Produce 2, although it is advertised", versioned(kmsg.NewPtrProduceRequest(), 2)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dial(t, serveFake(t, newFakeCluster(), Config{}))
			w.send(anyAPIVersions(), tt.req)
			receive[*kmsg.ApiVersionsResponse](w, 0, anyAPIVersions())
			w.expectClosed()
		})
	}
}

func TestBadFramesCloseTheConnection(t *testing.T) {
	header := func(n uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), rest...)
	}
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"a negative size", header(1 << 31)},
		{"an empty frame", header(0)},
		{"a size above socket.request.max.bytes", header(1<<20 + 1)},
		{"a header that is cut short", header(5, 0, 18, 0, 0, 1)},
		{"a client id longer than the frame", header(10, 0, 18, 0, 0, 0, 0, 0, 1, 0, 9)},
		{"a client id of length -2", header(10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xfe)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dial(t, serveFake(t, newFakeCluster(), Config{MaxRequestBytes: 1 << 20}))
			w.raw(tt.b)
			w.expectClosed()
		})
	}
}

func TestASizeCostsNothingUntilBytesArrive(t *testing.T) {
	s := serveFake(t, newFakeCluster(), Config{})
	w := dial(t, s)
	w.send(anyAPIVersions())
	receive[*kmsg.ApiVersionsResponse](w, 0, anyAPIVersions())
	testkit.Eventually(t, "the answer is let go of", func() bool { return s.Stats().QueuedBytes == 0 })

	w.raw([]byte{0x06, 0x40, 0, 0}) // 100 MiB
	w.raw([]byte{0})
	testkit.Eventually(t, "memory is taken", func() bool { return s.Stats().QueuedBytes > 0 })
	if used := s.Stats().QueuedBytes; used > firstStep {
		t.Fatalf("5 bytes took %d bytes of memory", used)
	}
	_ = w.Close()
	testkit.Eventually(t, "memory is given back", func() bool { return s.Stats().QueuedBytes == 0 })
}

func TestAClientThatStopsInARequestIsGivenUp(t *testing.T) {
	s := serveFake(t, newFakeCluster(), Config{ReadTimeout: 20 * time.Millisecond})
	w := dial(t, s)
	w.raw([]byte{0, 0, 1, 0, 0})
	w.expectClosed()
	testkit.Eventually(t, "memory is given back", func() bool { return s.Stats().QueuedBytes == 0 })
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	w := dial(t, serveFake(t, newFakeCluster(), Config{MaxIdle: 20 * time.Millisecond}))
	w.expectClosed()
}

func TestAConnectionWithAParkedFetchIsNotIdle(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	w := dial(t, serveFake(t, f, Config{MaxIdle: 20 * time.Millisecond}))
	fetch := fetchFrom(11, 200*time.Millisecond, 0)
	w.send(fetch)
	receive[*kmsg.FetchResponse](w, 0, fetch)
	w.expectClosed()
}

func TestAClientThatReadsNothingIsHeldBackAndGivenUp(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	w := dial(t, serveFake(t, f, Config{WriteTimeout: 50 * time.Millisecond}))
	w.send(produceTo(9, 1, map[int32][]byte{0: batchOf(t, strings.Repeat("x", 1<<20))}))
	w.response()
	for range 60 { // more than the sockets hold
		w.send(fetchFrom(11, 0, 0))
	}
	testkit.Eventually(t, "the server gave up", func() bool {
		_, err := w.Write([]byte{0})
		return err != nil
	})
}

func TestShutdownAnswersWhatIsUnderWay(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 2)
	s := serveFake(t, f, Config{})
	p := f.replica("t", 0)
	p.edit(func(p *fakePartition) { p.pause = true })
	fetcher, producer := dial(t, s), dial(t, s)
	fetch := fetchFrom(11, time.Minute, 1)
	produce := produceTo(9, -1, map[int32][]byte{0: batchOf(t, "a")})
	fetcher.send(fetch)
	producer.send(produce)
	testkit.Eventually(t, "both are under way", func() bool {
		return p.pending() == 1 && f.replica("t", 1).waiting() == 1
	})
	stopped := make(chan struct{})
	go func() { s.stop(t); close(stopped) }()
	receive[*kmsg.FetchResponse](fetcher, 0, fetch)
	fetcher.expectClosed()
	p.resume()
	got := receive[*kmsg.ProduceResponse](producer, 0, produce)
	if code := got.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("error %d", code)
	}
	producer.expectClosed()
	<-stopped
}

func TestShutdownDoesNotWaitLongerThanItMay(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	s := serveFake(t, f, Config{})
	p := f.replica("t", 0)
	p.edit(func(p *fakePartition) { p.pause = true })
	w := dial(t, s)
	w.send(produceTo(9, -1, map[int32][]byte{0: batchOf(t, "a")}))
	testkit.Eventually(t, "the batch is with the leader", func() bool { return p.pending() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Shutdown returned %v", err)
	}
	w.expectClosed()
	if s.Stats().QueuedBytes == 0 {
		t.Fatal("the batch was given back while its leader still had it")
	}
	p.resume()
	testkit.Eventually(t, "the batch is given back", func() bool { return s.Stats().QueuedBytes == 0 })
}

func TestABugInAHandlerEndsItsConnectionAlone(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	s := serveFake(t, f, Config{})
	victim, other := dial(t, s), dial(t, s)
	other.send(produceTo(9, 1, map[int32][]byte{0: batchOf(t, "a")}))
	other.response()
	f.replica("t", 0).edit(func(p *fakePartition) {
		p.extents = func(record.Batch) []messages.Extent { panic("a bug") }
	})
	victim.send(fetchFrom(11, 0, 0))
	victim.expectClosed()
	request[*kmsg.ApiVersionsResponse](other, anyAPIVersions())
}

func TestAPIVersions(t *testing.T) {
	t.Run("a version that is not served is answered in version 0 with the range", func(t *testing.T) {
		w := dial(t, serveFake(t, newFakeCluster(), Config{}))
		w.raw(append([]byte{0, 0, 0, 13, 0, 18, 0, 9, 0, 0, 0, 7, 0xff, 0xff}, 1, 2, 3))
		resp := receive[*kmsg.ApiVersionsResponse](w, 7, anyAPIVersions())
		if resp.ErrorCode != 35 || len(resp.ApiKeys) != 1 {
			t.Fatalf("%+v", resp)
		}
		if k := resp.ApiKeys[0]; k.ApiKey != 18 || k.MinVersion != 0 || k.MaxVersion != 4 {
			t.Fatalf("%+v", k)
		}
		request[*kmsg.ApiVersionsResponse](&wire{t: t, Conn: w.Conn, next: 0}, anyAPIVersions())
	})
	t.Run("every version lists the table", func(t *testing.T) {
		w := dial(t, serveFake(t, newFakeCluster(), Config{}))
		for v := range int16(5) {
			req := versioned(kmsg.NewPtrApiVersionsRequest(), v)
			req.ClientSoftwareName, req.ClientSoftwareVersion = "a-client", "1.0"
			resp := request[*kmsg.ApiVersionsResponse](w, req)
			if resp.ErrorCode != 0 || len(resp.ApiKeys) != len(apis) {
				t.Fatalf("v%d: %+v", v, resp)
			}
			for i, k := range resp.ApiKeys {
				if a := apis[i]; k.ApiKey != a.key || k.MinVersion != a.min || k.MaxVersion != a.max {
					t.Errorf("v%d: %+v, table has %+v", v, k, a)
				}
			}
		}
	})
	for _, tt := range []struct {
		software string
		code     int16
	}{
		{"librdkafka", 0}, {"apache-kafka-java", 0}, {"a", 0}, {"1.2.3-rc1", 0},
		{"", 42}, {"-a", 42}, {"a-", 42}, {".", 42}, {"a b", 42}, {"é", 42},
	} {
		t.Run("the software name "+tt.software, func(t *testing.T) {
			w := dial(t, serveFake(t, newFakeCluster(), Config{}))
			req := versioned(kmsg.NewPtrApiVersionsRequest(), 3)
			req.ClientSoftwareName, req.ClientSoftwareVersion = tt.software, "1"
			if resp := request[*kmsg.ApiVersionsResponse](w, req); resp.ErrorCode != tt.code {
				t.Fatalf("code %d, want %d", resp.ErrorCode, tt.code)
			}
		})
	}
}

func TestABugInAFetchGivesBackWhatItRead(t *testing.T) {
	f := withTopic(2)
	f.store(t, 0, batchOf(t, "a"))
	f.store(t, 1, batchOf(t, "b"))
	f.replica("t", 1).edit(func(p *fakePartition) {
		p.extents = func(record.Batch) []messages.Extent { panic("a bug") }
	})
	w := dial(t, serveFake(t, f, Config{}))
	w.send(fetchFrom(11, 0, 0, 1)) // holds partition 0 when partition 1 fails
	w.expectClosed()
}

func TestWithoutBoundsNothingIsHeldBack(t *testing.T) {
	w := dial(t, serveFake(t, newFakeCluster(), Config{MaxIdle: -1, QueuedMaxBytes: -1}))
	for range 3 {
		request[*kmsg.ApiVersionsResponse](w, anyAPIVersions())
	}
}
