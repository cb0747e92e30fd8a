package segment

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Found is a batch found in a log file.
type Found struct {
	Position int64
	Batch    record.Batch // the bytes are valid until the iteration goes on
	Bad      error        // nil, or why the batch is not whole: its CRC
}

// Batches iterates over the batches of a log file, from its start to its end or
// to the zeros that were reserved there, without changing anything: for the
// commands that dump and check files. A batch with a wrong CRC is given with
// Bad set. The first place that is no batch, or cannot be read, ends the
// iteration with a *CorruptError or *IOError.
func Batches(fsys vfs.FS, name string) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		f, err := fsys.Open(name)
		if err != nil {
			yield(Found{}, ioError("open", name, 0, err))
			return
		}
		defer f.Close()
		size, err := f.Size()
		if err != nil {
			yield(Found{}, ioError("read", name, 0, err))
			return
		}
		var buf []byte
		for pos := int64(0); pos < size; {
			var found Found
			found, buf, err = readBatch(f, name, pos, size, buf)
			if err != nil {
				yield(Found{Position: pos}, err)
				return
			}
			if found.Batch.Bytes == nil || !yield(found, nil) {
				return
			}
			pos += int64(len(found.Batch.Bytes))
		}
	}
}

// readBatch reads the batch at pos into buf, or a larger one. No bytes and no
// error mean that the file is zero there.
func readBatch(f vfs.File, name string, pos, size int64, buf []byte) (Found, []byte, error) {
	var head [record.HeaderSize]byte
	b := head[:min(size-pos, record.HeaderSize)]
	if _, err := f.ReadAt(b, pos); err != nil && !errors.Is(err, io.EOF) {
		return Found{}, buf, ioError("read", name, pos, err)
	}
	if allZero(b) {
		return Found{}, buf, nil
	}
	h, err := record.ParseHeader(b)
	if err == nil && int64(h.Size()) > size-pos {
		err = fmt.Errorf("%d of %d bytes: %w", size-pos, h.Size(), record.ErrTruncated)
	}
	if err != nil {
		return Found{}, buf, &CorruptError{File: name, At: pos, Offset: messages.NoOffset, Err: err}
	}
	if cap(buf) < h.Size() {
		buf = make([]byte, h.Size()) // the file has that many
	}
	buf = buf[:h.Size()]
	if _, err := f.ReadAt(buf, pos); err != nil && !errors.Is(err, io.EOF) {
		return Found{}, buf, ioError("read", name, pos, err)
	}
	found := Found{Position: pos, Batch: record.Batch{Header: h, Bytes: buf}}
	_, _, found.Bad = record.Parse(buf)
	return found, buf, nil
}
