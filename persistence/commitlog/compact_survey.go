package commitlog

import (
	"errors"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
)

// survey learns what the run has to know before it can leave anything out: which
// transactions were aborted, and the newest offset of every key, up to where the
// memory for them is used up. Then the run ends there and the next goes on.
func (w *cleaning) survey() error {
	fates := newFates(w.from)
	if err := w.judgeTransactions(fates); err != nil {
		return err
	}
	limit := w.o.MapBytes - int64(fates.spans)*spanSize
	newest := newOffsetMap(int64(w.end-w.from), limit)
	end, err := w.mapKeys(newest, fates)
	if err != nil {
		return err
	}
	if end <= w.from {
		return fmt.Errorf("%w: %d bytes of log.cleaner.dedupe.buffer.size are not enough for "+
			"the aborted transactions behind offset %d", ErrCannotCompact, w.o.MapBytes, w.from)
	}
	w.end = end
	now := messages.Timestamp(w.o.Now.UnixMilli())
	w.pruning = &pruning{newest: newest, end: end, fates: fates, now: now,
		horizon: now + messages.Timestamp(w.o.Retention.Milliseconds()),
		last:    w.last, seen: map[messages.ProducerID]struct{}{}}
	w.group()
	return nil
}

// judgeTransactions finds the aborted transactions that have records between from
// and end. Their markers may stand behind end: a longer transaction holds the
// stable offset back.
func (w *cleaning) judgeTransactions(f *fates) error {
	done := false
	for _, s := range w.all {
		if s.Next() <= w.from || done {
			continue
		}
		if err := w.judgeSegment(s, f, &done); err != nil {
			return err
		}
	}
	for _, first := range f.open {
		w.end = min(w.end, first) // nobody knows yet
	}
	return nil
}

func (w *cleaning) judgeSegment(s *segment.Segment, f *fates, done *bool) error {
	r, err := s.Acquire()
	if err != nil {
		return err
	}
	defer r.Release()
	from, err := r.Find(w.from)
	if err != nil {
		return err
	}
	var failed error
	err = r.Headers(from, func(pos int64, h record.Header) bool {
		switch {
		case h.BaseOffset >= w.end && len(f.open) == 0, h.BaseOffset >= w.o.Watermark:
			*done = true
			return false
		case h.Control():
			failed = judgeMarker(s.Name(), r, pos, f)
		case h.BaseOffset < w.end:
			f.batch(&h)
		}
		if failed == nil {
			failed = w.advance(int64(h.Size())) // a walk brings in what lies between, too
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	return err
}

func judgeMarker(file string, r *segment.Reader, pos int64, f *fates) error {
	b, err := r.Batch(pos)
	if err != nil {
		return err
	}
	m, ok, err := record.ParseMarker(&b)
	if err != nil {
		return &CorruptError{File: file, At: pos, Offset: b.BaseOffset, Err: err}
	}
	if ok {
		f.marker(&b.Header, m.Commit)
	}
	return nil
}

// mapKeys notes the newest offset of every key between from and end, and returns
// how far it came.
func (w *cleaning) mapKeys(newest *offsetMap, f *fates) (messages.Offset, error) {
	end := w.from
	for _, s := range w.all {
		if s.Next() <= w.from || s.Base() >= w.end {
			continue
		}
		full, err := w.mapSegment(s, newest, f, &end)
		if err != nil || full {
			return end, err
		}
	}
	return w.end, nil
}

// errEnough ends the scan of a segment whose rest is of no interest.
var errEnough = errors.New("the rest is for another run")

// mapSegment is mapKeys for one segment. full: it ended before w.end, at *end.
func (w *cleaning) mapSegment(
	s *segment.Segment, newest *offsetMap, f *fates, end *messages.Offset,
) (full bool, err error) {
	r, err := s.Acquire()
	if err != nil {
		return false, err
	}
	defer r.Release()
	from, err := r.Find(w.from)
	if err != nil {
		return false, err
	}
	err = r.Scan(from, func(pos int64, b *record.Batch) error {
		if b.BaseOffset >= w.end || full {
			return errEnough
		}
		if err := b.CheckCRC(); err != nil {
			return &CorruptError{File: s.Name(), At: pos, Offset: b.BaseOffset, Err: err}
		}
		if !b.Control() && !f.isAborted(&b.Header) {
			full = w.mapBatch(b, newest, end)
		}
		if !full {
			*end = min(b.NextOffset(), w.end)
		}
		w.stats.Read += int64(len(b.Bytes))
		return w.advance(int64(len(b.Bytes)))
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return full, err
}

// mapBatch reports whether the map was full before the batch's end.
func (w *cleaning) mapBatch(b *record.Batch, newest *offsetMap, end *messages.Offset) bool {
	for r, err := range record.Records(b, record.InflateLimit) {
		if err != nil {
			return false // it stays as it is, see prune
		}
		if r.Offset >= w.end {
			break
		}
		if r.Key != nil && r.Offset >= w.from && !newest.put(r.Key, r.Offset) {
			*end = r.Offset
			return true
		}
	}
	return false
}

// group decides which segments become one. Those behind end stay as they are, and
// those without a batch.
func (w *cleaning) group() {
	var row []*segment.Segment
	for _, s := range w.all {
		if s.Base() >= w.end {
			break
		}
		if s.Size() == 0 {
			w.groupRow(row)
			row = nil
			continue
		}
		row = append(row, s)
	}
	w.groupRow(row)
}

func (w *cleaning) groupRow(row []*segment.Segment) {
	weights := make([]weight, len(row))
	for i, s := range row {
		weights[i] = weight{base: s.Base(), next: s.Next(), bytes: s.Size(),
			index: (s.Size()/int64(w.cfg.IndexInterval) + 1) * segment.TimeEntrySize}
	}
	for _, n := range groups(weights, w.cfg.SegmentBytes, w.cfg.IndexMaxBytes) {
		w.groups = append(w.groups, row[:n])
		row = row[n:]
	}
}
