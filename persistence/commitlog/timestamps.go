package commitlog

import (
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
)

// OffsetForTimestamp returns the first record at or above Start and below limit
// whose timestamp is t or later; false if there is none. The batch is decoded
// to find it. It fails with an error of the disk, or of a batch's content.
func (l *Log) OffsetForTimestamp(t messages.Timestamp, limit messages.Offset) (
	found data.TimestampOffset, ok bool, err error,
) {
	err = l.retrying(func(st *state) error {
		found, ok, err = st.firstSince(t, limit)
		return err
	})
	return found, ok, err
}

func (s *state) firstSince(t messages.Timestamp, limit messages.Offset) (
	data.TimestampOffset, bool, error,
) {
	for i := s.holding(s.start); i < len(s.segments) && s.segments[i].Base() < limit; i++ {
		largest, err := s.segments[i].LargestTimestamp()
		if err != nil {
			return data.TimestampOffset{}, false, err
		}
		if largest.Timestamp < t {
			continue
		}
		found, ok, err := firstSinceIn(s.segments[i], t, s.start)
		if err != nil || ok {
			return found, ok && found.Offset < limit, err
		}
	}
	return data.TimestampOffset{}, false, nil
}

// firstSinceIn finds the first record of a segment that is as late as t, and at
// or above start. A header's largest timestamp is only the producer's word for
// its records, so the search goes on behind a batch that does not keep it.
func firstSinceIn(s *segment.Segment, t messages.Timestamp, start messages.Offset) (
	found data.TimestampOffset, ok bool, err error,
) {
	r, err := s.Acquire()
	if err != nil {
		return found, false, err
	}
	defer r.Release()
	from, err := r.After(t, start)
	if err != nil {
		return found, false, err
	}
	var failed error
	err = r.Walk(from, func(pos int64, h record.Header) bool {
		if h.MaxTimestamp < t || h.LastOffset() < start {
			return true
		}
		found, ok, failed = firstInBatch(r, pos, t, start)
		return failed == nil && !ok
	})
	if err == nil {
		err = failed
	}
	return found, ok, err
}

// firstInBatch decodes the batch at pos and returns its first record that is as
// late as t, and at or above start.
//
// Nobody looked at the records before they were stored. If they are none, though
// the CRC is the producer's, the header's word stands: one bad batch must not
// make every search that meets it fail, and who reads it sees for himself.
func firstInBatch(r *segment.Reader, pos int64, t messages.Timestamp, start messages.Offset) (
	found data.TimestampOffset, ok bool, err error,
) {
	b, err := r.Batch(pos)
	if err != nil {
		return found, false, err
	}
	for rec, err := range record.Records(&b, record.InflateLimit) {
		switch {
		case err != nil && b.CheckCRC() == nil:
			return data.TimestampOffset{Timestamp: b.MaxTimestamp, Offset: max(b.BaseOffset, start),
				Epoch: b.LeaderEpoch}, true, nil
		case err != nil:
			return found, false, err
		case rec.Timestamp >= t && rec.Offset >= start:
			return data.TimestampOffset{Timestamp: rec.Timestamp, Offset: rec.Offset,
				Epoch: b.LeaderEpoch}, true, nil
		}
	}
	return found, false, nil
}

// MaxTimestamp returns the record with the largest timestamp at or above Start
// and below limit, the first of them if several have it; false if there is none
// (KIP-734).
func (l *Log) MaxTimestamp(limit messages.Offset) (
	found data.TimestampOffset, ok bool, err error,
) {
	err = l.retrying(func(st *state) error {
		found, ok, err = st.latest(limit)
		return err
	})
	return found, ok, err
}

func (s *state) latest(limit messages.Offset) (found data.TimestampOffset, ok bool, err error) {
	best := candidate{timestamp: messages.NoTimestamp}
	limit = min(limit, s.end())
	for i := s.holding(s.start); i < len(s.segments) && s.segments[i].Base() < limit; i++ {
		if err := best.consider(s.segments[i], s.start, limit); err != nil {
			return found, false, err
		}
	}
	if best.segment == nil {
		return found, false, nil
	}
	r, err := best.segment.Acquire()
	if err != nil {
		return found, false, err
	}
	defer r.Release()
	pos, err := r.Find(best.offset)
	if err != nil {
		return found, false, err
	}
	b, err := r.Batch(pos)
	if err != nil {
		return found, false, err
	}
	found.Offset, found.Timestamp, ok, err = record.Latest(&b, record.InflateLimit)
	if err != nil && b.CheckCRC() == nil { // as in firstInBatch
		found.Offset, found.Timestamp, ok, err = b.LastOffset(), b.MaxTimestamp, true, nil
	}
	found.Epoch = b.LeaderEpoch
	return found, ok, err
}

// candidate is the batch with the largest timestamp seen so far.
type candidate struct {
	segment   *segment.Segment
	timestamp messages.Timestamp
	offset    messages.Offset // an offset of the batch
}

// consider looks at the batches of s between start and limit. What the segment
// knows of itself serves only when all of it lies between them.
func (c *candidate) consider(s *segment.Segment, start, limit messages.Offset) error {
	if s.Base() >= start && s.Next() <= limit {
		largest, err := s.LargestTimestamp()
		if err == nil && largest.Timestamp > c.timestamp {
			*c = candidate{s, largest.Timestamp, largest.Offset}
		}
		return err
	}
	r, err := s.Acquire()
	if err != nil {
		return err
	}
	defer r.Release()
	from, err := r.Find(start)
	if err != nil {
		return err
	}
	return r.Walk(from, func(_ int64, h record.Header) bool {
		if h.NextOffset() > limit {
			return false
		}
		if h.MaxTimestamp > c.timestamp && h.Count > 0 {
			*c = candidate{s, h.MaxTimestamp, h.LastOffset()}
		}
		return true
	})
}
