package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"github.com/troupelog/troupe/messages"
)

// The file holds two buckets.
//
//	state    format, epoch, version: 8 bytes each, big endian
//	entries  key -> revision (8 bytes), CRC32C of revision, key and value (4 bytes), value
//
// They are made by the first Campaign, together with the first epoch: a file
// without buckets is a new one.
var (
	stateBucket   = []byte("state")
	entriesBucket = []byte("entries")

	formatKey  = []byte("format")
	epochKey   = []byte("epoch")
	versionKey = []byte("version")
)

// boltFormat is the version of the layout above.
const boltFormat = 1

// recordHeader is the length of revision and checksum in front of a value.
const recordHeader = 8 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkFormat makes sure that the file is ours and not from the future, and
// returns the epoch it stands at.
func checkFormat(tx *bbolt.Tx) (messages.ControllerEpoch, error) {
	state := tx.Bucket(stateBucket)
	if state == nil {
		if name, _ := tx.Cursor().First(); name != nil {
			return 0, fmt.Errorf("%w: it is a bbolt file of another program (bucket %.40q)",
				ErrCorrupt, name)
		}
		return 0, nil
	}
	format, err := readNumber(state, formatKey)
	if err != nil {
		return 0, err
	}
	if format > boltFormat {
		return 0, fmt.Errorf("%w: its format is %d, this version knows %d",
			ErrNewerFormat, format, boltFormat)
	}
	if format < 1 || tx.Bucket(entriesBucket) == nil {
		return 0, fmt.Errorf("%w: format %d without its buckets", ErrCorrupt, format)
	}
	return readEpoch(tx)
}

// readNumber reads one of the numbers of the state bucket.
func readNumber(state *bbolt.Bucket, key []byte) (int64, error) {
	b := state.Get(key)
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %s is %d bytes long instead of 8", ErrCorrupt, key, len(b))
	}
	n := int64(binary.BigEndian.Uint64(b))
	if n < 0 {
		return 0, fmt.Errorf("%w: %s is %d", ErrCorrupt, key, n)
	}
	return n, nil
}

func writeNumber(state *bbolt.Bucket, key []byte, n int64) error {
	return state.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// readEpoch returns the epoch of the latest controllership, 0 for none.
func readEpoch(tx *bbolt.Tx) (messages.ControllerEpoch, error) {
	state := tx.Bucket(stateBucket)
	if state == nil {
		return 0, nil
	}
	epoch, err := readNumber(state, epochKey)
	return messages.ControllerEpoch(epoch), err
}

// nextEpoch begins a controllership, and the file's contents if there are none.
func nextEpoch(tx *bbolt.Tx) (messages.ControllerEpoch, error) {
	if tx.Bucket(stateBucket) == nil {
		if err := initialize(tx); err != nil {
			return 0, err
		}
	}
	epoch, err := readEpoch(tx)
	if err != nil {
		return 0, err
	}
	return epoch + 1, writeNumber(tx.Bucket(stateBucket), epochKey, int64(epoch+1))
}

func initialize(tx *bbolt.Tx) error {
	state, err := tx.CreateBucket(stateBucket)
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(entriesBucket); err != nil {
		return err
	}
	return errors.Join(
		writeNumber(state, formatKey, boltFormat),
		writeNumber(state, epochKey, 0),
		writeNumber(state, versionKey, 0),
	)
}

// apply carries out the operations and counts the version.
func apply(tx *bbolt.Tx, ops []Op) (messages.MetadataVersion, error) {
	state, entries := tx.Bucket(stateBucket), tx.Bucket(entriesBucket)
	version, err := readNumber(state, versionKey)
	if err != nil {
		return 0, err
	}
	version++
	if err := writeNumber(state, versionKey, version); err != nil {
		return 0, err
	}
	for _, op := range ops {
		if op.Value == nil {
			err = entries.Delete([]byte(op.Key))
		} else {
			err = entries.Put([]byte(op.Key), encodeRecord(op.Key, op.Value, version))
		}
		if err != nil {
			return 0, fmt.Errorf("key %q: %w", op.Key, err)
		}
	}
	return messages.MetadataVersion(version), nil
}

// readAll returns everything in the file.
func readAll(tx *bbolt.Tx) (Contents, error) {
	state := tx.Bucket(stateBucket)
	if state == nil {
		return Contents{}, nil
	}
	version, err := readNumber(state, versionKey)
	if err != nil {
		return Contents{}, err
	}
	c := Contents{Version: messages.MetadataVersion(version)}
	err = tx.Bucket(entriesBucket).ForEach(func(key, b []byte) error {
		e, err := decodeRecord(string(key), b)
		if err != nil {
			return err
		}
		if n := len(c.Entries); n > 0 && c.Entries[n-1].Key >= e.Key {
			return fmt.Errorf("%w: key %q after %q", ErrCorrupt, e.Key, c.Entries[n-1].Key)
		}
		c.Entries = append(c.Entries, e)
		return nil
	})
	return c, err
}

func encodeRecord(key string, value []byte, revision int64) []byte {
	b := make([]byte, recordHeader, recordHeader+len(value))
	binary.BigEndian.PutUint64(b, uint64(revision))
	binary.BigEndian.PutUint32(b[8:], checksum(b[:8], key, value))
	return append(b, value...)
}

func decodeRecord(key string, b []byte) (Entry, error) {
	if len(b) < recordHeader {
		return Entry{}, fmt.Errorf("%w: record %.80q is %d bytes long", ErrCorrupt, key, len(b))
	}
	value := b[recordHeader:]
	if binary.BigEndian.Uint32(b[8:]) != checksum(b[:8], key, value) {
		return Entry{}, fmt.Errorf("%w: checksum of record %.80q does not match", ErrCorrupt, key)
	}
	revision := int64(binary.BigEndian.Uint64(b))
	return Entry{Key: key, Value: bytes.Clone(value), Revision: revision}, nil
}

// checksum covers the key too: bbolt has no checksums of its own, and a value
// under the wrong key is as bad as a wrong value.
func checksum(revision []byte, key string, value []byte) uint32 {
	crc := crc32.Update(0, castagnoli, revision)
	crc = crc32.Update(crc, castagnoli, []byte(key))
	return crc32.Update(crc, castagnoli, value)
}

// crashError is a panic of bbolt, or a fault in its mapping.
type crashError struct{ cause any }

func (e *crashError) Error() string { return fmt.Sprint(e.cause) }

// guard runs f and returns its panics as errors. bbolt panics on damaged pages,
// and touches addresses outside the file when page numbers are wrong or the file
// was cut; such faults end the whole process unless they are made panics first.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = &crashError{cause: cause}
		}
	}()
	return f()
}
