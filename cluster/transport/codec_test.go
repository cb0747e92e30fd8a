package transport

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages/wire"
)

func envelopeBatch(b *remote.MessageBatch) *remote.RemoteMessage {
	return &remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: b}}
}

// someBatch makes a batch by chance, as the remote may make one: with payloads on both
// sides of every limit.
func someBatch(rng *rand.Rand) *remote.MessageBatch {
	b := &remote.MessageBatch{}
	name := func() string { return strings.Repeat("ä/$", rng.IntN(40)) }
	for range rng.IntN(4) {
		b.TypeNames = append(b.TypeNames, name())
		b.Targets = append(b.Targets, name())
		b.Senders = append(b.Senders, &actor.PID{
			Address: name(), Id: name(), RequestId: rng.Uint32() >> rng.IntN(32)})
	}
	sizes := []int{0, 1, 100, aliasMin - 1, aliasMin, aliasMin + 1, chunk, 100_000}
	for range rng.IntN(8) {
		data := make([]byte, sizes[rng.IntN(len(sizes))])
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		e := &remote.MessageEnvelope{
			TypeId: int32(rng.IntN(3)), MessageData: data, Target: int32(rng.IntN(300)),
			Sender: int32(rng.IntN(3) - 1), SerializerId: int32(rng.IntN(2)),
			TargetRequestId: rng.Uint32() >> rng.IntN(33), SenderRequestId: uint32(rng.IntN(2)),
		}
		if len(data) == 0 {
			e.MessageData = nil
		}
		if rng.IntN(3) == 0 {
			e.MessageHeader = &remote.MessageHeader{HeaderData: map[string]string{"k": name()}}
		}
		b.Envelopes = append(b.Envelopes, e)
	}
	return b
}

// pieces cuts data by chance, as the network does.
func pieces(rng *rand.Rand, data []byte) mem.BufferSlice {
	var out mem.BufferSlice
	for len(data) > 0 {
		n := min(len(data), 1+rng.IntN(1<<rng.IntN(16)))
		out = append(out, mem.SliceBuffer(bytes.Clone(data[:n])))
		data = data[n:]
	}
	return out
}

func TestTheCodecWritesAndReadsTheBytesOfTheStockOne(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		msg := envelopeBatch(someBatch(rng))
		own, err := codec{}.Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := stock().Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		wire := theirs.Materialize()
		if !bytes.Equal(own.Materialize(), wire) {
			t.Fatalf("seed %d: the codecs write different bytes for %v", seed, msg)
		}
		own.Free()
		batch, ok := unmarshal(pieces(rng, wire))
		if !ok {
			t.Fatalf("seed %d: the own codec does not read %v", seed, msg)
		}
		if !proto.Equal(envelopeBatch(batch), msg) {
			t.Fatalf("seed %d: the own codec reads %v as %v", seed, msg, batch)
		}
	}
}

func TestALargePayloadIsNotCopiedOnItsWayOut(t *testing.T) {
	payload := bytes.Repeat([]byte{7}, aliasMin)
	msg := envelopeBatch(&remote.MessageBatch{Envelopes: []*remote.MessageEnvelope{
		{MessageData: payload}, {MessageData: payload[:10]}}})
	out, err := codec{}.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	aliased := 0
	for _, b := range out {
		if data := b.ReadOnlyData(); len(data) == aliasMin && &data[0] == &payload[0] {
			aliased++
		}
	}
	if aliased != 1 {
		t.Errorf("%d of 1 payload is sent from where it lies", aliased)
	}
}

func TestWhatWasReadStaysWhenTheBuffersAreUsedAgain(t *testing.T) {
	payloads := [][]byte{bytes.Repeat([]byte{1}, 100), bytes.Repeat([]byte{2}, 3*aliasMin)}
	want := envelopeBatch(&remote.MessageBatch{Targets: []string{"target"},
		Envelopes: []*remote.MessageEnvelope{
			{MessageData: payloads[0]}, {MessageData: payloads[1]}, {MessageData: payloads[0]}}})
	wire, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Clone(wire)
	got := &remote.RemoteMessage{}
	if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, got); err != nil {
		t.Fatal(err)
	}
	clear(data)
	envelopes := got.GetMessageBatch().Envelopes
	_ = append(envelopes[0].MessageData, 9) // must not reach its neighbour
	if !proto.Equal(got, want) {
		t.Errorf("what was read changed to %v", got)
	}
}

