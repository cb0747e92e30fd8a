package record

import (
	"errors"
	"fmt"
	"math"

	"github.com/troupelog/troupe/messages"
)

// Rules are what a topic and a request allow a producer to send.
type Rules struct {
	MaxBytes      int  // max.message.bytes: whole batch, header included
	Compacted     bool // cleanup.policy has compact: every record needs a key
	AllowZstd     bool // the request's version may carry zstd (Produce 7, KIP-110)
	LogAppendTime bool // message.timestamp.type=LogAppendTime: the producer's times do not count

	// Times of records must lie in [Now-BeforeMaxMs, Now+AfterMaxMs], but for
	// "none" (-1). math.MaxInt64 means no bound.
	Now         messages.Timestamp
	BeforeMaxMs int64
	AfterMaxMs  int64

	// InflateLimit bounds decompression, in bytes; 0 means the constant
	// InflateLimit.
	InflateLimit int
}

// recordErrorsMax bounds how many records of a batch an error lists.
const recordErrorsMax = 64

// RecordError is a record that breaks a rule.
type RecordError struct {
	Index   int32 // in the batch, from 0
	Message string
}

// RecordErrors is a batch refused for some of its records, in Produce v8 and
// later told to the client one by one (KIP-467). It wraps
// messages.ErrInvalidRecord or messages.ErrInvalidTimestamp, whichever the
// first record broke.
type RecordErrors struct {
	Records []RecordError // the first 64, in order; never empty
	Total   int           // how many there are
	Err     error
}

// Error names the first bad record and counts the others.
func (e *RecordErrors) Error() string {
	first := e.Records[0]
	others := ""
	if e.Total > 1 {
		others = fmt.Sprintf(" (and %d more records)", e.Total-1)
	}
	return fmt.Sprintf("record %d: %s%s: %v", first.Index, first.Message, others, e.Err)
}

// Unwrap returns the sentinel error.
func (e *RecordErrors) Unwrap() error { return e.Err }

func (e *RecordErrors) add(index int32, message string, err error) {
	if e.Total++; e.Total == 1 {
		e.Err = err
	}
	if len(e.Records) < recordErrorsMax {
		e.Records = append(e.Records, RecordError{Index: index, Message: message})
	}
}

// Validate checks a batch that Parse accepted against the rules for producers,
// in Kafka's order. It does not stamp the batch: LogAppendTime is the leader's
// to set, at append. The errors:
//
//	messages.ErrUnsupportedCompression  no such codec, or zstd in an old request
//	messages.ErrInvalidRecord           offsets, count, control bit, sequence or
//	                                    records that break the format
//	messages.ErrBatchTooLarge           larger than MaxBytes
//	messages.ErrInvalidTimestamp        LogAppendTime set by the producer, or a
//	                                    record's time outside the bounds
//	*RecordErrors                       bad records, where they are to be blamed
//	ErrInflateLimit                     too large once decompressed
//
// Kafka decompresses every batch to look at every record. Validate walks the
// records only if the header cannot answer: in compacted topics, if there is a
// lower bound for times (a record may be older than the first), and if the
// header's times are out of bounds or contradict each other. Otherwise it takes
// the producer's word for the maximum timestamp. A producer that understates it
// deceives the time index and retention of the topic it writes to, and no other.
//
// Some clients leave the maximum unset. It is then below the base timestamp,
// the records are walked, and the true maximum is written into the batch (a new
// CRC), as Kafka does for every batch. Nothing else of b ever changes.
func Validate(b *Batch, r Rules) error {
	if err := validateHeader(b, &r); err != nil {
		return err
	}
	if r.Compacted || !r.LogAppendTime && !r.provedBy(&b.Header) {
		return validateRecords(b, &r)
	}
	return nil
}

