package testkit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// SameReplicas compares what the nodes of a cluster that was stopped have on
// disk: wherever two replicas of a partition have the same offsets they must have
// the same bytes, and all must end alike. Segments may be cut in different places.
func (c *Cluster) SameReplicas(topic string, partitions int32) {
	c.tb.Helper()
	for p := range partitions {
		if err := c.sameReplicas(fmt.Sprintf("%s-%d", topic, p)); err != nil {
			c.tb.Errorf("testkit: %v", err)
		}
	}
}

func (c *Cluster) sameReplicas(partition string) error {
	var first *Node
	var want []batch
	for _, n := range c.Nodes {
		if n.Running() {
			return fmt.Errorf("node %d still runs: stop the cluster before its files are compared", n.ID)
		}
		got, err := readBatches(filepath.Join(n.Dir, partition))
		switch {
		case os.IsNotExist(err):
			continue // no replica there
		case err != nil:
			return fmt.Errorf("%s on node %d: %w", partition, n.ID, err)
		case first == nil:
			first, want = n, got
			continue
		}
		if err := sameBatches(want, got); err != nil {
			return fmt.Errorf("%s differs between nodes %d and %d: %w", partition, first.ID, n.ID, err)
		}
	}
	if first == nil {
		return fmt.Errorf("no node has a replica of %s", partition)
	}
	return nil
}

// batch is one batch of a log file.
type batch struct {
	offset int64
	bytes  []byte
}

func (b batch) String() string {
	const epoch, crc = 12, 17
	return fmt.Sprintf("%d bytes at offset %d of epoch %d with checksum %08x", len(b.bytes),
		b.offset, binary.BigEndian.Uint32(b.bytes[epoch:]), binary.BigEndian.Uint32(b.bytes[crc:]))
}

// readBatches reads the log files of a partition's folder in order.
func readBatches(dir string) ([]batch, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files) // by their first offset
	var all []batch
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		// What a truncation cut off stays in its file until the log is opened
		// again: the first offset of the next file says where it was cut.
		first, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(name), ".log"), 10, 64)
		if err != nil {
			return nil, err
		}
		all = all[:len(all)-len(batchesFrom(all, first))]
		// Every batch begins with its offset, its length and its leader's epoch;
		// behind the last there may be room of which nothing is used yet.
		const head, whole = 12, 61
		for len(b) >= whole {
			size := head + int(binary.BigEndian.Uint32(b[8:]))
			if size < whole || size > len(b) {
				break
			}
			all = append(all, batch{int64(binary.BigEndian.Uint64(b)), b[:size]})
			b = b[size:]
		}
		if len(bytes.Trim(b, "\x00")) > 0 {
			return nil, fmt.Errorf("%s ends with %d bytes that are no batch", name, len(b))
		}
	}
	return all, nil
}

// batchesFrom returns the end of a log from an offset on.
func batchesFrom(log []batch, offset int64) []batch {
	i := slices.IndexFunc(log, func(b batch) bool { return b.offset >= offset })
	if i < 0 {
		return nil
	}
	return log[i:]
}

// sameBatches compares two replicas from the offset on that both have.
func sameBatches(a, b []batch) error {
	from := int64(0)
	for _, r := range [][]batch{a, b} {
		if len(r) > 0 {
			from = max(from, r[0].offset)
		}
	}
	below := func(x batch) bool { return x.offset < from }
	a, b = slices.DeleteFunc(slices.Clone(a), below), slices.DeleteFunc(slices.Clone(b), below)
	for i := range min(len(a), len(b)) {
		if a[i].offset != b[i].offset || !bytes.Equal(a[i].bytes, b[i].bytes) {
			return fmt.Errorf("batch %d is %v and %v", i, a[i], b[i])
		}
	}
	if len(a) != len(b) {
		return fmt.Errorf("one has %d batches from offset %d on, the other %d", len(a), from, len(b))
	}
	return nil
}
