package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
)

// Compression is a codec and how hard it should try.
type Compression struct {
	Codec Codec
	// Level is that of Kafka's settings: gzip -1 or 1 to 9, lz4 1 to 17, zstd
	// -131072 to 22. 0 means the codec's default. Snappy has none.
	Level int
}

// snappyBlockSize is the size of the blocks Java's writer makes, in bytes.
const snappyBlockSize = 32 << 10

// Writers are costly to make, so they are kept: those of gzip and zstd for each
// level of theirs, those of lz4 together, because a level can be set anew.
var (
	gzips [gzip.BestCompression + 1]sync.Pool
	zstds [zstd.SpeedBestCompression + 1]sync.Pool
	lz4s  = sync.Pool{New: func() any { return lz4.NewWriter(nil) }}
)

// guess is by what factor records usually shrink, for a first buffer.
func (c Compression) guess() int {
	if c.Codec == None {
		return 1
	}
	return 4
}

// deflate appends src, compressed, to dst.
func (c Compression) deflate(dst, src []byte) ([]byte, error) {
	switch c.Codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return c.gzip(dst, src)
	case Snappy:
		return xerial(dst, src), nil
	case LZ4:
		return c.lz4(dst, src)
	case Zstd:
		return c.zstd(dst, src)
	}
	return dst, fmt.Errorf("codec %d: %w", c.Codec, messages.ErrUnsupportedCompression)
}

func (c Compression) gzip(dst, src []byte) ([]byte, error) {
	if c.Level > gzip.BestCompression {
		return dst, fmt.Errorf("gzip has no level %d: %w", c.Level, messages.ErrInvalidConfig)
	}
	level := c.Level
	if level <= 0 {
		level = gzip.DefaultCompression
	}
	pool := &gzips[max(level, 0)]
	w, _ := pool.Get().(*gzip.Writer)
	if w == nil {
		var err error
		w, err = gzip.NewWriterLevel(nil, level)
		invariant.That(err == nil, "gzip level %d: %v", level, err)
	}
	defer pool.Put(w)
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	return writeAll(w, out, src)
}

// lz4 writes one frame as Java does: independent blocks of 64 KiB.
func (c Compression) lz4(dst, src []byte) ([]byte, error) {
	w := lz4s.Get().(*lz4.Writer)
	defer lz4s.Put(w)
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false),
		lz4.CompressionLevelOption(lz4Level(c.Level)))
	invariant.That(err == nil, "lz4 level %d: %v", c.Level, err)
	return writeAll(w, out, src)
}

// lz4Level maps Kafka's 17 levels to the ten of the encoder. Those up to the
// default of 9 are its fast one: it has no counterpart of the levels in between.
func lz4Level(level int) lz4.CompressionLevel {
	const kafkaDefault = 9
	if level <= kafkaDefault {
		return lz4.Fast
	}
	return lz4.CompressionLevel(1 << (8 + min(level-kafkaDefault, 9)))
}

func (c Compression) zstd(dst, src []byte) ([]byte, error) {
	level := zstd.SpeedDefault
	if c.Level != 0 {
		level = zstd.EncoderLevelFromZstd(c.Level)
	}
	pool := &zstds[level]
	w, _ := pool.Get().(*zstd.Encoder)
	if w == nil {
		var err error
		w, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1))
		invariant.That(err == nil, "zstd level %d: %v", c.Level, err)
	}
	defer pool.Put(w)
	return w.EncodeAll(src, dst), nil
}

func writeAll(w io.WriteCloser, out *bytes.Buffer, src []byte) ([]byte, error) {
	if _, err := w.Write(src); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// xerial appends src in the framing of Java's snappy, which every client reads.
func xerial(dst, src []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = binary.BigEndian.AppendUint32(dst, 1) // version
	dst = binary.BigEndian.AppendUint32(dst, 1) // oldest version that can read it
	for len(src) > 0 {
		n := min(len(src), snappyBlockSize)
		block := snappy.Encode(nil, src[:n])
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
		dst = append(dst, block...)
		src = src[n:]
	}
	return dst
}
