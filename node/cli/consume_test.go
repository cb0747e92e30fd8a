package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// noon is when the records of the tests were made.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fill writes n records to each partition of topic, a minute apart from noon on.
func fill(t *testing.T, c *kfake.Cluster, topic string, partitions int32, n int) {
	t.Helper()
	cl := client(t, c, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for p := range partitions {
		for i := range n {
			r := &kgo.Record{Topic: topic, Partition: p, Value: fmt.Appendf(nil, "%d-%d", p, i),
				Timestamp: noon.Add(time.Duration(i) * time.Minute)}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFromSaysWhereToBegin(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "orders"))
	fill(t, c, "orders", 2, 5)
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"at the start, unless told", nil, "0-0 0-1 0-2 0-3 0-4 1-0 1-1 1-2 1-3 1-4"},
		{"at the start", []string{"--from", "start", "-p", "1"}, "1-0 1-1 1-2 1-3 1-4"},
		{"at the end there is nothing", []string{"--from", "end"}, ""},
		{"at an offset", []string{"--from", "3"}, "0-3 0-4 1-3 1-4"},
		{"at the end offset there is nothing", []string{"--from", "5"}, ""},
		{"some records before the end", []string{"--from", "-1"}, "0-4 1-4"},
		{"more records than there are", []string{"--from", "-99", "-p", "0"},
			"0-0 0-1 0-2 0-3 0-4"},
		{"at a time", []string{"--from", "2026-03-01T12:03:00Z"}, "0-3 0-4 1-3 1-4"},
		{"at a time between records", []string{"--from", "2026-03-01T12:02:30Z", "-p", "1"},
			"1-3 1-4"},
		{"at a time in milliseconds", []string{"--from", fmt.Sprintf("@%d",
			noon.Add(4*time.Minute).UnixMilli())}, "0-4 1-4"},
		{"after the last time there is nothing", []string{"--from", "2100-01-01"}, ""},
		{"before the first time is the start", []string{"--from", "2000-01-01", "-p", "0"},
			"0-0 0-1 0-2 0-3 0-4"},
		{"so many and no more", []string{"--count", "2", "-p", "0"}, "0-0 0-1"},
		{"the count is over all partitions", []string{"--from", "-1", "--count", "2"}, "0-4 1-4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := succeed(t, c, "", append([]string{"consume", "orders"}, tt.args...)...)
			got := strings.Fields(out)
			slices.Sort(got) // partitions come in any order
			if strings.Join(got, " ") != tt.want {
				t.Errorf("read %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPlacesAreReadAsMeant(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	for text, want := range map[string]origin{
		"start":                     {fromStart, 0, "--from"},
		"end":                       {fromEnd, 0, "--from"},
		"0":                         {fromOffset, 0, "--from"},
		"1234":                      {fromOffset, 1234, "--from"},
		"-5":                        {fromLast, 5, "--from"},
		"@1700000000000":            {fromTime, 1_700_000_000_000, "--from"},
		"2026-03-01T09:00:00Z":      {fromTime, 1_772_355_600_000, "--from"},
		"2026-03-01T10:00:00+01:00": {fromTime, 1_772_355_600_000, "--from"},
		"2026-03-01T10:00:00":       {fromTime, 1_772_355_600_000, "--from"},
		"2026-03-01 10:00:00":       {fromTime, 1_772_355_600_000, "--from"},
		"2026-03-01T10:00":          {fromTime, 1_772_355_600_000, "--from"},
		"2026-03-01 10:00":          {fromTime, 1_772_355_600_000, "--from"},
		"2026-03-01":                {fromTime, 1_772_319_600_000, "--from"},
		"2d":                        {fromTime, now.UnixMilli() - 2*86_400_000, "--from"},
		"10m":                       {fromTime, now.UnixMilli() - 600_000, "--from"},
		"10m ago":                   {fromTime, now.UnixMilli() - 600_000, "--from"},
		"1h30m ago":                 {fromTime, now.UnixMilli() - 5_400_000, "--from"},
	} {
		if got, err := parseOrigin("--from", text, now); err != nil || got != want {
			t.Errorf("%q is %+v (%v), want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-", "@", "@-1", "ago", "-10m", "-2d", "d", "12x", "1.5",
		"1960-01-01", "99999999999999999999", "tomorrow"} {
		if got, err := parseOrigin("--from", text, now); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		}
	}
}

func FuzzPlacesAreInBounds(f *testing.F) {
	for _, s := range []string{"start", "-1", "@5", "10m ago", "2026-03-01", "-9223372036854775808"} {
		f.Add(s, int64(3), int64(10), int64(5))
	}
	f.Fuzz(func(t *testing.T, text string, start, end, atTime int64) {
		if start < 0 || end < start {
			return // no log is like that
		}
		o, err := parseOrigin("--from", text, noon)
		if err != nil {
			return
		}
		at, err := o.place(start, end, atTime)
		if err == nil && (at < start || at > end) {
			t.Fatalf("%q begins at %d, outside %d to %d", text, at, start, end)
		}
	})
}

func TestJSONHasTheseFields(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	cl := client(t, c)
	for _, r := range []*kgo.Record{
		{Topic: "orders", Key: []byte("k"), Value: []byte("a\n\"é"), Timestamp: noon,
			Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("x")}, {Key: "n"}}},
		{Topic: "orders", Value: nil, Key: []byte{}, Timestamp: noon},
		{Topic: "orders", Value: []byte{0xff}, Timestamp: noon},
	} {
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"topic":"orders","partition":0,"offset":0,"timestamp":1772366400000,"key":"k",` +
		`"value":"a\n\"é","headers":[{"key":"h","value":"x"},{"key":"n","value":null}]}` + "\n" +
		`{"topic":"orders","partition":0,"offset":1,"timestamp":1772366400000,"key":"",` +
		`"value":null,"headers":[]}` + "\n" +
		`{"topic":"orders","partition":0,"offset":2,"timestamp":1772366400000,"key":null,` +
		`"value":"/w==","valueEncoding":"base64","headers":[]}` + "\n"
	for _, args := range [][]string{{"--format", "json"}, {"-o", "json"}} {
		got := succeed(t, c, "", append([]string{"consume", "orders"}, args...)...)
		if got != want {
			t.Errorf("%v printed\n%s\nwant\n%s", args, got, want)
		}
	}
}

func TestFormatsPrintTheirTokens(t *testing.T) {
	r := &kgo.Record{Topic: "t", Partition: 3, Offset: 42, Timestamp: noon, Key: []byte("k"),
		Value: []byte("val"), Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b"}}}
	for format, want := range map[string]string{
		"":                      "",
		`%v\n`:                  "val\n",
		`%t/%p@%o %T`:           "t/3@42 1772366400000",
		`%k=%s (%K,%S) %h`:      "k=val (1,3) a=1,b=",
		`%R%v`:                  "\x00\x00\x00\x03val",
		`100%% \t\r\\\0\x7f%%v`: "100% \t\r\\\x00\x7f%v",
	} {
		show, err := parseFormat(format)
		if err != nil {
			t.Errorf("%q: %v", format, err)
			continue
		}
		if got := string(show(nil, r)); got != want {
			t.Errorf("%q printed %q, want %q", format, got, want)
		}
	}
	null, _ := parseFormat(`[%k|%v|%K|%S|%R]`)
	if got := string(null(nil, &kgo.Record{})); got != "[||-1|-1|\xff\xff\xff\xff]" {
		t.Errorf("nulls printed %q", got)
	}
	for _, format := range []string{"%", "%z", "a%", `\`, `\q`, `\x1`, `\xzz`} {
		if _, err := parseFormat(format); err == nil {
			t.Errorf("%q is taken", format)
		}
	}
}

func FuzzFormatsWithoutTokensPrintThemselves(f *testing.F) {
	f.Add("plain")
	f.Add("%v %% \\n \\x41")
	f.Add("%")
	f.Fuzz(func(t *testing.T, format string) {
		show, err := parseFormat(format)
		if err != nil || format == formatJSON {
			return
		}
		got := string(show(nil, &kgo.Record{Value: []byte("v")}))
		if !strings.ContainsAny(format, `%\`) && got != format {
			t.Fatalf("%q printed %q", format, got)
		}
	})
}

// watched is an output one can wait on.
type watched struct {
	mu   sync.Mutex
	cond *sync.Cond
	buf  bytes.Buffer // guarded by mu
}

func newWatched() *watched {
	w := &watched{}
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cond.Broadcast()
	return w.buf.Write(p)
}

// await waits until the output is want.
func (w *watched) await(want string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.buf.String() != want {
		w.cond.Wait()
	}
}

func TestFollowPrintsWhatComesUntilItIsInterrupted(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	succeed(t, c, "a\nb\n", "produce", "orders")
	ctx, interrupt := context.WithCancel(t.Context())
	out, errs := newWatched(), &bytes.Buffer{}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--brokers", c.ListenAddrs()[0], "consume", "orders", "--follow"},
			nil, out, errs, Deps{})
	}()
	out.await("a\nb\n")
	succeed(t, c, "c\n", "produce", "orders")
	out.await("a\nb\nc\n")
	interrupt()
	if got := <-code; got != ExitOK || !strings.HasPrefix(errs.String(), "3 records, 3 B in ") {
		t.Errorf("exit %d, stderr %q", got, errs.String())
	}
}

func TestAnInterruptPrintsWhatWasReadAndFails(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "orders"))
	succeed(t, c, "a\nb\n", "produce", "orders", "--partition", "0")
	succeed(t, c, "c\n", "produce", "orders", "--partition", "1")
	hideRecords(c, 1)
	ctx, interrupt := context.WithCancel(t.Context())
	out, errs := newWatched(), &bytes.Buffer{}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--brokers", c.ListenAddrs()[0], "consume", "orders"},
			nil, out, errs, Deps{})
	}()
	out.await("a\nb\n") // and partition 1 still owes its record
	interrupt()
	if got := <-code; got != ExitFailure ||
		!strings.HasSuffix(errs.String(), "troupe: consume: interrupted; 2 records printed\n") {
		t.Errorf("exit %d, stderr %q", got, errs.String())
	}
}

// hideRecords makes c answer fetches of a partition as if nothing were there.
func hideRecords(c *kfake.Cluster, partition int32) {
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		for i := range fetch.Topics {
			fetch.Topics[i].Partitions = slices.DeleteFunc(fetch.Topics[i].Partitions,
				func(p kmsg.FetchRequestTopicPartition) bool { return p.Partition == partition })
		}
		return nil, nil, false
	})
}

func TestACluserThatOwesRecordsAndSendsNoneIsAnError(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "orders"))
	succeed(t, c, "c\n", "produce", "orders", "--partition", "1")
	hideRecords(c, 1)
	r := troupe(t, c, "", "consume", "orders", "--timeout", "1s")
	want := "troupe: consume: partition 1 of \"orders\" sent nothing for 1s, at offset 0 of 1; " +
		"check the broker or raise --timeout\n"
	if r.code != ExitFailure || r.err != want {
		t.Errorf("exit %d, stderr %q, want %q", r.code, r.err, want)
	}
}

// Records that come while the command runs are not its business without --follow.
func TestConsumeEndsWhereTheTopicEndedWhenItBegan(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	succeed(t, c, "a\nb\n", "produce", "orders")
	cl := client(t, c)
	late := false
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !late { // the end was asked for before the first fetch
			late = true
			c.SleepControl(func() {
				err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: "orders",
					Value: []byte("late")}).FirstErr()
				if err != nil {
					t.Error(err)
				}
			})
		}
		return nil, nil, false
	})
	if got := succeed(t, c, "", "consume", "orders"); got != "a\nb\n" || !late {
		t.Errorf("read %q", got)
	}
}

func TestRecordsThatAreGoneAreAnErrorThatNamesTheOffset(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	succeed(t, c, "a\nb\nc\n", "produce", "orders")
	adm := kadm.NewClient(client(t, c))
	gone := false
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !gone {
			gone = true
			c.SleepControl(func() {
				var o kadm.Offsets
				o.Add(kadm.Offset{Topic: "orders", Partition: 0, At: 2})
				if _, err := adm.DeleteRecords(context.Background(), o); err != nil {
					t.Error(err)
				}
			})
		}
		return nil, nil, false
	})
	r := troupe(t, c, "", "consume", "orders", "-q")
	want := "troupe: consume: partition 0 of \"orders\" no longer holds offset 0; " +
		"it was deleted meanwhile; begin again with --from start\n"
	if r.code != ExitFailure || r.err != want {
		t.Errorf("exit %d, stdout %q, stderr %q, want %q", r.code, r.out, r.err, want)
	}
	if got := succeed(t, c, "", "consume", "orders"); got != "c\n" {
		t.Errorf("from the start: %q", got)
	}
}

// The last offset of an aborted transaction is a marker, which is no record.
func TestTransactionMarkersAreNotPrintedAndEndTheReading(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	cl := client(t, c, kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("orders"))
	ends := map[string]kgo.TransactionEndTry{"yes": kgo.TryCommit, "no": kgo.TryAbort}
	for value, end := range ends {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Fields(succeed(t, c, "", "consume", "orders"))
	slices.Sort(got)
	if strings.Join(got, " ") != "no yes" {
		t.Errorf("all records are %q", got)
	}
	if got := succeed(t, c, "", "consume", "orders", "--committed"); got != "yes\n" {
		t.Errorf("committed records are %q", got)
	}
}

func TestSeveralPartitionsAreAllReadInTheirOrder(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "orders"))
	var in strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&in, "%d\n", i)
	}
	succeed(t, c, in.String(), "produce", "orders")
	dec := json.NewDecoder(strings.NewReader(succeed(t, c, "", "consume", "orders", "-o", "json")))
	seen := map[string]bool{}
	next := map[int32]int64{}
	for {
		var r jsonRecord
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if r.Offset != next[r.Partition] {
			t.Fatalf("partition %d: offset %d after %d", r.Partition, r.Offset, next[r.Partition]-1)
		}
		next[r.Partition]++
		seen[*r.Value] = true
	}
	if len(seen) != 20_000 {
		t.Errorf("%d different records", len(seen))
	}
}

// A compaction may remove the records at the end of a log, and leave batches
// whose last offsets have no record.
func TestAGapAtTheEndEndsTheReading(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	succeed(t, c, "a\nb\nc\n", "produce", "orders") // so the end offset is 3
	bu := record.NewBuilder(record.Compression{})
	bu.AppendAt(0, 0, nil, []byte("a"))
	kept, err := bu.Build()
	if err != nil {
		t.Fatal(err)
	}
	batches := slices.Concat(kept.Bytes, emptyBatch(1, 2))
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return serveBatches(req.(*kmsg.FetchRequest), batches, 3), nil, true
	})
	if got := succeed(t, c, "", "consume", "orders"); got != "a\n" {
		t.Errorf("read %q", got)
	}
}

// emptyBatch is a batch of the offsets from first to last without a record.
func emptyBatch(first, last messages.Offset) []byte {
	b := make([]byte, record.HeaderSize)
	binary.BigEndian.PutUint64(b[0:], uint64(first))
	binary.BigEndian.PutUint32(b[8:], record.HeaderSize-12)
	b[16] = record.Magic
	binary.BigEndian.PutUint32(b[23:], uint32(last-first))
	binary.BigEndian.PutUint64(b[43:], 1<<64-1)
	binary.BigEndian.PutUint16(b[51:], 1<<16-1)
	binary.BigEndian.PutUint32(b[53:], 1<<32-1)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// serveBatches answers a fetch below end with the batches, and one at end with none.
func serveBatches(req *kmsg.FetchRequest, batches []byte, end int64) *kmsg.FetchResponse {
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	for _, rt := range req.Topics {
		st := kmsg.NewFetchResponseTopic()
		st.Topic, st.TopicID = rt.Topic, rt.TopicID
		for _, rp := range rt.Partitions {
			sp := kmsg.NewFetchResponseTopicPartition()
			sp.Partition, sp.HighWatermark, sp.LastStableOffset = rp.Partition, end, end
			sp.RecordBatches = []byte{}
			if rp.FetchOffset < end {
				sp.RecordBatches = batches
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

func TestGapsAreFoundInBatches(t *testing.T) {
	bu := record.NewBuilder(record.Compression{}).BaseOffset(10)
	bu.AppendAt(0, 0, nil, []byte("a"))
	bu.AppendAt(5, 0, nil, []byte("b"))
	full, err := bu.Build() // 10 and 15
	if err != nil {
		t.Fatal(err)
	}
	batches := slices.Concat(full.Bytes, emptyBatch(16, 19), emptyBatch(25, 29))
	for _, tt := range []struct {
		name       string
		batches    []byte
		next, want int64
	}{
		{"no bytes, no gap", nil, 7, 7},
		{"a record behind next is to come", batches, 12, 12},
		{"next itself is to come", batches, 15, 15},
		{"behind the last record all is a gap", batches, 16, 30},
		{"a gap between batches is one", batches, 20, 30},
		{"batches before next do not count", batches, 30, 30},
		{"half a batch is not looked at", batches[:len(batches)-1], 16, 20},
		{"damage is not looked at", append([]byte("x"), batches...), 16, 16},
	} {
		if got := afterGap(tt.batches, tt.next); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
