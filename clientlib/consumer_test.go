package clientlib

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

// within is a context for calls that a test waits for.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// poll polls until there are n records, and returns their values.
func poll(t *testing.T, c *Consumer, n int) (values []string) {
	t.Helper()
	ctx := within(t)
	for len(values) < n {
		rs, err := c.Poll(ctx)
		if err != nil {
			t.Fatalf("poll after %d of %d records: %v", len(values), n, err)
		}
		for _, r := range rs {
			values = append(values, string(r.Value))
		}
	}
	return values
}

func numbered(prefix string, from, to int) (values []string) {
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprintf("%s%d", prefix, i))
	}
	return values
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %d: %.300v, want %d: %.300v", len(got), got, len(want), want)
	}
}

func direct(topic string, index int32, s Start) ConsumerConfig {
	return ConsumerConfig{Partitions: []Position{{Partition{topic, index}, s}}}
}

func TestAConsumerReadsItsPartitionsInOrder(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 3})
	cfg := ConsumerConfig{}
	for i := range 3 {
		cfg.Partitions = append(cfg.Partitions, Position{Partition: Partition{"t", int32(i)}})
		for from := 0; from < 100; from += 10 {
			w.write("t", i, numbered("v", from, from+10)...)
		}
	}
	c := w.consumer(cfg)
	byPart := map[int32][]string{}
	for n := 0; n < 300; {
		rs, err := c.Poll(within(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Offset != int64(len(byPart[r.Partition])) || r.Topic != "t" ||
				string(r.Key) != "key-"+string(r.Value) || r.Time.UnixMilli() != 1000+r.Offset%10 {
				t.Fatalf("record %+v", r)
			}
			byPart[r.Partition] = append(byPart[r.Partition], string(r.Value))
		}
		n += len(rs)
	}
	for i := range int32(3) {
		same(t, byPart[i], numbered("v", 0, 100))
	}
	w.write("t", 1, "late") // a parked fetch has it
	same(t, poll(t, c, 1), []string{"late"})
	if s := c.Stats(); s.Records != 301 || s.Lag != 0 || s.Buffered != 0 || s.Fetches == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestStartSaysWhereReadingBegins(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...) // at 1000 to 1009 ms
	for _, c := range []struct {
		start Start
		first string
	}{
		{Earliest, "v0"}, {Start{}, "v0"}, {AtOffset(4), "v4"},
		{AtTime(time.UnixMilli(1007)), "v7"}, {AtTime(time.UnixMilli(5000)), "later"},
		{Latest, "later"}, {AtOffset(99), "v0"},
	} {
		consumer := w.consumer(direct("t", 0, c.start))
		if c.first == "later" {
			testkit.Eventually(t, "the end is found", func() bool {
				consumer.mu.Lock()
				defer consumer.mu.Unlock()
				return consumer.parts[Partition{"t", 0}].cur.Known()
			})
			w.write("t", 0, "later")
		}
		if got := poll(t, consumer, 1); got[0] != c.first {
			t.Errorf("%+v begins with %s, want %s", c.start, got[0], c.first)
		}
	}
}

