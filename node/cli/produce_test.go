package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestWhatWasProducedIsReadBackByteForByte(t *testing.T) {
	c := newCluster(t)
	for name, input := range map[string]string{
		"no-input":         "",
		"one-empty-line":   "\n",
		"empty-lines":      "\n\na\n\n\nb\n\n",
		"crlf":             "a\r\nb\r\n\r\n",
		"binary":           "\x00\xff\xfe\n\x80\x00\n",
		"long-lines":       strings.Repeat("x", 900_000) + "\n" + strings.Repeat("yz", 300_000) + "\n",
		"many-lines":       strings.Repeat("line\n", 3*chunkRecords+17),
		"many-empty-lines": strings.Repeat("\n", 2*chunkRecords),
		"lines-of-a-chunk": strings.Repeat("x", chunkBytes) + "\n" +
			strings.Repeat("y", chunkBytes-1) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			succeed(t, c, "", "topic", "create", name, "--partitions", "1")
			succeed(t, c, input, "produce", name)
			if got := succeed(t, c, "", "consume", name); got != input {
				t.Errorf("read %d bytes, wrote %d", len(got), len(input))
			}
		})
	}
}

func TestALastLineWithoutANewlineIsARecord(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	succeed(t, c, "a\nb", "produce", "orders")
	if got := succeed(t, c, "", "consume", "orders"); got != "a\nb\n" {
		t.Errorf("read %q", got)
	}
}

func TestEveryCodecAndEveryAcksKeepsTheBytes(t *testing.T) {
	c := newCluster(t)
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "2026-03-01T09:00:00Z INFO request %d served in %d ms\n", i, i%97)
	}
	file := filepath.Join(t.TempDir(), "app.log")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		for _, acks := range []string{"all", "1", "0"} {
			if codec != "none" && acks != "all" {
				continue
			}
			topic := codec + "-" + acks
			succeed(t, c, "", "topic", "create", topic, "--partitions", "1")
			r := troupe(t, c, "", "produce", topic, "--file", file, "--codec", codec, "--acks", acks)
			if r.code != ExitOK || !strings.HasPrefix(r.err, "10,000 records, ") {
				t.Fatalf("%s: exit %d: %s", topic, r.code, r.err)
			}
			if acks == "0" { // acknowledged by nobody, so wait until they are there
				awaitEnd(t, c, topic, 10_000)
			}
			if got := succeed(t, c, "", "consume", topic); got != text.String() {
				t.Errorf("%s: read other bytes than were written", topic)
			}
			if got := records(t, c, topic)[0].Attrs.CompressionType(); int(got) != i {
				t.Errorf("%s: batches have codec %d, want %d", topic, got, i)
			}
		}
	}
}

// awaitEnd waits until partition 0 of topic has n records.
func awaitEnd(t *testing.T, c *kfake.Cluster, topic string, n int64) {
	t.Helper()
	cl := client(t, c, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {0: kgo.NewOffset().At(n - 1)}}))
	for {
		fetches := cl.PollFetches(t.Context())
		if fetches.NumRecords() > 0 {
			return
		}
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// records reads one poll of partition 0 with a plain client.
func records(t *testing.T, c *kfake.Cluster, topic string) []*kgo.Record {
	t.Helper()
	cl := client(t, c, kgo.ConsumeTopics(topic))
	fetches := cl.PollFetches(t.Context())
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	return fetches.Records()
}

func TestKeysHeadersAndPartitionAreThoseOfTheFlags(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(3, "orders"))
	succeed(t, c, "k1\tv1\n\tv2\nk3\t\nk4\tv\t4\n", "produce", "orders", "--key-separator", `\t`,
		"--header", "a=1", "--header", "b=x=y", "--partition", "2")
	got := succeed(t, c, "", "consume", "orders", "--format", `%t/%p@%o %K[%k] %S[%v] %h\n`)
	want := "orders/2@0 2[k1] 2[v1] a=1,b=x=y\n" +
		"orders/2@1 0[] 2[v2] a=1,b=x=y\n" +
		"orders/2@2 2[k3] 0[] a=1,b=x=y\n" +
		"orders/2@3 2[k4] 3[v\t4] a=1,b=x=y\n"
	if got != want {
		t.Errorf("read\n%s\nwant\n%s", got, want)
	}
}

