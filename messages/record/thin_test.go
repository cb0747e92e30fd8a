package record

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
)

// thinBatch makes a batch of an idempotent producer, stamped.
func thinBatch(t testing.TB, codec Codec, all []rec) Batch {
	t.Helper()
	bu := NewBuilder(Compression{Codec: codec}).Producer(7, 3, 40).Transactional()
	b := mustBuild(t, appendAll(bu, all))
	b.Stamp(1000, 5)
	return b
}

// A batch that is thinned out has the records that stay, as they were, under the
// header it had, whatever the codec and the delete horizon.
func TestAThinnedBatchKeepsWhatStaysAsItWas(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	for round := range 300 {
		codec := codecs[round%len(codecs)]
		b := thinBatch(t, codec, randomRecords(rng, 0, 1+rng.IntN(12)))
		if round%7 == 0 {
			b.SetLogAppendTime(1_700_000_000_500)
		}
		all := mustCollect(t, &b)
		var want []rec
		tombstone := false
		for _, r := range all {
			if rng.IntN(3) > 0 {
				want = append(want, r)
				tombstone = tombstone || r.value == nil
			}
		}
		stays := func(r *Record) bool {
			return slices.ContainsFunc(want, func(w rec) bool { return w.offset == r.Offset })
		}
		horizon := messages.Timestamp(1_700_000_000_000 + rng.Int64N(1e9))
		always := rng.IntN(4) == 0
		left, kept, err := Thin(&b, Thinning{Keep: stays, Horizon: horizon, Always: always,
			Limit: InflateLimit})
		if err != nil || int(kept) != len(want) {
			t.Fatalf("%d records stay of %d wanted: %v", kept, len(want), err)
		}
		if kept == 0 {
			continue
		}
		left = mustParse(t, left.Bytes)
		got := mustCollect(t, &left)
		if !slices.EqualFunc(got, want, rec.equal) {
			t.Fatalf("codec %v: %v stay, want %v", codec, got, want)
		}
		at, set := left.DeleteHorizon()
		if set != (tombstone || always) || set && at != horizon {
			t.Fatalf("delete horizon %d (%v), tombstone %v, always %v", at, set, tombstone, always)
		}
		expectHeader(t, &b, &left, want)
		again, _, err := Thin(&left, Thinning{Keep: stays, Horizon: horizon + 1, Always: always,
			Limit: InflateLimit})
		if err != nil || !bytes.Equal(again.Bytes, left.Bytes) {
			t.Fatalf("thinned again it is another batch: %v", err)
		}
	}
}

func expectHeader(t *testing.T, b, left *Batch, want []rec) {
	t.Helper()
	latest := messages.NoTimestamp
	for _, r := range want {
		latest = max(latest, r.timestamp)
	}
	h := left.Header
	h.Length, h.CRC = b.Length, b.CRC
	h.BaseTimestamp, h.MaxTimestamp = b.BaseTimestamp, b.MaxTimestamp
	h.Attributes &^= attrDeleteHorizon
	h.Count = b.Count
	if h != b.Header {
		t.Fatalf("header was %+v, is %+v", b.Header, left.Header)
	}
	if left.MaxTimestamp != latest {
		t.Fatalf("maximum timestamp is %d, that of the records %d", left.MaxTimestamp, latest)
	}
}

func TestABatchThatLosesNothingIsTheSame(t *testing.T) {
	b := thinBatch(t, Gzip, []rec{{key: []byte("a"), value: []byte("b")}})
	left, kept, err := Thin(&b,
		Thinning{Keep: func(*Record) bool { return true }, Limit: InflateLimit})
	if err != nil || kept != 1 || &left.Bytes[0] != &b.Bytes[0] {
		t.Errorf("%d records, another batch: %v", kept, err)
	}
}

func TestAnEmptiedBatchSaysWhatItsProducerSent(t *testing.T) {
	b := thinBatch(t, Zstd, []rec{{timestamp: 5}, {timestamp: 9}, {timestamp: 7}})
	e := Emptied(b.Header)
	e = mustParse(t, e.Bytes)
	if e.Size() != HeaderSize || e.Count != 0 || e.BaseOffset != b.BaseOffset ||
		e.LastOffset() != b.LastOffset() || e.LastSequence() != b.LastSequence() ||
		e.ProducerID != b.ProducerID || e.ProducerEpoch != b.ProducerEpoch ||
		e.LeaderEpoch != b.LeaderEpoch || e.MaxTimestamp != 9 || !e.Transactional() || e.Codec() != None {
		t.Errorf("emptied: %+v, was %+v", e.Header, b.Header)
	}
	if got := mustCollect(t, &e); len(got) != 0 {
		t.Errorf("it has %d records", len(got))
	}
	m := EndTxnMarker(Marker{Commit: true}, 7, 3, 5)
	e = Emptied(m.Header)
	if _, ok, err := ParseMarker(&e); ok || err != nil {
		t.Errorf("an emptied marker: %v %v", ok, err)
	}
}

func FuzzThin(f *testing.F) {
	for _, codec := range codecs {
		b := thinBatch(f, codec, []rec{{key: []byte("a"), value: []byte("b"), timestamp: 4}, {}})
		f.Add(b.Bytes, int64(77), true, byte(1))
	}
	f.Fuzz(func(t *testing.T, bytes []byte, horizon int64, always bool, drop byte) {
		b, _, err := Split(bytes)
		if err != nil {
			return
		}
		left, kept, err := Thin(&b, Thinning{Horizon: messages.Timestamp(horizon), Always: always,
			Limit: 1 << 20, Keep: func(r *Record) bool { return byte(r.Offset)%3 != drop%3 }})
		if err != nil || kept == 0 {
			return
		}
		n := int32(0)
		for _, err := range Records(&left, 4<<20) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != kept {
			t.Fatal(fmt.Sprint(n, " records of ", kept))
		}
	})
}