func TestSettingsThatCannotBeAreRefused(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	at := []Position{{Partition: Partition{"t", 0}}}
	for name, cfg := range map[string]ConsumerConfig{
		"nothing to read":  {Group: "g"},
		"no group":         {Topics: []string{"t"}},
		"both":             {Group: "g", Topics: []string{"t"}, Pattern: "t.*"},
		"pattern":          {Group: "g", Pattern: "("},
		"unnamed":          {Group: "g", Topics: []string{""}},
		"topics and parts": {Group: "g", Topics: []string{"t"}, Partitions: at},
		"twice":            {Partitions: append(at, at...)},
		"instance":         {InstanceID: "i", Partitions: at},
		"buffer":           {Partitions: at, BufferBytes: -1},
	} {
		if _, err := w.client().NewConsumer(t.Context(), cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range []Partition{{"t", 1}, {"none", 0}} {
		cfg := ConsumerConfig{Partitions: []Position{{Partition: p}}}
		if _, err := w.client().NewConsumer(t.Context(), cfg); !errors.Is(err, ErrUnknownTopic) {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestPollEndsWithItsContextAndWithTheConsumer(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	c := w.consumer(direct("t", 0, Earliest))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Poll(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	polled := make(chan error, 1)
	go func() {
		_, err := c.Poll(within(t))
		polled <- err
	}()
	for range 2 {
		if err := c.Close(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-polled; !errors.Is(err, ErrClosed) {
		t.Errorf("closed meanwhile: %v", err)
	}
	if _, err := c.Poll(within(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("closed before: %v", err)
	}
	if n := w.watching("t"); n != 0 {
		t.Errorf("%d watch the topic still", n)
	}
}

func TestAnOffsetThatRetentionTookMovesTheReaderToTheFirstRecordThereIs(t *testing.T) {
	for _, start := range []Start{Earliest, AtOffset(0), Latest} {
		t.Run(fmt.Sprint(start), func(t *testing.T) { retentionMoves(t, start) })
	}
}

func retentionMoves(t *testing.T, start Start) {
	w := newReadWorld(t, map[string]int{"t": 1})
	for i := range 10 {
		w.write("t", 0, fmt.Sprintf("v%d", i))
	}
	c := w.consumer(direct("t", 0, start))
	if start != Latest {
		poll(t, c, 1)
	}
	if err := c.Seek(within(t), Position{Partition{"t", 0}, AtOffset(2)}); err != nil {
		t.Fatal(err)
	}
	w.log("t", 0, func(l *readLog) { l.start, l.batches = 7, l.batches[7:] })
	if err := c.Seek(within(t), Position{Partition{"t", 0}, AtOffset(2)}); err != nil {
		t.Fatal(err)
	}
	if start != Latest {
		same(t, poll(t, c, 3), numbered("v", 7, 10))
		return
	}
	testkit.Eventually(t, "the reader is at the end", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.parts[Partition{"t", 0}].cur.Position() == 10
	})
	w.write("t", 0, "new")
	same(t, poll(t, c, 1), []string{"new"})
}

func TestAReaderWhoseLogWasCutGoesOnAtItsNewEnd(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, "a0")
	w.write("t", 0, "a1")
	w.write("t", 0, "a2")
	c := w.consumer(direct("t", 0, Earliest))
	same(t, poll(t, c, 3), numbered("a", 0, 3))
	w.log("t", 0, func(l *readLog) {
		l.batches, l.high = l.batches[:1], 1
		l.leader, l.epoch = 2, 1
	})
	w.write("t", 0, "b1")
	w.write("t", 0, "b2")
	same(t, poll(t, c, 2), numbered("b", 1, 3))
}

func TestReadingGoesOnAtAnotherLeader(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	c := w.consumer(direct("t", 0, Earliest))
	for i := range 10 {
		w.write("t", 0, fmt.Sprintf("v%d", i))
		w.log("t", 0, func(l *readLog) { l.leader, l.epoch = messages.NodeID(i%3+1), l.epoch+1 })
	}
	same(t, poll(t, c, 10), numbered("v", 0, 10))
	w.log("t", 0, func(l *readLog) { l.leader = messages.NoNode })
	w.log("t", 0, func(l *readLog) { l.leader, l.epoch = 3, l.epoch+1 })
	w.write("t", 0, "last")
	same(t, poll(t, c, 1), []string{"last"})
}

func TestADamagedBatchIsAnErrorAndNotLeftOut(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 2})
	w.write("t", 0, numbered("v", 0, 3)...)
	w.write("t", 0, numbered("v", 3, 6)...)
	w.write("t", 1, "other")
	for _, harm := range []func(b []byte) []byte{
		func(b []byte) []byte { b[len(b)-1] ^= 1; return b },            // of the last
		func(b []byte) []byte { b[16] = 1; return b },                   // an old format
		func(b []byte) []byte { return b[:20] },                         // no batch at all
		func(b []byte) []byte { b[8] = 0x7f; return b[:len(b):len(b)] }, // too long
	} {
		w.mu.Lock()
		w.damage = func(b []byte) []byte { return harm(slices.Clone(b)) }
		w.mu.Unlock()
		c := w.consumer(direct("t", 0, Earliest))
		var err error
		var got []string
		for range 3 { // again and again
			err = nil
			for err == nil {
				var rs []*Record
				rs, err = c.Poll(within(t))
				for _, r := range rs {
					got = append(got, string(r.Value))
				}
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), `partition 0 of topic "t"`) {
				t.Fatalf("error %v", err)
			}
		}
		w.mu.Lock()
		w.damage = nil
		w.mu.Unlock()
		for len(got) < 6 {
			rs, _ := c.Poll(within(t))
			for _, r := range rs {
				got = append(got, string(r.Value))
			}
		}
		same(t, got, numbered("v", 0, 6))
	}
}

func TestSeekGoesBackAndForth(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 2})
	w.write("t", 0, numbered("v", 0, 10)...)
	c := w.consumer(direct("t", 0, Earliest))
	same(t, poll(t, c, 10), numbered("v", 0, 10))
	for _, to := range []Position{
		{Partition{"t", 0}, AtOffset(3)}, {Partition{"t", 0}, AtTime(time.UnixMilli(1003))},
	} {
		if err := c.Seek(within(t), to); err != nil {
			t.Fatal(err)
		}
		same(t, poll(t, c, 7), numbered("v", 3, 10))
	}
	err := c.Seek(within(t), Position{Partition{"t", 1}, Earliest})
	if !errors.Is(err, ErrNotAssigned) {
		t.Errorf("of another partition: %v", err)
	}
}

func TestAPausedPartitionIsNotHandedOut(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 2})
	c := w.consumer(ConsumerConfig{Partitions: []Position{
		{Partition: Partition{"t", 0}}, {Partition: Partition{"t", 1}},
	}})
	c.pause(Partition{"t", 0})
	w.write("t", 0, "zero")
	w.write("t", 1, "one")
	same(t, poll(t, c, 1), []string{"one"})
	c.resume(Partition{"t", 0})
	same(t, poll(t, c, 1), []string{"zero"})
}

