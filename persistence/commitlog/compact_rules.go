package commitlog

import (
	"sort"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// fates says of each batch of a transaction whether it was aborted. It is told of
// the batches from an offset on, in order, and of every marker.
type fates struct {
	from    messages.Offset // what is below was judged when it was compacted
	open    map[messages.ProducerID]messages.Offset
	aborted map[messages.ProducerID][]span
	spans   int // in aborted
}

// span is one aborted transaction: the batches of its producer from first up to
// the marker.
type span struct{ first, marker messages.Offset }

// spanSize is about what one aborted transaction takes, in bytes.
const spanSize = 32

func newFates(from messages.Offset) *fates {
	return &fates{from: from, open: map[messages.ProducerID]messages.Offset{},
		aborted: map[messages.ProducerID][]span{}}
}

// batch takes note of a batch that is no marker.
func (f *fates) batch(h *record.Header) {
	if !h.Transactional() || h.LastOffset() < f.from {
		return
	}
	if _, ok := f.open[h.ProducerID]; !ok {
		f.open[h.ProducerID] = h.BaseOffset
	}
}

// marker takes note of the end of a transaction.
func (f *fates) marker(h *record.Header, commit bool) {
	first, ok := f.open[h.ProducerID]
	delete(f.open, h.ProducerID)
	if ok && !commit {
		f.aborted[h.ProducerID] = append(f.aborted[h.ProducerID], span{first, h.BaseOffset})
		f.spans++
	}
}

// isAborted reports whether a batch is of a transaction that was aborted.
func (f *fates) isAborted(h *record.Header) bool {
	if !h.Transactional() || h.LastOffset() < f.from {
		return false
	}
	of := f.aborted[h.ProducerID]
	i := sort.Search(len(of), func(i int) bool { return of[i].marker > h.BaseOffset })
	return i < len(of) && of[i].first <= h.BaseOffset
}

// pruning decides what of a log stays, batch by batch from its start on. The
// rules are Kafka's.
//
//	a record      stays if no newer one below end has its key; a tombstone that is
//	              the newest stays up to its batch's delete horizon
//	a record      without a key, or of an aborted transaction, goes
//	a marker      stays as long as a batch of its transaction is there, and from the
//	              compaction that finds none, up to the delete horizon
//	a batch       without records goes, but for the last one of a producer that is
//	              remembered, which says what its next sequence is, and the last one
//	              of a segment, which says where that ends
//
// What is at or above end stays as it is.
type pruning struct {
	newest  *offsetMap
	end     messages.Offset
	fates   *fates
	last    map[messages.ProducerID]data.LastBatch
	now     messages.Timestamp
	horizon messages.Timestamp // that tombstones and markers get now

	seen map[messages.ProducerID]struct{} // producers with batches since their last marker
}

// ruling is what becomes of a batch.
type ruling struct {
	discard bool // all of its records
	horizon bool // it gets a delete horizon whatever is in it
	husk    bool // without records the batch itself stays
}

// judge rules on the next batch. lastOne: it is the last one of its segment.
func (p *pruning) judge(h *record.Header, lastOne bool) ruling {
	r := ruling{husk: lastOne || p.isLast(h)}
	switch {
	case h.Control():
		_, needed := p.seen[h.ProducerID]
		delete(p.seen, h.ProducerID)
		if !needed {
			at, set := h.DeleteHorizon()
			r.horizon = !set
			r.discard = set && at <= p.now
		}
	case p.fates.isAborted(h):
		r.discard = true
	}
	if !h.Control() && h.Transactional() {
		p.seen[h.ProducerID] = struct{}{}
	}
	return r
}

// isLast reports whether a batch is the last one that is remembered of its producer.
func (p *pruning) isLast(h *record.Header) bool {
	last, ok := p.last[h.ProducerID]
	switch {
	case !h.Idempotent() || !ok:
		return false
	case last.Offset == messages.NoOffset:
		return h.Control() && h.ProducerEpoch == last.Epoch
	}
	return h.LastOffset() == last.Offset
}

// keeps reports whether a record of a batch that is not discarded stays.
func (p *pruning) keeps(h *record.Header, r *record.Record) bool {
	if r.Offset >= p.end || h.Control() {
		return true
	}
	if r.Key == nil || r.Offset < p.newest.newest(r.Key) {
		return false
	}
	at, set := h.DeleteHorizon()
	return r.Value != nil || !set || p.now < at
}

// weight is what grouping looks at in a segment.
type weight struct {
	base, next messages.Offset
	bytes      int64
	index      int64 // bytes of its larger index, at most
}

// groups cuts a row of segments into those that become one each: as many as fit
// into maxBytes, with an index of maxIndex bytes, and whose offsets can be told in
// 31 bits. It returns how many are in each group.
func groups(row []weight, maxBytes, maxIndex int64) []int {
	var counts []int
	var sum weight
	for _, w := range row {
		fits := len(counts) > 0 && sum.bytes+w.bytes <= maxBytes &&
			sum.index+w.index <= maxIndex && w.next-sum.base <= segmentBytesMax
		if !fits {
			counts = append(counts, 0)
			sum = weight{base: w.base}
		}
		counts[len(counts)-1]++
		sum.bytes += w.bytes
		sum.index += w.index
	}
	return counts
}
