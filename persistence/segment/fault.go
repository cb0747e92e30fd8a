package segment

import (
	"errors"
	"runtime"
	"runtime/debug"
	"unsafe"
)

// ErrFault means that a file does not hold any more what was written to it:
// someone cut it, or the disk failed under its mapping. Opened anew, the log ends
// before the damage.
var ErrFault = errors.New("the mapped file could not be read")

// guard runs f, which reads r's mapping. A fault there (the file was cut by
// someone else, or the disk failed under a page) becomes an *IOError instead of
// the end of the process.
func guard(r *Reader, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			at, ok := faultAt(p, r.m.bytes)
			if !ok {
				panic(p)
			}
			err = &IOError{Op: "read", File: r.s.Name(), At: at, Err: ErrFault}
		}
	}()
	return f()
}

// faultAt tells a fault inside b from any other panic, and where in b it was.
func faultAt(p any, b []byte) (at int64, ok bool) {
	fault, ok := p.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		return 0, false
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	if fault.Addr() < start || fault.Addr() >= start+uintptr(len(b)) {
		return 0, false
	}
	return int64(fault.Addr() - start), true
}
