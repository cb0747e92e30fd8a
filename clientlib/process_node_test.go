package clientlib_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/node"
	"github.com/troupelog/troupe/testkit"
)

// world is a node and a client of it.
type world struct {
	*testing.T
	ctx    context.Context
	client *clientlib.Client
}

// newWorld starts a node that ends with the test, and wants no goroutine to stay behind.
func newWorld(t *testing.T) *world {
	t.Helper()
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	n, err := node.Start(ctx, node.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientlib.Dial(ctx, clientlib.Config{Embedded: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(client.Close(ctx), n.Stop(ctx)); err != nil {
			t.Error(err)
		}
		cancel()
		goleak.VerifyNone(t, before)
	})
	return &world{t, ctx, client}
}

func (w *world) create(topic string, partitions int) {
	w.Helper()
	spec := clientlib.TopicSpec{Name: topic, Partitions: partitions}
	if err := w.client.Admin().CreateTopics(w.ctx, spec); err != nil {
		w.Fatal(err)
	}
}

func (w *world) producer(cfg clientlib.ProducerConfig) *clientlib.Producer {
	w.Helper()
	p, err := w.client.NewProducer(w.ctx, cfg)
	if err != nil {
		w.Fatal(err)
	}
	return p
}

func (w *world) consumer(cfg clientlib.ConsumerConfig) *clientlib.Consumer {
	w.Helper()
	c, err := w.client.NewConsumer(w.ctx, cfg)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// write writes records key=value to a topic; key! has no value.
func (w *world) write(topic string, records ...string) {
	w.Helper()
	p := w.producer(clientlib.ProducerConfig{Topic: topic})
	var all []*clientlib.Record
	for _, r := range records {
		key, value, _ := strings.Cut(r, "=")
		record := &clientlib.Record{Key: []byte(key), Value: []byte(value)}
		if name, none := strings.CutSuffix(key, "!"); none {
			record.Key, record.Value = []byte(name), nil
		}
		all = append(all, record)
	}
	if err := errors.Join(p.Produce(w.ctx, all...), p.Close(w.ctx)); err != nil {
		w.Fatal(err)
	}
}

// await waits until a topic exists.
func (w *world) await(topic string) {
	w.Helper()
	testkit.Eventually(w, "there is "+topic, func() bool {
		_, err := w.client.Admin().Topics(w.ctx, topic)
		return err == nil
	})
}

// read returns the first n records of a topic with one partition.
func (w *world) read(topic string, n int) []*clientlib.Record {
	w.Helper()
	at := clientlib.Position{Partition: clientlib.Partition{Topic: topic}, Start: clientlib.Earliest}
	c := w.consumer(clientlib.ConsumerConfig{Partitions: []clientlib.Position{at}})
	var all []*clientlib.Record
	for len(all) < n {
		records, err := c.Poll(w.ctx)
		if err != nil {
			w.Fatalf("after %d records of %d: %v", len(all), n, err)
		}
		all = append(all, records...)
	}
	if err := c.Close(w.ctx); err != nil {
		w.Error(err)
	}
	return all
}

// seen are the records that handlers got.
type seen struct {
	mu  sync.Mutex
	all []string
}

func (s *seen) add(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, what)
}

func (s *seen) sorted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.all))
}

func (s *seen) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func TestANodeKeepsDeadLettersAndWhatTheGroupHasHandled(t *testing.T) {
	w := newWorld(t)
	w.create("orders", 1)
	w.write("orders", "a=1", "b=bad", "a=2", "b=3")
	cfg := clientlib.ConsumerConfig{
		Group: "billing", Topics: []string{"orders"},
		Retry: clientlib.Retry{Attempts: 2, Backoff: time.Millisecond},
	}
	for round, want := range []string{"[a=1 a=2 b=3]", "[a=4]"} {
		var got seen
		ctx, stop := context.WithCancel(w.ctx)
		c := w.consumer(cfg)
		result := make(chan error, 1)
		go func() {
			result <- c.Process(ctx, func(_ context.Context, r *clientlib.Record) error {
				if string(r.Value) == "bad" {
					return errors.New("it is bad")
				}
				got.add(fmt.Sprintf("%s=%s", r.Key, r.Value))
				return nil
			})
		}()
		testkit.Eventually(t, "the records are handled", func() bool {
			return len(got.sorted()) >= strings.Count(want, "=")
		})
		stop()
		if err := errors.Join(<-result, c.Close(w.ctx)); err != nil {
			t.Error(err)
		}
		if fmt.Sprint(got.sorted()) != want {
			t.Errorf("in round %d %v was handled, want %s", round, got.sorted(), want)
		}
		w.write("orders", "a=4")
	}
	letter := w.read("orders.dlq", 1)[0]
	if string(letter.Key) != "b" || string(letter.Value) != "bad" ||
		string(letter.Header("troupe.dlq.offset")) != "1" ||
		string(letter.Header("troupe.dlq.attempts")) != "2" ||
		string(letter.Header("troupe.dlq.error")) != "it is bad" {
		t.Errorf("the dead letter is %+v", letter)
	}
}

