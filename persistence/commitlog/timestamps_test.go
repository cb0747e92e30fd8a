package commitlog

import (
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
