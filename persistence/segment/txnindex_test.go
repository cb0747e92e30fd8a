package segment

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/persistence/vfs"
)

var someAborted = []data.EndedTxn{
	{Producer: 7, First: 100, Marker: 110, LastStable: 105},
	{Producer: 9, First: 105, Marker: 115, LastStable: 116},
	{Producer: 7, First: 118, Marker: 135, LastStable: 125},
	{Producer: 9, First: 132, Marker: 150, LastStable: 140},
}

func TestAnAbortedTransactionIsStoredAsKafkaStoresIt(t *testing.T) {
	b := EncodeAborted([]data.EndedTxn{{Producer: 1, First: 2, Marker: 3, LastStable: 4}})
	want := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2,
		0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4}
	if !slices.Equal(b, want) {
		t.Errorf("got % x", b)
	}
}

func TestDecodingATransactionIndex(t *testing.T) {
	good := EncodeAborted(someAborted)
	entry := func(i int, change func(*data.EndedTxn)) []byte {
		all := slices.Clone(someAborted)
		change(&all[i])
		return EncodeAborted(all)
	}
	version := slices.Clone(good)
	binary.BigEndian.PutUint16(version[TxnEntrySize:], 1)
	for _, tt := range []struct {
		name  string
		b     []byte
		next  messages.Offset
		wrong string
		n     int
	}{
		{name: "nothing", next: 200},
		{name: "all of it", b: good, next: 151, n: 4},
		{name: "what was truncated away is left out", b: good, next: 150, n: 3},
		{name: "a torn entry", b: good[:40], next: 200, wrong: "multiple"},
		{name: "another version", b: version, next: 200, wrong: "version 1"},
		{name: "no producer", b: entry(0, func(e *data.EndedTxn) { e.Producer = -1 }), wrong: "range"},
		{name: "a marker before its first batch",
			b: entry(1, func(e *data.EndedTxn) { e.First = 115 }), wrong: "range"},
		{name: "a first offset below 0",
			b: entry(1, func(e *data.EndedTxn) { e.First = -2 }), wrong: "range"},
		{name: "markers that do not grow",
			b: entry(1, func(e *data.EndedTxn) { e.Marker = 110 }), wrong: "order"},
		{name: "a marker below the base",
			b: entry(0, func(e *data.EndedTxn) { e.First, e.Marker = 1, 99 }), wrong: "order"},
		{name: "a last stable offset beyond the marker",
			b: entry(3, func(e *data.EndedTxn) { e.LastStable = 152 }), wrong: "range"},
		{name: "a last stable offset below 0",
			b: entry(3, func(e *data.EndedTxn) { e.LastStable = -1 }), wrong: "range"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeAborted(tt.b, 100, tt.next)
			if tt.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wrong) {
					t.Fatalf("got %v, %v", got, err)
				}
				return
			}
			if err != nil || !slices.Equal(got, someAborted[:tt.n]) {
				t.Fatalf("got %v, %v", got, err)
			}
		})
	}
}

func FuzzDecodeAborted(f *testing.F) {
	f.Add(EncodeAborted(someAborted), int64(100), int64(200))
	f.Add(EncodeAborted(someAborted), int64(100), int64(120))
	f.Add([]byte{0, 0, 1}, int64(0), int64(1))
	f.Add(make([]byte, TxnEntrySize), int64(0), int64(1))
	f.Fuzz(func(t *testing.T, b []byte, base, next int64) {
		got, err := DecodeAborted(b, messages.Offset(base), messages.Offset(next))
		if err != nil {
			return
		}
		if !slices.Equal(EncodeAborted(got), b[:len(got)*TxnEntrySize]) {
			t.Error("what was decoded is encoded in another way")
		}
		for _, e := range got {
			if e.Marker >= messages.Offset(next) || e.Marker < messages.Offset(base) || e.First >= e.Marker {
				t.Errorf("%+v in a segment from %d to %d", e, base, next)
			}
		}
	})
}

func TestASearchForAbortedTransactionsEndsWhereNoneCanFollow(t *testing.T) {
	s := newSegment(vfs.NewMem(), ".", 100, NewCache(0))
	s.tail.Store(emptyTail(100))
	s.ForgetAborted()
	if err := s.AddAborted(someAborted); err != nil {
		t.Fatal(err)
	}
	if err := s.AddAborted(someAborted[2:]); err != nil || s.AbortedEntries() != 4 {
		t.Fatalf("what is added again is there twice: %d entries, %v", s.AbortedEntries(), err)
	}
	for _, tt := range []struct {
		from, upTo messages.Offset
		want       []data.EndedTxn
		whole      bool
	}{
		{100, 200, someAborted, false},
		{100, 132, someAborted[:3], true},
		{100, 135, someAborted, true},
		{111, 120, someAborted[1:3], true},
		{100, 105, someAborted[:1], true},
		{116, 118, nil, true},
		{136, 140, someAborted[3:], true},
		{151, 160, nil, false},
	} {
		got, whole, err := s.AbortedOver(tt.from, tt.upTo)
		if err != nil || !slices.Equal(got, tt.want) || whole != tt.whole {
			t.Errorf("%d to %d: %v, %v, %v", tt.from, tt.upTo, got, whole, err)
		}
	}
}

func TestADamagedTransactionIndexIsAFault(t *testing.T) {
	fsys := vfs.NewMem()
	if err := WriteFile(fsys, FileName(".", 0, TxnIndexSuffix), []byte{1}, false); err != nil {
		t.Fatal(err)
	}
	s := OpenSealed(fsys, ".", 0, 10, 0, NewCache(0))
	var corrupt *CorruptError
	if _, err := s.Aborted(); !errors.Is(err, ErrFault) || !errors.As(err, &corrupt) ||
		!errors.Is(err, messages.ErrStorage) {
		t.Errorf("got %v", err)
	}
}
