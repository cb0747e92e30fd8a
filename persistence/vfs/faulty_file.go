package vfs

import "slices"

// faultyFile is an open file of a Faulty.
type faultyFile struct {
	faulty *Faulty
	inner  File
}

func (f *faultyFile) call(op Op, off, n int64) Call {
	return Call{Op: op, Name: f.inner.Name(), Off: off, Len: n}
}

// Name implements File.
func (f *faultyFile) Name() string { return f.inner.Name() }

// Close implements File. A fault here still closes the file, as a failed close
// of the system does.
func (f *faultyFile) Close() error {
	met := f.faulty.meet(f.call(OpClose, 0, 0))
	if err := f.inner.Close(); err != nil {
		return err
	}
	return fail("close", f.Name(), met.err)
}

// Size implements File.
func (f *faultyFile) Size() (size int64, err error) {
	err = f.faulty.do(f.call(OpSize, 0, 0), func() (err error) {
		size, err = f.inner.Size()
		return err
	})
	return size, err
}

// ReadAt implements File.
func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	met := f.faulty.meet(f.call(OpRead, off, int64(len(p))))
	if met.err != nil {
		return 0, fail("read", f.Name(), met.err)
	}
	n, err := f.inner.ReadAt(p, off)
	if met.flip && n > 0 {
		flipBit(p[:n], met.bit)
	}
	return n, err
}

// flipBit inverts one bit of p, which is not empty.
func flipBit(p []byte, random uint64) {
	bit := random % uint64(len(p)*8)
	p[bit/8] ^= 1 << (bit % 8)
}

// WriteAt implements File.
func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.write(OpWrite, [][]byte{p}, off)
	return int(n), err
}

// Writev implements File.
func (f *faultyFile) Writev(bufs [][]byte, off int64) (int64, error) {
	return f.write(OpWritev, bufs, off)
}

func (f *faultyFile) write(op Op, bufs [][]byte, off int64) (int64, error) {
	var size int64
	for _, b := range bufs {
		size += int64(len(b))
	}
	met := f.faulty.meet(f.call(op, off, size))
	if met.err == nil && !met.flip {
		return f.inner.Writev(bufs, off)
	}
	data := slices.Concat(bufs...)
	if met.flip && len(data) > 0 {
		flipBit(data, met.bit)
	}
	switch {
	case met.short >= 0:
		data = data[:met.short]
	case met.err != nil && !met.happens:
		return 0, fail("write", f.Name(), met.err)
	}
	n, err := f.inner.WriteAt(data, off)
	if err == nil {
		err = fail("write", f.Name(), met.err)
	}
	return int64(n), err
}

// Allocate implements File.
func (f *faultyFile) Allocate(size int64) error {
	return f.faulty.do(f.call(OpAllocate, 0, size), func() error { return f.inner.Allocate(size) })
}

// Truncate implements File.
func (f *faultyFile) Truncate(size int64) error {
	return f.faulty.do(f.call(OpTruncate, 0, size), func() error { return f.inner.Truncate(size) })
}

// Sync implements File.
func (f *faultyFile) Sync() error {
	return f.faulty.do(f.call(OpSync, 0, 0), f.inner.Sync)
}

// WriteBehind implements File. A hint cannot fail; a rule with Err drops it.
func (f *faultyFile) WriteBehind(off, n int64) {
	if f.faulty.meet(f.call(OpWriteBehind, off, n)).err == nil {
		f.inner.WriteBehind(off, n)
	}
}

// Control implements File. A rule with Err makes it report no descriptor.
func (f *faultyFile) Control(do func(fd uintptr)) bool {
	return f.faulty.meet(f.call(OpControl, 0, 0)).err == nil && f.inner.Control(do)
}

// Map implements File.
func (f *faultyFile) Map(n int64) (Mapping, error) {
	var m Mapping
	err := f.faulty.do(f.call(OpMap, 0, n), func() (err error) {
		m, err = f.inner.Map(n)
		return err
	})
	if err != nil {
		if m != nil {
			_ = m.Unmap()
		}
		return nil, err
	}
	return &faultyMapping{file: f, inner: m}, nil
}

// faultyMapping is a mapping of a faultyFile.
type faultyMapping struct {
	file  *faultyFile
	inner Mapping
}

// Bytes implements Mapping.
func (m *faultyMapping) Bytes() []byte { return m.inner.Bytes() }

// Populate implements Mapping.
func (m *faultyMapping) Populate(off, n int64) error {
	c := m.file.call(OpPopulate, off, n)
	return m.file.faulty.do(c, func() error { return m.inner.Populate(off, n) })
}

// Unmap implements Mapping.
func (m *faultyMapping) Unmap() error {
	return m.file.faulty.do(m.file.call(OpUnmap, 0, 0), m.inner.Unmap)
}
