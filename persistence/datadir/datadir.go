// Package datadir opens and guards a data directory: the lock that keeps a
// second process out, the identity file, the clean-shutdown marker, and the
// checkpoint of what is safely on disk.
//
//	meta.properties                    whose directory this is, and its format
//	.lock                              held while a process has it open
//	.kafka_cleanshutdown               present after a clean shutdown only
//	recovery-point-offset-checkpoint   per partition: synced below this offset
//	replication-offset-checkpoint      per partition: high watermark
//	log-start-offset-checkpoint        per partition: first offset after DeleteRecords
//	cleaner-offset-checkpoint          per partition: compacted below this offset
//	registry.db                        cluster metadata of a single node
//	<topic>-<n>/                       one partition's log
//
// File names and formats are Kafka's where Kafka has the file. The node opens
// its directories before anything else; the log-dir actors write the checkpoints.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/commitlog"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Format is the newest layout of a data directory that this code reads and the
// one it writes.
const Format = 1

// metaVersion is Kafka's version of meta.properties.
const metaVersion = 1

// Names of the files of a data directory.
const (
	MetaFile          = "meta.properties"
	LockFile          = ".lock"
	CleanFile         = ".kafka_cleanshutdown"
	RecoveryFile      = "recovery-point-offset-checkpoint"
	HighWatermarkFile = "replication-offset-checkpoint"
	LogStartFile      = "log-start-offset-checkpoint"
	CleanerFile       = "cleaner-offset-checkpoint"
	RegistryFile      = "registry.db"
	AddressFile       = "troupe.addr"
	BootFile          = "boot-id"
)

// known are the files that may stand in a data directory besides partitions.
var known = []string{
	MetaFile, RecoveryFile, HighWatermarkFile, LogStartFile, CleanerFile, RegistryFile,
	AddressFile, BootFile, "lost+found",
}

// Error is a data directory that cannot be used as it is. Its text is one line
// that names the directory, what is wrong, and the remedy.
type Error struct {
	Dir    string
	Wrong  string
	Remedy string
	Err    error // what the file system said; may be nil
}

func (e *Error) Error() string {
	s := fmt.Sprintf("data directory %s: %s", e.Dir, e.Wrong)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; " + e.Remedy
}

// Unwrap returns the file system's error.
func (e *Error) Unwrap() error { return e.Err }

// Meta is what meta.properties says. The zero value stands for a new directory.
type Meta struct {
	ClusterID   string
	Node        messages.NodeID
	DirectoryID string // of this directory, for the controller
}

// Partition is one partition folder found in a data directory.
type Partition struct {
	Dir       string // path of the folder
	Topic     string
	Partition int32
	TopicID   messages.TopicID
}

// Dir is an open, locked data directory. Its fields do not change; Close and
// the writing methods are for one goroutine.
type Dir struct {
	Path       string
	Meta       Meta
	Clean      bool // the last process shut down cleanly
	Partitions []Partition
	Recovery   map[messages.TopicPartition]messages.Offset
	LogStarts  map[messages.TopicPartition]messages.Offset
	Watermarks map[messages.TopicPartition]messages.Offset
	Cleaned    map[messages.TopicPartition]messages.Offset

	fs        vfs.FS
	lock      io.Closer
	leftovers []string // names that Begin removes
}

