package netio

import (
	"math/bits"
	"sync"
)

// BufferMin is the size of the smallest buffers, in bytes.
const BufferMin = 4 << 10

// Larger buffers than bufferMax bytes are made and left to the garbage
// collector: they are rare, and a pool would keep them for ever.
const (
	bufferMax  = 16 << 20
	bufferStep = 4 // classes from one power of two to the next
)

// classes is how many size classes there are from BufferMin to bufferMax.
const classes = 12*bufferStep + 1

// Buffer is a byte buffer of one size class. It has one owner at a time, who
// gives it back once; its bytes are garbage when it is handed out.
type Buffer struct {
	B     []byte
	class int // -1: not from the pool
}

// Buffers hands out buffers. The zero value is ready; any goroutine may use it.
type Buffers struct {
	// Poison is for tests, set before first use: it overwrites what is given
	// back, so that a late reader shows.
	Poison bool

	pools [classes]sync.Pool
}

// sizeClass returns the smallest class that holds n bytes, and its size. Above
// bufferMax the class is -1 and the size is n itself.
func sizeClass(n int) (class, size int) {
	if n <= BufferMin {
		return 0, BufferMin
	}
	if n > bufferMax {
		return -1, n
	}
	power := bits.Len(uint(n-1)) - 1 // 2^power < n <= 2^(power+1)
	quarter := 1 << power / bufferStep
	steps := (n - 1<<power + quarter - 1) / quarter
	first := bits.Len(uint(BufferMin)) - 1
	return (power-first)*bufferStep + steps, 1<<power + steps*quarter
}

// SizeFor returns how large the buffer is that Get(n) returns, in bytes.
func SizeFor(n int) int {
	_, size := sizeClass(n)
	return size
}

// Get returns a buffer of at least n bytes; len(B) is its whole size.
func (p *Buffers) Get(n int) *Buffer {
	class, size := sizeClass(n)
	if class < 0 {
		return &Buffer{B: make([]byte, size), class: class}
	}
	if b, _ := p.pools[class].Get().(*Buffer); b != nil {
		return b
	}
	return &Buffer{B: make([]byte, size), class: class}
}

// Put gives a buffer back; nil is none. Nobody may touch its bytes afterwards.
func (p *Buffers) Put(b *Buffer) {
	if b == nil {
		return
	}
	b.B = b.B[:cap(b.B)]
	if p.Poison {
		for i := range b.B {
			b.B[i] = 0xdb
		}
	}
	if b.class >= 0 {
		p.pools[b.class].Put(b)
	}
}

// Adopt returns the buffer that b, appended to buf.B[:0], is in now: buf itself,
// or one of b's own if it grew out of buf, which is given back then.
func (p *Buffers) Adopt(buf *Buffer, b []byte) *Buffer {
	if cap(b) == cap(buf.B) {
		return buf
	}
	p.Put(buf)
	return &Buffer{B: b[:cap(b)], class: -1}
}
