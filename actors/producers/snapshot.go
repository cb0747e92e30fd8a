package producers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// ErrCorruptSnapshot: the bytes are no snapshot, or not one as it was written.
// The state has to be rebuilt from an older one, or from the log alone.
var ErrCorruptSnapshot = errors.New("producer snapshot is corrupt")

// A snapshot is Kafka's .snapshot file:
//
//	0  version   2   1
//	2  crc       4   CRC-32C of the bytes from 6 to the end
//	6  count     4   of entries
//	10 entries
//
// Each entry:
//
//	0  producer id         8
//	8  producer epoch      2
//	10 last sequence       4   -1: none
//	14 last offset         8   -1: none
//	22 offset delta        4   of the last batch
//	26 timestamp           8   of the batch; of the last marker if there is none
//	34 coordinator epoch   4   -1: none
//	38 txn first offset    8   -1: no open transaction
//
// Kafka writes one entry for each producer, the last batch, and so forgets the
// others of its window over a restart. Troupe writes one for each batch of the
// window, oldest first. Kafka, reading them in order, keeps the last.
const (
	snapshotVersion    = 1
	snapshotHeaderSize = 10
	snapshotEntrySize  = 46
	snapshotSummedFrom = 6
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot returns the state in Kafka's .snapshot format, valid at the offset
// after the last batch applied; nil when no producer is known.
func (s *State) Snapshot() []byte {
	if len(s.producers) == 0 {
		return nil
	}
	b := make([]byte, snapshotHeaderSize, snapshotHeaderSize+len(s.producers)*snapshotEntrySize)
	count := uint32(0)
	for _, id := range slices.Sorted(maps.Keys(s.producers)) {
		p := s.producers[id]
		batches := p.window[:p.used]
		if p.used == 0 {
			batches = []sent{{lastSequence: messages.NoSequence, lastOffset: messages.NoOffset,
				timestamp: p.lastTimestamp}}
		}
		for _, batch := range batches {
			b = appendEntry(b, id, p, batch)
		}
		count += uint32(len(batches))
	}
	binary.BigEndian.PutUint16(b, snapshotVersion)
	binary.BigEndian.PutUint32(b[6:], count)
	binary.BigEndian.PutUint32(b[2:], crc32.Checksum(b[snapshotSummedFrom:], castagnoli))
	return b
}

func appendEntry(b []byte, id messages.ProducerID, p *producer, batch sent) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	b = binary.BigEndian.AppendUint16(b, uint16(p.epoch))
	b = binary.BigEndian.AppendUint32(b, uint32(batch.lastSequence))
	b = binary.BigEndian.AppendUint64(b, uint64(batch.lastOffset))
	b = binary.BigEndian.AppendUint32(b, uint32(batch.delta))
	b = binary.BigEndian.AppendUint64(b, uint64(batch.timestamp))
	b = binary.BigEndian.AppendUint32(b, uint32(p.coordinatorEpoch))
	return binary.BigEndian.AppendUint64(b, uint64(p.txnFirst))
}

// Restore replaces the state with that of a snapshot. Errors wrap
// ErrCorruptSnapshot; the state is empty then.
func (s *State) Restore(snapshot []byte) error {
	s.Reset()
	if err := s.restore(snapshot); err != nil {
		s.Reset()
		return err
	}
	s.sortOpen()
	return nil
}

func (s *State) restore(b []byte) error {
	if len(b) < snapshotHeaderSize {
		return fmt.Errorf("%d bytes: %w", len(b), ErrCorruptSnapshot)
	}
	if v := binary.BigEndian.Uint16(b); v != snapshotVersion {
		return fmt.Errorf("version %d, %d is known: %w", v, snapshotVersion, ErrCorruptSnapshot)
	}
	want := binary.BigEndian.Uint32(b[2:])
	if sum := crc32.Checksum(b[snapshotSummedFrom:], castagnoli); sum != want {
		return fmt.Errorf("sum %08x, header says %08x: %w", sum, want, ErrCorruptSnapshot)
	}
	count := binary.BigEndian.Uint32(b[6:])
	b = b[snapshotHeaderSize:]
	if uint64(count)*snapshotEntrySize != uint64(len(b)) {
		return fmt.Errorf("%d entries in %d bytes: %w", count, len(b), ErrCorruptSnapshot)
	}
	for ; len(b) > 0; b = b[snapshotEntrySize:] {
		if err := s.restoreEntry(b[:snapshotEntrySize]); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) restoreEntry(b []byte) error {
	id := messages.ProducerID(binary.BigEndian.Uint64(b))
	epoch := messages.ProducerEpoch(binary.BigEndian.Uint16(b[8:]))
	batch := sent{
		lastSequence: messages.Sequence(binary.BigEndian.Uint32(b[10:])),
		lastOffset:   messages.Offset(binary.BigEndian.Uint64(b[14:])),
		delta:        int32(binary.BigEndian.Uint32(b[22:])),
		timestamp:    messages.Timestamp(binary.BigEndian.Uint64(b[26:])),
	}
	txnFirst := messages.Offset(binary.BigEndian.Uint64(b[38:]))
	if id < 0 || epoch < noEpoch || txnFirst < messages.NoOffset || !batch.possible() {
		return fmt.Errorf("entry of producer %d is impossible: %w", id, ErrCorruptSnapshot)
	}
	p := s.producer(id)
	p.setEpoch(epoch)
	if batch.lastOffset != messages.NoOffset && batch.lastSequence != messages.NoSequence {
		p.push(batch)
	}
	p.lastTimestamp = batch.timestamp
	p.coordinatorEpoch = int32(binary.BigEndian.Uint32(b[34:]))
	p.txnFirst = txnFirst
	return nil
}

// possible reports whether a batch from a snapshot can have been appended.
func (b *sent) possible() bool {
	if b.lastSequence < messages.NoSequence || b.lastOffset < messages.NoOffset || b.delta < 0 {
		return false
	}
	return b.lastOffset == messages.NoOffset || int64(b.delta) <= int64(b.lastOffset)
}
