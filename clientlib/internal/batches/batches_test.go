package batches

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// log is batches with offsets, one after the other.
type log struct {
	t     *testing.T
	bytes []byte
	next  messages.Offset
}

func (l *log) add(b record.Batch, err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
	b.Stamp(l.next, 7)
	l.next = b.NextOffset()
	l.bytes = append(l.bytes, b.Bytes...)
}

func (l *log) write(codec record.Codec, id messages.ProducerID, values ...string) {
	bu := record.NewBuilder(record.Compression{Codec: codec})
	if id >= 0 {
		bu.Producer(id, 0, 0).Transactional()
	}
	for _, v := range values {
		bu.Append(1, nil, []byte(v))
	}
	l.add(bu.Build())
}

func (l *log) end(id messages.ProducerID, commit bool) {
	l.add(record.EndTxnMarker(record.Marker{Commit: commit}, id, 0, 1), nil)
}

// read returns the values that a reader sees.
func read(t *testing.T, r *Reader, from messages.Offset) (values []string, err error) {
	t.Helper()
	for {
		b, ok, err := r.Next(from)
		if err != nil || !ok {
			return values, err
		}
		if b.Codec() != record.None {
			t.Fatalf("batch at %d is compressed still", b.BaseOffset)
		}
		for rec, err := range record.Records(&b, 0) {
			if err != nil {
				return values, err
			}
			values = append(values, string(rec.Value))
		}
	}
}

func TestBatchesOfEveryCodecAreRead(t *testing.T) {
	l := &log{t: t}
	var want []string
	for codec := record.None; codec <= record.Zstd; codec++ {
		v := fmt.Sprintf("%v", codec)
		l.write(codec, -1, v, v)
		want = append(want, v, v)
	}
	size, next, epoch, err := Span(l.bytes)
	if err != nil || size != len(l.bytes) || next != 10 || epoch != 7 {
		t.Errorf("span %d of %d, %d, %d, %v", size, len(l.bytes), next, epoch, err)
	}
	got, err := read(t, NewReader(l.bytes, nil, record.InflateLimit), 0)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("read %v, %v", got, err)
	}
	got, err = read(t, NewReader(l.bytes, nil, record.InflateLimit), 6)
	if err != nil || !slices.Equal(got, want[6:]) {
		t.Errorf("read %v, %v", got, err)
	}
}

func TestAnAnswerMayBeCut(t *testing.T) {
	l := &log{t: t}
	l.write(record.None, -1, "whole")
	first := len(l.bytes)
	l.write(record.None, -1, "cut")
	size, next, _, err := Span(l.bytes[:len(l.bytes)-1])
	if err != nil || size != first || next != 1 {
		t.Errorf("span %d, %d, %v", size, next, err)
	}
	if _, _, _, err = Span(l.bytes[:first-1]); !errors.Is(err, messages.ErrCorruptBatch) {
		t.Errorf("cut within the first: %v", err)
	}
	if size, _, _, err := Span(nil); size != 0 || err != nil {
		t.Errorf("nothing: %d, %v", size, err)
	}
}

func TestDamageIsAnErrorThatSaysWhere(t *testing.T) {
	l := &log{t: t}
	l.write(record.None, -1, "good")
	at := len(l.bytes)
	l.write(record.LZ4, -1, "bad")
	l.bytes[len(l.bytes)-1] ^= 0xff
	r := NewReader(l.bytes, nil, record.InflateLimit)
	got, err := read(t, r, 0)
	if !errors.Is(err, record.ErrBadCRC) || !slices.Equal(got, []string{"good"}) {
		t.Errorf("read %v, %v", got, err)
	}
	if want := "batch at offset 1"; err == nil || err.Error()[:len(want)] != want {
		t.Errorf("error %v", err)
	}
	_, err = read(t, NewReader(l.bytes[at:len(l.bytes)-5], nil, record.InflateLimit), 0)
	if !errors.Is(err, record.ErrTruncated) {
		t.Errorf("cut short: %v", err)
	}
}

func TestABatchThatIsTooLargeIsAnError(t *testing.T) {
	l := &log{t: t}
	l.write(record.Gzip, -1, string(make([]byte, 10_000)))
	_, err := read(t, NewReader(l.bytes, nil, 1000), 0)
	if !errors.Is(err, record.ErrInflateLimit) {
		t.Errorf("error %v", err)
	}
}

// What a reader of committed records sees is what a slow one sees that knows how every
// transaction ends.
func TestAbortedTransactionsAreLeftOutWhateverTheirOrder(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 0))
		l := &log{t: t}
		type txn struct {
			first  messages.Offset
			values []string
		}
		open := map[messages.ProducerID]*txn{}
		gone := map[string]bool{}
		var all []string
		var aborted []Aborted
		for n := range 60 {
			id := messages.ProducerID(r.IntN(4) - 1)
			switch tx := open[id]; {
			case id >= 0 && tx != nil && r.IntN(3) == 0:
				commit := r.IntN(2) == 0
				if !commit {
					aborted = append(aborted, Aborted{id, tx.first})
					for _, v := range tx.values {
						gone[v] = true
					}
				}
				l.end(id, commit)
				delete(open, id)
			default:
				v := fmt.Sprintf("%d by %d", n, id)
				if id >= 0 && tx == nil {
					tx = &txn{first: l.next}
					open[id] = tx
				}
				if tx != nil {
					tx.values = append(tx.values, v)
				}
				all = append(all, v)
				l.write(record.Codec(r.IntN(5)), id, v)
			}
		}
		var want []string
		for _, v := range all {
			if !gone[v] {
				want = append(want, v)
			}
		}
		r.Shuffle(len(aborted), func(i, j int) { aborted[i], aborted[j] = aborted[j], aborted[i] })
		got, err := read(t, NewReader(l.bytes, aborted, record.InflateLimit), 0)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("seed %d: read %v, %v, want %v", seed, got, err, want)
		}
		got, err = read(t, NewReader(l.bytes, nil, record.InflateLimit), 0)
		if err != nil || !slices.Equal(got, all) {
			t.Fatalf("seed %d: read all %v, %v", seed, got, err)
		}
	}
}