func TestTheFirstBadLineEndsTheRunAndThoseBeforeItAreWritten(t *testing.T) {
	for _, tt := range []struct {
		name  string
		input string
		args  []string
		kept  string
		err   string
	}{
		{name: "no-separator", input: "a:1\nb:2\nc\nd:4\n", args: []string{"--key-separator", ":"},
			kept: "1\n2\n", err: `line 3: no key separator ":" in it; ` +
				`every line needs one with --key-separator`},
		{name: "too-long", input: "a\n" + strings.Repeat("x", 2_000_000) + "\nb\n", kept: "a\n",
			err: `line 2: too large for a batch of 1000012 bytes or for the topic; ` +
				`raise --batch-bytes and the topic's max.message.bytes`},
		{name: "too-long-without-newline", input: "a\n" + strings.Repeat("x", 5_000_000),
			kept: "a\n", err: `line 2: too large for a batch of 1000012 bytes or for the topic; ` +
				`raise --batch-bytes and the topic's max.message.bytes`},
		{name: "too-large-with-its-frame", input: "a\n" + strings.Repeat("x", 600) + "\n",
			args: []string{"--batch-bytes", "600"}, kept: "a\n",
			err: `line 2: too large for a batch of 600 bytes or for the topic; ` +
				`raise --batch-bytes and the topic's max.message.bytes`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t, kfake.SeedTopics(1, "orders"))
			r := troupe(t, c, tt.input, append([]string{"produce", "orders", "-q"}, tt.args...)...)
			if r.code != ExitFailure || r.err != "troupe: produce: "+tt.err+"\n" {
				t.Errorf("exit %d, stderr %q", r.code, r.err)
			}
			if got := succeed(t, c, "", "consume", "orders"); got != tt.kept {
				t.Errorf("the topic has %q, want %q", got, tt.kept)
			}
		})
	}
}

func TestALineTheBrokerRefusesIsNamed(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	served := 0
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if served++; served == 1 {
			return nil, nil, false // the first batch is taken as usual
		}
		return refuseProduce(req.(*kmsg.ProduceRequest), kerr.InvalidRecord.Code), nil, true
	})
	lines := strings.Repeat(strings.Repeat("x", 99)+"\n", 100)
	r := troupe(t, c, lines, "produce", "orders", "--batch-bytes", "1024", "-q")
	n := strings.Count(succeed(t, c, "", "consume", "orders"), "\n")
	want := fmt.Sprintf("troupe: produce: line %d: ", n+1)
	if r.code != ExitFailure || n == 0 || !strings.HasPrefix(r.err, want) ||
		!strings.Contains(r.err, "(INVALID_RECORD)") {
		t.Errorf("%d records taken, exit %d, stderr %q", n, r.code, r.err)
	}
}

// refuseProduce answers every partition of req with code.
func refuseProduce(req *kmsg.ProduceRequest, code int16) *kmsg.ProduceResponse {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, rt := range req.Topics {
		st := kmsg.NewProduceResponseTopic()
		st.Topic, st.TopicID = rt.Topic, rt.TopicID
		for _, rp := range rt.Partitions {
			sp := kmsg.NewProduceResponseTopicPartition()
			sp.Partition, sp.ErrorCode = rp.Partition, code
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

func TestASilentBrokerEndsTheRunAfterTheTimeout(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return refuseProduce(req.(*kmsg.ProduceRequest), kerr.NotEnoughReplicas.Code), nil, true
	})
	r := troupe(t, c, "a\n", "produce", "orders", "--timeout", "1s")
	if r.code != ExitFailure || !strings.HasPrefix(r.err, "troupe: produce: line 1: ") {
		t.Errorf("exit %d, stderr %q", r.code, r.err)
	}
}

func TestABrokerThatWentAwayDoesNotHideTheLine(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	stdin, typed := io.Pipe()
	ended := make(chan result, 1)
	go func() {
		ended <- troupeContext(t.Context(), c, stdin, "produce", "orders", "--timeout", "1s")
	}()
	io.WriteString(typed, "a\n")
	awaitEnd(t, c, "orders", 1)
	c.Close()
	io.WriteString(typed, "b\n")
	typed.Close()
	r := <-ended
	if r.code != ExitFailure || !strings.Contains(r.err, "troupe: produce: line 2: ") {
		t.Errorf("exit %d, stderr %q", r.code, r.err)
	}
}

func TestAnInterruptDeliversWhatWasRead(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	ctx, interrupt := context.WithCancel(t.Context())
	stdin, typed := io.Pipe()
	defer typed.Close()
	ended := make(chan result, 1)
	go func() { ended <- troupeContext(ctx, c, stdin, "produce", "orders") }()
	io.WriteString(typed, "a\nb\nhalf a li")
	awaitEnd(t, c, "orders", 2)
	interrupt()
	r := <-ended
	if r.code != ExitFailure ||
		!strings.HasSuffix(r.err, "troupe: produce: interrupted; 2 records acknowledged\n") {
		t.Errorf("exit %d, stderr %q", r.code, r.err)
	}
}

// A cluster that does not answer must stop the reading, or a large input would
// end up in memory.
func TestReadingStopsWhileTooMuchIsUnacknowledged(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	ctx, interrupt := context.WithCancel(t.Context())
	held := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-held })
		return nil, nil, false
	})
	in := &endless{line: []byte(strings.Repeat("x", 999) + "\n")}
	ended := make(chan result, 1)
	go func() { ended <- troupeContext(ctx, c, in, "produce", "orders", "--timeout", "1s") }()
	// It has stopped when it reads nothing for the time of many requests.
	cl := client(t, c)
	for before, same := int64(0), 0; same < 200; before = in.read.Load() {
		if err := cl.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if same++; in.read.Load() != before || before == 0 {
			same = 0
		}
	}
	if got := in.read.Load(); got > inFlightMax+4*chunkBytes {
		t.Errorf("read %d bytes ahead, at most %d", got, inFlightMax+4*chunkBytes)
	}
	interrupt()
	close(held)
	if r := <-ended; r.code != ExitFailure {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// endless is an input that never ends and counts what was read.
type endless struct {
	line []byte
	at   int
	read atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], e.line[e.at:])
		n, e.at = n+k, (e.at+k)%len(e.line)
	}
	e.read.Add(int64(n))
	return n, nil
}

