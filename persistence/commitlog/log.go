package commitlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Config is the settings of one log that can change while it is open.
type Config struct {
	SegmentBytes    int64         // roll before the segment grows beyond it (segment.bytes)
	SegmentAge      time.Duration // roll when the records span more than it (segment.ms); 0: never
	SegmentJitter   time.Duration // SegmentAge is shortened by a random part of it
	IndexInterval   int           // bytes between index entries (index.interval.bytes)
	IndexMaxBytes   int64         // roll when an index is as large (segment.index.bytes)
	RetentionAge    time.Duration // delete segments whose last record is older; < 0: never
	RetentionBytes  int64         // delete the oldest segments beyond it; < 0: never
	FileDeleteDelay time.Duration // between the deletion of a segment and that of its files
	Preallocate     bool          // reserve whole segments at once
}

// Defaults for fields of Config that are 0 where that makes no sense.
const (
	defaultSegmentBytes  = 1 << 30
	defaultIndexInterval = 4096
	defaultIndexMaxBytes = 10 << 20
	segmentBytesMax      = 1<<31 - 1 // positions are stored in 31 bits
)

func (c Config) withDefaults() Config {
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	c.SegmentBytes = min(c.SegmentBytes, segmentBytesMax)
	if c.IndexInterval <= 0 {
		c.IndexInterval = defaultIndexInterval
	}
	if c.IndexMaxBytes <= 0 {
		c.IndexMaxBytes = defaultIndexMaxBytes
	}
	return c
}

func (c Config) limits() segment.Limits {
	return segment.Limits{
		Bytes:         c.SegmentBytes,
		IndexInterval: c.IndexInterval,
		Preallocate:   c.Preallocate,
	}
}

// State is what a log rebuilds besides its indexes: the windows of its
// producers. Its methods are called by the goroutine that calls Open, Append,
// Roll, Close or one of the Truncate methods, within that call.
type State interface {
	// Reset forgets everything.
	Reset()
	// Restore takes over the content of a .snapshot file; on an error the next
	// older one is tried.
	Restore(snapshot []byte) error
	// Observe takes note of a batch that is in the log. Append does not call
	// it: the leader has applied its own decisions.
	Observe(h record.Header) error
	// ObserveMarker takes note of the end of a transaction.
	ObserveMarker(h record.Header, commit bool, coordinatorEpoch int32) error
	// TakeAborted returns the transactions whose abort markers were observed since
	// the last call.
	TakeAborted() []data.EndedTxn
	// Open returns the transactions without an end: producer and first offset.
	Open() []data.OpenTxn
	// Vanished takes note that the open transaction of a producer has ended, which
	// cannot be seen in the log any more.
	Vanished(id messages.ProducerID)
	// Snapshot is the content of a .snapshot file valid at the log end; nil
	// stands for a state that remembers nothing.
	Snapshot() []byte
}

// Options says which log to open and what is known about it.
type Options struct {
	Topic         string
	Partition     int32
	TopicID       messages.TopicID // checked against partition.metadata; zero: not checked
	Config        Config
	State         State           // nil: none
	Clean         bool            // the log was closed by Close: trust the files
	RecoveryPoint messages.Offset // what lies below was synced
	LogStart      messages.Offset // records below it were deleted
	Cleaned       messages.Offset // the log was compacted up to it
	Files         *segment.Cache  // shared by the logs of a node; nil: one of its own
	Pause         func()          // nil, or called every few MiB of a recovery scan
}

// CorruptError is damage found in a log: file, position and what is wrong.
type CorruptError = segment.CorruptError

// ErrClosed means the log was closed or abandoned.
var ErrClosed = fmt.Errorf("log is closed: %w", messages.ErrUnavailable)

