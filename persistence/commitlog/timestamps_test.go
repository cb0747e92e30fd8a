package commitlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// Records with times in no order, in batches and segments of many sizes; each
// answer is compared with a walk over all records.
func TestTimestampLookupsEqualASlowTwins(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := newMem(t)
		l, _ := mustOpen(t, m, testOptions())
		var all []data.TimestampOffset
		for l.End() < 200 {
			bu := record.NewBuilder(record.Compression{Codec: record.Codec(r.IntN(2) * 4)})
			for range 1 + r.IntN(4) {
				bu.Append(messages.Timestamp(1000+r.IntN(300)), nil, make([]byte, r.IntN(100)))
			}
			b, err := bu.Build()
			if err != nil {
				t.Fatal(err)
			}
			b.Stamp(l.End(), 1)
			mustAppend(t, l, b)
			for rec, err := range record.Records(&b, record.InflateLimit) {
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, data.TimestampOffset{Timestamp: rec.Timestamp, Offset: rec.Offset, Epoch: 1})
			}
		}
		if seed%2 == 0 { // through index files, too
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			o := testOptions()
			o.Clean = true
			l, _ = mustOpen(t, m, o)
		}
		if _, err := l.AdvanceStart(messages.Offset(r.IntN(30))); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			at := messages.Timestamp(990 + r.IntN(320))
			limit := l.Start() + messages.Offset(r.Int64N(int64(l.End()-l.Start())+1))
			checkLookups(t, l, all, at, limit)
		}
		checkLookups(t, l, all, 0, l.End())
	}
}

func checkLookups(
	t *testing.T, l *Log, all []data.TimestampOffset, at messages.Timestamp, limit messages.Offset,
) {
	t.Helper()
	var first, latest data.TimestampOffset
	var found, any bool
	for _, x := range all {
		if x.Offset < l.Start() || x.Offset >= limit {
			continue
		}
		if !found && x.Timestamp >= at {
			first, found = x, true
		}
		if !any || x.Timestamp > latest.Timestamp {
			latest, any = x, true
		}
	}
	got, ok, err := l.OffsetForTimestamp(at, limit)
	if err != nil || ok != found || (ok && got != first) {
		t.Fatalf("first since %d below %d: %+v %v %v, want %+v %v", at, limit, got, ok, err, first, found)
	}
	if limit != l.End() {
		return // a limit inside a batch leaves out the whole batch
	}
	got, ok, err = l.MaxTimestamp(limit)
	if err != nil || ok != any || (ok && got.Timestamp != latest.Timestamp) {
		t.Fatalf("latest below %d: %+v %v %v, want %+v %v", limit, got, ok, err, latest, any)
	}
}

func TestATimestampIsFoundBehindABatchWithoutRecords(t *testing.T) {
	at := func(ts messages.Timestamp, garble func([]byte)) record.Batch {
		bu := record.NewBuilder(record.Compression{})
		bu.Append(ts, nil, []byte("a"))
		bu.Append(ts, nil, []byte("b"))
		b, err := bu.Build()
		if err != nil {
			t.Fatal(err)
		}
		garble(b.Bytes)
		return b
	}
	records := func(b []byte) { clear(b[record.HeaderSize:]) }
	summed := func(b []byte) {
		records(b)
		sum := crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli))
		binary.BigEndian.PutUint32(b[17:], sum)
	}
	for _, tt := range []struct {
		name   string
		garble func([]byte)
		bad    data.TimestampOffset
		err    error
	}{
		{"the producer's doing", summed, data.TimestampOffset{Timestamp: 2000, Offset: 2, Epoch: 1}, nil},
		{"the disk's doing", records, data.TimestampOffset{}, messages.ErrCorruptBatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, _ := mustOpen(t, newMem(t), testOptions())
			for _, b := range []record.Batch{
				at(1000, func([]byte) {}), at(2000, tt.garble), at(1500, func([]byte) {}),
			} {
				b.Stamp(l.End(), 1)
				mustAppend(t, l, b)
			}
			for _, search := range []struct {
				t    messages.Timestamp
				want data.TimestampOffset
				err  error
			}{
				{1000, data.TimestampOffset{Timestamp: 1000, Offset: 0, Epoch: 1}, nil},
				{1001, tt.bad, tt.err},
			} {
				got, ok, err := l.OffsetForTimestamp(search.t, l.End())
				if !errors.Is(err, search.err) || got != search.want || ok != (search.err == nil) {
					t.Errorf("at %d: %+v, %v, %v", search.t, got, ok, err)
				}
			}
			latest := tt.bad
			if tt.err == nil {
				latest.Offset++ // its last
			}
			got, _, err := l.MaxTimestamp(l.End())
			if !errors.Is(err, tt.err) || err == nil && got != latest {
				t.Errorf("latest: %+v, %v", got, err)
			}
		})
	}
}
