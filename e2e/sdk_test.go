package e2e

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/testkit"
	"github.com/troupelog/troupe/testkit/sdk"
)

// sdkNode is a node that programs with the SDK can reach.
func sdkNode(t *testing.T, opts ...testkit.Option) (*testkit.Node, *clientlib.Client) {
	t.Helper()
	n := testkit.StartNode(t, append(opts, testkit.Args("--actor-addr", "127.0.0.1:0"))...)
	return n, sdk.Dial(t, clientlib.Config{Nodes: []string{n.Actor}})
}

// sdkWrite writes records with the SDK and waits until they are acknowledged.
func sdkWrite(
	t *testing.T, c *clientlib.Client, cfg clientlib.ProducerConfig, rs ...*clientlib.Record,
) {
	t.Helper()
	p, err := c.NewProducer(patient(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Produce(patient(t), rs...); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(patient(t)); err != nil {
		t.Fatal(err)
	}
}

// sdkConsumer is closed with the test at the latest.
func sdkConsumer(
	t *testing.T, c *clientlib.Client, cfg clientlib.ConsumerConfig,
) (_ *clientlib.Consumer, leave func()) {
	t.Helper()
	consumer, err := c.NewConsumer(patient(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	leave = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := consumer.Close(ctx); err != nil {
			t.Errorf("closing a consumer: %v", err)
		}
	})
	t.Cleanup(leave)
	return consumer, leave
}

// sdkRead polls until there are count records.
func sdkRead(t *testing.T, c *clientlib.Consumer, count int) (rs []*clientlib.Record) {
	t.Helper()
	ctx := patient(t)
	for len(rs) < count {
		more, err := c.Poll(ctx)
		if err != nil {
			t.Fatalf("after %d of %d records: %v", len(rs), count, err)
		}
		rs = append(rs, more...)
	}
	return rs
}

// everyPartition is where to read all of a topic from.
func everyPartition(topic string, partitions int32) (ps []clientlib.Position) {
	for p := range partitions {
		ps = append(ps, clientlib.Position{
			Partition: clientlib.Partition{Topic: topic, Index: p}, Start: clientlib.Earliest})
	}
	return ps
}

// shapes are records of every kind, by turns.
func shapes(count int) (rs []*kgo.Record) {
	at := time.UnixMilli(1_700_000_000_123)
	large := bytes.Repeat([]byte("a large value, that compresses well; "), 16<<10)
	values := [][]byte{[]byte("a value"), nil, {}, large, []byte("Grüße\x00\xff")}
	headers := [][]kgo.RecordHeader{nil, {{Key: "a", Value: []byte("1")}, {Key: "a"}},
		{{Key: "Grüße", Value: []byte{}}}}
	for i := range count {
		key := fmt.Appendf(nil, "key %d", i)
		if i%7 == 0 {
			key = nil
		}
		rs = append(rs, &kgo.Record{Key: key, Value: values[i%len(values)],
			Headers: headers[i%len(headers)], Timestamp: at.Add(time.Duration(i) * time.Millisecond)})
	}
	return rs
}

// text tells all of a record that a client may see.
func text(r *kgo.Record) string {
	var b strings.Builder
	show := func(v []byte) {
		fmt.Fprintf(&b, " %v %d:%x", v == nil, len(v), v[:min(len(v), 64)])
	}
	fmt.Fprintf(&b, "%d", r.Timestamp.UnixMilli())
	show(r.Key)
	show(r.Value)
	for _, h := range r.Headers {
		fmt.Fprintf(&b, " %s=", h.Key)
		fmt.Fprintf(&b, "%x", h.Value)
	}
	return b.String()
}

func fromSDK(r *clientlib.Record) *kgo.Record {
	k := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key,
		Value: r.Value, Timestamp: r.Time}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return k
}

func toSDK(topic string, r *kgo.Record) *clientlib.Record {
	own := &clientlib.Record{Topic: topic, Key: r.Key, Value: r.Value, Time: r.Timestamp}
	for _, h := range r.Headers {
		own.Headers = append(own.Headers, clientlib.Header{Key: h.Key, Value: h.Value})
	}
	return own
}

func TestRecordsOfTheSDKAndOfKafkaClientsAreTheSame(t *testing.T) {
	const partitions, count = 3, 210
	node, c := sdkNode(t)
	own := []clientlib.Compression{clientlib.Uncompressed, clientlib.Gzip, clientlib.Snappy,
		clientlib.LZ4, clientlib.Zstd}
	theirs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(),
		kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	var want []string
	for _, r := range shapes(count) {
		want = append(want, text(r))
	}
	for i, codec := range codecs {
		t.Run(codec.name, func(t *testing.T) {
			t.Run("from the SDK", func(t *testing.T) {
				topic := "sdk-" + codec.name
				createTopic(t, node, topic, partitions)
				var rs []*clientlib.Record
				for _, r := range shapes(count) {
					rs = append(rs, toSDK(topic, r))
				}
				sdkWrite(t, c, clientlib.ProducerConfig{Compression: own[i]}, rs...)
				var got []string
				readAll(t, node, topic, func(r *kgo.Record) { got = append(got, text(r)) })
				if !sameSet(got, want) {
					t.Errorf("franz-go read %.300q, want %.300q", got, want)
				}
			})
			t.Run("to the SDK", func(t *testing.T) {
				topic := "franz-" + codec.name
				createTopic(t, node, topic, partitions)
				p := client(t, node, kgo.DefaultProduceTopic(topic),
					kgo.ProducerBatchCompression(theirs[i]))
				if err := p.ProduceSync(patient(t), shapes(count)...).FirstErr(); err != nil {
					t.Fatal(err)
				}
				reader, _ := sdkConsumer(t, c, clientlib.ConsumerConfig{
					Partitions: everyPartition(topic, partitions)})
				var got []string
				for _, r := range sdkRead(t, reader, count) {
					got = append(got, text(fromSDK(r)))
				}
				if !sameSet(got, want) {
					t.Errorf("the SDK read %.300q, want %.300q", got, want)
				}
			})
		})
	}
}

func TestTheSDKChoosesThePartitionsThatKafkaClientsChoose(t *testing.T) {
	node, c := sdkNode(t)
	rng := seeded(t)
	for _, partitions := range []int32{1, 3, 7, 12} {
		topic := fmt.Sprint("keys-", partitions)
		createTopic(t, node, topic, partitions)
		var own []*clientlib.Record
		var theirs []*kgo.Record
		for range 500 {
			key := make([]byte, rng.IntN(40))
			for i := range key {
				key[i] = byte(rng.Uint32())
			}
			own = append(own, &clientlib.Record{Topic: topic, Key: key})
			theirs = append(theirs, &kgo.Record{Topic: topic, Key: key})
		}
		sdkWrite(t, c, clientlib.ProducerConfig{}, own...)
		if err := client(t, node).ProduceSync(patient(t), theirs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for i := range own {
			if own[i].Partition != theirs[i].Partition {
				t.Errorf("of %d partitions the SDK chooses %d for the key %x, and franz-go %d",
					partitions, own[i].Partition, own[i].Key, theirs[i].Partition)
			}
		}
	}
}

func TestTheSDKAndKcatReadEachOther(t *testing.T) {
	node, c := sdkNode(t)
	createTopic(t, node, "to-kcat", 1)
	createTopic(t, node, "from-kcat", 1)
	var want []string
	var rs []*clientlib.Record
	for i := range 1000 {
		want = append(want, fmt.Sprintf("key %d=value %d", i, i))
		rs = append(rs, &clientlib.Record{Topic: "to-kcat",
			Key: fmt.Appendf(nil, "key %d", i), Value: fmt.Appendf(nil, "value %d", i)})
	}
	sdkWrite(t, c, clientlib.ProducerConfig{Compression: clientlib.Zstd}, rs...)
	got := testkit.Command(t, "", "kcat", "-b", node.Kafka, "-C", "-t", "to-kcat", "-p", "0",
		"-o", "beginning", "-e", "-q", "-f", "%k=%s\n", "-X", "check.crcs=true")
	if got != strings.Join(want, "\n")+"\n" {
		t.Errorf("kcat read %.200q", got)
	}
	testkit.Command(t, strings.Join(want, "\n"), "kcat", "-b", node.Kafka, "-P", "-K=",
		"-t", "from-kcat", "-z", "lz4")
	reader, _ := sdkConsumer(t, c, clientlib.ConsumerConfig{
		Partitions: everyPartition("from-kcat", 1)})
	for i, r := range sdkRead(t, reader, len(want)) {
		if line := fmt.Sprintf("%s=%s", r.Key, r.Value); line != want[i] || r.Offset != int64(i) {
			t.Fatalf("record %d at offset %d is %q, want %q", i, r.Offset, line, want[i])
		}
	}
}

// A member with the SDK and one with franz-go share a topic, and what one has committed
// the other goes on from.
func TestTheSDKAndFranzGoShareAGroup(t *testing.T) {
	const partitions = 4
	node, c := sdkNode(t, testkit.FastGroups())
	createTopic(t, node, "orders", partitions)
	var mu sync.Mutex
	seen := map[string][]string{} // values, by who read them
	count := func(who ...string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, w := range who {
			n += len(seen[w])
		}
		return n
	}
	note := func(who, value string) {
		mu.Lock()
		defer mu.Unlock()
		seen[who] = append(seen[who], value)
	}
	var want []string
	write := func(round int) {
		t.Helper()
		for p := range int32(partitions) {
			value := fmt.Sprintf("round %d, partition %d", round, p)
			want = append(want, value)
			sdkWrite(t, c, clientlib.ProducerConfig{Partitioner: clientlib.Explicit},
				&clientlib.Record{Topic: "orders", Partition: p, Value: []byte(value)})
		}
		testkit.Eventually(t, fmt.Sprintf("what was written in round %d is read", round),
			func() bool { return count("sdk", "franz") >= len(want) })
	}
	leaveSDK := sdkMember(t, c, "orders", "readers", func(r *clientlib.Record) {
		note("sdk", string(r.Value))
	})
	write(1)
	franz, cancel := context.WithCancel(t.Context())
	member := client(t, node, append(testkit.ServerSide.Options(), kgo.ConsumerGroup("readers"),
		kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	var reading sync.WaitGroup
	reading.Go(func() {
		for franz.Err() == nil {
			member.PollFetches(franz).EachRecord(func(r *kgo.Record) { note("franz", string(r.Value)) })
		}
	})
	defer reading.Wait()
	defer cancel()
	for round := 2; count("franz") == 0 || count("sdk") <= partitions; round++ {
		if round > 1000 {
			t.Fatalf("they do not share: %v", seen)
		}
		write(round)
	}
	leaveSDK() // franz-go gets all partitions, where the SDK stopped
	write(2000)
	cancel()
	reading.Wait()
	if err := member.CommitUncommittedOffsets(patient(t)); err != nil {
		t.Fatal(err)
	}
	member.LeaveGroup()
	sdkMember(t, c, "orders", "readers", func(r *clientlib.Record) { note("sdk", string(r.Value)) })
	write(3000)
	if got := slices.Concat(seen["sdk"], seen["franz"]); !sameSet(got, want) {
		t.Errorf("read %q, want each of %q once", got, want)
	}
}

// sdkMember has a consumer of the SDK process records until it leaves.
func sdkMember(
	t *testing.T, c *clientlib.Client, topic, group string, each func(r *clientlib.Record),
) (leave func()) {
	t.Helper()
	consumer, end := sdkConsumer(t, c, clientlib.ConsumerConfig{
		Group: group, Topics: []string{topic}, CommitInterval: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- consumer.Process(ctx, func(_ context.Context, r *clientlib.Record) error {
			each(r)
			return nil
		})
	}()
	leave = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("a member of %s: %v", group, err)
		}
		end()
	})
	t.Cleanup(leave)
	return leave
}

// What members of the classic protocol have committed is where a member with the SDK
// begins, once they are gone.
func TestTheSDKTakesOverAClassicGroup(t *testing.T) {
	node, c := sdkNode(t, testkit.FastGroups())
	createTopic(t, node, "orders", 2)
	for i := range 20 {
		sdkWrite(t, c, clientlib.ProducerConfig{Partitioner: clientlib.Explicit},
			&clientlib.Record{Topic: "orders", Partition: int32(i % 2), Value: fmt.Appendf(nil, "%d", i)})
	}
	classic := client(t, node, kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("orders"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	var got []string
	for len(got) < 7 {
		for _, r := range classic.PollRecords(patient(t), 7-len(got)).Records() {
			got = append(got, string(r.Value))
			if err := classic.CommitRecords(patient(t), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	classic.Close()
	consumer, _ := sdkConsumer(t, c, clientlib.ConsumerConfig{
		Group: "readers", Topics: []string{"orders"}})
	for _, r := range sdkRead(t, consumer, 20-len(got)) {
		got = append(got, string(r.Value))
	}
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint(i))
	}
	if !sameSet(got, want) {
		t.Errorf("read %q", got)
	}
}