// linesOf is the slow, obvious twin of lineReader.
func linesOf(input []byte) []string {
	if len(input) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(input), "\n"), "\n")
}

// readLines gathers the values a lineReader makes of in, using its chunks again
// as soon as they were looked at.
func readLines(t *testing.T, in io.Reader, lineMax int) ([]string, error) {
	t.Helper()
	l := &lineReader{in: in, ctx: t.Context(), lineMax: lineMax}
	var got []string
	for {
		c, err := l.next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		if c.firstLine != int64(len(got)+1) {
			t.Fatalf("chunk begins at line %d after %d lines", c.firstLine, len(got))
		}
		for i := range c.records {
			got = append(got, string(c.records[i].Value))
			if n := c.line(&c.records[i]); n != int64(len(got)) {
				t.Fatalf("record %d says it is line %d", len(got), n)
			}
		}
		l.recycle(c)
	}
}

func TestLinesDoNotDependOnHowTheInputArrives(t *testing.T) {
	for seed := range int64(8) {
		source := rand.NewChaCha8([32]byte{byte(seed)})
		rng := rand.New(source)
		input := make([]byte, rng.IntN(3*chunkBytes))
		source.Read(input)
		for i := range input { // newlines often enough for lines of every length
			if input[i] < byte(1+rng.IntN(8)) {
				input[i] = '\n'
			}
		}
		want := linesOf(input)
		for name, in := range map[string]io.Reader{
			"at once":   bytes.NewReader(input),
			"by halves": iotest.HalfReader(bytes.NewReader(input)),
			"with EOF":  iotest.DataErrReader(bytes.NewReader(input)),
		} {
			got, err := readLines(t, in, len(input))
			if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") ||
				len(got) != len(want) {
				t.Fatalf("seed %d %s: %d lines, want %d (%v)", seed, name, len(got), len(want), err)
			}
		}
	}
}

func TestAReadErrorIsNoEndOfInput(t *testing.T) {
	in := io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(io.ErrUnexpectedEOF))
	got, err := readLines(t, in, 100)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 1 {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\n\nb"), uint16(3))
	f.Add([]byte("\n"), uint16(0))
	f.Add([]byte("\r\n\x00long line\n"), uint16(4))
	f.Fuzz(func(t *testing.T, input []byte, lineMax uint16) {
		want := linesOf(input)
		var bad *lineError
		got, err := readLines(t, iotest.OneByteReader(bytes.NewReader(input)), int(lineMax))
		for i, line := range got {
			if line != want[i] || len(line) > int(lineMax) {
				t.Fatalf("line %d is %q, want %q", i+1, line, want[i])
			}
		}
		if err == nil && len(got) != len(want) {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
		if err != nil && (!errors.As(err, &bad) || bad.line != int64(len(got)+1) ||
			len(want[len(got)]) <= int(lineMax)) {
			t.Fatalf("error %v after %d lines", err, len(got))
		}
	})
}
