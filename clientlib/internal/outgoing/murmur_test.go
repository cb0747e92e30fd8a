package outgoing

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The hashes stand in the tests of Kafka's own client.
func TestTheHashIsThatOfKafka(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(Murmur2([]byte(key))); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
}

func TestAKeyGoesWhereOtherClientsPutIt(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("orders")
	for range 10000 {
		key := make([]byte, random.IntN(40))
		for i := range key {
			key[i] = byte(random.Uint32())
		}
		n := 1 + random.IntN(100)
		want := theirs.Partition(&kgo.Record{Key: key}, n)
		if got := PartitionOf(key, n); got != want {
			t.Fatalf("key %x of %d: partition %d, theirs is %d", key, n, got, want)
		}
	}
}
