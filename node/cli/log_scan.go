package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

// scanBuffer is how much of a log file is read at once, in bytes.
const scanBuffer = 1 << 20

// scanned is a batch as it stands in a log file.
type scanned struct {
	record.Batch
	at    int64 // byte position in the file
	wrong error // what is wrong with its bytes, though its length could be read
}

// scanEnd says how a log file ends.
type scanEnd struct {
	size     int64 // of the batches
	reserved int64 // bytes of zeros after them: space for batches to come
	cut      int64 // bytes after the last batch that are not a whole batch
	why      error // why they are not
}

// scanLog calls f for each batch of a log file in order until f fails, and says
// how the file ends. It only reads, and checks nothing but framing and checksum:
// a batch whose checksum is wrong is passed to f, and the scan goes on behind it.
// The batch's bytes are valid until f returns.
func scanLog(file vfs.File, f func(scanned) error) (scanEnd, error) {
	size, err := file.Size()
	if err != nil {
		return scanEnd{}, err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(file, 0, size), scanBuffer)
	var end scanEnd
	var buf []byte
	for end.size < size {
		left := size - end.size
		head, err := in.Peek(int(min(record.HeaderSize, left)))
		if err != nil {
			return end, err
		}
		h, err := record.ParseHeader(head)
		if err != nil || int64(h.Size()) > left {
			return endOf(end, in, left, err)
		}
		if cap(buf) < h.Size() {
			buf = make([]byte, h.Size())
		}
		buf = buf[:h.Size()]
		if _, err := io.ReadFull(in, buf); err != nil {
			return end, err
		}
		s := scanned{Batch: record.Batch{Header: h, Bytes: buf}, at: end.size}
		if _, _, err := record.Parse(buf); err != nil {
			s.wrong = err
		}
		if err := f(s); err != nil {
			return end, err
		}
		end.size += int64(h.Size())
	}
	return end, nil
}

// endOf reads the left bytes at the end of a file, where no whole batch begins.
func endOf(end scanEnd, in *bufio.Reader, left int64, why error) (scanEnd, error) {
	if why == nil {
		why = record.ErrTruncated
	}
	last := int64(0) // how far the bytes that are not zero reach
	for n := int64(1); n <= left; n++ {
		b, err := in.ReadByte()
		if err != nil {
			return end, err
		}
		if b != 0 {
			last = n
		}
	}
	end.cut, end.reserved = last, left-last
	if last > 0 {
		end.why = why
	}
	return end, nil
}

// openLog opens a log file for reading.
func openLog(name string) (vfs.File, error) {
	file, err := vfs.OS{}.Open(name)
	if err != nil {
		return nil, &failure{err.Error(), "name the segment's .log file", err}
	}
	return file, nil
}

// batchProblem says what is wrong with a batch in words; nil if nothing is.
// next is the offset after the batch before.
func batchProblem(s scanned, next messages.Offset) error {
	switch {
	case s.wrong != nil:
		return s.wrong
	case s.LastOffsetDelta < 0 || s.Count < 0:
		return errors.New("its offsets run backwards")
	case s.BaseOffset < next:
		return fmt.Errorf("it begins at offset %d, after offset %d", s.BaseOffset, next-1)
	}
	return nil
}
