package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

// twinRecord is a record as the slow twin of a compacted log remembers it.
type twinRecord struct {
	key       string
	value     []byte // nil: a tombstone
	timestamp messages.Timestamp
	producer  messages.ProducerID
	txn       *twinTxn  // nil: none
	cleaned   time.Time // when a compaction first had to keep it
}

// twinTxn is a transaction: it has a marker once it is over.
type twinTxn struct {
	over, commit bool
	marker       messages.Offset
	cleaned      time.Time // when a compaction first found no batch of it
}

// keyed is a compacted log beside its slow twin, which keeps everything.
type keyed struct {
	t       testing.TB
	r       *rand.Rand
	disk    vfs.FS
	log     *Log
	state   *producers.State
	now     time.Time
	options CompactOptions
	// prepared is the time of the last compaction.
	prepared time.Time

	records  map[messages.Offset]*twinRecord
	open     map[messages.ProducerID]*twinTxn
	next     map[messages.ProducerID]messages.Sequence
	mark     messages.Offset // high watermark
	keys     int
	swapped  int // segments
	compacts int
}

const keyedRetention = 10 * time.Minute

func newKeyed(t testing.TB, seed uint64, disk vfs.FS) *keyed {
	k := &keyed{t: t, r: rand.New(rand.NewPCG(seed, 7)), disk: disk, now: noon, keys: 12,
		records: map[messages.Offset]*twinRecord{}, open: map[messages.ProducerID]*twinTxn{},
		next:    map[messages.ProducerID]messages.Sequence{},
		options: CompactOptions{Retention: keyedRetention, MapBytes: 1 << 20}}
	k.reopen(false, 0)
	return k
}

func keyedOptions(state State) Options {
	o := testOptions()
	o.Config.SegmentBytes = 3000
	o.Config.FileDeleteDelay = time.Hour // no file goes beside the operations of the test
	o.State = state
	return o
}

func (k *keyed) reopen(clean bool, cleaned messages.Offset) {
	k.t.Helper()
	k.state = producers.New()
	o := keyedOptions(k.state)
	o.Clean, o.Cleaned = clean, cleaned
	l, rec, err := Open(k.disk, testDir, o)
	if err != nil {
		k.t.Fatalf("open: %v", err)
	}
	if rec.Damaged {
		k.t.Fatalf("recovery %+v", rec)
	}
	k.log = l
}

// appendBatch appends a batch of one producer, in a transaction or not.
func (k *keyed) appendBatch(id messages.ProducerID, transactional bool) {
	k.t.Helper()
	codec := record.Codec(k.r.IntN(5))
	bu := record.NewBuilder(record.Compression{Codec: codec})
	var txn *twinTxn
	if id >= 0 {
		bu.Producer(id, 0, k.next[id])
	}
	if transactional {
		bu.Transactional()
		if txn = k.open[id]; txn == nil {
			txn = &twinTxn{}
			k.open[id] = txn
		}
	}
	base := k.log.End()
	n := 1 + k.r.IntN(5)
	for i := range n {
		r := &twinRecord{key: fmt.Sprintf("key-%d", k.r.IntN(k.keys)), producer: id, txn: txn,
			timestamp: messages.Timestamp(k.now.UnixMilli() - k.r.Int64N(1000))}
		if k.r.IntN(4) > 0 {
			r.value = fmt.Appendf(nil, "%d of %s %s", base+messages.Offset(i), r.key,
				bytes.Repeat([]byte("x"), k.r.IntN(60)))
		}
		k.records[base+messages.Offset(i)] = r
		bu.Append(r.timestamp, []byte(r.key), r.value,
			record.RecordHeader{Key: []byte("h"), Value: []byte{byte(i)}})
	}
	b, err := bu.Build()
	if err != nil {
		k.t.Fatal(err)
	}
	b.Stamp(base, 0)
	mustAppend(k.t, k.log, b)
	k.state.Apply(b.Header)
	if id >= 0 {
		k.next[id] += messages.Sequence(n)
	}
}

