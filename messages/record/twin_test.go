package record

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// franz holds franz-go's codecs, written by others for the same format.
var franz = map[Codec]kgo.CompressionCodec{
	None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(),
	LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
}

// encodeWithFranz makes a batch out of franz-go's generated types, field by field.
func encodeWithFranz(t testing.TB, codec Codec, all []rec) []byte {
	t.Helper()
	var body []byte
	base, latest := all[0].timestamp, all[0].timestamp
	for i, r := range all {
		latest = max(latest, r.timestamp)
		k := kmsg.Record{TimestampDelta64: int64(r.timestamp - base), OffsetDelta: int32(i),
			Key: r.key, Value: r.value}
		for _, h := range r.headers {
			k.Headers = append(k.Headers, kmsg.Header{Key: string(h.Key), Value: h.Value})
		}
		// The length counts what follows it; with 0 it takes one byte.
		k.Length = int32(len(k.AppendTo(nil)) - 1)
		body = k.AppendTo(body)
	}
	compressor, err := kgo.DefaultCompressor(franz[codec])
	if err != nil {
		t.Fatal(err)
	}
	attributes := int16(0)
	if compressor != nil {
		var out bytes.Buffer
		packed, used := compressor.Compress(&out, body)
		body, attributes = slices.Clone(packed), int16(used)
	}
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: attributes,
		LastOffsetDelta: int32(len(all) - 1), FirstTimestamp: int64(base), MaxTimestamp: int64(latest),
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(len(all)),
		Records: body,
	}
	b.Length = int32(len(b.AppendTo(nil)) - prefixSize)
	encoded := b.AppendTo(nil)
	(&Batch{Bytes: encoded}).resum() // the sum's own twin is TestSumsAreKafkas
	return encoded
}

func TestBatchesOfAnotherLibraryAreRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, codec := range codecs {
		for _, n := range []int{1, 300} {
			want := randomRecords(rng, 0, n)
			b := mustParse(t, encodeWithFranz(t, codec, want))
			if got := mustCollect(t, &b); !slices.EqualFunc(got, want, rec.equal) {
				t.Errorf("%s: %d records are read differently", codec, n)
			}
			if latest, at, ok, err := Latest(&b, InflateLimit); err != nil || !ok || at != b.MaxTimestamp {
				t.Errorf("%s: latest is %d of %d, %v; header says %d", codec, latest, at, err, b.MaxTimestamp)
			}
		}
	}
}

func TestBatchesAreReadByAnotherLibrary(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	unpack := kgo.DefaultDecompressor()
	for _, codec := range codecs {
		want := randomRecords(rng, 0, 200)
		b := mustBuild(t, appendAll(NewBuilder(Compression{Codec: codec}).Producer(3, 4, 5), want))
		var k kmsg.RecordBatch
		if err := k.ReadFrom(b.Bytes); err != nil {
			t.Fatal(err)
		}
		if k.FirstOffset != 0 || k.Length != b.Length || k.PartitionLeaderEpoch != -1 || k.Magic != 2 ||
			uint32(k.CRC) != b.CRC || k.Attributes != b.Attributes || k.LastOffsetDelta != 199 ||
			k.FirstTimestamp != int64(b.BaseTimestamp) || k.MaxTimestamp != int64(b.MaxTimestamp) ||
			k.ProducerID != 3 || k.ProducerEpoch != 4 || k.FirstSequence != 5 || k.NumRecords != 200 {
			t.Fatalf("%s: header is read as %+v", codec, k)
		}
		body, err := unpack.Decompress(k.Records, kgo.CompressionCodecType(codec))
		if err != nil {
			t.Fatalf("%s: %v", codec, err)
		}
		for i := range want {
			var r kmsg.Record
			if err := r.ReadFrom(body); err != nil {
				t.Fatalf("%s: record %d: %v", codec, i, err)
			}
			got := rec{offset: messages.Offset(r.OffsetDelta), key: r.Key, value: r.Value,
				timestamp: b.BaseTimestamp + messages.Timestamp(r.TimestampDelta64)}
			for _, h := range r.Headers {
				got.headers = append(got.headers, RecordHeader{[]byte(h.Key), h.Value})
			}
			if !got.equal(want[i]) {
				t.Fatalf("%s: record %d is read as %v, not %v", codec, i, got, want[i])
			}
			body = body[varintSize(int64(r.Length))+int(r.Length):]
		}
		if len(body) != 0 {
			t.Errorf("%s: %d bytes are left", codec, len(body))
		}
	}
}

// The bytes are a batch as a Kafka 4 producer sends it, sum included: one record
// "v" of time 0. The sum was computed bit by bit, by another program.
func TestSumsAreKafkas(t *testing.T) {
	const sum = 0x9e41f0b2
	bu := NewBuilder(Compression{})
	bu.Append(0, nil, []byte("v"))
	if b := mustBuild(t, bu); b.CRC != sum {
		t.Errorf("sum is %08x", b.CRC)
	}
}

func TestSnappyIsReadWithAndWithoutFraming(t *testing.T) {
	want := randomRecords(rand.New(rand.NewPCG(7, 7)), 0, 2000) // more than one block of 32 KiB
	plain := mustBuild(t, appendAll(NewBuilder(Compression{}), want))
	body := plain.Bytes[HeaderSize:]
	if len(body) <= snappyBlockSize {
		t.Fatalf("%d bytes fit one block", len(body))
	}
	for name, packed := range map[string][]byte{
		"xerial frames":           xerial(nil, body),
		"one block, as Go writes": snappy.Encode(nil, body),
	} {
		h := plain.Header
		h.Attributes = int16(Snappy)
		b := sealed(h, append(make([]byte, HeaderSize), packed...))
		if got := mustCollect(t, &b); !slices.EqualFunc(got, want, rec.equal) {
			t.Errorf("%s: records differ", name)
		}
	}
}
