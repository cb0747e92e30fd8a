package record

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
)

// rec is a record that keeps its bytes.
type rec struct {
	offset     messages.Offset
	timestamp  messages.Timestamp
	key, value []byte
	headers    []RecordHeader
}

func (r rec) equal(o rec) bool {
	return r.offset == o.offset && r.timestamp == o.timestamp &&
		same(r.key, o.key) && same(r.value, o.value) &&
		slices.EqualFunc(r.headers, o.headers, func(a, b RecordHeader) bool {
			return same(a.Key, b.Key) && same(a.Value, b.Value)
		})
}

// same tells null from empty, as Kafka does.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func (r rec) String() string {
	return fmt.Sprintf("{%d at %d, key %q, value %q, headers %v}",
		r.offset, r.timestamp, r.key, r.value, r.headers)
}

// keep copies what an iteration lends.
func keep(r *Record) rec {
	k := rec{offset: r.Offset, timestamp: r.Timestamp, key: bytes.Clone(r.Key),
		value: bytes.Clone(r.Value)}
	for h := range r.RecordHeaders() {
		k.headers = append(k.headers, RecordHeader{bytes.Clone(h.Key), bytes.Clone(h.Value)})
	}
	return k
}

func collect(b *Batch, limit int) (all []rec, err error) {
	for r, err := range Records(b, limit) {
		if err != nil {
			return all, err
		}
		all = append(all, keep(r))
	}
	return all, nil
}

func mustCollect(t *testing.T, b *Batch) []rec {
	t.Helper()
	all, err := collect(b, InflateLimit)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func mustBuild(t testing.TB, bu *Builder) Batch {
	t.Helper()
	b, err := bu.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustParse(t testing.TB, bytes []byte) Batch {
	t.Helper()
	b, rest, err := Parse(bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(rest) != 0 {
		t.Fatalf("%d bytes follow the batch", len(rest))
	}
	return b
}

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// randomRecords makes records with all that may be odd: null, empty, large and
// incompressible fields, times that go back.
func randomRecords(rng *rand.Rand, base messages.Offset, n int) []rec {
	field := func() []byte {
		switch rng.IntN(6) {
		case 0:
			return nil
		case 1:
			return []byte{}
		case 2:
			b := make([]byte, rng.IntN(3000))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return b
		default:
			return bytes.Repeat([]byte("log line "), rng.IntN(20))
		}
	}
	all := make([]rec, n)
	for i := range all {
		all[i] = rec{offset: base + messages.Offset(i), key: field(), value: field(),
			timestamp: messages.Timestamp(1_700_000_000_000 + rng.Int64N(10_000))}
		for range rng.IntN(3) {
			h := RecordHeader{Key: field(), Value: field()}
			if h.Key == nil {
				h.Key = []byte{} // null keys of headers do not exist
			}
			all[i].headers = append(all[i].headers, h)
		}
	}
	return all
}

func appendAll(bu *Builder, all []rec) *Builder {
	for _, r := range all {
		bu.Append(r.timestamp, r.key, r.value, r.headers...)
	}
	return bu
}
