package record

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
)

func TestRecordsComeBackAsTheyWereAppended(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, codec := range codecs {
		for _, n := range []int{1, 2, 50, 1000} {
			want := randomRecords(rng, 40, n)
			bu := appendAll(NewBuilder(Compression{Codec: codec}).BaseOffset(40), want)
			built := mustBuild(t, bu)
			b := mustParse(t, built.Bytes)
			if b.Header != built.Header {
				t.Fatalf("%s: built %+v, parsed %+v", codec, built.Header, b.Header)
			}
			got := mustCollect(t, &b)
			if !slices.EqualFunc(got, want, rec.equal) {
				t.Fatalf("%s: %d records come back different", codec, n)
			}
		}
	}
}

func TestRecordsOfALogAppendTimeBatchHaveItsMaximum(t *testing.T) {
	bu := NewBuilder(Compression{Codec: LZ4})
	bu.Append(5, nil, []byte("a"))
	bu.Append(9, nil, []byte("b"))
	b := mustBuild(t, bu)
	b.SetLogAppendTime(77)
	b = mustParse(t, b.Bytes)
	for _, r := range mustCollect(t, &b) {
		if r.timestamp != 77 {
			t.Errorf("record %d is of %d", r.offset, r.timestamp)
		}
	}
}

func TestAnIterationMayEndEarly(t *testing.T) {
	b := mustBuild(t, appendAll(NewBuilder(Compression{Codec: Zstd}),
		randomRecords(rand.New(rand.NewPCG(2, 2)), 0, 10)))
	n := 0
	for range Records(&b, InflateLimit) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d steps", n)
	}
}

func TestCompactionMayLeaveGapsAndNothing(t *testing.T) {
	bu := NewBuilder(Compression{}).BaseOffset(100)
	bu.AppendAt(3, 1, []byte("k"), nil)
	bu.AppendAt(7, 2, []byte("l"), nil)
	b := mustBuild(t, bu)
	got := mustCollect(t, &b)
	if len(got) != 2 || got[0].offset != 103 || got[1].offset != 107 || b.NextOffset() != 108 {
		t.Errorf("got %v", got)
	}
	empty := Batch{Header: b.Header, Bytes: b.Bytes[:HeaderSize]}
	empty.Count = 0
	if all := mustCollect(t, &empty); len(all) != 0 {
		t.Errorf("an empty batch has %v", all)
	}
}

// raw returns a batch of the given records' bytes, right in all but them.
func raw(count, lastDelta int32, codec Codec, body []byte) Batch {
	h := Header{Count: count, LastOffsetDelta: lastDelta, Attributes: int16(codec),
		ProducerID: messages.NoProducerID}
	return sealed(h, append(make([]byte, HeaderSize), body...))
}

// one is a record of the smallest size but for its fields after the attributes.
func one(fields ...byte) []byte {
	return append(binary.AppendVarint(nil, int64(len(fields)+1)), append([]byte{0}, fields...)...)
}