func TestAPayloadThatCannotBeDecodedIsADeadLetterAndOneThatIsMissingAMessage(t *testing.T) {
	w := newWorld(t)
	w.create("counts", 1)
	w.write("counts", "a=1", "b=two", "c!", "d=4")
	counts := clientlib.Typed[int]{Value: clientlib.JSON[int]()}
	cfg := clientlib.ConsumerConfig{Group: "g", Topics: []string{"counts"}}
	var got seen
	ctx, stop := context.WithCancel(w.ctx)
	c := w.consumer(cfg)
	result := make(chan error, 1)
	go func() {
		result <- counts.Process(ctx, c, func(_ context.Context, m clientlib.Message[int]) error {
			got.add(fmt.Sprintf("%s=%d/%v", m.Key, m.Value, m.Record.Value == nil))
			return nil
		})
	}()
	testkit.Eventually(t, "three are handled", func() bool { return got.len() == 3 })
	w.await("counts.dlq")
	if letter := w.read("counts.dlq", 1)[0]; string(letter.Key) != "b" ||
		string(letter.Header("troupe.dlq.attempts")) != "1" {
		t.Errorf("the dead letter is %+v", letter)
	}
	stop()
	if err := errors.Join(<-result, c.Close(w.ctx)); err != nil {
		t.Error(err)
	}
	if fmt.Sprint(got.sorted()) != "[a=1/false c=0/true d=4/false]" {
		t.Errorf("handled were %v", got.sorted())
	}

	cfg.Group, cfg.DeadLetter = "h", clientlib.NoDeadLetter
	c = w.consumer(cfg)
	err := counts.Process(w.ctx, c,
		func(_ context.Context, m clientlib.Message[int]) error { return nil })
	if !errors.Is(err, clientlib.ErrDecode) || !strings.Contains(err.Error(), "offset 1") {
		t.Errorf("without dead letters it ended with %v", err)
	}
	if err := c.Close(w.ctx); err != nil {
		t.Error(err)
	}
}

func TestSerializersReadWhatTheyWrote(t *testing.T) {
	roundTrip(t, clientlib.String(), "two espressi")
	roundTrip(t, clientlib.JSON[[]int](), []int{1, 2})
	roundTrip(t, clientlib.Protobuf[*wrapperspb.StringValue](), wrapperspb.String("x"))
	roundTrip(t, clientlib.SerializerOf(
		func(n int) ([]byte, error) { return strconv.AppendInt(nil, int64(n), 10), nil },
		func(b []byte) (int, error) { return strconv.Atoi(string(b)) }), 7)
	empty := clientlib.Typed[*wrapperspb.StringValue]{
		Value: clientlib.Protobuf[*wrapperspb.StringValue](),
	}
	var r clientlib.Record
	if err := empty.Encode(&r, wrapperspb.String("")); err != nil || r.Value == nil {
		t.Errorf("an empty message is no tombstone: %v, %v", r.Value, err)
	}
	_, err := empty.Decode(&clientlib.Record{Value: []byte{0xff}})
	is(t, err, clientlib.ErrDecode)
}

func roundTrip[T any](t *testing.T, s clientlib.Serializer[T], value T) {
	t.Helper()
	typed := clientlib.Typed[T]{Value: s}
	var r clientlib.Record
	if err := typed.Encode(&r, value); err != nil {
		t.Fatal(err)
	}
	m, err := typed.Decode(&r)
	if err != nil || fmt.Sprint(m.Value) != fmt.Sprint(value) {
		t.Errorf("%v became %v (%v)", value, m.Value, err)
	}
}

// crew are members of a group that come and go while they process.
type crew struct {
	*world
	run  func(ctx context.Context, member int) error
	stop map[int]func() error
}

func (c *crew) start(member int) {
	ctx, cancel := context.WithCancel(c.ctx)
	result := make(chan error, 1)
	go func() { result <- c.run(ctx, member) }()
	c.stop[member] = func() error {
		cancel()
		return <-result
	}
}

func (c *crew) end(members ...int) {
	for _, m := range members {
		if err := c.stop[m](); err != nil {
			c.Errorf("member %d ended with %v", m, err)
		}
	}
}

func TestMembersThatComeAndGoHandleEachRecordOnceAndInTheOrderOfItsKey(t *testing.T) {
	w := newWorld(t)
	const keys, each = 20, 100
	w.create("orders", 6)
	var got seen
	last := map[string]int{}
	members := &crew{world: w, stop: map[int]func() error{}}
	members.run = func(ctx context.Context, member int) error {
		c := w.consumer(clientlib.ConsumerConfig{Group: "g", Topics: []string{"orders"}})
		err := c.Process(ctx, func(_ context.Context, r *clientlib.Record) error {
			n, _ := strconv.Atoi(string(r.Value))
			got.mu.Lock()
			defer got.mu.Unlock()
			if before, ok := last[string(r.Key)]; ok && n != before+1 {
				t.Errorf("%s=%d was handled after %d", r.Key, n, before)
			}
			last[string(r.Key)] = n
			got.all = append(got.all, string(r.Key))
			return nil
		})
		return errors.Join(err, c.Close(w.ctx))
	}
	members.start(0)
	members.start(1)
	write := func(from, to int) {
		var all []string
		for n := from; n < to; n++ {
			for key := range keys {
				all = append(all, fmt.Sprintf("k%d=%d", key, n))
			}
		}
		w.write("orders", all...)
	}
	write(0, each/2)
	testkit.Eventually(t, "some are handled", func() bool { return got.len() > keys })
	members.start(2)
	write(each/2, each)
	members.end(0)
	testkit.Eventually(t, "all are handled", func() bool { return got.len() >= keys*each })
	members.end(1, 2)
	if got.len() != keys*each {
		t.Errorf("%d were handled, want %d", got.len(), keys*each)
	}
}

