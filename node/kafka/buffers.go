package kafka

import (
	"math/bits"
	"sync"
)

// Sizes of the pooled buffers, in bytes. Larger ones are made and left to the
// garbage collector: they are rare, and a pool would keep them for ever.
const (
	bufferMin  = 4 << 10
	bufferMax  = 16 << 20
	bufferStep = 4 // classes from one power of two to the next
)

// bufferClasses is how many size classes there are from bufferMin to bufferMax.
const bufferClasses = 12*bufferStep + 1

// buffer is a byte buffer of one size class. It has one owner at a time, who
// gives it back once; its bytes are garbage when it is handed out.
type buffer struct {
	b     []byte
	class int // -1: not from the pool
}

// bufferPool hands out buffers. The zero value is ready; any goroutine may use it.
type bufferPool struct {
	pools  [bufferClasses]sync.Pool
	poison bool // tests: overwrite what is given back, so that a late reader shows
}

// bufferClass returns the smallest class that holds n bytes, and its size. Above
// bufferMax the class is -1 and the size is n itself.
func bufferClass(n int) (class, size int) {
	if n <= bufferMin {
		return 0, bufferMin
	}
	if n > bufferMax {
		return -1, n
	}
	power := bits.Len(uint(n-1)) - 1 // 2^power < n <= 2^(power+1)
	quarter := 1 << power / bufferStep
	steps := (n - 1<<power + quarter - 1) / quarter
	first := bits.Len(uint(bufferMin)) - 1
	return (power-first)*bufferStep + steps, 1<<power + steps*quarter
}

// get returns a buffer of at least n bytes; len(b) is its whole size.
func (p *bufferPool) get(n int) *buffer {
	class, size := bufferClass(n)
	if class < 0 {
		return &buffer{b: make([]byte, size), class: class}
	}
	if b, _ := p.pools[class].Get().(*buffer); b != nil {
		return b
	}
	return &buffer{b: make([]byte, size), class: class}
}

// put gives a buffer back; nil is none. Nobody may touch its bytes afterwards.
func (p *bufferPool) put(b *buffer) {
	if b == nil {
		return
	}
	b.b = b.b[:cap(b.b)]
	if p.poison {
		for i := range b.b {
			b.b[i] = 0xdb
		}
	}
	if b.class >= 0 {
		p.pools[b.class].Put(b)
	}
}

// adopt returns the buffer that b, appended to buf.b[:0], is in now: buf itself,
// or one of b's own if it grew out of buf, which is given back then.
func (p *bufferPool) adopt(buf *buffer, b []byte) *buffer {
	if cap(b) == cap(buf.b) {
		return buf
	}
	p.put(buf)
	return &buffer{b: b[:cap(b)], class: -1}
}
