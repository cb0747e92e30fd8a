package record

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/troupelog/troupe/messages"
)

func TestASealedBatchIsTheOneThatIsBuilt(t *testing.T) {
	var into []byte
	bu := NewBuilder(Compression{})
	for codec := None; codec <= Zstd; codec++ {
		for range 3 { // the memory of the batch before is used again
			bu.Reset(Compression{Codec: codec})
			for i := range 50 {
				bu.Append(messages.Timestamp(1000+i), []byte("key"), bytes.Repeat([]byte("value"), i),
					RecordHeader{Key: []byte("h"), Value: nil})
			}
			want, err := bu.Build()
			if err != nil {
				t.Fatal(err)
			}
			got, err := bu.Seal(into)
			got.SetProducer(messages.NoProducerID, -1, messages.NoSequence)
			if err != nil || !bytes.Equal(got.Bytes, want.Bytes) || got.Header != want.Header {
				t.Fatalf("%v: sealed %+v, built %+v: %v", codec, got.Header, want.Header, err)
			}
			if codec != None {
				into = got.Bytes
			}
		}
	}
}

func TestABatchThatDoesNotShrinkIsNotCompressed(t *testing.T) {
	noise := make([]byte, 1000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	bu := NewBuilder(Compression{Codec: Gzip})
	bu.Append(1000, nil, noise)
	b, err := bu.Seal(nil)
	if err != nil || b.Codec() != None || len(b.Bytes) != bu.Size() {
		t.Errorf("%v, %d bytes of %d: %v", b.Codec(), len(b.Bytes), bu.Size(), err)
	}
}

func TestTheProducerIsSetLater(t *testing.T) {
	bu := NewBuilder(Compression{})
	bu.Append(1000, nil, []byte("v"))
	b, err := bu.Seal(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.SetProducer(7, 3, 40)
	got, rest, err := Parse(b.Bytes)
	if err != nil || len(rest) > 0 || got.Header != b.Header || got.ProducerID != 7 ||
		got.ProducerEpoch != 3 || got.BaseSequence != 40 {
		t.Errorf("%+v, %d bytes behind it: %v", got.Header, len(rest), err)
	}
}

func TestTheSizeOfARecordIsKnownBeforehand(t *testing.T) {
	for _, size := range []int{0, 1, 50, 63, 64, 8191, 8192, 100000} {
		key, value := make([]byte, size/3), make([]byte, size)
		headers := []RecordHeader{{Key: []byte("name"), Value: value}, {Key: []byte("null")}}
		bu := NewBuilder(Compression{})
		bu.Append(messages.Timestamp(1)<<40, key, value, headers...)
		want := SizeOf(key, value, 2, HeaderSizeOf(4, value)+HeaderSizeOf(4, nil))
		if got := bu.Size() - HeaderSize; got != want {
			t.Errorf("%d bytes: the size is %d, %d was foretold", size, got, want)
		}
		for _, at := range []messages.Timestamp{1 << 40, 0, 1<<40 + 1, -(1 << 62), 1 << 62} {
			before := bu.Size()
			bu.AppendAt(bu.h.LastOffsetDelta+1<<20, at, key, value, headers...)
			if more := bu.Size() - before - want; more < 0 || more > SizeSlack {
				t.Errorf("%d bytes: %d bytes more", size, more)
			}
		}
	}
}
