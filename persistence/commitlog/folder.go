package commitlog

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// MetadataFile holds the id of the topic a partition's folder belongs to.
const MetadataFile = "partition.metadata"

// Suffixes of folders that are not, or not any more, a live partition's.
const (
	deleteSuffix = "-delete"
	straySuffix  = "-stray"
	futureSuffix = "-future"
)

// DirKind tells what a partition's folder is.
type DirKind int

// The kinds of folders, as their names tell.
const (
	Live    DirKind = iota // <topic>-<partition>
	Deleted                // <topic>-<partition>.<id>-delete: remove it
	Stray                  // <topic>-<partition>.<id>-stray: set aside for the operator
	Future                 // <topic>-<partition>.<id>-future: a copy between two disks
)

// ErrBadMetadata means a partition.metadata file is not one of version 0.
var ErrBadMetadata = errors.New("not a partition.metadata file of version 0")

// ErrNewerFormat means a partition.metadata file is of a version this code does
// not know.
var ErrNewerFormat = fmt.Errorf("%w: written in a newer format", ErrBadMetadata)

// ErrWrongTopic means a folder belongs to another life of the topic: its
// partition.metadata names another topic id. Set the folder aside (SetAside).
var ErrWrongTopic = errors.New("the folder belongs to another topic id")

// ParseDirName takes the name of a folder in a data directory apart; ok is
// false if it is not a partition's.
func ParseDirName(name string) (topic string, partition int32, kind DirKind, ok bool) {
	for suffix, k := range map[string]DirKind{
		deleteSuffix: Deleted, straySuffix: Stray, futureSuffix: Future,
	} {
		if rest, found := strings.CutSuffix(name, suffix); found {
			// "<topic>-<partition>.<32 hex digits>"; a topic may have dots itself.
			dot := strings.LastIndexByte(rest, '.')
			if dot < 0 || len(rest)-dot-1 != 32 || !isHex(rest[dot+1:]) {
				break
			}
			name, kind = rest[:dot], k
			break
		}
	}
	dash := strings.LastIndexByte(name, '-')
	if dash <= 0 {
		return "", 0, 0, false
	}
	digits := name[dash+1:]
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != digits {
		return "", 0, 0, false
	}
	return name[:dash], int32(n), kind, true
}

func isHex(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Delete removes a partition's folder. It is renamed first, so that a crash
// half way leaves a folder that is known to be on its way out. One that is not
// there is no error. Removing a large log takes long: call it on a worker.
func Delete(fsys vfs.FS, dir string) error {
	parent := path.Dir(dir)
	if _, _, kind, ok := ParseDirName(path.Base(dir)); !ok || kind != Deleted {
		id := make([]byte, 16)
		rand.Read(id)
		doomed := renamed(dir, hex.EncodeToString(id), deleteSuffix)
		if err := fsys.Rename(dir, doomed); errors.Is(err, fs.ErrNotExist) {
			return nil // a full disk had kept it from being made
		} else if err != nil {
			return &segment.IOError{Op: "rename", File: dir, Err: err}
		}
		if err := fsys.SyncDir(parent); err != nil {
			return &segment.IOError{Op: "sync folder", File: parent, Err: err}
		}
		dir = doomed
	}
	if err := fsys.RemoveAll(dir); err != nil {
		return &segment.IOError{Op: "remove", File: dir, Err: err}
	}
	return nil
}

// SetAside renames the folder of a partition nobody knows to
// "<topic>-<partition>.<topic id>-stray" and returns its new path. Its data is
// never deleted without an order.
func SetAside(fsys vfs.FS, dir string) (newName string, err error) {
	id, err := ReadMetadata(fsys, dir)
	if err != nil { // the folder may be damaged; its name must be unique all the same
		rand.Read(id[:])
	}
	newName = renamed(dir, id.Hex(), straySuffix)
	if _, err := fsys.Stat(newName); err == nil {
		rand.Read(id[:]) // an earlier life of the topic was set aside already
		newName = renamed(dir, id.Hex(), straySuffix)
	}
	if err := fsys.Rename(dir, newName); err != nil {
		return "", &segment.IOError{Op: "rename", File: dir, Err: err}
	}
	if err := fsys.SyncDir(path.Dir(dir)); err != nil {
		return "", &segment.IOError{Op: "sync folder", File: path.Dir(dir), Err: err}
	}
	return newName, nil
}

// nameMax is the longest file name common file systems take, in bytes.
const nameMax = 255

// renamed returns dir with an id and a suffix in its name, which loses the end
// of a long topic name if it must.
func renamed(dir, id, suffix string) string {
	parent, name := path.Split(dir)
	tail := "." + id + suffix
	if dash := strings.LastIndexByte(name, '-'); dash > 0 && len(name)+len(tail) > nameMax {
		topic, partition := name[:dash], name[dash:]
		name = topic[:nameMax-len(partition)-len(tail)] + partition
	}
	return parent + name + tail
}

// ReadMetadata returns the topic id a partition's folder belongs to. It fails
// with fs.ErrNotExist if the folder has no partition.metadata, ErrBadMetadata
// if it is not readable as one.
func ReadMetadata(fsys vfs.FS, dir string) (messages.TopicID, error) {
	name := path.Join(dir, MetadataFile)
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return messages.TopicID{}, err
	}
	if err != nil {
		return messages.TopicID{}, &segment.IOError{Op: "read", File: name, Err: err}
	}
	id, err := decodeMetadata(b)
	if err != nil {
		return messages.TopicID{}, fmt.Errorf("%s: %w", name, err)
	}
	return id, nil
}

func encodeMetadata(id messages.TopicID) []byte {
	return fmt.Appendf(nil, "version: 0\ntopic_id: %s\n", id)
}

func decodeMetadata(b []byte) (messages.TopicID, error) {
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if version, ok := strings.CutPrefix(lines[0], "version: "); ok {
		if n, err := strconv.Atoi(version); err == nil && n > 0 {
			return messages.TopicID{}, fmt.Errorf("version %d: %w", n, ErrNewerFormat)
		}
	}
	if len(lines) != 2 || lines[0] != "version: 0" {
		return messages.TopicID{}, ErrBadMetadata
	}
	text, found := strings.CutPrefix(lines[1], "topic_id: ")
	if !found {
		return messages.TopicID{}, ErrBadMetadata
	}
	id, err := messages.ParseTopicID(text)
	if err != nil {
		return messages.TopicID{}, fmt.Errorf("%w: %w", ErrBadMetadata, err)
	}
	return id, nil
}

// prepareFolder makes the partition's folder, durable in its parent, or checks
// that an existing one belongs to this topic.
func prepareFolder(fsys vfs.FS, dir string, id messages.TopicID) error {
	found, err := ReadMetadata(fsys, dir)
	switch {
	case err == nil && !id.IsZero() && found != id:
		return fmt.Errorf("%s has topic id %s, expected %s: %w", dir, found, id, ErrWrongTopic)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	_, err = fsys.Stat(dir)
	isNew := errors.Is(err, fs.ErrNotExist)
	if isNew {
		if err := fsys.MkdirAll(dir); err != nil {
			return &segment.IOError{Op: "create folder", File: dir, Err: err}
		}
	}
	if !id.IsZero() {
		name := path.Join(dir, MetadataFile)
		if err := segment.ReplaceFile(fsys, name, encodeMetadata(id)); err != nil {
			return err
		}
	}
	if isNew {
		if err := fsys.SyncDir(path.Dir(dir)); err != nil {
			return &segment.IOError{Op: "sync folder", File: path.Dir(dir), Err: err}
		}
	}
	return nil
}
