package record

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
)

const now messages.Timestamp = 1_700_000_000_000

// topic are the rules of a topic with Kafka's defaults.
func topic() Rules {
	return Rules{MaxBytes: 1048588, AllowZstd: true, Now: now,
		BeforeMaxMs: math.MaxInt64, AfterMaxMs: 3_600_000}
}

// at returns a batch of records with the given times.
func at(t testing.TB, codec Codec, times ...messages.Timestamp) Batch {
	bu := NewBuilder(Compression{Codec: codec})
	for _, when := range times {
		bu.Append(when, []byte("k"), []byte("v"))
	}
	return mustBuild(t, bu)
}

// edit changes a header field and sums the batch anew.
func edit(b Batch, change func(h *Header)) Batch {
	h := b.Header
	change(&h)
	return sealed(h, slices.Clone(b.Bytes))
}

func TestValidate(t *testing.T) {
	good := at(t, None, now, now+1)
	zstd := at(t, Zstd, now)
	for _, tt := range []struct {
		name  string
		batch Batch
		rules func(r *Rules)
		want  error
	}{
		{name: "a good batch passes", batch: good},
		{name: "an idempotent batch passes",
			batch: edit(good, func(h *Header) { h.ProducerID, h.BaseSequence = 1, 0 })},
		{name: "a leader epoch of the producer's making is ignored",
			batch: edit(good, func(h *Header) { h.LeaderEpoch = 77 })},
		{name: "a batch of exactly the limit passes", batch: good,
			rules: func(r *Rules) { r.MaxBytes = good.Size() }},
		{name: "a byte more is too large", batch: good,
			rules: func(r *Rules) { r.MaxBytes = good.Size() - 1 }, want: messages.ErrBatchTooLarge},
		{name: "an offset of the producer's making is refused",
			batch: edit(good, func(h *Header) { h.BaseOffset = 5 }), want: messages.ErrInvalidRecord},
		{name: "no records are refused", want: messages.ErrInvalidRecord,
			batch: edit(good, func(h *Header) { h.Count, h.LastOffsetDelta = 0, -1 })},
		{name: "a count beside the offsets is refused", want: messages.ErrInvalidRecord,
			batch: edit(good, func(h *Header) { h.Count = 3 })},
		{name: "a count whose offsets overflow is refused", want: messages.ErrInvalidRecord,
			batch: edit(good, func(h *Header) {
				h.Count, h.LastOffsetDelta = math.MinInt32,
					math.MaxInt32
			})},
		{name: "a control batch is refused", want: messages.ErrInvalidRecord,
			batch: edit(good, func(h *Header) { h.Attributes |= attrControl })},
		{name: "a producer without a sequence is refused", want: messages.ErrInvalidRecord,
			batch: edit(good, func(h *Header) { h.ProducerID = 1 })},
		{name: "the broker's timestamp type is refused", want: messages.ErrInvalidTimestamp,
			batch: edit(good, func(h *Header) { h.Attributes |= attrLogAppendTime })},
		{name: "the broker's timestamp type is refused though the topic has it",
			batch: edit(good, func(h *Header) { h.Attributes |= attrLogAppendTime }),
			rules: func(r *Rules) { r.LogAppendTime = true }, want: messages.ErrInvalidTimestamp},
		{name: "an unknown codec is refused", want: messages.ErrUnsupportedCompression,
			batch: edit(good, func(h *Header) { h.Attributes |= 7 })},
		{name: "zstd passes in new requests", batch: zstd},
		{name: "zstd is refused in old requests", batch: zstd,
			rules: func(r *Rules) { r.AllowZstd = false }, want: messages.ErrUnsupportedCompression},
		{name: "a time at the upper bound passes", batch: at(t, Gzip, now, now+3_600_000)},
		{name: "a time above it is refused", batch: at(t, Gzip, now, now+3_600_001),
			want: messages.ErrInvalidTimestamp},
		{name: "the distant past passes by default", batch: at(t, None, 0, now)},
		{name: "records without a time pass",
			batch: at(t, None, messages.NoTimestamp, messages.NoTimestamp)},
		{name: "a record older than a lower bound is refused though the first is not",
			batch: at(t, Snappy, now, now-1001, now), want: messages.ErrInvalidTimestamp,
			rules: func(r *Rules) { r.BeforeMaxMs = 1000 }},
		{name: "a time at the lower bound passes", batch: at(t, Snappy, now, now-1000),
			rules: func(r *Rules) { r.BeforeMaxMs = 1000 }},
		{name: "times do not count in a topic of LogAppendTime",
			batch: at(t, None, now+math.MaxInt32*1000, 5), rules: func(r *Rules) { r.LogAppendTime = true }},
		{name: "no bound means none", batch: at(t, None, math.MaxInt64-1, 0),
			rules: func(r *Rules) { r.AfterMaxMs = math.MaxInt64 }},
		{name: "records that are none are refused where they are looked at",
			batch: edit(raw(1, 0, None, one(0, 0, 40, 1, 0)), func(*Header) {}),
			rules: func(r *Rules) { r.Compacted = true }, want: messages.ErrInvalidRecord},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := topic()
			if tt.rules != nil {
				tt.rules(&r)
			}
			b := mustParse(t, slices.Clone(tt.batch.Bytes))
			before := slices.Clone(b.Bytes)
			err := Validate(&b, r)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if errors.Is(err, messages.ErrCorruptBatch) {
				t.Errorf("%v would be sent again", err)
			}
			if !slices.Equal(before, b.Bytes) {
				t.Error("the batch changed")
			}
		})
	}
}

