package door

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/record"
)

// Admit checks a batch against the rules of its topic and compresses it anew if
// the topic demands another codec than the producer chose. It runs before the batch
// is handed over, so that the partition's actor never decompresses. zstd says whether
// the client may send that codec.
func Admit(b record.Batch, t *configs.TopicSettings, zstd bool, now time.Time,
) (record.Batch, error) {
	rules := record.Rules{
		MaxBytes:      t.MaxMessageBytes,
		Compacted:     t.CleanupCompact,
		AllowZstd:     zstd,
		LogAppendTime: t.LogAppendTime,
		Now:           messages.Timestamp(now.UnixMilli()),
		BeforeMaxMs:   t.TimestampBeforeMaxMs,
		AfterMaxMs:    t.TimestampAfterMaxMs,
	}
	if err := record.Validate(&b, rules); err != nil {
		return b, err
	}
	c, keep := compression(t, b.Codec())
	if keep {
		return b, nil
	}
	again, err := record.Recompress(&b, c, record.InflateLimit)
	if err != nil {
		return b, fmt.Errorf("compression.type is %s: %w", t.CompressionType, err)
	}
	if again.Size() > t.MaxMessageBytes {
		return b, fmt.Errorf("batch has %d bytes as %s, which compression.type demands, "+
			"and %d are allowed: %w", again.Size(), t.CompressionType, t.MaxMessageBytes,
			messages.ErrBatchTooLarge)
	}
	return again, nil
}

// compression returns how the topic wants its batches compressed, and whether
// the codec a batch has may stay.
func compression(t *configs.TopicSettings, has record.Codec) (c record.Compression, keep bool) {
	switch t.CompressionType {
	case "uncompressed":
		c.Codec = record.None
	case "gzip":
		c = record.Compression{Codec: record.Gzip, Level: t.CompressionGzipLevel}
	case "snappy":
		c.Codec = record.Snappy
	case "lz4":
		c = record.Compression{Codec: record.LZ4, Level: t.CompressionLZ4Level}
	case "zstd":
		c = record.Compression{Codec: record.Zstd, Level: t.CompressionZstdLevel}
	default: // "producer"
		return c, true
	}
	return c, c.Codec == has
}