// endTxn writes the marker of a producer's open transaction.
func (k *keyed) endTxn(id messages.ProducerID) {
	k.t.Helper()
	txn := k.open[id]
	delete(k.open, id)
	txn.over, txn.commit, txn.marker = true, k.r.IntN(2) == 0, k.log.End()
	b := record.EndTxnMarker(record.Marker{Commit: txn.commit}, id, 0,
		messages.Timestamp(k.now.UnixMilli()))
	b.Stamp(k.log.End(), 0)
	mustAppend(k.t, k.log, b)
	if err := k.state.ObserveMarker(b.Header, txn.commit, 0); err != nil {
		k.t.Fatal(err)
	}
}

// step appends something.
func (k *keyed) step() {
	switch id := messages.ProducerID(100 + k.r.IntN(3)); k.r.IntN(5) {
	case 0:
		k.appendBatch(messages.NoProducerID, false)
	case 1:
		k.appendBatch(messages.ProducerID(k.r.IntN(3)), false)
	case 2, 3:
		k.appendBatch(id, true)
	case 4:
		if k.open[id] != nil {
			k.endTxn(id)
		}
	}
	k.now = k.now.Add(time.Duration(k.r.IntN(2000)) * time.Millisecond)
}

func (k *keyed) prepare() *Compaction {
	k.t.Helper()
	if k.r.IntN(4) > 0 {
		mustFlush(k.t, k.log) // only what is durable is compacted
	}
	o := k.options
	k.prepared = k.now
	o.Now, o.Watermark = k.now, k.mark
	k.state.AdvanceHighWatermark(k.mark)
	o.Stable = k.state.LastStable(k.mark)
	o.Producers = k.state.LastBatches
	out, err := k.log.PrepareCompaction(o)
	if err != nil {
		k.t.Fatalf("prepare: %v", err)
	}
	return out.Compaction
}

// compact runs a compaction if one is due, and checks the log after each part.
func (k *keyed) compact() {
	k.t.Helper()
	c := k.prepare()
	if c == nil {
		return
	}
	k.compacts++
	alive := k.withBatches()
	for c.More() {
		if err := c.Clean(nil); err != nil {
			k.t.Fatalf("clean: %v", err)
		}
		if k.r.IntN(3) == 0 {
			k.step() // the owner goes on meanwhile
		}
		if err := k.log.Swap(c); err != nil {
			k.t.Fatalf("swap: %v", err)
		}
		k.check(k.log)
	}
	k.swapped += c.Stats().Segments
	k.noteCleaned(c, alive)
	k.checkCompacted(c)
}

// withBatches returns the transactions that have batches in the log.
func (k *keyed) withBatches() map[*twinTxn]bool {
	k.t.Helper()
	alive := map[*twinTxn]bool{}
	_, batches := contents(k.t, k.log)
	for i := range batches {
		if b := &batches[i]; b.Transactional() && !b.Control() {
			alive[k.records[b.BaseOffset].txn] = true
		}
	}
	return alive
}

// noteCleaned takes the time of a compaction for what it had to keep.
func (k *keyed) noteCleaned(c *Compaction, alive map[*twinTxn]bool) {
	for o, r := range k.records {
		if o < c.end && r.cleaned.IsZero() {
			r.cleaned = k.prepared
		}
		if x := r.txn; x != nil && x.over && x.marker < c.end && x.cleaned.IsZero() && !alive[x] {
			x.cleaned = k.prepared
		}
	}
}

// logged is a record or marker found in the log.
type logged struct {
	batch  *record.Header
	record record.Record
}

func contents(t testing.TB, l *Log) (records map[messages.Offset]logged, all []record.Batch) {
	t.Helper()
	records = map[messages.Offset]logged{}
	all = mustBatches(t, readAll(t, l, l.Start()))
	next := l.Start()
	for i := range all {
		b := &all[i]
		if b.BaseOffset < next {
			t.Fatalf("batch at %d after %d", b.BaseOffset, next)
		}
		next = b.NextOffset()
		for r, err := range record.Records(b, record.InflateLimit) {
			if err != nil {
				t.Fatal(err)
			}
			kept := *r
			kept.Key, kept.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
			records[r.Offset] = logged{&b.Header, kept}
		}
	}
	return records, all
}

