package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
)

// InflateLimit is the default bound, in bytes, on what the records of one batch
// may be after decompression. It lies above the largest request there is by
// default (100 MiB), so that it stops nothing a client could send uncompressed.
const InflateLimit = 128 << 20

// ErrInflateLimit: the records are, or claim to be, larger than the caller's
// limit once decompressed. It wraps messages.ErrInvalidRecord.
var ErrInflateLimit = fmt.Errorf("records are too large when decompressed: %w",
	messages.ErrInvalidRecord)

// pooledMax is the largest buffer, in bytes, that is kept for the next batch.
const pooledMax = 4 << 20

// windowMax is the largest zstd window, in bytes. Kafka's own decoder takes no
// larger one, and no level of zstd makes one without being told to.
const windowMax = 128 << 20

// largeMin is how many bytes decompressed records may have, in as many batches
// at a time as there are processors; above it, batches take turns.
const largeMin = pooledMax

// A batch of 100 KB may hold InflateLimit bytes, and any client may make the
// broker look inside one. To decompress takes processor time alone, so nothing
// is gained from more at a time than there are processors, and a machine has
// memory for one that is large.
var (
	turns = make(chan struct{}, runtime.GOMAXPROCS(0)) // one for each batch that is inflated
	large sync.Mutex                                   // held with a turn, by a large one
)

var (
	buffers = sync.Pool{New: func() any { return new([]byte) }}
	gunzips = sync.Pool{New: func() any { return new(gzip.Reader) }}
	unlz4s  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	unzstds = sync.Pool{New: func() any { return newZstdDecoder() }}
)

// inflated holds decompressed records until release.
type inflated struct {
	bytes  []byte
	buffer *[]byte // of the pool; nil when bytes are the batch's own
	large  bool
}

// release gives the buffer and the turn back; the bytes must not be used any
// more.
func (i inflated) release() {
	if i.buffer == nil {
		return
	}
	if cap(i.bytes) <= pooledMax {
		*i.buffer = i.bytes[:0]
	}
	buffers.Put(i.buffer)
	if i.large {
		large.Unlock()
	}
	<-turns
}

// Inflate returns b with its records decompressed, in memory of their own, for readers
// that keep them: Records of it then yields slices that stay valid. A batch that is not
// compressed is returned as it is. The CRC is that of b, and does not match any more.
// Errors are those of Records.
func Inflate(b *Batch, limit int) (Batch, error) {
	if b.Codec() == None {
		return *b, nil
	}
	body, err := inflate(b.Codec(), b.Bytes[HeaderSize:], limit)
	if err != nil {
		return Batch{}, err
	}
	defer body.release()
	out := Batch{Header: b.Header, Bytes: make([]byte, HeaderSize+len(body.bytes))}
	copy(out.Bytes, b.Bytes[:HeaderSize])
	copy(out.Bytes[HeaderSize:], body.bytes)
	out.Attributes &^= codecMask
	out.Length = int32(len(out.Bytes) - prefixSize)
	binary.BigEndian.PutUint32(out.Bytes[8:], uint32(out.Length))
	binary.BigEndian.PutUint16(out.Bytes[21:], uint16(out.Attributes))
	return out, nil
}

// inflate decompresses src into a pooled buffer of at most limit bytes. Memory
// grows with what the input proves to hold, never with what a length claims.
// Until release nobody else may get a turn: the caller must not wait for
// anything, nor inflate another batch.
func inflate(codec Codec, src []byte, limit int) (inflated, error) {
	if codec == None {
		return inflated{bytes: src}, nil
	}
	turns <- struct{}{}
	out := inflated{buffer: buffers.Get().(*[]byte)}
	var err error
	out.bytes, err = decompress(codec, (*out.buffer)[:0], src, min(limit, largeMin))
	if limit > largeMin && errors.Is(err, ErrInflateLimit) {
		out.bytes = nil // while it waits it holds next to nothing
		large.Lock()
		out.large = true
		out.bytes, err = decompress(codec, nil, src, limit)
	}
	if err == nil {
		return out, nil
	}
	out.release()
	if errors.Is(err, ErrInflateLimit) || errors.Is(err, messages.ErrUnsupportedCompression) {
		return inflated{}, err
	}
	return inflated{}, fmt.Errorf("%s: %v: %w", codec, err, messages.ErrCorruptBatch)
}

// decompress appends the decompressed src to dst, limit bytes in all at most.
func decompress(codec Codec, dst, src []byte, limit int) ([]byte, error) {
	switch codec {
	case Gzip:
		return gunzip(dst, src, limit)
	case Snappy:
		return unsnappy(dst, src, limit)
	case LZ4:
		return unlz4(dst, src, limit)
	case Zstd:
		return unzstd(dst, src, limit)
	default:
		return dst, fmt.Errorf("codec %d: %w", codec, messages.ErrUnsupportedCompression)
	}
}

func gunzip(dst, src []byte, limit int) ([]byte, error) {
	r := gunzips.Get().(*gzip.Reader)
	defer gunzips.Put(r)
	if err := r.Reset(bytes.NewReader(src)); err != nil {
		return dst, err
	}
	return readAll(dst, r, limit)
}