func TestNoMoreIsReadAheadThanTheBufferHolds(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 2})
	const size = 10_000
	for i := range 100 {
		w.write("t", i%2, strings.Repeat("x", size))
	}
	const buffer = 100_000
	c := w.consumer(ConsumerConfig{BufferBytes: buffer, Partitions: []Position{
		{Partition: Partition{"t", 0}}, {Partition: Partition{"t", 1}},
	}})
	most := int64(0)
	for n := 0; n < 100; {
		testkit.Eventually(t, "the buffer is full or all is read", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.stats.Lag == 0 && c.buffered > buffer/4 || n+c.buffered/size >= 99
		})
		most = max(most, c.Stats().Buffered)
		rs, err := c.Poll(within(t))
		if err != nil {
			t.Fatal(err)
		}
		n += len(rs)
	}
	if most == 0 || most > buffer {
		t.Errorf("%d bytes were buffered, the bound is %d", most, buffer)
	}
}

func TestRecordsOfAbortedTransactionsAreNotSeen(t *testing.T) {
	for _, uncommitted := range []bool{false, true} {
		t.Run(fmt.Sprint(uncommitted), func(t *testing.T) { abortedAreNotSeen(t, uncommitted) })
	}
}

func abortedAreNotSeen(t *testing.T, uncommitted bool) {
	w := newReadWorld(t, map[string]int{"t": 1})
	txn := func(id messages.ProducerID, seq messages.Sequence, v string) {
		bu := record.NewBuilder(record.Compression{Codec: record.Zstd}).
			Producer(id, 0, seq).Transactional()
		bu.Append(1, []byte("k"), []byte(v))
		w.append("t", 0, bu)
	}
	end := func(id messages.ProducerID, commit bool) {
		w.appendBatch("t", 0, record.EndTxnMarker(record.Marker{Commit: commit}, id, 0, 1))
	}
	w.log("t", 0, func(l *readLog) {
		l.aborted = []*wire.ClientAborted{
			{ProducerId: 2, FirstOffset: 8}, {ProducerId: 1, FirstOffset: 0},
		}
		l.stable = 0
	})
	txn(1, 0, "x0")           // 0
	txn(2, 0, "b1")           // 1
	w.write("t", 0, "plain2") // 2
	txn(1, 1, "x3")           // 3
	end(2, true)              // 4
	end(1, false)             // 5
	txn(1, 2, "b6")           // 6
	end(1, true)              // 7
	txn(2, 1, "x8")           // 8
	end(2, false)             // 9
	txn(2, 2, "b10")          // 10
	end(2, true)              // 11
	w.log("t", 0, func(l *readLog) { l.stable = -1 })
	cfg := direct("t", 0, Earliest)
	cfg.ReadUncommitted = uncommitted
	c := w.consumer(cfg)
	want := []string{"b1", "plain2", "b6", "b10"}
	if uncommitted {
		want = []string{"x0", "b1", "plain2", "x3", "b6", "x8", "b10"}
	}
	same(t, poll(t, c, len(want)), want)
	if s := c.Stats(); s.Lag != 0 {
		t.Errorf("lag %d behind a marker", s.Lag)
	}
}

