package door

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/record"
)

// ErrInternal: the topic is internal, and clients may not write to it. It wraps
// messages.ErrInvalidTopic.
var ErrInternal = fmt.Errorf("clients may not write to it: %w", messages.ErrInvalidTopic)

// Admit reads the batch that is meant for a partition, checks it against the rules of the
// topic, and compresses it anew if the topic demands another codec than the producer
// chose: then the batch has memory of its own, and anew is set. It runs before the batch
// is handed over, so that the partition's actor never decompresses. zstd says whether the
// client may send that codec. name is the partition's, for errors; messages.ErrNotLeader:
// it does not lead any more.
func Admit(to Partition, name messages.TopicPartition, records []byte, zstd bool, now time.Time,
) (b record.Batch, anew bool, err error) {
	settings := to.Settings()
	if settings == nil {
		return b, false, fmt.Errorf("%s: %w", name, messages.ErrNotLeader)
	}
	if b, err = record.ParseOnly(records); err != nil {
		return b, false, err
	}
	rules := record.Rules{
		MaxBytes:      settings.MaxMessageBytes,
		Compacted:     settings.CleanupCompact,
		AllowZstd:     zstd,
		LogAppendTime: settings.LogAppendTime,
		Now:           messages.Timestamp(now.UnixMilli()),
		BeforeMaxMs:   settings.TimestampBeforeMaxMs,
		AfterMaxMs:    settings.TimestampAfterMaxMs,
	}
	if err := record.Validate(&b, rules); err != nil {
		return b, false, err
	}
	c, keep := compression(settings, b.Codec())
	if keep {
		return b, false, nil
	}
	again, err := record.Recompress(&b, c, record.InflateLimit)
	if err != nil {
		return b, false, fmt.Errorf("compression.type is %s: %w", settings.CompressionType, err)
	}
	if again.Size() > settings.MaxMessageBytes {
		return b, false, fmt.Errorf("batch has %d bytes as %s, which compression.type demands, "+
			"and %d are allowed: %w", again.Size(), settings.CompressionType,
			settings.MaxMessageBytes, messages.ErrBatchTooLarge)
	}
	return again, true, nil
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
