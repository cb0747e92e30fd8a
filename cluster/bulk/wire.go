package bulk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/wire"
)

// What follows the handshake are frames: the size of what follows (4 bytes), a
// type (1 byte) and fields of fixed size, big-endian. docs/format/bulk.md draws
// them.
const (
	typeFetch   = 1 // follower to leader
	typePing    = 2 // follower to leader
	typeFetched = 3 // leader to follower: fields, the error's text, records
	typePong    = 4 // leader to follower

	frameHead     = 5  // size and type
	fetchFields   = 68 // after the head
	fetchedFields = 59 // after the head
	maxErrorText  = 512

	flagDiverging = 1
)

// errMalformed: the peer does not keep to the protocol, so where its next frame
// begins is unknown.
var errMalformed = errors.New("malformed frame")

var order = binary.BigEndian

// frameSize reads the head of a frame: how many bytes follow the head, and the type.
func frameSize(head []byte) (size int, kind byte, err error) {
	n := order.Uint32(head)
	if n < 1 || n > 1<<31-1 {
		return 0, 0, fmt.Errorf("%w: size %d", errMalformed, n)
	}
	return int(n) - 1, head[4], nil
}

// appendEmpty appends a frame without fields.
func appendEmpty(b []byte, kind byte) []byte { return append(b, 0, 0, 0, 1, kind) }

// appendFetch appends a request. Follower is not in it: the handshake said it.
func appendFetch(b []byte, id uint64, q *data.ReplicaFetch) []byte {
	b = order.AppendUint32(b, 1+fetchFields)
	b = append(b, typeFetch)
	b = order.AppendUint64(b, id)
	b = append(b, q.Partition.Topic[:]...)
	b = order.AppendUint32(b, uint32(q.Partition.Partition))
	b = order.AppendUint64(b, uint64(q.FollowerEpoch))
	b = order.AppendUint32(b, uint32(q.LeaderEpoch))
	b = order.AppendUint64(b, uint64(q.Offset))
	b = order.AppendUint32(b, uint32(q.LastEpoch))
	b = order.AppendUint64(b, uint64(q.LogStart))
	b = order.AppendUint64(b, uint64(q.MaxBytes))
	return b
}

// parseFetch reads the fields of a request into q.
func parseFetch(b []byte, q *data.ReplicaFetch) (id uint64, err error) {
	if len(b) != fetchFields {
		return 0, fmt.Errorf("%w: fetch of %d bytes, expected %d", errMalformed, len(b), fetchFields)
	}
	id = order.Uint64(b)
	copy(q.Partition.Topic[:], b[8:])
	q.Partition.Partition = int32(order.Uint32(b[24:]))
	q.FollowerEpoch = messages.NodeEpoch(order.Uint64(b[28:]))
	q.LeaderEpoch = messages.LeaderEpoch(order.Uint32(b[36:]))
	q.Offset = messages.Offset(order.Uint64(b[40:]))
	q.LastEpoch = messages.LeaderEpoch(order.Uint32(b[48:]))
	q.LogStart = messages.Offset(order.Uint64(b[52:]))
	q.MaxBytes = int(order.Uint64(b[60:]))
	if q.Partition.Partition < 0 || q.Offset < 0 || q.LogStart < 0 || q.MaxBytes < 0 {
		return id, fmt.Errorf("%w: fetch of partition %d from %d, log start %d, at most %d bytes",
			errMalformed, q.Partition.Partition, q.Offset, q.LogStart, q.MaxBytes)
	}
	return id, nil
}

// appendFetched appends an answer up to its records, of which there are as many
// bytes as said.
func appendFetched(b []byte, id uint64, f *data.ReplicaFetched, records int) []byte {
	e := wire.FromError(f.Err)
	text := shortened(e.Message)
	b = order.AppendUint32(b, uint32(1+fetchedFields+len(text)+records))
	b = append(b, typeFetched)
	b = order.AppendUint64(b, id)
	b = order.AppendUint16(b, uint16(e.Code))
	b = order.AppendUint32(b, uint32(f.LeaderEpoch))
	b = order.AppendUint64(b, uint64(f.HighWatermark))
	b = order.AppendUint64(b, uint64(f.LogStart))
	b = order.AppendUint64(b, uint64(f.LogEnd))
	var flags byte
	var diverging data.EpochEnd
	if f.Diverging != nil {
		flags, diverging = flagDiverging, *f.Diverging
	}
	b = append(b, flags)
	b = order.AppendUint32(b, uint32(diverging.Epoch))
	b = order.AppendUint64(b, uint64(diverging.End))
	b = order.AppendUint32(b, uint32(records))
	b = order.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}

// shortened cuts an error's text to what a frame takes.
func shortened(text string) string {
	if len(text) <= maxErrorText {
		return text
	}
	n := maxErrorText
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// fetched is an answer of which the error's text and the records are yet to come.
type fetched struct {
	data.ReplicaFetched
	id      uint64
	code    wire.ErrorCode
	text    int // bytes
	records int // bytes
}

// parseFetched reads the fields of an answer; size is that of all that follows
// the frame's head.
func parseFetched(b []byte, size, maxRecords int) (f fetched, err error) {
	if len(b) != fetchedFields {
		return f, fmt.Errorf("%w: answer of %d bytes, expected %d", errMalformed, len(b), fetchedFields)
	}
	f.id = order.Uint64(b)
	f.code = wire.ErrorCode(order.Uint16(b[8:]))
	f.LeaderEpoch = messages.LeaderEpoch(order.Uint32(b[10:]))
	f.HighWatermark = messages.Offset(order.Uint64(b[14:]))
	f.LogStart = messages.Offset(order.Uint64(b[22:]))
	f.LogEnd = messages.Offset(order.Uint64(b[30:]))
	flags := b[38]
	if flags == flagDiverging {
		f.Diverging = &data.EpochEnd{
			Epoch: messages.LeaderEpoch(order.Uint32(b[39:])),
			End:   messages.Offset(order.Uint64(b[43:])),
		}
	}
	records, text := order.Uint32(b[51:]), order.Uint32(b[55:])
	switch {
	case flags > flagDiverging:
		return f, fmt.Errorf("%w: flags %#x", errMalformed, flags)
	case text > maxErrorText || int64(records) > int64(maxRecords):
		return f, fmt.Errorf("%w: error of %d bytes (at most %d), records of %d (at most %d)",
			errMalformed, text, maxErrorText, records, maxRecords)
	case fetchedFields+int(text)+int(records) != size:
		return f, fmt.Errorf("%w: answer of %d bytes says %d of error and %d of records",
			errMalformed, size, text, records)
	case f.code == wire.ErrorCode_ERROR_CODE_UNSPECIFIED && text > 0:
		return f, fmt.Errorf("%w: the text of an error that is none", errMalformed)
	}
	f.text, f.records = int(text), int(records)
	return f, nil
}

// fail sets the error that the answer's code and text stand for.
func (f *fetched) fail(text []byte) {
	if f.code != wire.ErrorCode_ERROR_CODE_UNSPECIFIED {
		f.Err = wire.ToError(&wire.Error{Code: f.code, Message: string(text)})
	}
}
