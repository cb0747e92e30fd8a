package record

import (
	"encoding/binary"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
)

// DeleteHorizon is the time from which on the tombstones of a batch, or its
// transaction marker, may be removed; ok is false as long as no compaction that
// kept them has set one. A batch that has it keeps it in the place of the base
// timestamp, and the deltas of its records count from there.
func (h *Header) DeleteHorizon() (t messages.Timestamp, ok bool) {
	if h.Attributes&attrDeleteHorizon == 0 {
		return messages.NoTimestamp, false
	}
	return h.BaseTimestamp, true
}

// Thinning says how a compaction thins a batch out.
type Thinning struct {
	// Keep says whether a record stays. It must not wait for anything.
	Keep func(*Record) bool
	// Horizon is the delete horizon that a batch without one gets when a tombstone
	// stays in it, or with Always in any case.
	Horizon messages.Timestamp
	Always  bool
	// Limit bounds the decompressed records in bytes.
	Limit int
}

// Thin returns b without the records that how.Keep refuses, and how many are
// left. Offsets, sequences, leader epoch and codec stay, and the last offset is
// that of b even if its record is gone. A batch that does not change is returned
// as it is; any other is in memory of its own. With none left the batch is the
// zero one: see Emptied. Errors are those of Records.
func Thin(b *Batch, how Thinning) (left Batch, kept int32, err error) {
	body, err := inflate(b.Codec(), b.Bytes[HeaderSize:], how.Limit)
	if err != nil {
		return Batch{}, 0, err
	}
	defer body.release()
	t := thinner{h: b.Header, latest: messages.NoTimestamp}
	walk(&b.Header, body.bytes, func(r *Record, bad error) bool {
		if bad != nil {
			err = bad
		} else if how.Keep(r) {
			t.take(r)
		}
		return bad == nil
	})
	_, has := b.DeleteHorizon()
	horizon := !has && (t.tombstones || how.Always)
	switch {
	case err != nil:
		return Batch{}, 0, err
	case t.kept == 0:
		return Batch{}, 0, nil
	case t.kept == b.Count && !horizon:
		return *b, t.kept, nil
	}
	if horizon {
		t.retime(how.Horizon)
	}
	t.h.Count = t.kept
	if !b.LogAppendTime() {
		t.h.MaxTimestamp = t.latest
	}
	left, err = compressed(t.h, Compression{Codec: b.Codec()}, t.body)
	return left, t.kept, err
}

// thinner gathers the records that stay, as they stand in the batch.
type thinner struct {
	h          Header
	body       []byte
	kept       int32
	tombstones bool
	latest     messages.Timestamp
}

func (t *thinner) take(r *Record) {
	t.body = append(t.body, r.raw...)
	t.kept++
	t.tombstones = t.tombstones || r.Value == nil
	t.latest = max(t.latest, r.Timestamp)
}

// retime makes base the timestamp that the records' deltas count from.
func (t *thinner) retime(base messages.Timestamp) {
	shift := int64(t.h.BaseTimestamp - base)
	old := t.body
	t.body = make([]byte, 0, len(old)+int(t.kept)*binary.MaxVarintLen64/2)
	for len(old) > 0 {
		size, n := binary.Varint(old)
		r := old[n : n+int(size)] // walk has checked it
		old = old[n+int(size):]
		delta, m := binary.Varint(r[1:])
		invariant.That(m > 0, "a record of %d bytes without a timestamp", size)
		delta += shift
		t.body = binary.AppendVarint(t.body, size-int64(m)+int64(varintSize(delta)))
		t.body = append(t.body, r[0])
		t.body = binary.AppendVarint(t.body, delta)
		t.body = append(t.body, r[1+m:]...)
	}
	t.h.BaseTimestamp = base
	t.h.Attributes |= attrDeleteHorizon
}

// Emptied returns a batch without records in the place of one whose header is h.
// It takes the offsets, and says which sequences its producer has sent.
func Emptied(h Header) Batch {
	h.Attributes &= attrLogAppendTime | attrTransactional | attrControl
	h.BaseTimestamp, h.Count = h.MaxTimestamp, 0
	return sealed(h, make([]byte, HeaderSize))
}