func TestRecordsOfEveryCodecArriveWhole(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	for codec := record.None; codec <= record.Zstd; codec++ {
		bu := record.NewBuilder(record.Compression{Codec: codec})
		for i := range 100 {
			bu.Append(messages.Timestamp(i), nil, fmt.Appendf(nil, "%s-%d", codec, i),
				record.RecordHeader{Key: []byte("n"), Value: fmt.Append(nil, i)},
				record.RecordHeader{Key: []byte("null")})
		}
		bu.Append(math.MaxInt32, []byte{}, nil)
		w.append("t", 0, bu)
	}
	c := w.consumer(direct("t", 0, Earliest))
	var all []*Record
	for len(all) < 505 {
		rs, err := c.Poll(within(t))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rs...)
	}
	for n, r := range all {
		codec, i := record.Codec(n/101), n%101
		if i == 100 {
			if r.Key == nil || len(r.Key) > 0 || r.Value != nil || len(r.Headers) > 0 {
				t.Fatalf("record %d: %+v", n, r)
			}
			continue
		}
		if r.Key != nil || string(r.Value) != fmt.Sprintf("%s-%d", codec, i) ||
			len(r.Headers) != 2 || string(r.Header("n")) != fmt.Sprint(i) ||
			r.Headers[1].Key != "null" || r.Headers[1].Value != nil {
			t.Fatalf("record %d: %+v", n, r)
		}
	}
}

func TestAGroupGoesOnWhereItStopped(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...)
	cfg := ConsumerConfig{Group: "g", Topics: []string{"t"}, CommitInterval: time.Millisecond}
	c := w.consumer(cfg)
	poll(t, c, 10)
	if n := w.committed("g", "t", 0); n > 0 {
		t.Errorf("%d is committed before the records are handled", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Poll(ctx) // they are handled
	testkit.Eventually(t, "the position is committed", func() bool {
		return w.committed("g", "t", 0) == 10
	})
	w.write("t", 0, numbered("v", 10, 20)...)
	poll(t, c, 10) // and not handled
	if err := c.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	same(t, poll(t, w.consumer(cfg), 10), numbered("v", 10, 20))
}

func TestCloseCommitsWhatIsHandledEvenIfItsContextHasEnded(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...)
	c := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}})
	poll(t, c, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Poll(ctx)
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if n := w.committed("g", "t", 0); n != 10 {
		t.Errorf("%d is committed", n)
	}
	other := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}})
	testkit.Eventually(t, "another has the partition at once", func() bool {
		return len(other.Assigned()) == 1
	})
}

func TestCommitIsOfTheRecordsOrOfAllThatWasTaken(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...)
	c := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}, CommitInterval: -1})
	rs, err := c.Poll(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, upTo := range []int{4, 7, 2} { // a position never falls
		if err := c.Commit(within(t), rs[:upTo]...); err != nil {
			t.Fatal(err)
		}
		if got, want := w.committed("g", "t", 0), int64(max(upTo, 4)); got < want || got > 7 {
			t.Errorf("%d is committed, want %d", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Poll(ctx)
	if n := w.committed("g", "t", 0); n != 7 {
		t.Errorf("%d is committed without having been asked for", n)
	}
	if err := c.Commit(within(t)); err != nil || w.committed("g", "t", 0) != 10 {
		t.Errorf("%v, %d is committed", err, w.committed("g", "t", 0))
	}
	strange := &Record{Topic: "t", Partition: 5}
	if err := c.Commit(within(t), strange); !errors.Is(err, ErrNotAssigned) {
		t.Errorf("of another partition: %v", err)
	}
	lone := w.consumer(direct("t", 0, Earliest))
	if err := lone.Commit(within(t)); !errors.Is(err, ErrConfig) {
		t.Errorf("without a group: %v", err)
	}
}

func TestPartitionsThatAreReadDirectlyAreCommittedToTheirGroup(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...)
	cfg := direct("t", 0, Earliest)
	cfg.Group = "g"
	c := w.consumer(cfg)
	poll(t, c, 10)
	if err := c.Commit(within(t)); err != nil || w.committed("g", "t", 0) != 10 {
		t.Errorf("%v, %d is committed", err, w.committed("g", "t", 0))
	}
}

// events are what happens to partitions, in order.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, text)
}

func (e *events) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.all, text)
}