// check: what is in the log is as it was written, the newest of each key is there,
// and so is the marker of every transaction that has a batch.
func (k *keyed) check(l *Log) {
	k.t.Helper()
	found, batches := contents(k.t, l)
	for o, f := range found {
		if f.batch.Control() {
			continue
		}
		r := k.records[o]
		if r == nil || string(f.record.Key) != r.key || !bytes.Equal(f.record.Value, r.value) ||
			(f.record.Value == nil) != (r.value == nil) || f.record.Timestamp != r.timestamp ||
			f.record.HeaderCount != 1 {
			k.t.Fatalf("record at %d is %+v, written was %+v", o, f.record, r)
		}
	}
	k.checkLatest(l, found)
	newest := k.newest(l.End())
	for _, o := range slices.Sorted(maps.Values(newest)) {
		if _, there := found[o]; there {
			continue
		}
		r := k.records[o]
		if r.value != nil {
			k.t.Fatalf("the newest record of %s, at %d, is gone", r.key, o)
		}
		if r.cleaned.IsZero() || k.now.Before(r.cleaned.Add(keyedRetention)) {
			k.t.Fatalf("tombstone of %s at %d is gone at %v, first cleaned %v", r.key, o, k.now,
				r.cleaned)
		}
		for at := range found {
			if !found[at].batch.Control() && k.counts(k.records[at], l.End()) &&
				k.records[at].key == r.key {
				k.t.Fatalf("%s was deleted at %d and is back at %d", r.key, o, at)
			}
		}
	}
	k.checkMarkers(batches, found, l.End())
	for _, r := range k.records {
		if x := r.txn; x != nil && x.over && x.marker < l.End() {
			_, there := found[x.marker]
			if !there && (x.cleaned.IsZero() || k.now.Before(x.cleaned.Add(keyedRetention))) {
				k.t.Fatalf("marker at %d is gone at %v, found alone at %v", x.marker, k.now, x.cleaned)
			}
		}
	}
}

// checkLatest: the largest timestamp is that of a record that is there, not of one
// whose batch was emptied.
func (k *keyed) checkLatest(l *Log, found map[messages.Offset]logged) {
	k.t.Helper()
	want := messages.NoTimestamp
	for _, f := range found {
		want = max(want, f.record.Timestamp)
	}
	got, ok, err := l.MaxTimestamp(l.End())
	if err != nil || ok != (len(found) > 0) || ok && got.Timestamp != want {
		k.t.Fatalf("the latest record is %+v (%v %v), has to be of %d", got, ok, err, want)
	}
}

// counts reports whether a record is of a transaction that was committed, or of
// none, in a log of that end.
func (k *keyed) counts(r *twinRecord, end messages.Offset) bool {
	return r.txn == nil || r.txn.over && r.txn.commit && r.txn.marker < end
}

// newest returns the offset of the newest record of every key.
func (k *keyed) newest(end messages.Offset) map[string]messages.Offset {
	newest := map[string]messages.Offset{}
	for _, o := range slices.Sorted(maps.Keys(k.records)) {
		if r := k.records[o]; o < end && k.counts(r, end) {
			newest[r.key] = o
		}
	}
	return newest
}

func (k *keyed) checkMarkers(
	batches []record.Batch, found map[messages.Offset]logged, end messages.Offset,
) {
	k.t.Helper()
	for i := range batches {
		b := &batches[i]
		if !b.Transactional() || b.Control() {
			continue
		}
		txn := k.records[b.BaseOffset].txn
		if _, there := found[txn.marker]; txn.over && txn.marker < end && !there {
			k.t.Fatalf("a batch at %d is there without its marker at %d", b.BaseOffset, txn.marker)
		}
	}
}

