package messages

import "io"

// File is an open file a View refers to. Reads name their position; the file's
// own position is never used, because many readers share it.
type File interface {
	io.ReaderAt
	// Control calls f with the file's descriptor and keeps it open meanwhile.
	// ok is false, and f is not called, for files that have none (the
	// in-memory file system of the tests): read with ReadAt then.
	Control(f func(fd uintptr)) (ok bool)
}

// Extent is a run of stable log bytes: in memory when Mem is not nil, else Len
// bytes of File from Pos.
type Extent struct {
	Mem  []byte
	File File
	Pos  int64
	Len  int
}

// Size is how many bytes the extent has.
func (e *Extent) Size() int {
	if e.Mem != nil {
		return len(e.Mem)
	}
	return e.Len
}

// From returns the extent without its first n bytes; 0 <= n <= Size.
func (e *Extent) From(n int) Extent {
	if e.Mem != nil {
		return Extent{Mem: e.Mem[n:], Len: len(e.Mem) - n}
	}
	return Extent{File: e.File, Pos: e.Pos + int64(n), Len: e.Len - n}
}

// View is a reference-counted range of stable log bytes: whole record batches,
// exactly as stored. The bytes do not change and stay readable until Release.
//
// Many goroutines may read a View; Release is called once, by its last user.
// The zero View is empty and needs no Release.
type View struct {
	Extents []Extent
	Bytes   int    // sum of the extents' lengths
	More    bool   // the reader's byte limit left out batches that it may see
	Done    func() // nil, or called by Release
}

// Release gives the view back. Its segments may be unmapped or deleted after it.
func (v *View) Release() {
	if v.Done != nil {
		v.Done()
		v.Done = nil
	}
	v.Extents, v.Bytes, v.More = nil, 0, false
}

// AppendTo appends the view's bytes to b: for small views, for TLS, and for tests.
func (v *View) AppendTo(b []byte) ([]byte, error) {
	for _, e := range v.Extents {
		if e.Mem != nil {
			b = append(b, e.Mem...)
			continue
		}
		at := len(b)
		b = append(b, make([]byte, e.Len)...)
		if _, err := e.File.ReadAt(b[at:], e.Pos); err != nil {
			return b[:at], err
		}
	}
	return b, nil
}
