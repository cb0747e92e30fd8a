package testkit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// SameRecords is SameReplicas for a compacted topic, whose replicas compact each
// on its own: records at the same offset are the same, and a replica lacks one only
// if it has a newer one of its key. Tombstones that are past their retention must
// not be among them.
func (c *Cluster) SameRecords(topic string, partitions int32) {
	c.tb.Helper()
	for p := range partitions {
		if err := c.sameRecords(fmt.Sprintf("%s-%d", topic, p)); err != nil {
			c.tb.Errorf("testkit: %v", err)
		}
	}
}

func (c *Cluster) sameRecords(partition string) error {
	var nodes []*Node
	var all []map[messages.Offset]keyValue
	for _, n := range c.Nodes {
		if n.Running() {
			return fmt.Errorf("node %d still runs: stop the cluster before its files are compared", n.ID)
		}
		batches, err := readBatches(filepath.Join(n.Dir, partition))
		if os.IsNotExist(err) {
			continue // no replica there
		}
		if err != nil {
			return fmt.Errorf("%s on node %d: %w", partition, n.ID, err)
		}
		records, err := recordsOf(batches)
		if err != nil {
			return fmt.Errorf("%s on node %d: %w", partition, n.ID, err)
		}
		nodes, all = append(nodes, n), append(all, records)
	}
	for i := range all {
		for k := range all {
			if err := lacksNothing(all[i], all[k]); err != nil {
				return fmt.Errorf("%s: node %d beside node %d: %w", partition, nodes[i].ID, nodes[k].ID, err)
			}
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("no node has a replica of %s", partition)
	}
	return nil
}

type keyValue struct{ key, value []byte }

// recordsOf returns the records of a log, without the markers of transactions.
func recordsOf(batches []batch) (map[messages.Offset]keyValue, error) {
	out := map[messages.Offset]keyValue{}
	for _, raw := range batches {
		b, _, err := record.Parse(raw.bytes)
		if err != nil {
			return nil, err
		}
		if b.Control() {
			continue
		}
		for r, err := range record.Records(&b, record.InflateLimit) {
			if err != nil {
				return nil, err
			}
			out[r.Offset] = keyValue{bytes.Clone(r.Key), bytes.Clone(r.Value)}
		}
	}
	return out, nil
}

// lacksNothing reports the records of other that log should have.
func lacksNothing(log, other map[messages.Offset]keyValue) error {
	newest := map[string]messages.Offset{}
	for o, r := range log {
		newest[string(r.key)] = max(newest[string(r.key)], o)
	}
	for o, r := range other {
		own, there := log[o]
		switch {
		case !there && newest[string(r.key)] <= o:
			return fmt.Errorf("the record at offset %d, the newest of key %q, is missing", o, r.key)
		case there && (!bytes.Equal(own.key, r.key) || !bytes.Equal(own.value, r.value)):
			return fmt.Errorf("at offset %d is %q: %q instead of %q: %q", o, own.key, own.value, r.key,
				r.value)
		}
	}
	return nil
}
