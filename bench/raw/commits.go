//go:build linux

package raw

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Commits is a load of offset commits: groups that commit as fast as they are answered,
// each commit for all partitions of a topic. Groups have no members, whose commits would
// cost the same and a session more. The ideal broker knows no groups.
type Commits struct {
	Addr       string // of the one node
	Topic      string
	Partitions int
	Groups     int
	Conns      int // which share the groups
	Window     int // commits under way on a connection
	For        time.Duration
}

func (c Commits) group(i int) string { return fmt.Sprintf("%s-%04d", c.Topic, i) }

// Begin has each group commit once, so that all is there that commits need.
func (c Commits) Begin(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addr))
	if err != nil {
		return err
	}
	defer client.Close()
	for i := range c.Groups {
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: c.Topic, LeaderEpoch: -1})
		if err := kadm.NewClient(client).CommitAllOffsets(ctx, c.group(i), offsets); err != nil {
			return fmt.Errorf("first commit of %s: %w", c.group(i), err)
		}
	}
	return nil
}

// Run commits. Requests of the outcome are commits, and latencies are from sending one to
// its answer.
func (c Commits) Run(ctx context.Context) (Outcome, error) {
	d, err := Dial(ctx, Load{Leaders: SameLeader(c.Addr, c.Conns), Topic: c.Topic, Conns: c.Conns,
		Window: c.Window, For: c.For})
	if err != nil {
		return Outcome{}, err
	}
	defer d.Close()
	frames := map[*lane][][]byte{}
	for i, l := range d.lanes {
		l.expect(latenciesMax)
		for g := i; g < c.Groups; g += c.Conns {
			frames[l] = append(frames[l], commitFrame(c.group(g), c.Topic, c.Partitions))
		}
	}
	var offset atomic.Int64
	end := time.Now().Add(c.For)
	return d.onEach(ctx, func(l *lane) error {
		return c.commit(l, frames[l], &offset, end)
	})
}

func (c Commits) commit(l *lane, frames [][]byte, offset *atomic.Int64, end time.Time) error {
	if len(frames) == 0 {
		return nil
	}
	size, errorAt := commitAnswer(c.Topic, c.Partitions)
	var errors []int
	for p := range c.Partitions {
		errors = append(errors, errorAt+6*p)
	}
	r := newLoop(l.conn, c.Window, newAnswers(size, errors, c.Window))
	turn := 0
	return r.run(func(room int, now time.Time) error {
		for ; room > 0 && now.Before(end); room-- {
			f := frames[turn%len(frames)]
			turn++
			setCommitOffset(f, c.Partitions, offset.Add(1))
			r.push(0, now)
			if _, err := l.conn.Write(f); err != nil {
				return err
			}
		}
		return nil
	}, func(_ int, took time.Duration) {
		l.latencies = append(l.latencies, took)
		l.requests++
	})
}

// commitFrame returns the request that commits offset 0 of partitions; setCommitOffset
// changes that of the first.
func commitFrame(group, topic string, partitions int) []byte {
	return frame(commitKey, commitVersion, 0, func(b []byte) []byte {
		b = appendString(b, group)
		b = binary.BigEndian.AppendUint32(b, 0xffffffff) // no generation
		b = appendString(b, "")                          // no member
		b = binary.BigEndian.AppendUint16(b, 0xffff)     // no instance
		b = binary.BigEndian.AppendUint32(b, 1)
		b = appendString(b, topic)
		b = binary.BigEndian.AppendUint32(b, uint32(partitions))
		for p := range partitions {
			b = binary.BigEndian.AppendUint32(b, uint32(p))
			b = binary.BigEndian.AppendUint64(b, 0)
			b = binary.BigEndian.AppendUint32(b, 0xffffffff) // no leader epoch
			b = appendString(b, "")
		}
		return b
	})
}

// commitPartition is the size of a partition in a commit, of which the first four
// bytes are its number.
const commitPartition = 4 + 8 + 4 + 2

func setCommitOffset(frame []byte, partitions int, offset int64) {
	first := len(frame) - partitions*commitPartition
	binary.BigEndian.PutUint64(frame[first+4:], uint64(offset))
}

// commitAnswer is the size of the answer, without the size field, and the place of
// the first error code in it; those of further partitions follow every 6 bytes.
func commitAnswer(topic string, partitions int) (size, errorAt int) {
	errorAt = 4 + 4 + 4 + 2 + len(topic) + 4 + 4
	return errorAt + 2 + (partitions-1)*6, errorAt
}
