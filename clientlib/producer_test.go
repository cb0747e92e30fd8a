package clientlib

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

// soon is a context that a test which hangs ends with.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func text(topic, value string) *Record { return &Record{Topic: topic, Value: []byte(value)} }

func TestARecordIsWrittenAsItIs(t *testing.T) {
	for c := Uncompressed; c <= Zstd; c++ {
		w := newProducerWorld(t)
		w.create("orders", 1)
		p := w.producer(ProducerConfig{Topic: "orders", Compression: c,
			Headers: []Header{{Key: "from", Value: []byte("here")}},
			Interceptors: []func(*Record){func(r *Record) {
				r.Value = append(r.Value, strings.Repeat("!", 500)...)
			}}})
		at := time.UnixMilli(1234567)
		r := &Record{Key: []byte("k"), Value: []byte("v"), Time: at,
			Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "b"}}}
		second := text("", "w")
		if err := p.Produce(soon(t), r, second); err != nil {
			t.Fatal(err)
		}
		got := w.stored("orders", 0)
		if len(got) != 2 || got[0].key != "k" || !strings.HasPrefix(got[0].value, "v!!!") ||
			got[0].at != 1234567 || !slices.Equal(got[0].headers, []string{"from=here", "a=1", "b="}) ||
			!slices.Equal(got[1].headers, []string{"from=here"}) {
			t.Errorf("%v: %+v", c, got)
		}
		if r.Topic != "orders" || r.Partition != 0 || r.Offset != 0 || second.Offset != 1 {
			t.Errorf("%v: the records were told %+v, %+v", c, r, second)
		}
		if b := w.batches("orders", 0); b[0].Codec() != c.codec().Codec || !b[0].Idempotent() {
			t.Errorf("%v: the batch is %+v", c, b[0].Header)
		}
	}
}

// Whatever becomes of requests and answers, and whoever leads.
func TestNothingIsLostDoubledOrReorderedByAProducer(t *testing.T) {
	const senders, each = 4, 400
	w := newProducerWorld(t)
	w.create("orders", 3)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(1, seed))
	w.fate = func(*wire.ClientAppend) (bool, error) { // called under the lock of the world
		fails := []error{link.ErrNoAnswer, link.ErrNotSent, messages.ErrNotEnoughReplicas,
			messages.ErrRequestTimedOut}[random.IntN(4)]
		switch random.IntN(6) {
		case 0:
			return false, fails
		case 1:
			return !errors.Is(fails, link.ErrNotSent), fails
		default:
			return true, nil
		}
	}
	p := w.producer(ProducerConfig{Linger: time.Millisecond, BatchBytes: 300, BufferBytes: 20000})
	var failed atomic.Int64
	var mu sync.Mutex
	called := map[string]int{} // the last number of each key whose callback was called
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			key := fmt.Sprint("sender-", s)
			for i := range each {
				r := &Record{Topic: "orders", Key: []byte(key), Value: fmt.Appendf(nil, "%d", i)}
				err := p.Send(soon(t), r, func(r *Record, err error) {
					if err != nil {
						failed.Add(1)
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if called[key] != i {
						t.Errorf("%s: callback of %d, want %d", key, i, called[key])
					}
					called[key] = i + 1
				})
				if err != nil {
					t.Error(err)
				}
				if i%50 == 0 {
					w.lead("orders", i%3, messages.NodeID(i/50%2))
				}
			}
		})
	}
	sending.Wait()
	if err := p.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for partition := range 3 {
		for _, r := range w.stored("orders", partition) {
			if r.value != fmt.Sprint(next[r.key]) {
				t.Fatalf("%s: %s is stored, want %d", r.key, r.value, next[r.key])
			}
			next[r.key]++
		}
	}
	for s := range senders {
		if n := next[fmt.Sprint("sender-", s)]; n != each {
			t.Errorf("sender %d: %d records are stored", s, n)
		}
	}
	stats := p.Stats()
	if stats.Records != senders*each || stats.Retries == 0 || stats.InFlight != 0 ||
		stats.BufferedBytes != 0 || stats.Latency <= 0 || stats.Errors != failed.Load() {
		t.Errorf("%+v", stats)
	}
}

