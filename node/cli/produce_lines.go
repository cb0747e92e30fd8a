package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds of a chunk. One read system call fills one; lines beyond the limit
// wait for the next chunk, so that short lines do not make huge ones.
const (
	chunkBytes   = 256 << 10
	chunkRecords = 2048
)

// recordOverhead is about what a record takes in memory besides its bytes: the
// record and the client's bookkeeping.
const recordOverhead = 256 // bytes

// chunk is a piece of the input cut into records. Its memory is used again once
// every record was acknowledged or failed.
//
// A chunk is the context of its records, so that a record that fails leads to
// its line without a word of memory per record.
type chunk struct {
	context.Context // never changes, also not when the chunk is used again

	buf       []byte // what the records' keys and values point into
	records   []kgo.Record
	firstLine int64        // line number of records[0], counted from 1
	pending   atomic.Int32 // records whose outcome is open
}

// weight is about how many bytes of memory the chunk takes.
func (c *chunk) weight() int64 { return int64(cap(c.buf) + len(c.records)*recordOverhead) }

// line is the line number of r, one of the chunk's records. It searches, as only
// errors ask.
func (c *chunk) line(r *kgo.Record) int64 {
	for i := range c.records {
		if &c.records[i] == r {
			return c.firstLine + int64(i)
		}
	}
	return c.firstLine
}

// lineError is a line that cannot be produced.
type lineError struct {
	line int64
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// Errors of a lineReader.
var (
	errLineTooLong = errors.New("longer than --batch-bytes")
	errNoSeparator = errors.New("the key separator is missing")
)

// lineReader cuts an input into chunks of records, one per line, byte for byte:
// only the newline itself is taken off, a last line need not have one, and an
// empty line is a record with an empty value. It is not safe for concurrent use,
// but for recycle.
type lineReader struct {
	in        io.Reader
	ctx       context.Context // of the records
	template  kgo.Record      // topic, partition and headers of every record
	separator []byte          // between key and value; nil: there are no keys
	lineMax   int             // bytes of a line, without its newline

	carry []byte // read but not in a chunk yet
	line  int64  // lines handed out
	eof   bool
	bad   error     // of the line after those handed out
	pool  sync.Pool // of *chunk
}

// next returns the next chunk, which has at least one record, or io.EOF. It
// waits for input only when it has no whole line, so lines typed or piped in one
// by one are handed out one by one. A line that cannot be a record is an error
// once those before it were handed out, and ends the input.
func (l *lineReader) next() (*chunk, error) {
	if l.bad != nil {
		return nil, l.bad
	}
	c := l.fresh()
	c.buf = append(c.buf, l.carry...)
	for !l.eof && bytes.IndexByte(c.buf, '\n') < 0 {
		if err := l.fill(c); err != nil {
			return nil, err
		}
	}
	used := l.cut(c)
	l.carry = append(l.carry[:0], c.buf[used:]...)
	l.line += int64(len(c.records))
	if len(c.records) == 0 {
		if l.bad != nil {
			return nil, l.bad
		}
		return nil, io.EOF
	}
	c.pending.Store(int32(len(c.records)))
	return c, nil
}

// fill reads once, growing the buffer of a line that does not fit.
func (l *lineReader) fill(c *chunk) error {
	if len(c.buf) > l.lineMax {
		return &lineError{l.line + 1, errLineTooLong}
	}
	if len(c.buf) == cap(c.buf) {
		grown := make([]byte, len(c.buf), 2*cap(c.buf))
		copy(grown, c.buf)
		c.buf = grown
	}
	n, err := l.in.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	if errors.Is(err, io.EOF) {
		l.eof = true
		return nil
	}
	return err
}

// cut makes records of the lines in the chunk's buffer, up to a bad one, and
// returns how many bytes they took.
func (l *lineReader) cut(c *chunk) (used int) {
	now := time.Now()
	for used < len(c.buf) && len(c.records) < chunkRecords {
		rest := c.buf[used:]
		n := bytes.IndexByte(rest, '\n')
		step := n + 1
		if n < 0 {
			if !l.eof {
				break
			}
			n, step = len(rest), len(rest)
		}
		r := l.template
		r.Timestamp, r.Context = now, c
		if err := l.split(&r, rest[:n:n]); err != nil {
			l.bad = &lineError{c.firstLine + int64(len(c.records)), err}
			break
		}
		c.records = append(c.records, r)
		used += step
	}
	return used
}

// split sets the key and value of r.
func (l *lineReader) split(r *kgo.Record, line []byte) error {
	if len(line) > l.lineMax {
		return errLineTooLong
	}
	if l.separator == nil {
		r.Value = line
		return nil
	}
	at := bytes.Index(line, l.separator)
	if at < 0 {
		return errNoSeparator
	}
	r.Key, r.Value = line[:at:at], line[at+len(l.separator):]
	return nil
}

// fresh returns an empty chunk for the lines from here on.
func (l *lineReader) fresh() *chunk {
	c, ok := l.pool.Get().(*chunk)
	if !ok {
		c = &chunk{Context: l.ctx, buf: make([]byte, 0, chunkBytes)}
	}
	c.firstLine = l.line + 1
	return c
}

// recycle takes back a chunk nobody uses any more. Any goroutine may call it.
func (l *lineReader) recycle(c *chunk) {
	if cap(c.buf) > 4*chunkBytes { // one long line must not hold its memory for ever
		return
	}
	clear(c.records)
	c.buf, c.records = c.buf[:0], c.records[:0]
	l.pool.Put(c)
}
