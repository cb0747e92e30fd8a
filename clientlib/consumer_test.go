package clientlib

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
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
		"impossible":       {Group: "g", Topics: []string{"a b"}},
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

func TestANodeThatIsNotTheLeaderAnyMoreHasTheConsumerAskWhoIs(t *testing.T) {
	for name, change := range map[string]func(l *readLog){
		"another node leads":       func(l *readLog) { l.leader, l.epoch = 2, l.epoch+1 },
		"the same one leads, anew": func(l *readLog) { l.epoch++ },
	} {
		t.Run(name, func(t *testing.T) {
			w := newReadWorld(t, map[string]int{"t": 1})
			c := w.consumer(direct("t", 0, Earliest))
			w.write("t", 0, "a")
			same(t, poll(t, c, 1), []string{"a"})
			w.mu.Lock()
			change(w.topics["t"].parts[0]) // nobody is told
			w.mu.Unlock()
			w.write("t", 0, "b")
			same(t, poll(t, c, 1), []string{"b"})
		})
	}
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

func TestOffsetsThatAreDamagedAreAnErrorAndNotAPanic(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 3)...)
	w.write("t", 0, numbered("v", 3, 6)...)
	w.mu.Lock()
	w.damage = func(b []byte) []byte {
		b = slices.Clone(b)
		b[4] ^= 1 // of the first batch's offset, which its checksum does not cover
		return b
	}
	w.mu.Unlock()
	c := w.consumer(direct("t", 0, Earliest))
	if rs, err := c.Poll(within(t)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%d records, %v", len(rs), err)
	}
	w.mu.Lock()
	w.damage = nil
	w.mu.Unlock()
	var got []string
	for len(got) < 6 {
		rs, err := c.Poll(within(t))
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		for _, r := range rs {
			got = append(got, string(r.Value))
		}
	}
	same(t, got, numbered("v", 0, 6))
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
