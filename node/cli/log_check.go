package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"

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
	stateTail    = "unfinished" // the end is not a whole batch: cut off at the next start
	stateDamaged = "damaged"
)

// checkedPartition is what "log check" found in one partition's folder.
type checkedPartition struct {
	Name        string           `json:"name"`
	TopicID     string           `json:"topicId"` // empty if the folder does not say
	Segments    int              `json:"segments"`
	Batches     int64            `json:"batches"`
	Records     int64            `json:"records"`
	SizeBytes   int64            `json:"sizeBytes"`
	StartOffset int64            `json:"startOffset"`
	EndOffset   int64            `json:"endOffset"` // after the last good batch in a row
	State       string           `json:"state"`
	Problems    []checkedProblem `json:"problems"`
}

// checkedProblem is something wrong in a partition's folder.
type checkedProblem struct {
	File     string `json:"file"`
	Position int64  `json:"position"` // bytes from the start of the file
	Offset   int64  `json:"offset"`   // -1 if none applies
	Text     string `json:"text"`
	Tail     bool   `json:"tail"` // an unfinished end
}

func newLogCheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check DIR",
		Short: "Verify the log files of a data directory or a partition",
		Long: `Check reads every batch of a data directory, or of one partition's folder, and
verifies checksums, that offsets follow one another, and the indexes. It changes
nothing. Stop the node first: what it is just writing looks unfinished.

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
	parent, partitions := dir, []string{}
	for _, e := range entries {
		_, _, kind, ok := commitlog.ParseDirName(e.Name())
		if e.IsDir() && ok && kind != commitlog.Deleted {
			partitions = append(partitions, path.Join(dir, e.Name()))
		}
		if _, suffix, ok := segment.ParseFileName(e.Name()); ok && suffix == segment.LogSuffix {
			parent, partitions = path.Dir(dir), []string{dir}
			break
		}
	}
	if len(partitions) == 0 {
		return nil, &failure{fmt.Sprintf("%s holds no partition", dir),
			"name a data directory or a partition's folder", fs.ErrNotExist}
	}
	synced, err := commitlog.ReadCheckpoint(fsys, path.Join(parent, datadir.RecoveryFile))
	if err != nil {
		return nil, err
	}
	found := make([]checkedPartition, 0, len(partitions))
	for _, p := range partitions {
		report, err := commitlog.Verify(fsys, p)
		if err != nil {
			return nil, err
		}
		topic, n, _, _ := commitlog.ParseDirName(path.Base(p))
		found = append(found,
			judge(report, synced[messages.TopicPartition{Topic: topic, Partition: n}]))
	}
	return found, nil
}

// judge decides how bad a report is. What lies below synced was safely on disk,
// so a crash cannot have torn it.
func judge(r commitlog.Report, synced messages.Offset) checkedPartition {
	c := checkedPartition{
		Name: path.Base(r.Dir), Segments: r.Segments, Batches: r.Batches, Records: r.Records,
		SizeBytes: r.Bytes, StartOffset: int64(r.Start), EndOffset: int64(r.End),
		State: stateGood, Problems: []checkedProblem{},
	}
	if !r.TopicID.IsZero() {
		c.TopicID = r.TopicID.String()
	}
	for _, p := range r.Problems {
		c.Problems = append(c.Problems, checkedProblem{File: path.Base(p.File), Position: p.At,
			Offset: int64(p.Offset), Text: p.Text, Tail: p.Tail})
		if !p.Tail {
			c.State = stateDamaged
		} else if c.State == stateGood {
			c.State = stateTail
		}
	}
	if r.End < synced {
		c.State = stateDamaged
		c.Problems = append(c.Problems, checkedProblem{File: datadir.RecoveryFile,
			Offset: int64(r.End), Text: fmt.Sprintf("the log was on disk up to offset %d", synced)})
	}
	return c
}

// detail is the first problem in a few words, and how many more there are.
func (c *checkedPartition) detail() string {
	if len(c.Problems) == 0 {
		return ""
	}
	p := c.Problems[0]
	text := fmt.Sprintf("%s at byte %d: %s", p.File, p.Position, p.Text)
	if more := len(c.Problems) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

func checkTable(found []checkedPartition) *table {
	t := newTable("PARTITION", ">SEGMENTS", ">BATCHES", ">RECORDS", ">SIZE", ">START", ">END",
		"STATE", "DETAIL")
	for _, c := range found {
		t.add(c.Name, strconv.Itoa(c.Segments), count(c.Batches), count(c.Records),
			byteSize(float64(c.SizeBytes)), strconv.FormatInt(c.StartOffset, 10),
			strconv.FormatInt(c.EndOffset, 10), c.State, c.detail())
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
				first = c.Name + ", " + c.detail()
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