// The loop is late: it closes the batch that is being filled before it has heard of the
// full ones in front of it.
func TestABatchThatIsClosedEarlyStaysBehindTheFullOnes(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	p := w.producer(ProducerConfig{Topic: "orders", BatchBytes: 1000, Linger: time.Hour})
	if err := p.Send(soon(t), text("", "first"), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	busy, sent := make(chan struct{}), make(chan struct{})
	p.inbox.post(func() {
		close(busy)
		<-sent
		p.loop.everyPartition(p.loop.closeOpen)
	})
	<-busy
	want := []string{"first"}
	for i := range 7 {
		value := strings.Repeat(fmt.Sprint(i), 600)
		if err := p.Send(soon(t), text("", value), nil); err != nil {
			t.Fatal(err)
		}
		want = append(want, value)
	}
	close(sent)
	if err := p.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range w.stored("orders", 0) {
		got = append(got, r.value)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log has %.3q", got)
	}
}

func TestSendWaitsForRoomAsLongAsItsContext(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	w.lead("orders", 0, messages.NoNode)
	p := w.producer(ProducerConfig{Topic: "orders", BufferBytes: 100})
	if err := p.Send(soon(t), text("", strings.Repeat("x", 50)), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(soon(t), 10*time.Millisecond)
	defer cancel()
	if err := p.Send(ctx, text("", strings.Repeat("y", 50)), nil); !errors.Is(err,
		context.DeadlineExceeded) {
		t.Errorf("without room: %v", err)
	}
	sent := make(chan error)
	go func() { sent <- p.Send(soon(t), text("", strings.Repeat("z", 50)), nil) }()
	w.lead("orders", 0, 1)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := p.Flush(soon(t)); err != nil || len(w.stored("orders", 0)) != 2 {
		t.Errorf("%d records: %v", len(w.stored("orders", 0)), err)
	}
}

// A loop that sends until an error would go on for ever.
func TestNothingIsSentWithAContextThatEnded(t *testing.T) {
	w := newProducerWorld(t)
	w.create("t", 1)
	p := w.producer(ProducerConfig{Topic: "t"})
	ctx, end := context.WithCancel(t.Context())
	if err := p.Produce(ctx, &Record{Value: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	end()
	if err := p.Send(ctx, &Record{Value: []byte("b")}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Send: %v", err)
	}
	future := p.Go(ctx, &Record{Value: []byte("c")})
	if err := future.Wait(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("Go: %v", err)
	}
	if n := len(w.stored("t", 0)); n != 1 {
		t.Errorf("%d records are written", n)
	}
}

func TestAFullBufferIsRefused(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	w.lead("orders", 0, messages.NoNode)
	p := w.producer(ProducerConfig{Topic: "orders", BufferBytes: 100, Refuse: true})
	large := strings.Repeat("x", 200) // alone it may
	if err := p.Send(soon(t), text("", large), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Send(soon(t), text("", "x"), nil); !errors.Is(err, ErrBufferFull) {
		t.Errorf("without room: %v", err)
	}
	w.lead("orders", 0, 1)
}

func TestCallbacksMaySend(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 2)
	p := w.producer(ProducerConfig{Topic: "orders", BufferBytes: 200, Linger: -1})
	const chains, length = 10, 20
	var done sync.WaitGroup
	var again func(n int) func(*Record, error)
	again = func(n int) func(*Record, error) {
		return func(_ *Record, err error) {
			if err != nil {
				t.Error(err)
			}
			if n == 0 {
				done.Done()
				return
			}
			if err := p.Send(soon(t), text("", strings.Repeat("x", 60)), again(n-1)); err != nil {
				t.Error(err)
				done.Done()
			}
		}
	}
	for range chains {
		done.Add(1)
		if err := p.Send(soon(t), text("", strings.Repeat("x", 60)), again(length)); err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()
	if n := len(w.stored("orders", 0)) + len(w.stored("orders", 1)); n != chains*(length+1) {
		t.Errorf("%d records", n)
	}
}

func TestBadRecordsFailAlone(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 2)
	w.change("orders", func(r *link.Route) { r.MaxMessageBytes = 1000 })
	p := w.producer(ProducerConfig{Topic: "orders", Partitioner: Explicit})
	good := func() *Record { return text("", "good") }
	there := good()
	there.Partition = 2
	for _, tt := range []struct {
		bad  *Record
		want error
	}{
		{text("", strings.Repeat("x", 1000)), ErrTooLarge},
		{text("no/topic", "x"), ErrInvalidTopic},
		{text("unknown", "x"), ErrUnknownTopic},
		{there, ErrUnknownTopic},
	} {
		err := p.Produce(soon(t), good(), tt.bad, good())
		if !errors.Is(err, tt.want) {
			t.Errorf("%v, want %v", err, tt.want)
		}
	}
	if got := w.stored("orders", 0); len(got) != 8 {
		t.Errorf("%d good records", len(got))
	}
	exact := 1000 - record.HeaderSize
	value := make([]byte, exact)
	for record.SizeOf(nil, value, 0, 0) > exact {
		value = value[1:]
	}
	if err := p.Produce(soon(t), &Record{Value: value}); err != nil {
		t.Errorf("as large as it may be: %v", err)
	}
}

func TestAnErrorNamesTheTopicOnceAndTheRemedy(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	var nobody *Record
	for name, test := range map[string]struct {
		cfg    ProducerConfig
		r      *Record
		is     error
		remedy string
	}{
		"unknown":  {ProducerConfig{}, text("nope", "x"), ErrUnknownTopic, "ProducerConfig.CreateTopics"},
		"not made": {ProducerConfig{CreateTopics: true}, text("nope", "x"), ErrUnknownTopic, "create it"},
		"no topic": {ProducerConfig{}, text("", "x"), ErrInvalidTopic, "ProducerConfig.Topic"},
		"nil":      {ProducerConfig{Topic: "orders"}, nobody, ErrInvalidRequest, "nil"},
	} {
		p := w.producer(test.cfg)
		for i, err := range []error{
			p.Produce(soon(t), test.r), p.Send(soon(t), test.r, nil),
			p.Go(soon(t), test.r).Wait(soon(t)),
		} {
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.remedy) ||
				strings.Count(err.Error(), `"nope"`) > 1 {
				t.Errorf("%s, call %d: %v", name, i, err)
			}
		}
	}
	if err := (Typed[string]{Value: String()}).Encode(nil, "x"); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("encoding: %v", err)
	}
}

func TestABatchThatIsRefusedHoldsUpNothing(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	n := 0
	w.fate = func(*wire.ClientAppend) (bool, error) {
		n++
		if n%3 == 1 {
			return false, messages.ErrInvalidRecord
		}
		return true, nil
	}
	p := w.producer(ProducerConfig{Topic: "orders", Linger: -1})
	bad := 0
	for i := range 12 {
		err := p.Produce(soon(t), text("", fmt.Sprint(i)))
		if errors.Is(err, ErrInvalidRecord) &&
			strings.Contains(err.Error(), `topic "orders", partition 0`) {
			bad++
		} else if err != nil {
			t.Error(err)
		}
	}
	if got := w.stored("orders", 0); bad != 4 || len(got) != 8 || w.appends != 8 {
		t.Errorf("%d were refused, %d are there after %d appends", bad, len(got), w.appends)
	}
}

func TestRecordsWithoutALeaderFailInTime(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	w.lead("orders", 0, messages.NoNode)
	p := w.producer(ProducerConfig{Topic: "orders", DeliveryTimeout: 30 * time.Millisecond})
	if err := p.Produce(soon(t), text("", "a"), text("", "b")); !errors.Is(err, ErrTimedOut) {
		t.Errorf("nobody leads: %v", err)
	}
	w.lead("orders", 0, 1)
	testkit.Eventually(t, "a record is taken", func() bool {
		return p.Produce(soon(t), text("", "c")) == nil
	})
	if got := w.stored("orders", 0); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestAPartitionThatIsAddedIsUsed(t *testing.T) {
	w := newProducerWorld(t)
	topic := w.create("orders", 1)
	p := w.producer(ProducerConfig{Topic: "orders", Partitioner: Explicit})
	if err := p.Produce(soon(t), text("", "x")); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	topic.logs = append(topic.logs, &worldLog{state: producers.New()})
	w.mu.Unlock()
	w.change("orders", func(r *link.Route) { r.Partitions = append(r.Partitions, link.Leader{}) })
	r := text("", "y")
	r.Partition = 1
	if err := p.Produce(soon(t), r); err != nil || len(w.stored("orders", 1)) != 1 {
		t.Errorf("%v", err)
	}
}

func TestALeaderThatANodeNamesIsFollowed(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	leader := messages.NodeID(5)
	w.moved = &leader
	p := w.producer(ProducerConfig{Topic: "orders", Linger: -1})
	if err := p.Produce(soon(t), text("", "x")); err != nil || w.appends != 2 {
		t.Errorf("%d appends: %v", w.appends, err)
	}
}

func TestWithoutAcksARecordIsDoneWhenItIsSent(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	p := w.producer(ProducerConfig{Topic: "orders", Acks: AcksNone, NotIdempotent: true})
	r := text("", "x")
	if err := p.Produce(soon(t), r); err != nil || r.Offset != -1 {
		t.Errorf("offset %d: %v", r.Offset, err)
	}
	if b := w.batches("orders", 0); len(b) != 1 || b[0].Idempotent() {
		t.Errorf("%+v", b)
	}
}

func TestRecordsWithoutAKeyShareABatch(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 10)
	p := w.producer(ProducerConfig{Topic: "orders", Linger: time.Hour, BatchBytes: 10000})
	const records = 1000
	for range records {
		if err := p.Send(soon(t), text("", strings.Repeat("x", 100)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	batches, used := 0, 0
	for i := range 10 {
		n := len(w.batches("orders", i))
		batches += n
		used += min(n, 1)
	}
	if batches > records/90+1 || used < 3 {
		t.Errorf("%d batches in %d partitions", batches, used)
	}
}

func TestSettingsThatCannotBeAreNamed(t *testing.T) {
	w := newProducerWorld(t)
	c := w.client()
	for want, cfg := range map[string]ProducerConfig{
		"Acks is":                  {Acks: 3},
		"need NotIdempotent":       {Acks: AcksLeader},
		"Compression":              {Compression: 5},
		"BatchBytes":               {BatchBytes: -1},
		"BufferBytes":              {BufferBytes: -1},
		"DeliveryTimeout":          {DeliveryTimeout: -1},
		"NotIdempotent does not":   {NotIdempotent: true, TransactionalID: "x"},
		"TransactionTimeout is":    {TransactionTimeout: time.Second},
		"TransactionTimeout is no": {TransactionTimeout: 1, TransactionalID: "x"},
		"Topic":                    {Topic: "a/b"},
		"Interceptors[0]":          {Interceptors: []func(*Record){nil}},
	} {
		if _, err := c.NewProducer(soon(t), cfg); !errors.Is(err, ErrConfig) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestTheLargestBatchFitsInAMessage(t *testing.T) {
	if batchBytesMost+16<<10 > transport.MessageMax {
		t.Errorf("%d bytes of %d", batchBytesMost, transport.MessageMax)
	}
	w := newProducerWorld(t)
	w.create("orders", 1)
	w.change("orders", func(r *link.Route) { r.MaxMessageBytes = 1 << 30 })
	p := w.producer(ProducerConfig{Topic: "orders"})
	if err := p.Produce(soon(t), text("", strings.Repeat("x", batchBytesMost))); !errors.Is(err,
		ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestAnInterceptorThatPanicsHarmsItsRecordAlone(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	p := w.producer(ProducerConfig{Topic: "orders", Interceptors: []func(*Record){func(r *Record) {
		if bytes.Equal(r.Value, []byte("bad")) {
			panic("interceptor")
		}
	}}})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nobody hears of it")
			}
		}()
		_ = p.Send(soon(t), text("", "bad"), nil)
	}()
	if err := p.Produce(soon(t), text("", "good")); err != nil || len(w.stored("orders", 0)) != 1 {
		t.Errorf("%v", err)
	}
}