// told makes callbacks that remember what they were told.
func (e *events) told(cfg ConsumerConfig, name string) ConsumerConfig {
	tell := func(what string) func(context.Context, []Partition) {
		return func(_ context.Context, ps []Partition) {
			for _, p := range ps {
				e.add(fmt.Sprintf("%s %s %d", name, what, p.Index))
			}
		}
	}
	cfg.OnAssigned, cfg.OnRevoked, cfg.OnLost = tell("assigned"), tell("revoked"), tell("lost")
	return cfg
}

func TestPartitionsMoveToANewMemberOnceTheirRecordsAreHandled(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 2})
	w.write("t", 0, numbered("v", 0, 5)...)
	w.write("t", 1, numbered("v", 0, 5)...)
	var e events
	cfg := ConsumerConfig{Group: "g", Topics: []string{"t"}}
	amy := w.consumer(e.told(cfg, "amy"))
	poll(t, amy, 10)
	bob := w.consumer(e.told(cfg, "bob"))
	testkit.Eventually(t, "bob is a member", func() bool { return bob.member().epoch > 0 })
	// The coordinator has asked amy to give one up: she does not while she handles records.
	testkit.Eventually(t, "amy gives up", func() bool {
		amy.mu.Lock()
		defer amy.mu.Unlock()
		return slices.ContainsFunc([]Partition{{"t", 0}, {"t", 1}}, func(p Partition) bool {
			return amy.parts[p].revoking
		})
	})
	if n := len(bob.Assigned()); n != 0 || e.has("amy revoked 0") || e.has("amy revoked 1") {
		t.Fatalf("bob has %d partitions: %v", n, e.all)
	}
	w.write("t", 0, "more0")
	w.write("t", 1, "more1")
	got := poll(t, amy, 1) // the rest is handled, and the other partition goes
	got = append(got, poll(t, bob, 1)...)
	slices.Sort(got)
	same(t, got, []string{"more0", "more1"})
	moved := bob.Assigned()[0].Index
	a, b := fmt.Sprintf("amy revoked %d", moved), fmt.Sprintf("bob assigned %d", moved)
	e.mu.Lock()
	if i, j := slices.Index(e.all, a), slices.Index(e.all, b); i < 0 || j < i {
		t.Errorf("%q, then %q: %v", a, b, e.all)
	}
	e.mu.Unlock()
	if n := w.committed("g", "t", moved); n != 5 {
		t.Errorf("%d is committed of the partition that moved", n)
	}
	if err := amy.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "bob has both", func() bool { return len(bob.Assigned()) == 2 })
}

func TestAMemberThatWasFencedLosesItsPartitionsAndJoinsAgain(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 5)...)
	var e events
	c := w.consumer(e.told(ConsumerConfig{
		Group: "g", Topics: []string{"t"}, CommitInterval: -1}, "amy"))
	var lost []Partition
	c.hooks(nil, func(ps []Partition) { lost = ps })
	rs := poll(t, c, 5)
	epoch := c.member().epoch
	w.refusing(func(req *wire.ClientRequest) error { // while time passes
		if h := req.GetGroupHeartbeat(); h != nil {
			return messages.ErrUnavailable
		}
		return nil
	})
	w.pass("g", time.Hour)
	w.refusing(nil)
	testkit.Eventually(t, "the partition is lost", func() bool { return e.has("amy lost 0") })
	same(t, poll(t, c, 5), rs) // once more
	if e := c.member().epoch; e == epoch {
		t.Errorf("the epoch is %d still", e)
	}
	if len(lost) != 1 || e.has("amy revoked 0") {
		t.Errorf("lost %v, %v", lost, e.all)
	}
}

func TestACommitWithAnOldEpochIsMadeAgainWithTheNewOne(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, "v")
	c := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}, CommitInterval: -1})
	poll(t, c, 1)
	stale := true
	w.refusing(func(req *wire.ClientRequest) error {
		if req.GetCommitOffsets() != nil && stale {
			stale = false
			return group.ErrStaleMemberEpoch
		}
		return nil
	})
	if err := c.Commit(within(t)); err != nil || w.committed("g", "t", 0) != 1 {
		t.Errorf("%v, %d is committed", err, w.committed("g", "t", 0))
	}
	w.refusing(func(req *wire.ClientRequest) error {
		if req.GetCommitOffsets() != nil {
			return group.ErrUnknownMember
		}
		return nil
	})
	w.write("t", 0, "w")
	poll(t, c, 1)
	if err := c.Commit(within(t)); !errors.Is(err, ErrNotAssigned) {
		t.Errorf("of a member that is none: %v", err)
	}
}

