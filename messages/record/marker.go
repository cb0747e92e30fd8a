package record

import (
	"encoding/binary"
	"fmt"

	"github.com/troupelog/troupe/messages"
)

// Marker is the content of a control batch: how a producer's transaction ended
// in this partition.
type Marker struct {
	Commit           bool
	CoordinatorEpoch int32 // of the transaction coordinator that wrote it
}

// Types of control records, as they stand in a marker's key.
const (
	markerAbort  = 0
	markerCommit = 1
)

// EndTxnMarker returns the control batch that ends a transaction: one record,
// so it takes one offset. now becomes its timestamp.
func EndTxnMarker(m Marker, id messages.ProducerID, epoch messages.ProducerEpoch,
	now messages.Timestamp) Batch {
	kind := uint16(markerAbort)
	if m.Commit {
		kind = markerCommit
	}
	key := binary.BigEndian.AppendUint16(make([]byte, 2, 4), kind)
	value := binary.BigEndian.AppendUint32(make([]byte, 2, 6), uint32(m.CoordinatorEpoch))
	bu := NewBuilder(Compression{}).Producer(id, epoch, messages.NoSequence).Transactional()
	bu.control()
	bu.Append(now, key, value)
	return sealed(bu.h, bu.body)
}

// ParseMarker reads the marker in a control batch. ok is false for a control
// record of another type, which readers skip, and for a batch that compaction
// emptied. Errors wrap messages.ErrCorruptBatch.
func ParseMarker(b *Batch) (m Marker, ok bool, err error) {
	if !b.Control() {
		return m, false, fmt.Errorf("not a control batch: %w", messages.ErrCorruptBatch)
	}
	for r, err := range Records(b, InflateLimit) {
		if err != nil {
			return m, false, err
		}
		if len(r.Key) < 4 {
			return m, false, fmt.Errorf("control record has a key of %d bytes: %w",
				len(r.Key), messages.ErrCorruptBatch)
		}
		kind := binary.BigEndian.Uint16(r.Key[2:])
		if kind != markerAbort && kind != markerCommit {
			return m, false, nil
		}
		if len(r.Value) < 6 {
			return m, false, fmt.Errorf("transaction marker has a value of %d bytes: %w",
				len(r.Value), messages.ErrCorruptBatch)
		}
		epoch := int32(binary.BigEndian.Uint32(r.Value[2:]))
		return Marker{Commit: kind == markerCommit, CoordinatorEpoch: epoch}, true, nil
	}
	return m, false, nil
}
