package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Names of the checkpoint files of a data directory, as Kafka has them.
const (
	RecoveryPointFile = "recovery-point-offset-checkpoint"
	LogStartFile      = "log-start-offset-checkpoint"
	HighWatermarkFile = "replication-offset-checkpoint"
)

// checkpointMax bounds the size of a checkpoint file that is read, in bytes.
const checkpointMax = 256 << 20

// ErrBadCheckpoint means a checkpoint file does not hold what its first lines
// promise. It is safe to delete it: logs are then scanned from their start.
var ErrBadCheckpoint = errors.New("not a checkpoint file of version 0")

// ReadCheckpoint reads a checkpoint file of a data directory: an offset per
// partition. A missing file is an empty map. It fails with ErrBadCheckpoint or
// an error of the disk.
func ReadCheckpoint(fsys vfs.FS, name string) (map[messages.TopicPartition]messages.Offset, error) {
	info, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return map[messages.TopicPartition]messages.Offset{}, nil
	}
	if err == nil && info.Size() > checkpointMax {
		return nil, fmt.Errorf("%s has %d bytes: %w", name, info.Size(), ErrBadCheckpoint)
	}
	b, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return nil, &segment.IOError{Op: "read", File: name, Err: err}
	}
	offsets, err := decodeCheckpoint(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return offsets, nil
}

// WriteCheckpoint replaces a checkpoint file atomically and durably.
func WriteCheckpoint(
	fsys vfs.FS, name string, offsets map[messages.TopicPartition]messages.Offset,
) error {
	return segment.ReplaceFile(fsys, name, encodeCheckpoint(offsets))
}

func encodeCheckpoint(offsets map[messages.TopicPartition]messages.Offset) []byte {
	keys := make([]messages.TopicPartition, 0, len(offsets))
	for tp := range offsets {
		keys = append(keys, tp)
	}
	sort.Slice(keys, func(i, j int) bool {
		a, b := keys[i], keys[j]
		return a.Topic < b.Topic || (a.Topic == b.Topic && a.Partition < b.Partition)
	})
	b := fmt.Appendf(nil, "0\n%d\n", len(keys))
	for _, tp := range keys {
		b = fmt.Appendf(b, "%s %d %d\n", tp.Topic, tp.Partition, offsets[tp])
	}
	return b
}

func decodeCheckpoint(b []byte) (map[messages.TopicPartition]messages.Offset, error) {
	lines, err := checkpointLines(b)
	if err != nil {
		return nil, err
	}
	offsets := make(map[messages.TopicPartition]messages.Offset, len(lines))
	for _, line := range lines {
		f := strings.Split(line, " ")
		if len(f) != 3 || f[0] == "" {
			return nil, fmt.Errorf("line %q: %w", line, ErrBadCheckpoint)
		}
		partition, err1 := strconv.ParseInt(f[1], 10, 32)
		offset, err2 := strconv.ParseInt(f[2], 10, 64)
		tp := messages.TopicPartition{Topic: f[0], Partition: int32(partition)}
		_, twice := offsets[tp]
		if err1 != nil || err2 != nil || partition < 0 || offset < 0 || twice {
			return nil, fmt.Errorf("line %q: %w", line, ErrBadCheckpoint)
		}
		offsets[tp] = messages.Offset(offset)
	}
	return offsets, nil
}

// checkpointLines checks the two head lines all checkpoint files share (the
// version 0 and the number of lines to come) and returns the lines after them.
func checkpointLines(b []byte) ([]string, error) {
	text, ended := strings.CutSuffix(string(b), "\n")
	lines := strings.Split(text, "\n")
	if !ended || len(lines) < 2 || lines[0] != "0" {
		return nil, ErrBadCheckpoint
	}
	if n, err := strconv.Atoi(lines[1]); err != nil || n != len(lines)-2 {
		return nil, fmt.Errorf("%q lines announced, %d there: %w", lines[1], len(lines)-2,
			ErrBadCheckpoint)
	}
	return lines[2:], nil
}