// checkCompacted: below the end of a compaction no key has two records and nothing
// is left of what was aborted; behind it everything is there.
func (k *keyed) checkCompacted(c *Compaction) {
	k.t.Helper()
	found, _ := contents(k.t, k.log)
	by := map[string]messages.Offset{}
	for _, o := range slices.Sorted(maps.Keys(found)) {
		if found[o].batch.Control() || o >= c.end {
			continue
		}
		r := k.records[o]
		if r.txn != nil && r.txn.over && !r.txn.commit {
			k.t.Fatalf("the record at %d was aborted and is there, cleaned up to %d", o, c.end)
		}
		if was, twice := by[r.key]; twice && k.counts(r, k.log.End()) {
			k.t.Fatalf("%s is there at %d and at %d, cleaned up to %d", r.key, was, o, c.end)
		}
		by[r.key] = o
	}
	for o := range k.records {
		if _, there := found[o]; o >= c.end && !there {
			k.t.Fatalf("the record at %d is gone, cleaned up to %d", o, c.end)
		}
	}
}

// checkProducers: a log that is read from its start knows the last sequence of
// every producer, and which transactions are open.
func (k *keyed) checkProducers(l *Log, state *producers.State) {
	k.t.Helper()
	known := map[messages.ProducerID]producers.Producer{}
	for _, p := range state.Producers() {
		known[p.ID] = p
	}
	for id, next := range k.next {
		if p, ok := known[id]; !ok || p.LastSequence != next-1 {
			k.t.Fatalf("producer %d has sent %d, the log knows %+v", id, next-1, p)
		}
		if p := known[id]; (p.TxnFirst >= 0) != (k.open[id] != nil) {
			k.t.Fatalf("producer %d: open transaction %v, the log knows %+v", id, k.open[id], p)
		}
	}
}

func (k *keyed) dropSnapshots() {
	k.t.Helper()
	for _, name := range fileNames(k.t, k.disk) {
		if len(name) > 9 && name[len(name)-9:] == ".snapshot" {
			if err := k.disk.Remove(testDir + "/" + name); err != nil {
				k.t.Fatal(err)
			}
		}
	}
}

func TestACompactedLogKeepsTheNewestOfEachKey(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			k := newKeyed(t, seed, newMem(t))
			if seed%4 == 1 {
				k.options.MapBytes = 900 // a few keys at a time
			}
			if seed%4 == 2 {
				k.keys = 200
			}
			for range 400 {
				k.step()
				switch k.r.IntN(40) {
				case 0:
					k.mark = k.mark + messages.Offset(k.r.Int64N(int64(k.log.End()-k.mark)+1))
				case 1:
					k.mark = k.log.End()
				case 2, 3:
					k.compact()
				case 4:
					k.now = k.now.Add(keyedRetention / 3)
				case 5:
					k.restart()
				}
			}
			for id := range k.next {
				if k.open[id] != nil {
					k.endTxn(id)
				}
			}
			k.mark = k.log.End()
			k.compact()
			k.restart()
			if k.compacts == 0 || k.swapped == 0 {
				t.Errorf("%d compactions replaced %d segments", k.compacts, k.swapped)
			}
		})
	}
}

// restart closes the log, or crashes, and opens it again without the producers'
// snapshots.
func (k *keyed) restart() {
	k.t.Helper()
	cleaned := k.log.Cleaned()
	clean := k.r.IntN(2) == 0
	if clean {
		if err := k.log.Close(); err != nil {
			k.t.Fatalf("close: %v", err)
		}
	} else {
		k.log.Abandon()
	}
	k.dropSnapshots()
	k.reopen(clean, cleaned)
	k.check(k.log)
	k.checkProducers(k.log, k.state)
	if r, err := Verify(k.disk, testDir); err != nil || len(r.Problems) > 0 {
		k.t.Fatalf("verify: %+v %v", r.Problems, err)
	}
}

func mustNotFail(t *testing.T, what string, err error, allowed ...error) {
	t.Helper()
	for _, a := range allowed {
		if errors.Is(err, a) {
			return
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
