package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/troupelog/troupe/messages"
)

func TestNoBatchInflatesBeyondTheLimit(t *testing.T) {
	const limit = 1 << 20
	zeros := make([]byte, limit)
	for _, codec := range codecs[1:] {
		for _, tt := range []struct {
			name string
			size int
			want error
		}{{"as much as the limit", limit, nil}, {"a byte more", limit + 1, ErrInflateLimit}} {
			packed, err := Compression{Codec: codec}.deflate(nil, append(zeros, 0)[:tt.size])
			if err != nil {
				t.Fatal(err)
			}
			out, err := inflate(codec, packed, limit)
			if !errors.Is(err, tt.want) {
				t.Errorf("%s, %s: got %v, want %v", codec, tt.name, err, tt.want)
			}
			if err == nil && !bytes.Equal(out.bytes, zeros[:tt.size]) {
				t.Errorf("%s, %s: other bytes came out", codec, tt.name)
			}
			out.release()
		}
	}
	if !errors.Is(ErrInflateLimit, messages.ErrInvalidRecord) || errors.Is(ErrInflateLimit,
		messages.ErrCorruptBatch) {
		t.Error("a bomb is neither to be sent again nor a broken disk")
	}
}

// claims are inputs of a few bytes that claim to hold gigabytes.
func claims() map[string]struct {
	codec Codec
	bytes []byte
} {
	snappyBlock := append(binary.AppendUvarint(nil, 3<<30), 0, 'x')
	frame := slices.Concat(xerialMagic, []byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
		byte(len(snappyBlock))}, snappyBlock)
	// Magic, descriptor (8 bytes of content size, single segment), size, an empty last block.
	sized := binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, 1<<40)
	sized = append(sized, 1, 0, 0)
	// Magic, descriptor (window), a window of 2 GiB, an empty last block.
	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0}
	return map[string]struct {
		codec Codec
		bytes []byte
	}{
		"a snappy block":        {Snappy, snappyBlock},
		"a framed snappy block": {Snappy, frame},
		"a framed length": {Snappy, append(slices.Clone(frame[:16]), 0xff, 0xff, 0xff,
			0xff, 0)},
		"a zstd frame's size":        {Zstd, sized},
		"a zstd frame's window":      {Zstd, window},
		"a zstd frame of one window": {Zstd, append(window[:6:6], 3, 0, 0, 'x')},
	}
}

// Forty clients that send 120 KB each must not make the broker hold forty times
// 128 MiB.
func TestLargeBatchesAreInflatedOneAtATime(t *testing.T) {
	for _, tt := range []struct {
		name  string
		size  int
		limit int
		large bool
		err   error
	}{
		{"a small one", 1000, InflateLimit, false, nil},
		{"one as large as any may be", largeMin, InflateLimit, false, nil},
		{"a large one", largeMin + 1, InflateLimit, true, nil},
		{"one above a small limit", 1000, 999, false, ErrInflateLimit},
		{"one above a large limit", largeMin + 2, largeMin + 1, false, ErrInflateLimit},
	} {
		for _, codec := range []Codec{Gzip, Snappy, LZ4, Zstd} {
			t.Run(tt.name+"/"+codec.String(), func(t *testing.T) {
				src, err := Compression{Codec: codec}.deflate(nil, make([]byte, tt.size))
				if err != nil {
					t.Fatal(err)
				}
				out, err := inflate(codec, src, tt.limit)
				if !errors.Is(err, tt.err) || err == nil && len(out.bytes) != tt.size {
					t.Fatalf("%d bytes, %v", len(out.bytes), err)
				}
				held := 0
				if err == nil {
					held = 1
				}
				if len(turns) != held || tryLarge() == tt.large {
					t.Fatalf("%d turns are taken, large %v", len(turns), !tryLarge())
				}
				out.release()
				if len(turns) != 0 || !tryLarge() {
					t.Fatal("a turn was not given back")
				}
			})
		}
	}
}

// tryLarge reports whether a large batch could have its turn.
func tryLarge() bool {
	if !large.TryLock() {
		return false
	}
	large.Unlock()
	return true
}