func TestWhatIsReadAndWrittenInTransactionsCountsExactlyOnce(t *testing.T) {
	w := newWorld(t)
	const total = 600
	w.create("in", 4)
	w.create("out", 1)
	var all []string
	for n := range total {
		all = append(all, fmt.Sprintf("k%d=%d", n%10, n))
	}
	var done seen
	members := &crew{world: w, stop: map[int]func() error{}}
	members.run = func(ctx context.Context, member int) error {
		rng := rand.New(rand.NewPCG(1, uint64(member)))
		p := w.producer(clientlib.ProducerConfig{
			Topic: "out", TransactionalID: fmt.Sprint("copier-", member),
		})
		c := w.consumer(clientlib.ConsumerConfig{
			Group: "copiers", Topics: []string{"in"},
			Retry: clientlib.Retry{Attempts: 9, Backoff: time.Millisecond},
		})
		err := c.ProcessTransactions(ctx, p,
			func(ctx context.Context, tx *clientlib.Transaction, rs []*clientlib.Record) error {
				for _, r := range rs {
					copied := &clientlib.Record{Key: r.Key, Value: r.Value}
					if err := tx.Send(ctx, copied, nil); err != nil {
						return err
					}
				}
				if rng.IntN(4) == 0 {
					return errors.New("it fails now and then")
				}
				done.add("batch")
				return nil
			})
		return errors.Join(err, c.Close(w.ctx), p.Close(w.ctx))
	}
	members.start(0)
	w.write("in", all[:total/2]...)
	members.start(1)
	testkit.Eventually(t, "some are copied", func() bool { return done.len() > 0 })
	members.end(0)
	w.write("in", all[total/2:]...)
	members.start(2)
	copies := map[string]int{}
	for _, r := range w.read("out", total) {
		copies[string(r.Value)]++
	}
	members.end(1, 2)
	for n := range total {
		if copies[fmt.Sprint(n)] != 1 {
			t.Errorf("%d was copied %d times", n, copies[fmt.Sprint(n)])
		}
	}
}

func TestSettingsThatProcessCannotWorkWithAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(cfg *clientlib.ConsumerConfig){
		"Concurrency": func(cfg *clientlib.ConsumerConfig) { cfg.Concurrency = -1 },
		"Order":       func(cfg *clientlib.ConsumerConfig) { cfg.Order = 7 },
		"Backoff":     func(cfg *clientlib.ConsumerConfig) { cfg.Retry.Backoff = -1 },
		"MaxBackoff":  func(cfg *clientlib.ConsumerConfig) { cfg.Retry.MaxBackoff = -1 },
		"DeadLetter":  func(cfg *clientlib.ConsumerConfig) { cfg.DeadLetter = "a b" },
		"its own":     func(cfg *clientlib.ConsumerConfig) { cfg.DeadLetter = "orders" },
	} {
		cfg := clientlib.ConsumerConfig{Group: "g", Topics: []string{"orders"}}
		change(&cfg)
		if _, err := w.client.NewConsumer(w.ctx, cfg); !errors.Is(err, clientlib.ErrConfig) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	c := w.consumer(clientlib.ConsumerConfig{Group: "g", Topics: []string{"orders"}})
	is(t, c.Process(w.ctx, nil), clientlib.ErrConfig)
	is(t, c.ProcessBatches(w.ctx, nil), clientlib.ErrConfig)
	is(t, c.ProcessTransactions(w.ctx, nil, nil), clientlib.ErrConfig)
	is(t, clientlib.Typed[string]{}.Process(w.ctx, c, nil), clientlib.ErrConfig)
	ctx, stop := context.WithCancel(w.ctx)
	handler := func(context.Context, *clientlib.Record) error { return nil }
	results := make(chan error, 2)
	for range 2 {
		go func() { results <- c.Process(ctx, handler) }()
	}
	is(t, <-results, clientlib.ErrInvalidRequest)
	stop()
	is(t, <-results, nil)
	p := w.producer(clientlib.ProducerConfig{})
	w.create("orders", 1)
	w.write("orders", "a=1")
	is(t, c.ProcessTransactions(w.ctx, p,
		func(context.Context, *clientlib.Transaction, []*clientlib.Record) error { return nil }),
		clientlib.ErrInvalidRequest)
	if err := errors.Join(c.Close(w.ctx), p.Close(w.ctx)); err != nil {
		t.Error(err)
	}
	is(t, c.Process(w.ctx, handler), clientlib.ErrClosed)
}
