package commitlog

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
)

// ErrStale means that the log changed under a compaction in a way that ends it:
// segments were deleted or truncated. Another one may begin at once.
var ErrStale = errors.New("the log was cut while it was compacted")

// ErrCannotCompact means that a log cannot be compacted as it is, now or later.
var ErrCannotCompact = errors.New("log cannot be compacted")

// CompactOptions says what the owner of a log knows that matters to a compaction.
type CompactOptions struct {
	Now        time.Time
	Stable     messages.Offset // the last stable offset, at most the high watermark
	Watermark  messages.Offset // the high watermark
	MinLag     time.Duration   // records stay as they are for so long (min.compaction.lag.ms)
	MaxLag     time.Duration   // and no longer than that; 0: no bound
	DirtyRatio float64         // share of bytes to compact that is worth a run
	Retention  time.Duration   // of tombstones and markers (delete.retention.ms)
	MapBytes   int64           // memory for the keys of a run
	// Producers returns what is known of the producers that are remembered; nil: none are.
	Producers func() map[messages.ProducerID]data.LastBatch
}

// Outlook is what PrepareCompaction found.
type Outlook struct {
	Compaction *Compaction // nil: none is due
	Dirty      float64     // share of the bytes that could be compacted now
	// Again is when one may be due without a new segment or a higher stable
	// offset; zero: never.
	Again time.Time
}

// Compaction is one run of compaction over a log. The owner prepares it, any
// goroutine calls Clean, the owner then calls Swap, and so on in turns as long as
// More says so. The owner appends, flushes and reads on meanwhile, and so does
// everybody else. A run that is given up leaves the log as it is.
type Compaction struct {
	log        *Log
	o          CompactOptions
	cfg        Config
	generation int
	from, end  messages.Offset    // the keys of this stretch are known; end may come down
	all        []*segment.Segment // of the log, the active one included
	last       map[messages.ProducerID]data.LastBatch
	groups     [][]*segment.Segment // to do
	pruning    *pruning             // nil before the first Clean
	ready      *replacement         // cleaned, to be swapped in
	stats      CompactionStats
}

// CompactionStats counts what a Compaction did so far.
type CompactionStats struct {
	Read, Written int64 // bytes
	Before, After int64 // bytes of the segments that were replaced, and of those that replaced them
	Segments      int   // replaced
}

// replacement is a segment that takes the place of others.
type replacement struct {
	old  []*segment.Segment
	with *segment.Segment // nil: they stay as they are
}

// Log is the log that is compacted.
func (c *Compaction) Log() *Log { return c.log }

// Stats returns what was done so far. It belongs to whose turn it is.
func (c *Compaction) Stats() CompactionStats { return c.stats }

// More reports whether there is something left to Clean. It belongs to whose turn
// it is.
func (c *Compaction) More() bool { return c.pruning == nil || len(c.groups) > 0 }

// Clean compacts the next segments into new files, which readers do not know of.
// pace is called every few hundred KiB with the bytes read and written since; its
// error ends the run. Any goroutine calls it, nobody at the same time.
//
// It fails with ErrClosed, ErrStale, ErrCannotCompact, an *segment.IOError or the
// error of pace; nothing is left behind then and the run is over.
func (c *Compaction) Clean(pace func(bytes int64) error) error {
	w := &cleaning{Compaction: c, pace: pace}
	err := w.run()
	switch {
	case errors.Is(err, segment.ErrRetired):
		err = ErrStale
		if failed := c.log.writable(); failed != nil {
			err = failed
		}
	case corrupt(err):
		err = fmt.Errorf("%w: %w", ErrCannotCompact, err)
	}
	return err
}

func corrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c) && !errors.Is(err, segment.ErrFault)
}

// cleaning is one call of Clean.
type cleaning struct {
	*Compaction
	pace    func(bytes int64) error
	to      *segment.Segment
	pending []record.Batch // to be written, in order
	bytes   int64          // of pending
	unpaced int64
	changed bool              // something was left out or changed
	markers []messages.Offset // that stay, in order
}

// pendingMax is how many bytes are gathered for one write, and read between two
// calls of pace.
const pendingMax = 512 << 10

func (w *cleaning) run() error {
	if w.pruning == nil {
		if err := w.survey(); err != nil {
			return err
		}
	}
	if len(w.groups) == 0 {
		return nil
	}
	group := w.groups[0]
	w.groups = w.groups[1:]
	if err := w.clean(group); err != nil {
		if w.to != nil {
			w.to.Scrap()
		}
		return err
	}
	return nil
}

