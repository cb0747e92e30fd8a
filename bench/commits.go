//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// commits is a load of offset commits: groups that commit as fast as they can, each
// commit for some partitions of a topic. Only the node takes it; the ideal broker
// knows no groups.
type commits struct {
	groups     int
	partitions int
}

// commitLoads share commitConns connections, with commitWindow commits under way on
// each. Groups have no members, whose commits would cost the same and a session more.
var commitLoads = []commits{{100, 1}, {100, 10}}

const (
	commitKey, commitVersion = 8, 7

	commitConns  = 10
	commitWindow = 20
	commitsEach  = 500 // of each group
	commitTopic  = "bench-commits"
)

func (c commits) name() string {
	return fmt.Sprintf("offset commits, %d groups, %d partitions each", c.groups, c.partitions)
}

func (c commits) matches(part string) bool { return strings.Contains(c.name(), part) }

func (c commits) count() int { return c.groups * commitsEach }

func (c commits) group(i int) string { return fmt.Sprintf("bench-%03d", i) }

// commitFrame returns the request that commits offset 0 of partitions; setCommitOffset
// changes that of the first.
func commitFrame(group, topic string, partitions int) []byte {
	return frame(commitKey, commitVersion, func(b []byte) []byte {
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

// run commits and measures.
func (c commits) run(ctx context.Context, b *broker) (result, error) {
	drop, err := createTopic(ctx, b.addr, commitTopic, c.partitions)
	if err != nil {
		return result{}, fmt.Errorf("create topic: %w", err)
	}
	defer drop()
	if err := c.begin(ctx, b.addr); err != nil {
		return result{}, err
	}
	l := &load{addr: b.addr, topic: commitTopic, conns: commitConns}
	return b.timed(l, func() (time.Duration, []time.Duration, error) {
		all := make([][]time.Duration, commitConns)
		took, err := l.onEach(ctx, func(conn net.Conn, number int32) (err error) {
			all[number], err = c.commit(conn, int(number))
			return err
		})
		return took, slices.Concat(all...), err
	})
}

// begin has each group commit once, so that all is there that commits need.
func (c commits) begin(ctx context.Context, addr string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer client.Close()
	for i := range c.groups {
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: commitTopic, LeaderEpoch: -1})
		if err := kadm.NewClient(client).CommitAllOffsets(ctx, c.group(i), offsets); err != nil {
			return fmt.Errorf("first commit of %s: %w", c.group(i), err)
		}
	}
	return nil
}

// commit sends the commits of every commitConns-th group on one connection and
// returns how long each took.
func (c commits) commit(conn net.Conn, number int) ([]time.Duration, error) {
	var frames [][]byte
	for g := number; g < c.groups; g += commitConns {
		frames = append(frames, commitFrame(c.group(g), commitTopic, c.partitions))
	}
	sent := make(chan time.Time, commitWindow-1) // one more is in the sender's hand
	failed := make(chan error, 1)
	go func() {
		defer close(sent)
		for i := range commitsEach {
			for _, f := range frames {
				setCommitOffset(f, c.partitions, int64(i))
				sent <- time.Now()
				if _, err := conn.Write(f); err != nil {
					failed <- err
					return
				}
			}
		}
	}()
	latencies, err := c.readAnswers(conn, len(frames)*commitsEach, sent)
	if err != nil {
		_ = conn.Close() // ends the sender
		for range sent {
			continue
		}
		return latencies, err
	}
	select {
	case err := <-failed:
		return latencies, err
	default:
		return latencies, nil
	}
}

func (c commits) readAnswers(
	conn net.Conn, count int, sent <-chan time.Time,
) ([]time.Duration, error) {
	size, errorAt := commitAnswer(commitTopic, c.partitions)
	answer := make([]byte, 4+size)
	latencies := make([]time.Duration, 0, count)
	for range count {
		if _, err := io.ReadFull(conn, answer); err != nil {
			return latencies, fmt.Errorf("answer %d of %d: %w", len(latencies)+1, count, err)
		}
		if got := int(binary.BigEndian.Uint32(answer)); got != size {
			return latencies, fmt.Errorf("answer of %d bytes, expected %d", got, size)
		}
		for p := range c.partitions {
			if err := answerError(answer[4:], errorAt+6*p); err != nil {
				return latencies, err
			}
		}
		began, ok := <-sent
		if !ok {
			return latencies, errors.New("an answer to a request that was not sent")
		}
		latencies = append(latencies, time.Since(began))
	}
	return latencies, nil
}

// measureCommits runs each load some times and prints the median.
func measureCommits(ctx context.Context, s settings, b *broker, w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	head := "\n| load\t| commits/s\t| CPU µs per commit\t| p50/p99\t|\n|---\t|---\t|---\t|---\t|\n"
	for _, c := range commitLoads {
		if !c.matches(s.only) {
			continue
		}
		var runs []result
		for range s.rounds {
			r, err := c.run(ctx, b)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name(), err)
			}
			runs = append(runs, r)
		}
		slices.SortFunc(runs, func(a, b result) int { return int(a.took - b.took) })
		r := runs[len(runs)/2]
		fmt.Fprintf(tw, "%s| %s\t| %.0f\t| %.0f\t| %s\t|\n", head, c.name(),
			float64(c.count())/r.took.Seconds(),
			float64(r.brokerCPU.Microseconds())/float64(c.count()), latency(r))
		head = ""
	}
	return tw.Flush()
}
