package kafka

import (
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// hasZstd reports whether a view holds a batch that clients before Fetch 10
// cannot read. What cannot be looked at is none: sending it will fail.
func hasZstd(v *messages.View) bool {
	var head [record.HeaderSize]byte
	for at := 0; at < v.Bytes; {
		if !readView(v, at, head[:]) {
			return false
		}
		h, err := record.ParseHeader(head[:])
		if err != nil {
			return false
		}
		if h.Codec() == record.Zstd {
			return true
		}
		at += h.Size()
	}
	return false
}

// readView copies the bytes of a view from at on into b, and reports whether
// they are there.
func readView(v *messages.View, at int, b []byte) bool {
	for i := range v.Extents {
		e := &v.Extents[i]
		if at >= e.Len {
			at -= e.Len
			continue
		}
		n := min(len(b), e.Len-at)
		if e.Mem != nil {
			copy(b[:n], e.Mem[at:])
		} else if k, _ := e.File.ReadAt(b[:n], e.Pos+int64(at)); k < n {
			return false
		}
		if b, at = b[n:], 0; len(b) == 0 {
			return true
		}
	}
	return len(b) == 0
}