func TestRecordsRefuseWhatIsNoRecord(t *testing.T) {
	good := one(0, 0, 1, 1, 0) // times and offset 0, null key, null value, no headers
	for _, tt := range []struct {
		name  string
		batch Batch
		want  string
		kind  error
	}{
		{"more records than bytes", raw(1000, 999, None, good), "cannot hold", messages.ErrCorruptBatch},
		{"a negative count", raw(-1, 0, None, good), "cannot hold", messages.ErrCorruptBatch},
		{"bytes behind the last record", raw(1, 0, None, slices.Concat(good, good)),
			"7 bytes follow", messages.ErrCorruptBatch},
		{"fewer records than the count", raw(2, 1, None, slices.Concat(good, make([]byte, 7))),
			"record 1: length", messages.ErrCorruptBatch},
		{"a length beyond the end", raw(1, 0, None, append([]byte{100}, good[1:]...)),
			"record 0: length", messages.ErrCorruptBatch},
		{"a negative length", raw(1, 0, None, append([]byte{1}, good[1:]...)),
			"record 0: length -1", messages.ErrCorruptBatch},
		{"a length of ten bytes and more", raw(1, 0, None, slices.Repeat([]byte{0xff}, 20)),
			"record 0: length", messages.ErrCorruptBatch},
		{"a key beyond the record", raw(1, 0, None, one(0, 0, 40, 1, 0)),
			"do not fill", messages.ErrCorruptBatch},
		{"a key of length -2", raw(1, 0, None, one(0, 0, 3, 1, 0)),
			"do not fill", messages.ErrCorruptBatch},
		{"more headers than bytes", raw(1, 0, None, one(0, 0, 1, 1, 40)),
			"do not fill", messages.ErrCorruptBatch},
		{"a header with a null key", raw(1, 0, None, one(0, 0, 1, 1, 2, 1, 1)),
			"do not fill", messages.ErrCorruptBatch},
		{"bytes behind the last field", raw(1, 0, None, one(0, 0, 1, 1, 0, 9)),
			"do not fill", messages.ErrCorruptBatch},
		{"offsets that do not rise", raw(2, 1, None, slices.Concat(good, good)),
			"record 1: offset delta 0", messages.ErrCorruptBatch},
		{"an offset beyond the last", raw(1, 0, None, one(0, 2, 1, 1, 0)),
			"record 0: offset delta 1", messages.ErrCorruptBatch},
		{"a codec that does not exist", raw(1, 0, 6, good), "codec 6",
			messages.ErrUnsupportedCompression},
		{"bytes that are no gzip", raw(1, 0, Gzip, good), "gzip", messages.ErrCorruptBatch},
		{"bytes that are no snappy", raw(1, 0, Snappy, good), "snappy", messages.ErrCorruptBatch},
		{"bytes that are no lz4", raw(1, 0, LZ4, good), "lz4", messages.ErrCorruptBatch},
		{"bytes that are no zstd", raw(1, 0, Zstd, good), "zstd", messages.ErrCorruptBatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := mustParse(t, tt.batch.Bytes)
			_, err := collect(&b, InflateLimit)
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTimestampLookups(t *testing.T) {
	build := func(codec Codec, times ...messages.Timestamp) Batch {
		bu := NewBuilder(Compression{Codec: codec}).BaseOffset(10)
		for _, at := range times {
			bu.Append(at, nil, nil)
		}
		return mustBuild(t, bu)
	}
	appended := build(Gzip, 1, 2, 3)
	appended.SetLogAppendTime(50)
	for _, tt := range []struct {
		name   string
		batch  Batch
		at     messages.Timestamp
		offset messages.Offset // NoOffset: none
		time   messages.Timestamp
	}{
		{"the first record that is not earlier", build(Zstd, 5, 7, 9), 6, 11, 7},
		{"a record of exactly that time", build(None, 5, 7, 9), 7, 11, 7},
		{"the first in offset order, not in time", build(Snappy, 5, 9, 7), 6, 11, 9},
		{"all records are earlier", build(LZ4, 5, 7, 9), 10, messages.NoOffset, 0},
		{"the broker's time holds for every record", appended, 50, 10, 50},
		{"all records are earlier than the broker's time", appended, 51, messages.NoOffset, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, at, ok, err := FirstAtOrAfter(&tt.batch, tt.at, InflateLimit)
			found := tt.offset != messages.NoOffset
			if err != nil || ok != found || ok && (o != tt.offset || at != tt.time) {
				t.Errorf("got offset %d, time %d, %t, %v", o, at, ok, err)
			}
		})
	}
	for _, tt := range []struct {
		name   string
		batch  Batch
		offset messages.Offset
		time   messages.Timestamp
	}{
		{"the latest of all", build(Gzip, 5, 9, 7), 11, 9},
		{"the first of several that are as late", build(None, 5, 9, 9), 11, 9},
		{"the first if the broker's time holds", appended, 10, 50},
		{"times before 1970 count", build(None, -9, -5), 11, -5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, at, ok, err := Latest(&tt.batch, InflateLimit)
			if err != nil || !ok || o != tt.offset || at != tt.time {
				t.Errorf("got offset %d, time %d, %t, %v", o, at, ok, err)
			}
		})
	}
}

func TestMarkers(t *testing.T) {
	for _, m := range []Marker{{Commit: true, CoordinatorEpoch: 7}, {Commit: false,
		CoordinatorEpoch: -1}} {
		b := EndTxnMarker(m, 42, 3, 1234)
		b = mustParse(t, b.Bytes)
		got, ok, err := ParseMarker(&b)
		if err != nil || !ok || got != m {
			t.Errorf("got %+v, %t, %v, want %+v", got, ok, err, m)
		}
		if !b.Control() || !b.Transactional() || b.ProducerID != 42 || b.ProducerEpoch != 3 ||
			b.BaseSequence != messages.NoSequence || b.MaxTimestamp != 1234 || b.Count != 1 {
			t.Errorf("header %+v", b.Header)
		}
	}
	control := func(key, value []byte) Batch {
		bu := NewBuilder(Compression{})
		bu.control()
		bu.Append(0, key, value)
		return mustBuild(t, bu)
	}
	t.Run("a control record of another type is no marker", func(t *testing.T) {
		b := control([]byte{0, 0, 0, 5}, nil)
		if _, ok, err := ParseMarker(&b); ok || err != nil {
			t.Errorf("got %t, %v", ok, err)
		}
	})
	for name, b := range map[string]Batch{
		"a short key":   control([]byte{0, 0, 0}, nil),
		"a short value": control([]byte{0, 0, 0, 1}, []byte{0, 0, 0, 0, 0}),
		"a data batch":  mustBuild(t, NewBuilder(Compression{})),
	} {
		t.Run(name+" is corrupt", func(t *testing.T) {
			if _, _, err := ParseMarker(&b); !errors.Is(err, messages.ErrCorruptBatch) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRecompressKeepsAllButTheCodec(t *testing.T) {
	want := randomRecords(rand.New(rand.NewPCG(3, 3)), 0, 200)
	for _, from := range codecs {
		b := mustBuild(t, appendAll(NewBuilder(Compression{Codec: from}).Producer(9, 2,
			30).Transactional(), want))
		for _, to := range codecs {
			again, err := Recompress(&b, Compression{Codec: to}, InflateLimit)
			if err != nil {
				t.Fatal(err)
			}
			p := mustParse(t, again.Bytes)
			if got := mustCollect(t, &p); !slices.EqualFunc(got, want, rec.equal) {
				t.Fatalf("%s to %s: records differ", from, to)
			}
			h := b.Header
			h.Length, h.CRC, h.Attributes = p.Length, p.CRC, h.Attributes&^codecMask|int16(to)
			if h != p.Header {
				t.Errorf("%s to %s: header %+v, want %+v", from, to, p.Header, h)
			}
		}
	}
	b := mustBuild(t, appendAll(NewBuilder(Compression{}), want))
	if _, err := Recompress(&b, Compression{Codec: 5}, InflateLimit); !errors.Is(err,
		messages.ErrUnsupportedCompression) {
		t.Errorf("codec 5: %v", err)
	}
}

func TestEveryLevelThatSettingsAllowCompresses(t *testing.T) {
	want := randomRecords(rand.New(rand.NewPCG(4, 4)), 0, 20)
	levels := map[Codec][]int{
		Gzip:   {-1, 0, 1, 5, 9},
		Snappy: {0},
		LZ4:    {0, 1, 8, 9, 10, 13, 17},
		Zstd:   {-131072, -1, 0, 1, 3, 10, 22},
	}
	for codec, all := range levels {
		for _, level := range all {
			b, err := appendAll(NewBuilder(Compression{Codec: codec, Level: level}), want).Build()
			if err != nil {
				t.Errorf("%s level %d: %v", codec, level, err)
				continue
			}
			if got := mustCollect(t, &b); !slices.EqualFunc(got, want, rec.equal) {
				t.Errorf("%s level %d: records differ", codec, level)
			}
		}
	}
	b := NewBuilder(Compression{Codec: Gzip, Level: 10})
	if _, err := b.Build(); !errors.Is(err, messages.ErrInvalidConfig) {
		t.Errorf("gzip level 10: %v", err)
	}
}