func validateHeader(b *Batch, r *Rules) error {
	switch {
	case b.Codec() > Zstd:
		return fmt.Errorf("codec %d: %w", b.Codec(), messages.ErrUnsupportedCompression)
	case b.Codec() == Zstd && !r.AllowZstd:
		return fmt.Errorf("zstd needs version 7 of Produce: %w", messages.ErrUnsupportedCompression)
	case b.BaseOffset != 0:
		return fmt.Errorf("base offset is %d, a producer's is 0: %w",
			b.BaseOffset, messages.ErrInvalidRecord)
	case b.Size() > r.MaxBytes:
		return fmt.Errorf("batch has %d bytes, %d are allowed; send smaller batches or raise "+
			"max.message.bytes of the topic: %w", b.Size(), r.MaxBytes, messages.ErrBatchTooLarge)
	case b.Count <= 0:
		return fmt.Errorf("batch has %d records: %w", b.Count, messages.ErrInvalidRecord)
	case int64(b.Count) != int64(b.LastOffsetDelta)+1:
		return fmt.Errorf("batch has %d records, its last offset delta is %d: %w",
			b.Count, b.LastOffsetDelta, messages.ErrInvalidRecord)
	case b.Control():
		return fmt.Errorf("producers may not write control records: %w", messages.ErrInvalidRecord)
	case b.Idempotent() && b.BaseSequence < 0:
		return fmt.Errorf("producer %d sends the sequence %d: %w",
			b.ProducerID, b.BaseSequence, messages.ErrInvalidRecord)
	case b.LogAppendTime():
		return fmt.Errorf("the producer set the timestamp type to LogAppendTime: %w",
			messages.ErrInvalidTimestamp)
	}
	return nil
}

// provedBy reports whether the header's times leave no doubt about the records',
// if the maximum is true.
func (r *Rules) provedBy(h *Header) bool {
	return r.BeforeMaxMs == math.MaxInt64 &&
		h.MaxTimestamp >= h.BaseTimestamp && r.within(h.BaseTimestamp) && r.within(h.MaxTimestamp)
}

// within reports whether a record may have the time t.
func (r *Rules) within(t messages.Timestamp) bool {
	if t == messages.NoTimestamp {
		return true
	}
	oldest, newest := r.bounds()
	return int64(t) >= oldest && int64(t) <= newest
}

// bounds returns the first and the last time allowed.
func (r *Rules) bounds() (oldest, newest int64) {
	oldest, newest = int64(r.Now)-r.BeforeMaxMs, int64(r.Now)+r.AfterMaxMs
	if r.BeforeMaxMs == math.MaxInt64 || oldest > int64(r.Now) {
		oldest = math.MinInt64
	}
	if r.AfterMaxMs == math.MaxInt64 || newest < int64(r.Now) {
		newest = math.MaxInt64
	}
	return oldest, newest
}

// validateRecords checks every record and corrects the maximum timestamp.
func validateRecords(b *Batch, r *Rules) error {
	limit := r.InflateLimit
	if limit == 0 {
		limit = InflateLimit
	}
	var bad RecordErrors
	latest := messages.Timestamp(math.MinInt64)
	i := int32(0)
	for rec, err := range Records(b, limit) {
		if err != nil {
			return malformed(err)
		}
		latest = max(latest, rec.Timestamp)
		if r.Compacted && rec.Key == nil {
			bad.add(i, "a compacted topic takes no record without a key",
				messages.ErrInvalidRecord)
		} else if !r.LogAppendTime && !r.within(rec.Timestamp) {
			oldest, newest := r.bounds()
			bad.add(i, fmt.Sprintf("timestamp %d is outside [%d, %d]",
				rec.Timestamp, oldest, newest), messages.ErrInvalidTimestamp)
		}
		i++
	}
	if bad.Total > 0 {
		return &bad
	}
	if !r.LogAppendTime && latest != b.MaxTimestamp {
		b.SetMaxTimestamp(latest)
	}
	return nil
}

// malformed tells a producer that its records break the format. The CRC was
// right, so the bytes are as it sent them: unlike messages.ErrCorruptBatch,
// which clients answer by sending the same again, this must end the matter.
func malformed(err error) error {
	if errors.Is(err, messages.ErrCorruptBatch) {
		return fmt.Errorf("%v: %w", err, messages.ErrInvalidRecord)
	}
	return err
}