func TestWhatIsNoBatchGoesThroughTheStockCodec(t *testing.T) {
	batch := envelopeBatch(&remote.MessageBatch{TypeNames: []string{"a"}})
	twice, err := proto.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	twice = append(twice, twice...) // merges
	unknown := []byte("\x0a\x02\x78\x01")
	for name, wire := range map[string][]byte{"twice": twice, "unknown": unknown, "none": {}} {
		want, got := &remote.RemoteMessage{}, &remote.RemoteMessage{}
		if err := proto.Unmarshal(wire, want); err != nil {
			t.Fatal(err)
		}
		err := codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, got)
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: read as %v, %v; want %v", name, got, err, want)
		}
	}
	for _, msg := range []proto.Message{
		&remote.RemoteMessage{},
		&remote.RemoteMessage{MessageType: &remote.RemoteMessage_ConnectRequest{
			ConnectRequest: &remote.ConnectRequest{}}},
		&actor.PID{Address: "a", Id: "b"},
	} {
		out, err := codec{}.Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		got := msg.ProtoReflect().New().Interface()
		if err := (codec{}).Unmarshal(out, got); err != nil || !proto.Equal(got, msg) {
			t.Errorf("%v came back as %v, %v", msg, got, err)
		}
	}
	invalid := envelopeBatch(&remote.MessageBatch{Targets: []string{"\xff"}})
	if _, err := (codec{}).Marshal(invalid); err == nil {
		t.Error("a name that is not UTF-8 was written")
	}
	if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer("\x0a\x7f")},
		&remote.RemoteMessage{}); err == nil {
		t.Error("a batch that ends early was read")
	}
}

// Whatever comes in, the codec never panics, and reads what the stock one reads.
func FuzzCodec(f *testing.F) {
	for seed, data := range []string{"", "x", strings.Repeat("y", aliasMin)} {
		wire, err := proto.Marshal(envelopeBatch(&remote.MessageBatch{
			TypeNames: []string{"type"}, Targets: []string{"a", "b"},
			Senders: []*actor.PID{{Address: "here:1", Id: "c", RequestId: 300}},
			Envelopes: []*remote.MessageEnvelope{
				{TypeId: -1, MessageData: []byte(data), Target: 1, TargetRequestId: 7},
				{MessageData: []byte("z"), Sender: 1, MessageHeader: &remote.MessageHeader{
					HeaderData: map[string]string{"k": "v"}}},
			}}))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire, uint64(seed))
	}
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64) {
		got, want := &remote.RemoteMessage{}, &remote.RemoteMessage{}
		theirs := proto.Unmarshal(wire, want)
		own := codec{}.Unmarshal(pieces(rand.New(rand.NewPCG(seed, 2)), wire), got)
		if (theirs == nil) != (own == nil) {
			t.Fatalf("the stock codec says %v, the own one %v", theirs, own)
		}
		if own != nil {
			return
		}
		// A nil payload and one without bytes are the same to those who read it.
		if !proto.Equal(got, want) {
			t.Fatalf("read %v, want %v", got, want)
		}
	})
}

// Memory is used again as soon as it was written, and never before.
func TestPayloadsArriveAsTheyWereSent(t *testing.T) {
	const requests = 2000
	sound := func(b []byte) bool {
		return len(b) < 4 || binary.BigEndian.Uint32(b) == crc32.ChecksumIEEE(b[4:])
	}
	var wrong atomic.Int32
	x := newExchange(t, true, func(req *wire.ClientRequest) *wire.ClientResponse {
		records := req.GetAppend().GetRecords()
		if !sound(records) {
			wrong.Add(1)
		}
		return &wire.ClientResponse{RequestId: req.RequestId, Result: &wire.ClientResponse_Fetched{
			Fetched: &wire.ClientFetched{Records: records}}}
	})
	answers, checked := x.answered, make(chan *wire.ClientResponse, 64)
	go func() {
		for range requests {
			resp := <-answers
			if !sound(resp.GetFetched().GetRecords()) {
				wrong.Add(1)
			}
			checked <- resp
		}
	}()
	rng := rand.New(rand.NewPCG(7, 7))
	x.await(checked, requests, 32, func(id int) *wire.ClientRequest {
		b := make([]byte, rng.IntN(1<<(3+rng.IntN(16))))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if len(b) >= 4 {
			binary.BigEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:]))
		}
		return appendOf(b)(id)
	})
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d payloads of %d requests changed on their way", n, requests)
	}
}

func TestBuffersAreAsLongAsAsked(t *testing.T) {
	p := &pool{}
	for _, n := range []int{0, 1, spare, classSize(classLeast), 1<<20 + 100, 1 << 21, 3 << 20} {
		for range 100 { // each time it has lost some at the front
			b := p.Get(n)
			if len(*b) != n {
				t.Fatalf("%d bytes instead of %d", len(*b), n)
			}
			left := (*b)[min(n, 100):]
			p.Put(&left)
		}
	}
}
