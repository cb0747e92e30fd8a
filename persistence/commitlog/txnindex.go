package commitlog

import (
	"errors"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
)

// AddAborted takes note of transactions whose abort markers were appended just
// now, in the order of the markers. The owner calls it before anybody may read
// them. It fails with an *segment.IOError or a *CorruptError: the log must be
// opened anew then.
func (l *Log) AddAborted(ended []data.EndedTxn) error {
	for len(ended) > 0 {
		st := l.state.Load()
		s := st.segments[st.holding(ended[0].Marker)]
		n := 1
		for n < len(ended) && ended[n].Marker < s.Next() {
			n++
		}
		if err := s.AddAborted(ended[:n]); err != nil {
			return err
		}
		if s.Closed() {
			_ = s.Finish() // what is not finished does not become durable
		}
		ended = ended[n:]
	}
	return nil
}

// ReadCommitted is Read together with the transactions that were aborted and have
// records in what it returns, by their first offset in the order of their markers:
// the reader skips those records.
func (l *Log) ReadCommitted(from, limit messages.Offset, maxBytes int, minOne bool) (
	messages.View, []data.AbortedTxn, error,
) {
	var view messages.View
	var aborted []data.AbortedTxn
	err := l.retrying(func(st *state) (err error) {
		v := &lease{bounded: true}
		if view, err = l.read(v, st, from, limit, int64(maxBytes), minOne); err != nil {
			return err
		}
		// Of the same segments: what is deleted meanwhile has told about its records.
		ended, err := st.aborted(from, v.next)
		if err != nil {
			view.Release()
			return err
		}
		aborted = nil
		for _, e := range ended {
			aborted = append(aborted, data.AbortedTxn{Producer: e.Producer, FirstOffset: e.First})
		}
		return nil
	})
	return view, aborted, err
}

// Aborted returns the transactions that were aborted and have records in
// [from, upTo), in the order of their markers. The markers may lie above upTo.
func (l *Log) Aborted(from, upTo messages.Offset) (ended []data.EndedTxn, err error) {
	err = l.retrying(func(st *state) (err error) {
		ended, err = st.aborted(from, upTo)
		return err
	})
	return ended, err
}

// aborted looks from the segment that holds from on for markers of transactions
// that began below upTo, until an entry says that there are no more.
func (s *state) aborted(from, upTo messages.Offset) (ended []data.EndedTxn, err error) {
	if from >= upTo || len(s.segments) == 0 {
		return nil, nil
	}
	for i := s.holding(from); i < len(s.segments); i++ {
		found, whole, err := s.segments[i].AbortedOver(from, upTo)
		if err != nil {
			return nil, err
		}
		if ended = append(ended, found...); whole {
			break
		}
	}
	return ended, nil
}

// endVanished ends the transactions that the producers' state took from a snapshot,
// valid at an offset, and of which no batch is left: compaction has taken them, and
// maybe the marker, so that nobody else would ever say that they ended. As long as a
// batch is there the marker is, too.
func (l *Log) endVanished(at messages.Offset) error {
	if l.gaps.none() {
		return nil
	}
	for _, t := range l.producers.Open() {
		there, err := l.hasBatch(t, at)
		if err != nil {
			return err
		}
		if !there {
			l.producers.Vanished(t.Producer)
		}
	}
	return nil
}

// hasBatch reports whether a batch of a transaction that is open at an offset is in
// the log below it. Mostly it is the first one. A transaction without any concerns no
// reader, whether it has ended or not.
func (l *Log) hasBatch(t data.OpenTxn, at messages.Offset) (found bool, err error) {
	st := l.state.Load()
	for i := st.holding(t.First); i < len(st.segments) && st.segments[i].Base() < at && !found; i++ {
		r, err := st.segments[i].Acquire()
		if err != nil {
			return false, err
		}
		pos, err := r.Find(t.First)
		if err == nil {
			err = r.Headers(pos, func(_ int64, h record.Header) bool {
				found = h.ProducerID == t.Producer && h.Transactional() && !h.Control()
				return !found && h.NextOffset() < at
			})
		}
		r.Release()
		if err != nil {
			return false, err
		}
	}
	return found, nil
}

// offsetAt is the offset of the batch at pos, or the one after the segment's last.
func offsetAt(r *segment.Reader, pos int64) (messages.Offset, error) {
	if pos >= r.Size() {
		return r.Next(), nil
	}
	h, err := r.Header(pos)
	return h.BaseOffset, err
}

// finishedTo is the offset that may become durable: where the first segment begins
// whose transaction index file cannot be written, or the log end.
func (l *Log) finishedTo(st *state) messages.Offset {
	for _, s := range st.segments {
		if s.Unfinished() && s.Finish() != nil {
			return s.Base()
		}
	}
	return st.end()
}

// checkAborted looks whether the transaction index files of the segments that are
// trusted can be read. Those from the first that cannot are made again.
func (o *opening) checkAborted() error {
	for _, s := range o.segments {
		if !o.txns[s.Base()] || s.Base() >= o.missing {
			continue
		}
		_, err := s.Aborted()
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			o.missing, err = s.Base(), nil
		}
		if err != nil {
			return err
		}
	}
	o.dropAborted()
	return nil
}

// forgetAborted has the transaction indexes made again from segment i on, which is
// the first to be checked. A flush up to where it begins may have come before the
// roll, and so before there was an index file of the segment before it, or before
// that file was cut.
func (o *opening) forgetAborted(i int) {
	if i > 0 && o.found[i].base >= o.point {
		i--
	}
	o.missing = min(o.missing, o.found[i].base)
	o.dropAborted()
}

func (o *opening) dropAborted() {
	for _, s := range o.segments {
		if s.Base() >= o.missing {
			s.ForgetAborted()
		}
	}
}
