//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
	"github.com/troupelog/troupe/bench/raw"
	"github.com/troupelog/troupe/testkit"
)

// window is how many Produce requests a connection has under way at most; it is what
// Kafka's clients use by default.
const window = 5

var (
	large = raw.Shape{BatchBytes: 64 << 10, RecordBytes: 1 << 10}
	small = raw.Shape{BatchBytes: 16 << 10, RecordBytes: 100}
)

func label(s raw.Shape) string {
	text := fmt.Sprintf("%d KiB of %d B records", s.BatchBytes>>10, s.RecordBytes)
	if s.RecordBytes%(1<<10) == 0 {
		text = fmt.Sprintf("%d KiB of %d KiB records", s.BatchBytes>>10, s.RecordBytes>>10)
	}
	if s.LZ4 {
		text += ", lz4"
	}
	return text
}

// rawWorkloads are those of the raw driver.
func rawWorkloads() []workload {
	var all []workload
	for _, s := range []raw.Shape{large, small} {
		for _, n := range [][2]int{{1, 1}, {1, 12}, {16, 16}} {
			all = append(all, produce(raw.Load{Shape: s, Conns: n[0], Acks: raw.AcksLeader}, n[1]))
		}
		for _, n := range []int{1, 16} {
			all = append(all, fetch(raw.Load{Shape: s, Conns: n}, n))
		}
	}
	return all
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// produce is a workload that sends as fast as it is answered.
func produce(l raw.Load, partitions int) workload {
	return workload{
		group: "produce", nodes: 1, peers: theIdeal,
		name: fmt.Sprintf("produce %s, %s, %s", label(l.Shape), count(l.Conns, "connection"),
			count(partitions, "partition")),
		run: func(ctx context.Context, t turn) (figures.Result, error) {
			l := l
			l.Bytes = t.mb << 20
			return t.withTopic(ctx, l, partitions, nil, func(l raw.Load) (figures.Result, error) {
				d, err := raw.Dial(ctx, l)
				if err != nil {
					return figures.Result{}, err
				}
				defer d.Close()
				if err := d.Warm(ctx); err != nil {
					return figures.Result{}, err
				}
				return t.drive(ctx, func() (raw.Outcome, error) { return d.Produce(ctx) })
			})
		},
	}
}

// fetch is a workload that reads what was just written.
func fetch(l raw.Load, partitions int) workload {
	return workload{
		group: "consume", nodes: 1, peers: theIdeal,
		name: fmt.Sprintf("consume %s, warm, %s, %s", label(l.Shape),
			count(l.Conns, "connection"), count(partitions, "partition")),
		run: func(ctx context.Context, t turn) (figures.Result, error) {
			l := l
			l.Bytes, l.Acks = t.mb<<20, raw.AcksLeader
			return t.withTopic(ctx, l, partitions, nil, func(l raw.Load) (figures.Result, error) {
				d, err := raw.Dial(ctx, l)
				if err != nil {
					return figures.Result{}, err
				}
				defer d.Close()
				if _, err := d.Produce(ctx); err != nil {
					return figures.Result{}, err
				}
				return t.drive(ctx, func() (raw.Outcome, error) { return d.Fetch(ctx, d.Holds()) })
			})
		},
	}
}

// withTopic calls f with a load whose topic was made for it, and drops the topic.
func (t turn) withTopic(ctx context.Context, l raw.Load, partitions int,
	settings map[string]string, f func(l raw.Load) (figures.Result, error),
) (figures.Result, error) {
	drop, err := t.broker.Create(ctx, peer.Topic{Name: t.topic, Partitions: partitions,
		Replicas: max(1, t.work.nodes), Settings: settings})
	if err != nil {
		return figures.Result{}, fmt.Errorf("create topic: %w", err)
	}
	defer drop()
	l.Topic, l.Window = t.topic, cmp.Or(l.Window, window)
	l.Leaders = raw.SameLeader(t.broker.Addrs[0], partitions)
	if t.kind.Name != peer.Ideal {
		l.Leaders, err = raw.Leaders(ctx, t.broker.Addrs, t.topic, partitions)
	}
	if err != nil {
		return figures.Result{}, err
	}
	return f(l)
}

// drive runs a load and says what it used of the machine.
func (t turn) drive(
	ctx context.Context, load func() (raw.Outcome, error),
) (figures.Result, error) {
	return t.timed(ctx, func() (r figures.Result, err error) {
		before, err := testkit.UsageOf(os.Getpid())
		if err != nil {
			return r, err
		}
		o, err := load()
		if err != nil {
			return r, err
		}
		after, err := testkit.UsageOf(os.Getpid())
		r = figures.Result{Records: o.Records, Requests: o.Requests, Bytes: o.Bytes,
			Took: o.Took, ClientNS: after.CPU - before.CPU}
		r.SetLatencies(o.Latencies)
		return r, err
	})
}