// Open locks a data directory, creating it if need be, checks that it is ours
// and finds its partitions. A new directory gets the identity that identify
// returns. In one that was used before nothing changes until Begin: a start that
// fails for another reason leaves it as the last shutdown did.
//
// Every failure is an *Error, and has changed nothing.
func Open(fsys vfs.FS, dir string, identify func() Meta) (*Dir, error) {
	d := &Dir{Path: dir, fs: fsys}
	if err := makeFolder(fsys, dir); err != nil {
		return nil, d.fail("cannot be created", err)
	}
	lock, err := fsys.Lock(path.Join(dir, LockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, &Error{Dir: dir, Wrong: "another process is using it",
			Remedy: "stop that process, or give this one a directory of its own with --data-dir"}
	}
	if err != nil {
		return nil, d.fail("cannot be locked", err)
	}
	d.lock = lock
	if err := d.load(identify); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return d, nil
}

// makeFolder creates a folder and those above it that are not there, durably: a
// power cut that took one of their names would take all that is synced inside.
func makeFolder(fsys vfs.FS, dir string) error {
	var made []string
	for at := dir; ; at = path.Dir(at) {
		if _, err := fsys.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			break // what else may be wrong with it, MkdirAll says
		}
		made = append(made, at)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	for _, at := range made {
		if err := fsys.SyncDir(path.Dir(at)); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) load(identify func() Meta) error {
	entries, err := d.fs.ReadDir(d.Path)
	if err != nil {
		return d.fail("cannot be read", err)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	fresh := !has(MetaFile)
	for _, e := range entries {
		left, err := d.classify(e, fresh)
		if err != nil {
			return err
		}
		if left {
			d.leftovers = append(d.leftovers, e.Name())
		}
	}
	if fresh {
		d.Meta = identify()
		if err := d.writeMeta(); err != nil {
			return d.fail("cannot be written", err)
		}
		d.Clean = true
	} else if err := d.readMeta(); err != nil {
		return err
	}
	d.Clean = d.Clean || has(CleanFile)
	return d.readCheckpoints()
}

// Begin opens the directory for writing: it removes what deletions left behind
// and the clean-shutdown marker. From here on a crash is a crash. A failure is
// an *Error.
func (d *Dir) Begin() error {
	for _, name := range d.leftovers {
		if err := d.fs.RemoveAll(path.Join(d.Path, name)); err != nil {
			return d.fail("leftover "+name+" cannot be removed", err)
		}
	}
	d.leftovers = nil
	err := d.fs.Remove(path.Join(d.Path, CleanFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.fail("the clean-shutdown marker cannot be removed", err)
	}
	if err := d.fs.SyncDir(d.Path); err != nil {
		return d.fail("cannot be synced", err)
	}
	return nil
}

// classify says whether an entry is a leftover to remove, records it if it is a
// partition, and refuses what it does not know.
func (d *Dir) classify(e fs.DirEntry, fresh bool) (leftover bool, err error) {
	name := e.Name()
	if strings.HasPrefix(name, ".") || slices.Contains(known, name) {
		return false, nil
	}
	if !e.IsDir() {
		// Half a replacement of one of our own files; any other is somebody else's.
		whole, half := strings.CutSuffix(name, ".tmp")
		if half && slices.Contains(known, whole) && (!fresh || whole == MetaFile) {
			return true, nil
		}
		return false, d.unknown("file", name)
	}
	topic, partition, kind, ok := commitlog.ParseDirName(name)
	if !ok || fresh {
		return false, d.unknown("folder", name)
	}
	switch kind {
	case commitlog.Deleted:
		return true, nil
	case commitlog.Stray, commitlog.Future: // an operator's to look at, or never finished
	case commitlog.Live:
		full := path.Join(d.Path, name)
		id, err := commitlog.ReadMetadata(d.fs, full)
		if errors.Is(err, fs.ErrNotExist) {
			// The process died between making the folder and naming its topic:
			// nothing was ever appended.
			return d.emptyFolder(full)
		}
		if errors.Is(err, commitlog.ErrNewerFormat) {
			return false, d.newer(err.Error())
		}
		if err != nil {
			return false, d.fail("partition folder "+name+" cannot be read", err)
		}
		d.Partitions = append(
			d.Partitions,
			Partition{Dir: full, Topic: topic, Partition: partition, TopicID: id},
		)
	}
	return false, nil
}

// emptyFolder reports a partition folder without partition.metadata as a
// leftover, if nothing but what its making leaves is in it. Any other may be
// somebody's folder with a name like a partition's.
func (d *Dir) emptyFolder(full string) (bool, error) {
	inside, err := d.fs.ReadDir(full)
	if err != nil {
		return false, d.fail("partition folder "+path.Base(full)+" cannot be read", err)
	}
	for _, e := range inside {
		if e.IsDir() || e.Name() != commitlog.MetadataFile+".tmp" {
			return false, &Error{Dir: d.Path,
				Wrong: fmt.Sprintf("folder %s holds %q and no %s", path.Base(full), e.Name(),
					commitlog.MetadataFile),
				Remedy: "restore that file if it is a partition's, or move the folder away"}
		}
	}
	return true, nil
}

func (d *Dir) newer(wrong string) error {
	return &Error{Dir: d.Path, Wrong: wrong, Remedy: "start it with the newer Troupe that wrote it"}
}

func (d *Dir) unknown(what, name string) error {
	return &Error{Dir: d.Path, Wrong: fmt.Sprintf("unknown %s %q", what, name),
		Remedy: "move it elsewhere, or give another directory with --data-dir"}
}

// fail words an error of the file system.
func (d *Dir) fail(wrong string, err error) error {
	remedy := "check the disk and the system log"
	switch {
	case errors.Is(err, vfs.ErrReadOnly):
		remedy = "make it writable for this user, or give another directory with --data-dir"
	case errors.Is(err, vfs.ErrNoSpace):
		remedy = "free some space on its disk"
	}
	return &Error{Dir: d.Path, Wrong: wrong, Remedy: remedy, Err: err}
}

func (d *Dir) readMeta() error {
	b, err := vfs.ReadFile(d.fs, path.Join(d.Path, MetaFile))
	if err != nil {
		return d.fail(MetaFile+" cannot be read", err)
	}
	values := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !ok {
			return d.damagedMeta(fmt.Sprintf("line %q is not key=value", line))
		}
		values[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	format, err := strconv.Atoi(values["troupe.format"])
	if err != nil {
		return d.damagedMeta("troupe.format is missing: the directory may be one of Apache Kafka's")
	}
	if format > Format {
		return d.newer(fmt.Sprintf("its format is %d and this Troupe reads formats up to %d", format,
			Format))
	}
	if v, err := strconv.Atoi(values["version"]); err == nil && v > metaVersion {
		return d.newer(fmt.Sprintf("%s has version %d and this Troupe reads %d", MetaFile, v,
			metaVersion))
	}
	node, err := strconv.ParseInt(values["node.id"], 10, 32)
	if err != nil {
		return d.damagedMeta("node.id is not a number")
	}
	d.Meta = Meta{
		ClusterID:   values["cluster.id"],
		Node:        messages.NodeID(node),
		DirectoryID: values["directory.id"],
	}
	if d.Meta.ClusterID == "" {
		return d.damagedMeta("cluster.id is missing")
	}
	return nil
}

func (d *Dir) damagedMeta(wrong string) error {
	return &Error{
		Dir:    d.Path,
		Wrong:  MetaFile + ": " + wrong,
		Remedy: "restore the file from a backup",
	}
}

func (d *Dir) writeMeta() error {
	text := fmt.Sprintf(
		"# Written by Troupe. Do not change.\nversion=%d\ntroupe.format=%d\ncluster.id=%s\n"+
			"node.id=%d\ndirectory.id=%s\n",
		metaVersion,
		Format,
		d.Meta.ClusterID,
		d.Meta.Node,
		d.Meta.DirectoryID,
	)
	return vfs.WriteFileAtomic(d.fs, path.Join(d.Path, MetaFile), []byte(text))
}

func (d *Dir) readCheckpoints() error {
	for _, c := range []struct {
		file string
		into *map[messages.TopicPartition]messages.Offset
	}{{RecoveryFile, &d.Recovery}, {LogStartFile, &d.LogStarts},
		{HighWatermarkFile, &d.Watermarks}, {CleanerFile, &d.Cleaned}} {
		m, err := commitlog.ReadCheckpoint(d.fs, path.Join(d.Path, c.file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &Error{Dir: d.Path, Wrong: c.file + " is damaged", Err: err,
				Remedy: "remove the file: recovery then scans all logs"}
		}
		*c.into = m
	}
	return nil
}

// WriteCheckpoint replaces one of the four checkpoint files, durably.
func (d *Dir) WriteCheckpoint(
	file string,
	offsets map[messages.TopicPartition]messages.Offset,
) error {
	return commitlog.WriteCheckpoint(d.fs, path.Join(d.Path, file), offsets)
}

// MarkClean writes the clean-shutdown marker: all logs are closed and synced.
func (d *Dir) MarkClean() error {
	return vfs.WriteFileAtomic(
		d.fs,
		path.Join(d.Path, CleanFile),
		[]byte(`{"version":0,"brokerEpoch":-1}`),
	)
}

// Fresh reports whether a data directory has no identity yet, so that Open will
// give it one.
func Fresh(fsys vfs.FS, dir string) bool {
	_, err := fsys.Stat(path.Join(dir, MetaFile))
	return errors.Is(err, fs.ErrNotExist)
}

// NodeOf returns the node that a data directory belongs to, without opening it.
func NodeOf(fsys vfs.FS, dir string) (messages.NodeID, error) {
	d := &Dir{Path: dir, fs: fsys}
	err := d.readMeta()
	return d.Meta.Node, err
}

// Boot returns what SetBoot stored last, "" for nothing: the machine's start
// under which the last process ran that was taken into its cluster.
func (d *Dir) Boot() string {
	b, err := vfs.ReadFile(d.fs, path.Join(d.Path, BootFile))
	if err != nil {
		return "" // as good as another start: then the data is not trusted
	}
	return strings.TrimSpace(string(b))
}

// SetBoot stores the present start of the machine, durably.
func (d *Dir) SetBoot(id string) error {
	return vfs.WriteFileAtomic(d.fs, path.Join(d.Path, BootFile), []byte(id+"\n"))
}

// SetAside moves a partition folder out of the way of the node, keeping its
// data, and returns its new path.
func (d *Dir) SetAside(p Partition) (string, error) { return commitlog.SetAside(d.fs, p.Dir) }

// Usage is the size of the disk and what is free on it, in bytes.
func (d *Dir) Usage() (total, free int64, err error) { return d.fs.Usage(d.Path) }

// Close gives the directory up.
func (d *Dir) Close() error { return d.lock.Close() }
