package commitlog

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/troupelog/troupe/messages"
)

// slotSize is what one key takes in an offsetMap, in bytes.
const slotSize = 24

// offsetMap holds the newest offset of every key in a stretch of a log, in memory
// of a fixed size. Keys are held as half of their SHA-256: no two keys anybody
// will ever make share it, and taking one for another would lose a record.
type offsetMap struct {
	slots []slot // linear probing
	used  int
	most  int // keys it takes
}

type slot struct {
	high, low uint64
	next      messages.Offset // the offset after the record; 0: the slot is free
}

// newOffsetMap makes a map for up to records keys in at most limit bytes: for
// fewer keys if the limit says so, but never for none.
func newOffsetMap(records, limit int64) *offsetMap {
	const least = 16
	n := max(least, min(limit/slotSize, records+records/3+least))
	return &offsetMap{slots: make([]slot, n), most: int(n * 3 / 4)}
}

// put notes a record; offsets must not fall. It reports false, and notes nothing,
// when the map is full and the key is a new one.
func (m *offsetMap) put(key []byte, offset messages.Offset) bool {
	high, low := hash(key)
	s := m.find(high, low)
	if s.next == 0 {
		if m.used == m.most {
			return false
		}
		m.used++
	}
	*s = slot{high, low, offset + 1}
	return true
}

// newest returns the offset of the newest record with a key, NoOffset for none.
func (m *offsetMap) newest(key []byte) messages.Offset {
	if s := m.find(hash(key)); s.next > 0 {
		return s.next - 1
	}
	return messages.NoOffset
}

// find returns the slot of a key, or the free one it would get.
func (m *offsetMap) find(high, low uint64) *slot {
	n := uint64(len(m.slots))
	i, _ := bits.Mul64(low, n) // even over all slots
	for {
		if s := &m.slots[i]; s.next == 0 || s.high == high && s.low == low {
			return s
		}
		if i++; i == n {
			i = 0
		}
	}
}

func hash(key []byte) (high, low uint64) {
	sum := sha256.Sum256(key)
	return binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])
}
