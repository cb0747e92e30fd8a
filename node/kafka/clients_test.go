package kafka

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// franz makes a franz-go client of the server.
func franz(t testing.TB, s *testServer, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.addr),
		kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.RequestTimeoutOverhead(10 * time.Second),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func TestFranzReadsBackWhatItProducedInEveryCodec(t *testing.T) {
	for _, codec := range []struct {
		name string
		kgo.CompressionCodec
	}{
		{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()},
		{"snappy", kgo.SnappyCompression()}, {"lz4", kgo.Lz4Compression()},
		{"zstd", kgo.ZstdCompression()},
	} {
		for _, idempotent := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, idempotent %v", codec.name, idempotent), func(t *testing.T) {
				f := newFakeCluster()
				f.addTopic("t", 3)
				s := serveFake(t, f, Config{})
				opts := []kgo.Opt{kgo.ProducerBatchCompression(codec.CompressionCodec),
					kgo.RecordPartitioner(kgo.RoundRobinPartitioner())}
				if !idempotent {
					opts = append(opts, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(5))
				}
				roundTrip(t, s, 3000, opts...)
			})
		}
	}
}

// roundTrip produces n records to topic "t" and reads them all back.
func roundTrip(t *testing.T, s *testServer, n int, opts ...kgo.Opt) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	sent := map[[32]byte]int{}
	producer := franz(t, s, opts...)
	for i := range n {
		value := fmt.Appendf(nil, "record %d %x", i, make([]byte, r.IntN(100)))
		sent[sha256.Sum256(value)]++
		producer.Produce(ctx, &kgo.Record{Topic: "t", Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	consumer := franz(t, s, kgo.ConsumeTopics("t"), kgo.FetchMaxWait(100*time.Millisecond))
	for got := 0; got < n; {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			got++
			sum := sha256.Sum256(rec.Value)
			if sent[sum]--; sent[sum] < 0 {
				t.Fatalf("record %q came twice, or was never sent", rec.Value)
			}
		})
	}
}
