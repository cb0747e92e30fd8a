//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
)

// Groups of the workloads that start what they measure.
const (
	startGroup      = "start"
	idleGroup       = "idle"
	partitionsGroup = "partitions"
)

// Extra figures of these workloads.
const (
	// firstRecordMs is from the start of the process until a record was acknowledged by
	// all replicas. Of Kafka after kill -9, up to 9 s are the session of the broker that
	// was killed, for whose end the controller waits (broker.session.timeout.ms).
	firstRecordMs = "first record ms"
	createMs      = "create ms"  // of the topic, until all partitions have leaders
	restartMs     = "restart ms" // as firstRecordMs, after a stop in good order
	idleCPU       = "idle CPU %" // of one CPU, without any client
)

const (
	settleFor = 4 * time.Second // until memory is looked at
	idleFor   = 10 * time.Second

	unsyncedBytes      = 10_000_000_000 // or what -mb allows
	unsyncedPartitions = 10

	// topicPartitions are in one topic at most: Troupe allows no more, and Kafka makes
	// no more by one request.
	topicPartitions = 10_000
)

// startWorkloads start what they measure: start, idle memory, many partitions. The time
// to format a folder, which Kafka needs once, is counted nowhere.
func startWorkloads() []workload {
	return []workload{
		{group: startGroup, name: "start to the first acknowledged record, empty",
			peers: everyone, run: startEmpty},
		{group: startGroup, name: "start after kill -9 with 10 GB",
			peers: everyone, run: startAfterKill, rounds: 2},
		{group: idleGroup, name: "idle memory", peers: everyone, run: idleMemory, rounds: 2},
		manyPartitions("1,000", 1000, bothPeers, 2),
		manyPartitions("10,000", 10_000, []string{peer.Troupe}, 2),
		manyPartitions("50,000", 50_000, []string{peer.Troupe}, 1),
	}
}

// fresh is a broker that a workload starts, and starts again, in the folder of its turn.
type fresh struct {
	turn
	broker *peer.Broker // the last one that was started
}

// freshly gives run a folder for a broker, and removes it.
func freshly(
	ctx context.Context, t turn, run func(f *fresh) (figures.Result, error),
) (r figures.Result, err error) {
	f := &fresh{turn: t}
	defer func() {
		if f.broker != nil {
			if err != nil {
				err = errors.Join(err, f.broker.Died())
			}
			f.broker.Kill()
		}
		err = errors.Join(err, os.RemoveAll(t.dir))
	}()
	if err := t.kind.Prepare(ctx, f.options()); err != nil {
		return r, err
	}
	if err := f.start(ctx); err != nil {
		return r, err
	}
	return run(f)
}

func (f *fresh) options() peer.Options { return peer.Options{Dir: f.dir, Nodes: 1} }

func (f *fresh) start(ctx context.Context) error {
	broker, err := f.kind.Start(ctx, f.options())
	if err == nil {
		f.broker = broker
	}
	return err
}

// firstRecord appends a record to a topic, which it makes if it has partitions, and says
// how long ago the broker was started.
func (f *fresh) firstRecord(ctx context.Context, partitions int) (time.Duration, error) {
	topic := peer.Topic{Name: f.topic, Partitions: partitions}
	if err := f.broker.FirstRecord(ctx, topic); err != nil {
		return 0, fmt.Errorf("first record: %w", err)
	}
	return time.Since(f.broker.Began), nil
}

// used fills in what the broker has used since it was started.
func (f *fresh) used(r *figures.Result) error {
	u, err := f.broker.Usage()
	r.CPU, r.RSS = u.CPU, u.RSS
	return err
}

// idle waits until the broker has settled, and fills in its memory, and what it uses
// while nobody asks anything of it.
func (f *fresh) idle(ctx context.Context, r *figures.Result) error {
	if err := wait(ctx, settleFor); err != nil {
		return err
	}
	before, err := f.broker.Usage()
	if err != nil {
		return err
	}
	if err := wait(ctx, idleFor); err != nil {
		return err
	}
	after, err := f.broker.Usage()
	r.RSS, r.Took, r.CPU = before.RSS, idleFor, after.CPU-before.CPU
	r.Extra[idleCPU] = 100 * r.CPU.Seconds() / idleFor.Seconds()
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func startEmpty(ctx context.Context, t turn) (figures.Result, error) {
	return freshly(ctx, t, func(f *fresh) (r figures.Result, err error) {
		if r.Took, err = f.firstRecord(ctx, 1); err != nil {
			return r, err
		}
		r.Extra = map[string]float64{firstRecordMs: milliseconds(r.Took)}
		err = f.used(&r)
		return r, err
	})
}

// startAfterKill writes everything anew in each round: what was recovered once may be
// skipped the next time.
func startAfterKill(ctx context.Context, t turn) (figures.Result, error) {
	return freshly(ctx, t, func(f *fresh) (r figures.Result, err error) {
		topic := peer.Topic{Name: t.topic, Partitions: unsyncedPartitions}
		if _, err := f.broker.Create(ctx, topic); err != nil {
			return r, err
		}
		if err := f.broker.Fill(ctx, topic, min(unsyncedBytes, 10*t.mb<<20)); err != nil {
			return r, err
		}
		f.broker.Kill()
		if err := f.start(ctx); err != nil {
			return r, err
		}
		if r.Took, err = f.firstRecord(ctx, 0); err != nil {
			return r, err
		}
		r.Extra = map[string]float64{firstRecordMs: milliseconds(r.Took)}
		if r.Disk, err = f.broker.Disk(); err != nil {
			return r, err
		}
		err = f.used(&r)
		return r, err
	})
}

func idleMemory(ctx context.Context, t turn) (figures.Result, error) {
	return freshly(ctx, t, func(f *fresh) (figures.Result, error) {
		r := figures.Result{Extra: map[string]float64{}}
		if _, err := f.firstRecord(ctx, 1); err != nil {
			return r, err
		}
		err := f.idle(ctx, &r)
		return r, err
	})
}

func manyPartitions(label string, n int, peers []string, rounds int) workload {
	return workload{group: partitionsGroup, name: "partitions: " + label, peers: peers,
		rounds: rounds, run: func(ctx context.Context, t turn) (figures.Result, error) {
			return freshly(ctx, t, func(f *fresh) (figures.Result, error) {
				r := figures.Result{Extra: map[string]float64{}}
				err := f.partitions(ctx, n, &r)
				return r, err
			})
		}}
}

func (f *fresh) partitions(ctx context.Context, n int, r *figures.Result) error {
	began := time.Now()
	// The first topic has the turn's name, for the first record after the restart.
	for name, left := f.topic, n; left > 0; left -= topicPartitions {
		topic := peer.Topic{Name: name, Partitions: min(left, topicPartitions)}
		if _, err := f.broker.Create(ctx, topic); err != nil {
			return err
		}
		name = fmt.Sprintf("%s-%d", f.topic, left)
	}
	r.Extra[createMs] = milliseconds(time.Since(began))
	err := f.idle(ctx, r)
	if err != nil {
		return err
	}
	if r.Disk, err = f.broker.Disk(); err != nil {
		return err
	}
	f.broker.Stop()
	if err := f.start(ctx); err != nil {
		return err
	}
	took, err := f.firstRecord(ctx, 0)
	r.Extra[restartMs] = milliseconds(took)
	return err
}
