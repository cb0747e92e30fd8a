package transport

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/protobuf/proto"
)

// buffers is memory for large payloads that is used again: it comes from here, goes out
// with a message, and comes back when gRPC has written it. Large memory that is made anew
// costs more than copying: it has to be cleared, and the garbage collector runs all the
// time.
var buffers pool

// pool is a mem.BufferPool that does not clear what it gives. A class has buffers of
// classSize bytes and more; they are made with spare, so that they may lose some at the
// front (where the head of a message had more room than it needed) and stay in it.
type pool struct {
	classes [classMost - classLeast + 1]sync.Pool
}

const (
	classLeast = 12
	classMost  = 21 // beyond MessageMax
	spare      = 4 << 10
)

// classSize is a power of two, as payloads are, with some room for what goes around them.
func classSize(class int) int { return 1<<class + spare }

// Buffer returns n bytes of memory with anything in it. What is sent from it belongs to
// the transport from then on, which uses it for other messages.
func Buffer(n int) []byte { return *buffers.Get(n) }

// freed is set once somebody gives memory back: then what comes in is put into memory from
// the pool too. Else it would only take from there what is needed to send.
var freed atomic.Bool

// Free gives back memory in which a payload of aliasMin bytes or more has come in: all of
// it, or its end. Nobody may have it any more.
func Free(payload []byte) {
	if len(payload) >= aliasMin {
		freed.Store(true)
		buffers.Put(&payload)
	}
}

// Get implements mem.BufferPool.
func (p *pool) Get(n int) *[]byte {
	class := max(bits.Len(uint(max(n-spare, 1)-1)), classLeast)
	if class > classMost {
		b := make([]byte, n)
		return &b
	}
	b, ok := p.classes[class-classLeast].Get().(*[]byte)
	if !ok {
		made := make([]byte, classSize(class)+spare)
		b = &made
	}
	*b = (*b)[:n]
	return b
}

// Put implements mem.BufferPool.
func (p *pool) Put(b *[]byte) {
	class := min(bits.Len(uint(max(cap(*b)-spare, 1)))-1, classMost)
	if class >= classLeast {
		p.classes[class-classLeast].Put(b)
	}
}

// serialize is remote.Serialize with a large result in memory that is used again.
func serialize(message any) (data []byte, name string, err error) {
	m, ok := message.(proto.Message)
	if !ok {
		return remote.Serialize(message, 0) // which says what is wrong
	}
	if size := proto.Size(m); size >= aliasMin {
		data = Buffer(size)[:0]
	}
	data, err = proto.MarshalOptions{}.MarshalAppend(data, m)
	return data, string(proto.MessageName(m)), err
}