// Log is the log of one partition. See the package comment for who may call
// what.
//
// Invariants: Start <= End; Durable <= End; the segments are in order of their
// bases and only the last one is written.
type Log struct {
	fsys     vfs.FS
	dir      string
	name     string // topic-partition, for errors
	state    atomic.Pointer[state]
	durable  atomic.Int64
	cleaned  atomic.Int64
	failure  atomic.Pointer[error] // of a sync, or ErrClosed: final
	syncing  sync.Mutex            // held while a Flush runs
	files    *segment.Cache
	ownFiles bool

	// The owner's.
	cfg         Config
	producers   State
	jitter      time.Duration
	rollAfter   time.Time // first append to the active segment; zero: before this process
	generation  int       // counts truncations: a Flush from before one says nothing
	touched     bool      // something may be dirty
	changed     bool      // since Open: Close has something to write
	epochsStale bool      // the epoch file lags behind memory
	ghosts      bool      // names of a roll that failed may come back after a power cut
	gaps        gapList   // where offsets may have gaps, as in the gaps file
	truncated   truncation
	snapshots   []messages.Offset // of the snapshot files, ascending
}

// state is what readers see of a log. It is immutable.
type state struct {
	segments []*segment.Segment // by base; the last one is active
	start    messages.Offset
	origin   messages.Offset // the log end while there are no segments
	sealed   int64           // bytes of all segments but the last one
	epochs   epochList
}

func (s *state) end() messages.Offset {
	if n := len(s.segments); n > 0 {
		return s.segments[n-1].Next()
	}
	return s.origin
}

// active returns the segment to write to, nil if one must be created first.
func (s *state) active() *segment.Segment {
	if n := len(s.segments); n > 0 && !s.segments[n-1].Closed() {
		return s.segments[n-1]
	}
	return nil
}

// update publishes a changed copy of the state.
func (l *Log) update(change func(*state)) {
	next := *l.state.Load()
	change(&next)
	next.sum()
	l.state.Store(&next)
}

// sum counts the bytes of the segments that do not grow, so that Size, which is
// asked for at every append, need not go through thousands of them.
func (s *state) sum() {
	s.sealed = 0
	for i := range len(s.segments) - 1 {
		s.sealed += s.segments[i].Size()
	}
}

// Start is the log start offset: the first record that may be read.
func (l *Log) Start() messages.Offset { return l.state.Load().start }

// End is the log end offset: that of the next record.
func (l *Log) End() messages.Offset { return l.state.Load().end() }

// Durable is the offset below which records survive a power cut.
func (l *Log) Durable() messages.Offset { return messages.Offset(l.durable.Load()) }

// Size is the number of bytes of all batches.
func (l *Log) Size() int64 {
	s := l.state.Load()
	if n := len(s.segments); n > 0 {
		return s.sealed + s.segments[n-1].Size()
	}
	return 0
}

// Segments is the number of segments. A new log has none until its first append.
func (l *Log) Segments() int { return len(l.state.Load().segments) }

// Dir is the partition's folder.
func (l *Log) Dir() string { return l.dir }

// LatestEpoch is the newest leader epoch, NoEpoch if there is none.
func (l *Log) LatestEpoch() messages.LeaderEpoch { return l.state.Load().epochs.latest() }

// Epochs returns where the leader epochs of the log begin, oldest first. The
// caller must not change it.
func (l *Log) Epochs() []EpochStart { return l.state.Load().epochs }

// EpochAt is the leader epoch of the record at offset, or of the next one to
// come; NoEpoch if it is not known.
func (l *Log) EpochAt(offset messages.Offset) messages.LeaderEpoch {
	return l.state.Load().epochs.at(offset)
}

// EpochEnd answers OffsetForLeaderEpoch: the largest epoch of the log that is
// not above the asked one, and the first offset after it (KIP-101, KIP-279).
// For an epoch above the latest both are -1.
func (l *Log) EpochEnd(asked messages.LeaderEpoch) data.EpochEnd {
	s := l.state.Load()
	return s.epochs.end(asked, s.end())
}

// SetConfig changes the settings; they hold from the next operation on.
func (l *Log) SetConfig(c Config) {
	l.cfg = c.withDefaults()
	l.jitter = 0
	if j := min(l.cfg.SegmentJitter, l.cfg.SegmentAge); j > 0 {
		l.jitter = rand.N(j)
	}
	if s := l.state.Load(); s != nil && s.active() != nil {
		s.active().Limits = l.cfg.limits()
	}
}

