package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/commitlog"
	"github.com/troupelog/troupe/persistence/datadir"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// States of a checked partition.
const (
	stateGood    = "good"
	stateTail    = "unfinished" // the last batch is not whole: cut off at the next start
	stateDamaged = "damaged"
)

// checkedPartition is what "log check" found in one partition's folder.
type checkedPartition struct {
	Name        string `json:"name"`
	Segments    int    `json:"segments"`
	Batches     int64  `json:"batches"`
	Records     int64  `json:"records"`
	SizeBytes   int64  `json:"sizeBytes"` // of whole batches
	StartOffset int64  `json:"startOffset"`
	EndOffset   int64  `json:"endOffset"`
	State       string `json:"state"`
	Detail      string `json:"detail,omitempty"` // where and what, of the first problem
}

func newLogCheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check DIR",
		Short: "Verify the log files of a data directory or a partition",
		Long: `Check reads every batch of a data directory, or of one partition's folder, and
verifies its checksum and that offsets only rise. It changes nothing.

A partition is "unfinished" when the end of its last segment is not a whole
batch, as after a power cut: the node cuts it off when it starts, and what was
synced to disk is not touched. Anything else wrong is "damaged" and makes the
command fail.`,
		Example: `  troupe log check data
  troupe log check data/orders-0 -o json`,
		Args: need(1, "the DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := filepath.ToSlash(args[0])
			found, err := checkDir(vfs.OS{}, dir)
			if err != nil {
				return err
			}
			err = g.print(cmd.OutOrStdout(), found, func(w io.Writer) error {
				return checkTable(found).write(w)
			})
			return errors.Join(damage(dir, found), err)
		},
	}
}

// checkDir checks the partition in dir, or all partitions below it.
func checkDir(fsys vfs.FS, dir string) ([]checkedPartition, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, &failure{err.Error(), "name a data directory or a partition's folder", err}
	}
	if len(logsOf(entries)) > 0 {
		synced, err := syncedOffsets(fsys, path.Dir(dir))
		if err != nil {
			return nil, err
		}
		c, err := checkPartition(fsys, dir, entries, synced)
		return []checkedPartition{c}, err
	}
	synced, err := syncedOffsets(fsys, dir)
	if err != nil {
		return nil, err
	}
	found := []checkedPartition{}
	for _, e := range entries {
		_, _, kind, ok := commitlog.ParseDirName(e.Name())
		if !e.IsDir() || !ok || kind == commitlog.Deleted {
			continue
		}
		sub := path.Join(dir, e.Name())
		files, err := fsys.ReadDir(sub)
		if err != nil {
			return nil, err
		}
		c, err := checkPartition(fsys, sub, files, synced)
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	if _, _, _, ok := commitlog.ParseDirName(path.Base(dir)); len(found) == 0 && !ok {
		return nil, &failure{fmt.Sprintf("%s holds no partition", dir),
			"name a data directory or a partition's folder", fs.ErrNotExist}
	}
	return found, nil
}

// syncedOffsets returns below which offsets the partitions of a data directory
// are known to be on disk; none if the directory has no such file.
func syncedOffsets(
	fsys vfs.FS, dir string,
) (map[messages.TopicPartition]messages.Offset, error) {
	return commitlog.ReadCheckpoint(fsys, path.Join(dir, datadir.RecoveryFile))
}

// logsOf returns the base offsets of the segments among a folder's entries,
// which are sorted by name and so by offset.
func logsOf(entries []fs.DirEntry) []messages.Offset {
	var bases []messages.Offset
	for _, e := range entries {
		base, suffix, ok := segment.ParseFileName(e.Name())
		if ok && suffix == segment.LogSuffix {
			bases = append(bases, base)
		}
	}
	return bases
}

// checkPartition reads all segments of a folder. Damage is part of the result;
// an error means the disk could not be read.
func checkPartition(
	fsys vfs.FS, dir string, entries []fs.DirEntry,
	synced map[messages.TopicPartition]messages.Offset,
) (checkedPartition, error) {
	bases := logsOf(entries)
	topic, partition, _, _ := commitlog.ParseDirName(path.Base(dir))
	safe := synced[messages.TopicPartition{Topic: topic, Partition: partition}]
	c := checkedPartition{Name: path.Base(dir), Segments: len(bases), State: stateGood}
	if len(bases) > 0 {
		c.StartOffset, c.EndOffset = int64(bases[0]), int64(bases[0])
	}
	for i, base := range bases {
		name := segment.FileName(dir, base, segment.LogSuffix)
		if err := c.segment(fsys, name, base, i == len(bases)-1); err != nil {
			return c, err
		}
	}
	if c.State != stateDamaged && c.EndOffset < int64(safe) {
		c.State = stateDamaged // what was synced does not tear in a crash
		c.Detail = strings.TrimPrefix(c.Detail+
			fmt.Sprintf("; the log was on disk up to offset %d", safe), "; ")
	}
	return c, nil
}

// segment reads one segment. Only the last one of a log may end in a batch that
// is not whole.
func (c *checkedPartition) segment(
	fsys vfs.FS, name string, base messages.Offset, last bool,
) error {
	file, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	if int64(base) < c.EndOffset {
		c.found(stateDamaged, name, 0, fmt.Errorf("the segment before ends at offset %d", c.EndOffset))
	}
	next := base
	var torn error // the batch before, unless another batch follows it
	var tornAt int64
	end, err := scanLog(file, func(s scanned) error {
		if torn != nil {
			c.found(stateDamaged, name, tornAt, torn)
		}
		torn, tornAt = batchProblem(s, next), s.at
		if torn == nil {
			next = s.NextOffset()
			c.Batches++
			c.Records += int64(s.Count)
			c.SizeBytes += int64(s.Size())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if torn == nil && end.cut > 0 {
		torn, tornAt = end.why, end.size
	}
	if torn != nil && last {
		c.found(stateTail, name, tornAt, torn)
	} else if torn != nil {
		c.found(stateDamaged, name, tornAt, torn)
	}
	c.EndOffset = max(c.EndOffset, int64(next))
	return nil
}

// found notes a problem: the first one is told, the worst one counts.
func (c *checkedPartition) found(state, name string, at int64, problem error) {
	if c.State == stateDamaged || (c.State == state) {
		return
	}
	c.State = state
	c.Detail = fmt.Sprintf("%s at byte %d: %v", path.Base(name), at, problem)
}

func checkTable(found []checkedPartition) *table {
	t := newTable("PARTITION", ">SEGMENTS", ">BATCHES", ">RECORDS", ">SIZE", ">START", ">END",
		"STATE", "DETAIL")
	for _, c := range found {
		t.add(c.Name, strconv.Itoa(c.Segments), count(c.Batches), count(c.Records),
			byteSize(float64(c.SizeBytes)), strconv.FormatInt(c.StartOffset, 10),
			strconv.FormatInt(c.EndOffset, 10), c.State, c.Detail)
	}
	return t.withoutEmpty("DETAIL")
}

// damage is the error about damaged partitions; nil if there are none.
func damage(dir string, found []checkedPartition) error {
	bad := 0
	first := ""
	for _, c := range found {
		if c.State == stateDamaged {
			if bad++; bad == 1 {
				first = c.Name + ", " + c.Detail
			}
		}
	}
	if bad == 0 {
		return nil
	}
	return &failure{
		fmt.Sprintf("%s: %d of %s damaged (%s)", dir, bad,
			plural(int64(len(found)), "partition"), first),
		"restore them from a replica or a backup", messages.ErrCorruptBatch}
}