func unlz4(dst, src []byte, limit int) ([]byte, error) {
	r := unlz4s.Get().(*lz4.Reader)
	defer unlz4s.Put(r)
	r.Reset(bytes.NewReader(src))
	defer r.Reset(nil)
	return readAll(dst, r, limit)
}

// readAll appends all of r to dst, growing it as bytes arrive.
func readAll(dst []byte, r io.Reader, limit int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) { // append would leave five times the bytes behind
			next := make([]byte, len(dst), min(max(2*cap(dst), 4<<10), limit+1))
			copy(next, dst)
			dst = next
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst) > limit {
			return dst, overLimit(limit)
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// xerialMagic begins the framing of Java's and librdkafka's snappy: after it
// stand two version numbers of 4 bytes, then blocks with their length before.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderSize = 16

func unsnappy(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < xerialHeaderSize || !bytes.HasPrefix(src, xerialMagic) {
		return unsnappyBlock(dst, src, limit)
	}
	src = src[xerialHeaderSize:]
	for len(src) > 0 {
		if len(src) < 4 {
			return dst, errors.New("block length is cut short")
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return dst, fmt.Errorf("block of %d bytes, %d are left", n, len(src))
		}
		var err error
		if dst, err = unsnappyBlock(dst, src[:n], limit); err != nil {
			return dst, err
		}
		src = src[n:]
	}
	return dst, nil
}

func unsnappyBlock(dst, block []byte, limit int) ([]byte, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return dst, err
	}
	// The densest element of the format, a copy, makes 64 bytes out of 3.
	if n > len(block)*64/3+64 {
		return dst, fmt.Errorf("%d bytes cannot hold the %d they claim", len(block), n)
	}
	if n > limit-len(dst) {
		return dst, overLimit(limit)
	}
	dst = grow(dst, n)
	// Strict: the ordinary decoder takes an extension that other clients refuse.
	out, err := snappy.DecodeStrict(dst[len(dst):len(dst)+n], block)
	if err != nil {
		return dst, err
	}
	invariant.That(len(out) == n, "snappy made %d bytes of a block that says %d", len(out), n)
	return dst[:len(dst)+n], nil
}

func newZstdDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(windowMax), zstd.WithDecodeAllCapLimit(true))
	invariant.That(err == nil, "zstd decoder: %v", err)
	return d
}

func unzstd(dst, src []byte, limit int) ([]byte, error) {
	bound, err := zstdBound(src, limit)
	if err != nil {
		return dst, err
	}
	d := unzstds.Get().(*zstd.Decoder)
	defer unzstds.Put(d)
	// The slack lets the decoder copy in whole words near the end.
	return d.DecodeAll(src, grow(dst, bound+64))
}

// zstdBlockMax is the most bytes one block of a zstd frame may hold (RFC 8878).
const zstdBlockMax = 128 << 10

// zstdBound walks the block headers of all frames and returns the most bytes
// they can hold. Unlike the size in the frame header, which is only claimed and
// may be left out, it is what the blocks that are there can prove.
func zstdBound(src []byte, limit int) (int, error) {
	total := 0
	for len(src) > 0 {
		var frame zstd.Header
		rest, err := frame.DecodeAndStrip(src)
		if err != nil {
			return 0, err
		}
		if frame.Skippable {
			if uint64(frame.SkippableSize) > uint64(len(rest)) {
				return 0, errors.New("skippable frame is cut short")
			}
			src = rest[frame.SkippableSize:]
			continue
		}
		held, rest, err := zstdBlocks(rest)
		if err != nil {
			return 0, err
		}
		if frame.HasFCS {
			if frame.FrameContentSize > uint64(held) {
				return 0, fmt.Errorf("blocks of %d bytes at most cannot hold the %d they claim",
					held, frame.FrameContentSize)
			}
			held = int(frame.FrameContentSize)
		}
		if frame.HasCheckSum {
			if len(rest) < 4 {
				return 0, errors.New("frame checksum is cut short")
			}
			rest = rest[4:]
		}
		if total += held; total > limit {
			return 0, overLimit(limit)
		}
		src = rest
	}
	return total, nil
}

// zstdBlocks walks the blocks of one frame and returns the most bytes they can
// hold and what follows the last of them.
func zstdBlocks(src []byte) (held int, rest []byte, err error) {
	for {
		if len(src) < 3 {
			return 0, nil, errors.New("block header is cut short")
		}
		header := int(src[0]) | int(src[1])<<8 | int(src[2])<<16
		src = src[3:]
		size, stored := header>>3, header>>3
		switch header >> 1 & 3 {
		case 1: // one byte, repeated
			stored = 1
		case 2: // compressed
			size = zstdBlockMax
		case 3:
			return 0, nil, errors.New("block of a reserved type")
		}
		if stored > len(src) {
			return 0, nil, errors.New("block is cut short")
		}
		held += min(size, zstdBlockMax)
		src = src[stored:]
		if header&1 != 0 { // the last block
			return held, src, nil
		}
	}
}

// grow returns dst with room for n more bytes. It at least doubles, so that many
// small steps do not copy quadratically.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	grown := make([]byte, len(dst), max(len(dst)+n, 2*cap(dst)))
	copy(grown, dst)
	return grown
}

func overLimit(limit int) error {
	return fmt.Errorf("more than %d bytes: %w", limit, ErrInflateLimit)
}