func TestAnOpenTransactionHoldsUpOnlyThePartitionsWhoseOffsetsItHas(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 2})
	w.write("t", 0, "zero")
	w.write("t", 1, "one")
	var mu sync.Mutex
	open := true
	unstable := readWorldUnstable{w, func() bool { mu.Lock(); defer mu.Unlock(); return open }}
	client := newClient(Config{}, unstable, func(context.Context) error { return nil })
	c, err := client.NewConsumer(t.Context(), ConsumerConfig{Group: "g", Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(context.Background()) })
	same(t, poll(t, c, 1), []string{"one"})
	mu.Lock()
	open = false
	mu.Unlock()
	same(t, poll(t, c, 1), []string{"zero"})
}

// readWorldUnstable has a transaction open on partition 0 while open says so.
type readWorldUnstable struct {
	*readWorld
	open func() bool
}

func (w readWorldUnstable) AskCoordinator(ctx context.Context, kind coord.Kind, key string,
	req *wire.ClientRequest) (*wire.ClientResponse, error) {
	resp, err := w.readWorld.AskCoordinator(ctx, kind, key, req)
	for _, at := range resp.GetFetchedOffsets().GetPositions() {
		if at.Partition == 0 && w.open() {
			at.Error = wire.FromError(group.ErrUnstableOffset)
		}
	}
	return resp, err
}

func TestAStaticMemberWaitsForItsNameAndEndsWhenItIsTaken(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	cfg := ConsumerConfig{Group: "g", Topics: []string{"t"}, InstanceID: "one"}
	first := w.consumer(cfg)
	testkit.Eventually(t, "the first one has it", func() bool { return len(first.Assigned()) == 1 })
	second := w.consumer(cfg)
	testkit.Eventually(t, "the second one was told to wait", func() bool {
		second.mu.Lock()
		defer second.mu.Unlock()
		return w.groups["g"] != nil && second.ended == nil
	})
	if err := first.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the second one has it", func() bool { return len(second.Assigned()) == 1 })
	w.refusing(func(req *wire.ClientRequest) error {
		if req.GetGroupHeartbeat() != nil {
			return group.ErrFencedInstance
		}
		return nil
	})
	if _, err := second.Poll(within(t)); !errors.Is(err, ErrFenced) {
		t.Errorf("the second one ends with %v", err)
	}
	testkit.Eventually(t, "the partition is lost", func() bool { return len(second.Assigned()) == 0 })
}

func TestAMemberThatTheGroupDoesNotTakeEnds(t *testing.T) {
	for _, c := range []struct{ says, want error }{
		{group.ErrFull, ErrGroupFull}, {group.ErrInvalidRegex, ErrConfig},
		{group.ErrInvalidGroupID, ErrConfig},
	} {
		t.Run(c.says.Error(), func(t *testing.T) {
			w := newReadWorld(t, map[string]int{"t": 1})
			w.refusing(func(*wire.ClientRequest) error { return c.says })
			consumer := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}})
			_, err := consumer.Poll(within(t))
			if !errors.Is(err, c.want) || !errors.Is(err, c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestProcessIsAskedToFinishBeforePartitionsGo(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 4)...)
	c := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}})
	c.hooks(func(_ context.Context, ps []Partition) {
		for _, p := range ps {
			c.handled(p, 3, 0)
			c.handled(p, 2, 0) // older ones do not count
			c.handled(p, 9, 0) // nor those that were not handed out
		}
	}, nil)
	if _, err := c.next(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if n := w.committed("g", "t", 0); n != 3 {
		t.Errorf("%d is committed", n)
	}
}

func TestCommitAndSeekMayBeCalledFromCallbacks(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 4)...)
	var c *Consumer
	made := make(chan struct{})
	cfg := ConsumerConfig{Group: "g", Topics: []string{"t"}, CommitInterval: -1}
	cfg.OnAssigned = func(ctx context.Context, ps []Partition) {
		<-made
		if err := c.Seek(ctx, Position{ps[0], AtOffset(2)}); err != nil {
			t.Error(err)
		}
	}
	cfg.OnRevoked = func(ctx context.Context, _ []Partition) {
		if err := c.Commit(ctx); err != nil {
			t.Error(err)
		}
	}
	c = w.consumer(cfg)
	close(made)
	same(t, poll(t, c, 2), numbered("v", 2, 4))
	if err := c.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if n := w.committed("g", "t", 0); n != 4 {
		t.Errorf("%d is committed", n)
	}
}