func TestMemoryIsNeverTakenOnAClaim(t *testing.T) {
	for name, claim := range claims() {
		t.Run(name, func(t *testing.T) {
			_, _ = inflate(claim.codec, claim.bytes, InflateLimit) // fills the pools
			took := allocated(func() {
				if out, err := inflate(claim.codec, claim.bytes, InflateLimit); err == nil {
					t.Errorf("inflated to %d bytes", len(out.bytes))
				}
			})
			// The race detector empties pools at random, so a decoder may be made anew.
			if took > 4<<20 {
				t.Errorf("took %d bytes for an input of %d", took, len(claim.bytes))
			}
		})
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestZstdFramesOfAllKindsAreRead(t *testing.T) {
	text := bytes.Repeat([]byte("a line of a log, and another\n"), 20_000)
	encode := func(o ...zstd.EOption) []byte {
		w, err := zstd.NewWriter(nil, o...)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		return w.EncodeAll(text, nil)
	}
	stream := func() []byte { // without a content size, as Java writes
		var out bytes.Buffer
		w, err := zstd.NewWriter(&out, zstd.WithWindowSize(windowMax))
		if err != nil {
			t.Fatal(err)
		}
		for chunk := range slices.Chunk(text, 1000) {
			if _, err := w.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}()
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}
	for name, tt := range map[string]struct{ in, want []byte }{
		"with a sum":              {encode(zstd.WithEncoderCRC(true)), text},
		"without a sum":           {encode(zstd.WithEncoderCRC(false)), text},
		"without a content size":  {stream, text},
		"two, one behind another": {slices.Concat(stream, encode()), slices.Concat(text, text)},
		"with a skippable one":    {slices.Concat(skippable, stream), text},
		"none":                    {nil, nil},
	} {
		out, err := inflate(Zstd, tt.in, InflateLimit)
		if err != nil || !bytes.Equal(out.bytes, tt.want) {
			t.Errorf("%s: %d bytes, %v", name, len(out.bytes), err)
		}
		out.release()
	}
	for cut := range stream {
		if cut%97 == 0 || cut > len(stream)-8 {
			if _, err := inflate(Zstd, stream[:cut], InflateLimit); err == nil && cut > 0 {
				t.Errorf("the first %d of %d bytes pass for a frame", cut, len(stream))
			}
		}
	}
}

func FuzzRecords(f *testing.F) {
	for _, codec := range codecs {
		bu := NewBuilder(Compression{Codec: codec})
		bu.Append(1, []byte("key"), []byte("value"), RecordHeader{[]byte("h"), nil})
		bu.Append(2, nil, nil)
		b := mustBuild(f, bu)
		f.Add(uint8(codec), int32(2), b.Bytes[HeaderSize:])
	}
	for _, claim := range claims() {
		f.Add(uint8(claim.codec), int32(1), claim.bytes)
	}
	f.Fuzz(func(t *testing.T, codec uint8, count int32, body []byte) {
		const limit = 1 << 20
		b := raw(count, count-1, Codec(codec&codecMask), body)
		var all []rec
		var failed error
		for r, err := range Records(&b, limit) {
			if failed != nil {
				t.Fatal("the iteration goes on after an error")
			}
			if failed = err; err == nil {
				all = append(all, keep(r))
			}
		}
		if failed != nil {
			for _, kind := range []error{messages.ErrCorruptBatch, messages.ErrUnsupportedCompression,
				ErrInflateLimit} {
				if errors.Is(failed, kind) {
					return
				}
			}
			t.Fatalf("error of no kind: %v", failed)
		}
		if len(all) != int(count) {
			t.Fatalf("%d records, header says %d", len(all), count)
		}
		// What was read can be built, and reads the same.
		bu := NewBuilder(Compression{Codec: Codec(codec & codecMask)})
		for _, r := range all {
			bu.AppendAt(int32(r.offset), r.timestamp, r.key, r.value, r.headers...)
		}
		again := mustBuild(t, bu)
		got, err := collect(&again, InflateLimit)
		if err != nil || !slices.EqualFunc(got, all, rec.equal) {
			t.Fatalf("built anew it reads %v, %v; before %v", got, err, all)
		}
	})
}
