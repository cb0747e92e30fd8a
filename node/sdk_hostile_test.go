package node

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/wire"
)

// hostile makes requests out of values that are as wrong as can be.
type hostile struct {
	*rand.Rand
	topicID func() []byte
	batch   []byte
}

func pick[T any](h *hostile, of ...T) T { return of[h.IntN(len(of))] }

func (h *hostile) number() int64 {
	return pick[int64](h, 0, 1, -1, -2, -3, 2, 5, 100, 1<<15, 1<<16, 1<<16+1,
		math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64)
}

func (h *hostile) text() string {
	return pick(h, "", "orders", "b", "..", "a/b", "__consumer_offsets", "__transaction_state",
		"retention.ms", "-1", "(", ".*", strings.Repeat("x", 300))
}

func (h *hostile) bytes() []byte {
	damaged := append([]byte(nil), h.batch...)
	damaged[h.IntN(len(damaged))] ^= 1 << h.IntN(8)
	return pick(h, h.topicID(), []byte{1, 2}, damaged, append([]byte(nil), h.batch...))
}

func (h *hostile) value(f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(h.IntN(2) == 0)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		return protoreflect.ValueOfInt32(int32(h.number()))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind:
		return protoreflect.ValueOfInt64(h.number())
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(h.number()))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(h.number())))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(h.bytes())
	default:
		return protoreflect.ValueOfString(h.text())
	}
}

// fill sets most fields of a message.
func (h *hostile) fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		switch f := fields.Get(i); {
		case h.IntN(6) == 0:
		case f.IsList():
			for list := m.Mutable(f).List(); h.IntN(3) > 0; {
				if f.Message() != nil {
					h.fill(list.AppendMutable().Message())
				} else {
					list.Append(h.value(f))
				}
			}
		case f.Message() != nil:
			h.fill(m.Mutable(f).Message())
		default:
			m.Set(f, h.value(f))
		}
	}
}

// request makes one that is to be answered.
func (h *hostile) request(id uint64) *wire.ClientRequest {
	m := &wire.ClientRequest{RequestId: id, TimeoutMs: uint32(1 + h.IntN(20))}
	commands := m.ProtoReflect().Descriptor().Oneofs().ByName("command").Fields()
	f := commands.Get(h.IntN(commands.Len()))
	if f.Name() == "goodbye" {
		return m // there is no answer to it; what has no command gets one
	}
	h.fill(m.ProtoReflect().Mutable(f).Message())
	if a := m.GetAppend(); a != nil && a.Acks == 0 {
		a.Acks = -1
	}
	if q := m.GetFetch(); q != nil {
		q.WaitMs = uint32(h.IntN(5))
	}
	// Thousands of partitions can be had; they are not what this is about.
	for _, t := range m.GetCreateTopics().GetTopics() {
		t.Partitions = min(t.Partitions, 3)
	}
	for _, t := range m.GetCreatePartitions().GetTopics() {
		t.Count = min(t.Count, 3)
	}
	return m
}

func TestWhateverAProgramSendsIsAnsweredOnceAndHarmsNothing(t *testing.T) {
	const requests, underWay = 20_000, 20
	n := embedded(t, Options{DataDir: t.TempDir(), Settings: map[string]string{
		"offsets.topic.num.partitions": "1", "transaction.state.log.num.partitions": "1"}})
	system := n.Actors().(*actor.ActorSystem)
	p := newProgram(t, system, system.Address())
	p.exchange()
	b := record.NewBuilder(record.Compression{})
	b.Append(1, nil, []byte("v"))
	built, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{Rand: rand.New(rand.NewPCG(5, 1)), batch: built.Bytes, topicID: func() []byte {
		if topic := n.client.Image().Topic("orders"); topic != nil {
			return topic.ID[:]
		}
		return nil
	}}
	open := map[uint64]*wire.ClientRequest{}
	for id := uint64(10); id < requests || len(open) > 0; id++ {
		if id < requests {
			open[id] = h.request(id)
			p.send(p.session, open[id])
		}
		for len(open) > underWay || id >= requests && len(open) > 0 {
			select {
			case r := <-p.answers:
				if open[r.GetRequestId()] == nil {
					t.Fatalf("nobody asked, or it was answered before: %v", r)
				}
				delete(open, r.GetRequestId())
			case <-p.pushes:
			case <-time.After(30 * time.Second):
				t.Fatalf("no answers to %v", open)
			}
		}
	}
}
