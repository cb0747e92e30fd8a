package record

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
)

func TestParseRefusesWhatIsNoBatch(t *testing.T) {
	bu := NewBuilder(Compression{})
	bu.Append(1, []byte("key"), []byte("value"))
	good := mustBuild(t, bu).Bytes
	for _, tt := range []struct {
		name   string
		damage func(b []byte) []byte
		want   error
		kind   error
	}{
		{"nothing", func([]byte) []byte { return nil }, ErrTruncated, messages.ErrCorruptBatch},
		{"a cut header", func(b []byte) []byte { return b[:60] }, ErrTruncated, messages.ErrCorruptBatch},
		{"a cut body", func(b []byte) []byte { return b[:len(b)-1] }, ErrTruncated,
			messages.ErrCorruptBatch},
		{"magic 1, however short", func(b []byte) []byte { b[16] = 1; return b[:20] },
			ErrBadMagic, messages.ErrInvalidRecord},
		{"a length below a header's", func(b []byte) []byte { b[11] = 48; return b },
			messages.ErrCorruptBatch, messages.ErrCorruptBatch},
		{"a negative length", func(b []byte) []byte { b[8] = 0x80; return b },
			messages.ErrCorruptBatch, messages.ErrCorruptBatch},
		{"the largest length", func(b []byte) []byte { copy(b[8:], "\x7f\xff\xff\xff"); return b },
			ErrTruncated, messages.ErrCorruptBatch},
		{"a flipped bit in the header", func(b []byte) []byte { b[50] ^= 4; return b },
			ErrBadCRC, messages.ErrCorruptBatch},
		{"a flipped bit in the records", func(b []byte) []byte { b[len(b)-1] ^= 4; return b },
			ErrBadCRC, messages.ErrCorruptBatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Parse(tt.damage(slices.Clone(good)))
			if !errors.Is(err, tt.want) || !errors.Is(err, tt.kind) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// The outcomes are those of Apache Kafka 4.1.1 to the same bytes.
func TestParseOnlyAnswersAsKafkaDoes(t *testing.T) {
	bu := NewBuilder(Compression{})
	bu.Append(1, []byte("key"), []byte("value"))
	good := mustBuild(t, bu).Bytes
	with := func(b []byte, at int, v byte) []byte { b[at] = v; return b }
	for _, tt := range []struct {
		name  string
		given func(b []byte) []byte
		want  error
	}{
		{"one batch", func(b []byte) []byte { return b }, nil},
		{"a batch and the start of another", func(b []byte) []byte { return append(b, b[:61]...) }, nil},
		{"a batch and a few bytes", func(b []byte) []byte { return append(b, 1, 2, 3) }, nil},
		{"nothing", func([]byte) []byte { return nil }, messages.ErrInvalidRecord},
		{"three bytes", func(b []byte) []byte { return b[:3] }, messages.ErrInvalidRecord},
		{"no magic byte", func(b []byte) []byte { return b[:16] }, messages.ErrInvalidRecord},
		{"a cut header", func(b []byte) []byte { return b[:60] }, messages.ErrInvalidRecord},
		{"a cut body", func(b []byte) []byte { return b[:len(b)-1] }, messages.ErrInvalidRecord},
		{"two batches", func(b []byte) []byte { return append(b, b...) }, messages.ErrInvalidRecord},
		{"two batches, the first damaged", func(b []byte) []byte {
			return append(with(b, 50, 9), b...)
		}, messages.ErrInvalidRecord},
		{"magic 1", func(b []byte) []byte { return with(b, 16, 1) }, messages.ErrInvalidRecord},
		{"magic 3", func(b []byte) []byte { return with(b, 16, 3) }, messages.ErrCorruptBatch},
		{"a negative magic", func(b []byte) []byte { return with(b, 16, 255) }, messages.ErrCorruptBatch},
		{"zeros", func([]byte) []byte { return make([]byte, 20) }, messages.ErrCorruptBatch},
		{"a batch and zeros", func(b []byte) []byte {
			return append(b, make([]byte, 12)...)
		}, messages.ErrCorruptBatch},
		{"a length below a header's", func(b []byte) []byte { return with(b, 11, 48) },
			messages.ErrCorruptBatch},
		{"a negative length", func(b []byte) []byte { return with(b, 8, 0x80) },
			messages.ErrCorruptBatch},
		{"a flipped bit", func(b []byte) []byte { return with(b, 50, 9) }, messages.ErrCorruptBatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := ParseOnly(tt.given(slices.Clone(good)))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil && !bytes.Equal(b.Bytes, good) {
				t.Fatalf("%d bytes, want %d", len(b.Bytes), len(good))
			}
		})
	}
}

func TestParseTakesOneBatchAndLeavesTheRest(t *testing.T) {
	bu := NewBuilder(Compression{})
	bu.Append(1, nil, []byte("a"))
	first := mustBuild(t, bu)
	bu.Append(2, nil, []byte("b"))
	second := mustBuild(t, bu)
	b, rest, err := Parse(slices.Concat(first.Bytes, second.Bytes))
	if err != nil || !bytes.Equal(b.Bytes, first.Bytes) || !bytes.Equal(rest, second.Bytes) {
		t.Errorf("got %d bytes and %d, %v", len(b.Bytes), len(rest), err)
	}
	if cap(b.Bytes) != len(b.Bytes) {
		t.Error("appending to a batch would overwrite the next")
	}
}

func TestStampingLeavesTheSumAlone(t *testing.T) {
	bu := NewBuilder(Compression{Codec: Gzip})
	bu.Append(1, nil, []byte("a"))
	bu.Append(2, nil, []byte("b"))
	b := mustBuild(t, bu)
	crc := b.CRC
	b.Stamp(1<<40, 12)
	p := mustParse(t, b.Bytes)
	if p.CRC != crc || p.BaseOffset != 1<<40 || p.LeaderEpoch != 12 || p.Header != b.Header ||
		p.LastOffset() != 1<<40+1 || p.NextOffset() != 1<<40+2 {
		t.Errorf("header %+v", p.Header)
	}
}

func TestChangedTimestampsAreSummedAnew(t *testing.T) {
	bu := NewBuilder(Compression{})
	bu.Append(1, nil, nil)
	b := mustBuild(t, bu)
	b.SetMaxTimestamp(99)
	if p := mustParse(t, b.Bytes); p.MaxTimestamp != 99 || p.LogAppendTime() || p.Header != b.Header {
		t.Errorf("header %+v", p.Header)
	}
	b.SetLogAppendTime(100)
	if p := mustParse(t, b.Bytes); p.MaxTimestamp != 100 || !p.LogAppendTime() ||
		p.Header != b.Header || p.BaseTimestamp != 1 {
		t.Errorf("header %+v", p.Header)
	}
}

func TestLastSequenceWraps(t *testing.T) {
	for _, tt := range []struct {
		base  messages.Sequence
		delta int32
		want  messages.Sequence
	}{
		{0, 0, 0}, {5, 4, 9}, {math.MaxInt32, 0, math.MaxInt32}, {math.MaxInt32, 1, 0},
		{math.MaxInt32 - 1, 3, 1}, {messages.NoSequence, 7, messages.NoSequence},
		{math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1},
	} {
		h := Header{BaseSequence: tt.base, LastOffsetDelta: tt.delta}
		if got := h.LastSequence(); got != tt.want {
			t.Errorf("%d and %d more: %d, want %d", tt.base, tt.delta, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, codec := range codecs {
		bu := NewBuilder(Compression{Codec: codec}).Producer(1, 2, 3)
		bu.Append(1, []byte("key"), []byte("value"), RecordHeader{[]byte("h"), nil})
		f.Add(mustBuild(f, bu).Bytes)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, headErr := ParseHeader(b)
		split, rest, splitErr := Split(b)
		if splitErr == nil {
			if headErr != nil || split.Header != h {
				t.Fatalf("Split took %+v, ParseHeader says %+v, %v", split.Header, h, headErr)
			}
			if len(split.Bytes)+len(rest) != len(b) || len(split.Bytes) != h.Size() {
				t.Fatalf("%d bytes and %d out of %d", len(split.Bytes), len(rest), len(b))
			}
			// What is read is what is written.
			if again := sealed(h, slices.Clone(split.Bytes)); !bytes.Equal(again.Bytes[21:],
				split.Bytes[21:]) {
				t.Fatal("the header is written differently")
			}
		}
		parsed, _, err := Parse(b)
		if err != nil && !errors.Is(err, messages.ErrCorruptBatch) && !errors.Is(err,
			messages.ErrInvalidRecord) {
			t.Fatalf("error of no kind: %v", err)
		}
		if err == nil && (splitErr != nil || parsed.Header != split.Header) {
			t.Fatalf("Parse took what Split refuses: %v", splitErr)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 1 << 20} {
		bu := NewBuilder(Compression{})
		for bu.Size() < size {
			bu.Append(1, nil, make([]byte, 100))
		}
		bytes := mustBuild(b, bu).Bytes
		b.Run(sizeName(size), func(b *testing.B) {
			b.SetBytes(int64(len(bytes)))
			b.ReportAllocs()
			for range b.N {
				if _, _, err := Parse(bytes); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseHeader(b *testing.B) {
	bu := NewBuilder(Compression{})
	bu.Append(1, nil, nil)
	bytes := mustBuild(b, bu).Bytes
	b.ReportAllocs()
	for range b.N {
		if _, err := ParseHeader(bytes); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecords(b *testing.B) {
	for _, codec := range codecs {
		bu := NewBuilder(Compression{Codec: codec})
		for bu.Size() < 64<<10 {
			bu.Append(1, []byte("key"), []byte("2024-01-01 INFO request served in 17 ms by host-12"))
		}
		batch := mustBuild(b, bu)
		b.Run(codec.String(), func(b *testing.B) {
			b.SetBytes(int64(bu.Size()))
			b.ReportAllocs()
			for range b.N {
				n := 0
				for _, err := range Records(&batch, InflateLimit) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != bu.Count() {
					b.Fatal(n)
				}
			}
		})
	}
}

func sizeName(n int) string {
	if n >= 1<<20 {
		return "1MiB"
	}
	return map[int]string{1 << 10: "1KiB", 16 << 10: "16KiB"}[n]
}