// advance accounts for bytes that were read or written, and gives up when the log
// was closed.
func (w *cleaning) advance(bytes int64) error {
	if w.unpaced += bytes; w.unpaced < pendingMax {
		return nil
	}
	if err := w.log.writable(); err != nil {
		return err
	}
	bytes, w.unpaced = w.unpaced, 0
	if w.pace == nil {
		return nil
	}
	return w.pace(bytes)
}

// clean writes what stays of a group of segments into a new one.
func (w *cleaning) clean(group []*segment.Segment) error {
	limits := w.cfg.limits()
	limits.Preallocate = false
	var err error
	w.to, err = segment.CreateCleaned(w.log.fsys, w.log.dir, group[0].Base(), w.log.files, limits)
	if err != nil {
		return err
	}
	before := int64(0)
	for i, s := range group {
		before += s.Size()
		if err := w.copy(s, i == len(group)-1); err != nil {
			return err
		}
	}
	w.stats.Read += before
	w.ready = &replacement{old: group}
	if !w.changed && len(group) == 1 {
		w.to.Scrap()
		return nil
	}
	if err := w.mergeTxnIndexes(group, w.to); err != nil {
		return err
	}
	if err := w.to.FinishCleaned(group[len(group)-1].Next()); err != nil {
		return err
	}
	w.ready.with = w.to
	w.stats.Written += w.to.Size()
	return nil
}

// mergeTxnIndexes gives a cleaned segment the transaction index of those it
// replaces: their entries, in order, whose markers stay. A consumer that is told of
// an aborted transaction skips its producer up to the marker; without one it would
// skip what was committed later. A transaction without a marker has no records left.
func (w *cleaning) mergeTxnIndexes(from []*segment.Segment, to *segment.Segment) error {
	var merged []data.EndedTxn
	for _, s := range from {
		aborted, err := s.Aborted()
		if err != nil {
			return err
		}
		for _, e := range aborted {
			if _, stays := slices.BinarySearch(w.markers, e.Marker); stays {
				merged = append(merged, e)
			}
		}
	}
	return to.TakeAborted(merged)
}

// copy writes what stays of one segment. The last batch of the last one stays in
// any case: where the new segment ends must be seen in it.
func (w *cleaning) copy(s *segment.Segment, last bool) error {
	r, err := s.Acquire()
	if err != nil {
		return err
	}
	defer r.Release()
	err = r.Scan(0, func(pos int64, b *record.Batch) error {
		if err := b.CheckCRC(); err != nil {
			return &CorruptError{File: s.Name(), At: pos, Offset: b.BaseOffset, Err: err}
		}
		size := int64(len(b.Bytes))
		if err := w.prune(b, last && pos+size == r.Size()); err != nil {
			return err
		}
		if w.bytes >= pendingMax {
			if err := w.flush(); err != nil {
				return err
			}
		}
		return w.advance(size)
	})
	if err != nil {
		return err
	}
	return w.flush() // the bytes are the Reader's
}

// prune adds what stays of a batch to what is to be written.
func (w *cleaning) prune(b *record.Batch, lastOne bool) error {
	p := w.pruning
	if b.BaseOffset >= w.end {
		w.add(b)
		return nil
	}
	rule := p.judge(&b.Header, lastOne)
	left, kept := record.Batch{}, int32(0)
	if !rule.discard && b.Count > 0 {
		var err error
		left, kept, err = record.Thin(b, record.Thinning{
			Keep:    func(r *record.Record) bool { return p.keeps(&b.Header, r) },
			Horizon: p.horizon, Always: rule.horizon, Limit: record.InflateLimit,
		})
		if err != nil {
			// The CRC is right: these are the producer's own bytes, and not for us to
			// drop. Who reads them sees for himself.
			left, kept = *b, 1
		}
	}
	switch {
	case kept > 0:
		w.changed = w.changed || left.CRC != b.CRC || len(left.Bytes) != len(b.Bytes)
		w.add(&left)
	case rule.husk && b.Count == 0:
		w.add(b)
	case rule.husk:
		left = record.Emptied(b.Header)
		w.changed = true
		w.add(&left)
	default:
		w.changed = true
	}
	return nil
}

func (w *cleaning) add(b *record.Batch) {
	if b.Control() && b.Count > 0 {
		w.markers = append(w.markers, b.BaseOffset)
	}
	w.pending = append(w.pending, *b)
	w.bytes += int64(len(b.Bytes))
}

// flush writes what was gathered.
func (w *cleaning) flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	if err := w.to.Write(w.pending); err != nil {
		if errors.Is(err, segment.ErrOffsetSpace) {
			err = fmt.Errorf("%w: %w", ErrCannotCompact, err)
		}
		return err
	}
	w.to.Commit(w.pending)
	bytes := w.bytes
	clear(w.pending)
	w.pending, w.bytes = w.pending[:0], 0
	return w.advance(bytes)
}