func TestRecordsThatBreakARuleAreNamed(t *testing.T) {
	bu := NewBuilder(Compression{Codec: Zstd})
	bu.Append(now, []byte("k"), nil)
	bu.Append(now, nil, nil)
	bu.Append(now, []byte{}, nil) // an empty key is a key
	bu.Append(now+3_600_001, []byte("k"), nil)
	bu.Append(now+3_600_001, nil, nil)
	b := mustBuild(t, bu)
	r := topic()
	r.Compacted = true
	err := Validate(&b, r)
	var bad *RecordErrors
	if !errors.As(err, &bad) || !errors.Is(err, messages.ErrInvalidRecord) {
		t.Fatalf("got %v", err)
	}
	var indexes []int32
	for _, e := range bad.Records {
		indexes = append(indexes, e.Index)
	}
	if !slices.Equal(indexes, []int32{1, 3, 4}) || bad.Total != 3 {
		t.Errorf("records %v, %d in all", indexes, bad.Total)
	}
	for _, part := range []string{"record 1", "without a key", "2 more"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if !strings.Contains(bad.Records[1].Message, "outside") {
		t.Errorf("message %q", bad.Records[1].Message)
	}
	t.Run("however many there are, the list has an end", func(t *testing.T) {
		bu := NewBuilder(Compression{})
		for range 1000 {
			bu.Append(now, nil, nil)
		}
		b := mustBuild(t, bu)
		if err := Validate(&b, r); !errors.As(err, &bad) || len(bad.Records) != recordErrorsMax ||
			bad.Total != 1000 {
			t.Errorf("%d records listed of %d", len(bad.Records), bad.Total)
		}
	})
}

// Sarama before 1.46 leaves the maximum at -1.
func TestAMaximumTimestampThatCannotBeTrueIsCorrected(t *testing.T) {
	for _, codec := range codecs {
		b := edit(at(t, codec, now-5, now-1, now-3), func(h *Header) {
			h.MaxTimestamp = messages.NoTimestamp
		})
		if err := Validate(&b, topic()); err != nil {
			t.Fatal(err)
		}
		p := mustParse(t, b.Bytes)
		if p.MaxTimestamp != now-1 || p.BaseTimestamp != now-5 || p.Header != b.Header {
			t.Errorf("%s: header %+v", codec, p.Header)
		}
	}
	t.Run("an overstated one is corrected, not blamed on the records", func(t *testing.T) {
		b := edit(at(t, None, now), func(h *Header) { h.MaxTimestamp = math.MaxInt64 })
		if err := Validate(&b, topic()); err != nil || b.MaxTimestamp != now {
			t.Errorf("maximum %d, %v", b.MaxTimestamp, err)
		}
	})
	t.Run("a topic of LogAppendTime leaves it to the leader", func(t *testing.T) {
		b := edit(at(t, None, now), func(h *Header) { h.MaxTimestamp = messages.NoTimestamp })
		r := topic()
		r.LogAppendTime = true
		if err := Validate(&b, r); err != nil || b.MaxTimestamp != messages.NoTimestamp {
			t.Errorf("maximum %d, %v", b.MaxTimestamp, err)
		}
	})
}

func TestRecordsAreOnlyLookedAtWhereTheHeaderCannotAnswer(t *testing.T) {
	// Bytes that would fail if they were decompressed.
	b := edit(raw(1, 0, Gzip, []byte("no gzip")), func(h *Header) {
		h.BaseTimestamp, h.MaxTimestamp = now, now
	})
	if err := Validate(&b, topic()); err != nil {
		t.Errorf("looked at records without need: %v", err)
	}
	for name, rules := range map[string]func(r *Rules){
		"a compacted topic":     func(r *Rules) { r.Compacted = true },
		"a lower bound of time": func(r *Rules) { r.BeforeMaxMs = 1000 },
		"an upper bound passed": func(r *Rules) { r.Now = now - 4_000_000 },
	} {
		r := topic()
		rules(&r)
		if err := Validate(&b, r); !errors.Is(err, messages.ErrInvalidRecord) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzValidate(f *testing.F) {
	for _, codec := range codecs {
		f.Add(at(f, codec, now, now+5).Bytes, true, int64(1000), int64(now))
		f.Add(at(f, codec, now, now+5).Bytes, false, int64(math.MaxInt64), int64(math.MinInt64))
	}
	f.Fuzz(func(t *testing.T, b []byte, compacted bool, window, clock int64) {
		if len(b) >= HeaderSize {
			b = slices.Clone(b)
			(&Batch{Bytes: b}).resum() // a fuzzer does not guess sums
		}
		batch, _, err := Parse(b)
		if err != nil {
			return
		}
		r := topic()
		r.Compacted, r.BeforeMaxMs, r.AfterMaxMs = compacted, window, window
		r.Now, r.InflateLimit = messages.Timestamp(clock), 1<<20
		err = Validate(&batch, r)
		if err != nil {
			for _, kind := range []error{messages.ErrInvalidRecord, messages.ErrInvalidTimestamp,
				messages.ErrUnsupportedCompression, messages.ErrBatchTooLarge} {
				if errors.Is(err, kind) {
					return
				}
			}
			t.Fatalf("error of no kind: %v", err)
		}
		if _, _, err := Parse(batch.Bytes); err != nil {
			t.Fatalf("validation broke the batch: %v", err)
		}
		if err := Validate(&batch, r); err != nil {
			t.Fatalf("validated, but not twice: %v", err)
		}
	})
}
