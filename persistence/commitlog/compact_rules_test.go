package commitlog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

func TestTheOffsetMapEqualsAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 50 {
		m := newOffsetMap(int64(r.IntN(300)), int64(r.IntN(8000)))
		twin := map[string]messages.Offset{}
		for o := range messages.Offset(400) {
			key := fmt.Sprint(r.IntN(200))
			_, known := twin[key]
			if !m.put([]byte(key), o) {
				if known || len(twin) < m.most {
					t.Fatalf("round %d: %q does not fit beside %d of %d", round, key, len(twin), m.most)
				}
				continue
			}
			twin[key] = o
		}
		for i := range 200 {
			key := fmt.Sprint(i)
			want, known := twin[key]
			if !known {
				want = messages.NoOffset
			}
			if got := m.newest([]byte(key)); got != want {
				t.Fatalf("round %d: %q is newest at %d, want %d", round, key, got, want)
			}
		}
	}
	if m := newOffsetMap(1<<40, 1<<20); int64(len(m.slots))*slotSize > 1<<20 {
		t.Errorf("%d slots", len(m.slots))
	}
}

func TestSegmentsAreGroupedUpToTheBounds(t *testing.T) {
	row := func(sizes ...int64) (all []weight) {
		for i, s := range sizes {
			o := messages.Offset(i * 10)
			all = append(all, weight{base: o, next: o + 10, bytes: s, index: s / 10})
		}
		return all
	}
	far := row(10, 10)
	far[1].next = segmentBytesMax + 1
	for _, tt := range []struct {
		name       string
		row        []weight
		max, index int64
		want       []int
	}{
		{"none", nil, 100, 100, nil},
		{"all in one", row(30, 30, 40), 100, 100, []int{3}},
		{"as many as fit", row(30, 80, 10, 10, 90), 100, 100, []int{1, 3, 1}},
		{"one that is too large is alone", row(10, 200, 10), 100, 100, []int{1, 1, 1}},
		{"by the index", row(30, 30, 40), 100, 6, []int{2, 1}},
		{"by the offsets", far, 100, 100, []int{1, 1}},
	} {
		if got := groups(tt.row, tt.max, tt.index); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// header makes the header of a batch of three records; of a marker it has one.
func header(base messages.Offset, id messages.ProducerID, marker, txn bool) record.Header {
	if marker {
		b := record.EndTxnMarker(record.Marker{}, id, 0, 1)
		b.Stamp(base, 0)
		return b.Header
	}
	bu := record.NewBuilder(record.Compression{}).Producer(id, 0, 0)
	if txn {
		bu.Transactional()
	}
	for range 3 {
		bu.Append(1, nil, nil)
	}
	b, _ := bu.Build()
	b.Stamp(base, 0)
	return b.Header
}

func TestABatchIsJudgedByItsTransactionAndItsProducer(t *testing.T) {
	aborted := newFates(0)
	first, marker := header(10, 5, false, true), header(20, 5, true, true)
	aborted.batch(&first)
	aborted.marker(&marker, false)
	due := func(h record.Header, at messages.Timestamp) record.Header {
		h.Attributes |= 0x40
		h.BaseTimestamp = at
		return h
	}
	for _, tt := range []struct {
		name string
		h    record.Header
		seen messages.ProducerID // has a batch before it
		last bool                // of its segment
		want ruling
	}{
		{name: "a batch", h: header(30, 6, false, false)},
		{name: "of an aborted transaction", h: header(10, 5, false, true), want: ruling{discard: true}},
		{name: "of the one after it", h: header(30, 5, false, true)},
		{name: "the last of its segment", h: header(30, 6, false, false), last: true,
			want: ruling{husk: true}},
		{name: "the last of its producer", h: header(30, 7, false, false), want: ruling{husk: true}},
		{name: "before the last of its producer", h: header(27, 7, false, false)},
		{name: "a marker whose batches are there", h: header(20, 5, true, true), seen: 5},
		{name: "a marker that is left alone", h: header(20, 5, true, true), want: ruling{horizon: true}},
		{name: "one that has a horizon", h: due(header(20, 5, true, true), 101)},
		{name: "one that is past it", h: due(header(20, 5, true, true), 100),
			want: ruling{discard: true}},
		{name: "the last word of its producer", h: due(header(20, 8, true, true), 100),
			want: ruling{discard: true, husk: true}},
	} {
		p := &pruning{end: 100, fates: aborted, now: 100,
			last: map[messages.ProducerID]data.LastBatch{7: {Offset: 32}, 8: {Offset: messages.NoOffset}},
			seen: map[messages.ProducerID]struct{}{tt.seen: {}}}
		if got := p.judge(&tt.h, tt.last); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestARecordStaysUnlessItIsSupersededOrDeleted(t *testing.T) {
	newest := newOffsetMap(10, 1000)
	newest.put([]byte("old"), 3)
	newest.put([]byte("new"), 50)
	plain := header(10, 6, false, false)
	due, waiting := plain, plain
	due.Attributes |= 0x40
	waiting.Attributes |= 0x40
	due.BaseTimestamp, waiting.BaseTimestamp = 100, 101
	p := &pruning{newest: newest, end: 60, now: 100}
	for _, tt := range []struct {
		name  string
		h     record.Header
		at    messages.Offset
		key   []byte
		value []byte
		want  bool
	}{
		{"the newest", plain, 50, []byte("new"), []byte("v"), true},
		{"an older one", plain, 49, []byte("new"), []byte("v"), false},
		{"one behind the map", plain, 10, []byte("old"), []byte("v"), true},
		{"of a key that was not written since", plain, 10, []byte("x"), []byte("v"), true},
		{"without a key", plain, 10, nil, []byte("v"), false},
		{"with an empty key", plain, 10, []byte{}, []byte("v"), true},
		{"behind the end", plain, 60, nil, []byte("v"), true},
		{"a tombstone", plain, 50, []byte("new"), nil, true},
		{"an older tombstone", plain, 49, []byte("new"), nil, false},
		{"a tombstone that waits", waiting, 50, []byte("new"), nil, true},
		{"a tombstone that is due", due, 50, []byte("new"), nil, false},
		{"an empty value is none", due, 50, []byte("new"), []byte{}, true},
	} {
		r := record.Record{Offset: tt.at, Key: tt.key, Value: tt.value}
		if got := p.keeps(&tt.h, &r); got != tt.want {
			t.Errorf("%s stays: %v", tt.name, got)
		}
	}
}

func FuzzGaps(f *testing.F) {
	g := gapList{below: 5, known: []gap{{6, 9}, {12, 40}}}
	f.Add(g.encode())
	f.Add(g.encode()[:50])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		g := decodeGaps(b)
		again := decodeGaps(g.encode())
		if again.below != g.below || !slices.Equal(again.known, g.known) {
			t.Errorf("%+v is read as %+v", g, again)
		}
	})
}