// AssignEpoch begins a leader epoch at start, at or below End: the records from
// there on will be of that epoch. It is durable when AssignEpoch returns, so
// that no record of the epoch can be stored without it. An epoch that is the
// latest already changes nothing; a lower one is messages.ErrFencedLeaderEpoch.
func (l *Log) AssignEpoch(epoch messages.LeaderEpoch, start messages.Offset) error {
	if err := l.writable(); err != nil {
		return err
	}
	latest := l.LatestEpoch()
	if epoch == latest {
		return nil
	}
	if epoch < latest {
		return fmt.Errorf("%s: epoch %d after %d: %w", l.name, epoch, latest,
			messages.ErrFencedLeaderEpoch)
	}
	return l.saveEpochs(l.state.Load().epochs.assign(EpochStart{epoch, start}))
}

// ForgetEmptyEpochs drops the latest epochs if they have no record: a leadership
// that ended before its first write. As long as they are there they refuse
// records of earlier epochs; a follower, whose leader may still have such records
// for it, calls this when its role begins.
func (l *Log) ForgetEmptyEpochs() error {
	if err := l.writable(); err != nil {
		return err
	}
	st := l.state.Load()
	epochs := st.epochs.truncateEnd(st.end())
	if len(epochs) == len(st.epochs) {
		return nil
	}
	return l.saveEpochs(epochs)
}

// saveEpochs makes a new list of epochs durable, then visible.
func (l *Log) saveEpochs(epochs epochList) error {
	name := path.Join(l.dir, epochFile)
	if err := segment.ReplaceFile(l.fsys, name, epochs.encode()); err != nil {
		return err
	}
	l.epochsStale = false
	l.update(func(s *state) { s.epochs = epochs })
	return nil
}

// Failure is why the log takes no writes until it is opened again; nil if it does.
func (l *Log) Failure() error { return l.writable() }

// writable returns the reason why the log takes no writes.
func (l *Log) writable() error {
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fail ends all writing: the disk may hold less than it acknowledged.
func (l *Log) fail(err error) {
	err = fmt.Errorf("%s takes no more writes until it is opened again: %w", l.name, err)
	l.failure.CompareAndSwap(nil, &err)
}

// Idle closes the files of the log and gives up its mappings. It is cheap and
// may be called often; the next use opens them again.
func (l *Log) Idle() {
	for _, s := range l.state.Load().segments {
		s.Idle()
	}
}

// Abandon ends the use of the log without writing anything: after a panic or
// an error of the disk. Views that are out stay valid.
func (l *Log) Abandon() {
	closed := ErrClosed
	l.failure.Store(&closed)
	for _, s := range l.state.Load().segments {
		s.Abandon()
	}
	if l.ownFiles {
		l.files.Close()
	}
}

// Close makes everything durable and writes what the next Open needs to trust
// the log without a scan: indexes, the producers' state, exact file sizes. If
// it fails the log must be opened with Clean false.
func (l *Log) Close() error {
	if err := l.writable(); err != nil {
		l.Abandon()
		if errors.Is(err, ErrClosed) {
			return nil
		}
		return err
	}
	defer l.Abandon()
	if !l.changed && !l.epochsStale {
		return nil
	}
	return l.finish()
}

func (l *Log) finish() error {
	st := l.state.Load()
	if len(st.segments) > 0 && st.active() == nil {
		// A truncation could not begin a new segment; without one its end is lost.
		if err := l.roll(st.end()); err != nil {
			return err
		}
		st = l.state.Load()
	}
	for _, s := range st.segments {
		if err := s.Finish(); err != nil {
			return err
		}
	}
	l.touched = true // the index files are new, even where all records are durable
	if f, dirty := l.PrepareFlush(); dirty {
		if err := f.Run(); err != nil {
			return err
		}
		l.Flushed(f)
	}
	if err := l.settleGaps(l.Durable()); err != nil {
		return err
	}
	if len(st.segments) > 0 {
		if err := l.writeSnapshot(st.end(), true); err != nil {
			return err
		}
	}
	if l.epochsStale {
		if err := l.saveEpochs(st.epochs); err != nil {
			return err
		}
	}
	return l.clearTruncation()
}
