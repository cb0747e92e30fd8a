//go:build linux

package main

import (
	"context"
	"os"
	"runtime"
	"time"

	"github.com/troupelog/troupe/bench/clients"
	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
	"github.com/troupelog/troupe/testkit"
)

// Groups of the workloads of real clients.
const (
	clientGroup  = "franz-go"
	latencyGroup = "franz-go latency"
	clusterGroup = "franz-go, three nodes"
	sdkGroup     = "sdk beside franz-go"
)

// mixedName is the workload whose slowest broker says what half load is.
const mixedName = "franz-go produce and consume, 1 KiB"

const (
	produceWhile = 1000 * time.Millisecond
	latencyWhile = 3 * time.Second
	latencySkip  = 500 * time.Millisecond
	clientParts  = 12
	clientLinger = 5 * time.Millisecond
	fanOutGroups = 5

	// defaultCapacity is records of 1 KiB per second, for a run that did not measure what
	// the brokers can do.
	defaultCapacity = 80_000
	smallRate       = 2000 // records per second, each a batch
	clusterRate     = 2000
	clusterRounds   = 3
)

// megabytes that are read; those of many groups are read by each.
const (
	largeMB  = 300 // of records of 1 KiB
	smallMB  = 100 // of records of 100 B
	fanOutMB = 96
	sdkMB    = 256
)

// clientWorkloads are those of real clients.
func clientWorkloads() []workload {
	all := []workload{
		clientProduce("franz-go produce 64 KiB of 1 KiB, acks=1", largeBatches(false)),
		clientProduce("franz-go produce 64 KiB of 1 KiB, acks=all", largeBatches(true)),
		clientProduce("franz-go produce 16 KiB of 100 B, acks=1", smallBatches(false)),
		clientProduce("franz-go produce 16 KiB of 100 B, acks=all", smallBatches(true)),
	}
	lz4 := largeBatches(true)
	lz4.LZ4 = true
	all = append(all,
		clientProduce("franz-go produce 64 KiB of 1 KiB, acks=all, lz4", lz4),
		clientConsume("franz-go consume 1 KiB", largeMB, largeBatches(false)),
		clientConsume("franz-go consume 100 B", smallMB, smallBatches(false)),
		clientFanOut("franz-go consume 1 KiB, 5 groups", largeBatches(false)),
		workload{group: clientGroup, name: mixedName, nodes: 1, peers: bothPeers,
			run: oneClientLoad(largeBatches(true), 1,
				func(ctx context.Context, _ turn, l *clients.Load) (figures.Result, error) {
					return l.Mixed(ctx, produceWhile)
				})},
		ackLatency("franz-go produce one record of 1 KiB, linger 0"),
		endToEnd("franz-go end to end at 10 % load", 1, func(t turn) float64 {
			return t.capacity() * 0.1
		}),
		endToEnd("franz-go end to end at 50 % load", 1, func(t turn) float64 {
			return t.capacity() * 0.5
		}),
		endToEnd("franz-go end to end, three nodes", 3, func(turn) float64 { return clusterRate }),
	)
	cluster := clientProduce("franz-go produce 64 KiB of 1 KiB, three nodes", largeBatches(true))
	cluster.nodes, cluster.group = 3, clusterGroup
	return append(append(all, cluster), sdkWorkloads()...)
}

// largeBatches and smallBatches are of the same sizes as for the raw driver.
func largeBatches(allAcks bool) clients.Shape {
	return clients.Shape{Partitions: clientParts, RecordBytes: 1 << 10,
		BatchBytes: 64 << 10, Linger: clientLinger, AllAcks: allAcks}
}

func smallBatches(allAcks bool) clients.Shape {
	return clients.Shape{Partitions: clientParts, RecordBytes: 100,
		BatchBytes: 16 << 10, Linger: clientLinger, AllAcks: allAcks}
}

// single is records that wait for no others: batches form of what comes while requests
// are under way.
func single(partitions int) clients.Shape {
	return clients.Shape{Partitions: partitions, RecordBytes: 1 << 10, BatchBytes: 64 << 10,
		AllAcks: true}
}

type clientRun = func(context.Context, turn, *clients.Load) (figures.Result, error)

// oneClientLoad gives a broker one load, on a new topic.
func oneClientLoad(
	s clients.Shape, replicas int, run clientRun,
) func(context.Context, turn) (figures.Result, error) {
	return func(ctx context.Context, t turn) (figures.Result, error) {
		mine, drop, err := t.load(ctx, s, replicas)
		if err != nil {
			return figures.Result{}, err
		}
		defer drop()
		return t.driven(ctx, func() (figures.Result, error) { return run(ctx, t, mine) })
	}
}

// load makes the topic of a load. In a cluster two of its three replicas have to have a
// record before it is acknowledged.
func (t turn) load(
	ctx context.Context, s clients.Shape, replicas int,
) (*clients.Load, func(), error) {
	l := &clients.Load{Shape: s, Addrs: t.broker.Addrs, Actor: t.broker.Actor, Topic: t.topic}
	topic := peer.Topic{Name: l.Topic, Partitions: l.Partitions, Replicas: replicas}
	if replicas > 1 {
		topic.Settings = map[string]string{"min.insync.replicas": "2"}
	}
	drop, err := t.broker.Create(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	if err := l.Warm(ctx); err != nil {
		drop()
		return nil, nil, err
	}
	return l, drop, nil
}

// driven is timed, and also fills in what this process used, which drives. What earlier
// runs left is not this one's garbage.
func (t turn) driven(
	ctx context.Context, load func() (figures.Result, error),
) (figures.Result, error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	own, err := testkit.UsageOf(os.Getpid())
	if err != nil {
		return figures.Result{}, err
	}
	r, err := t.timed(ctx, load)
	if err != nil {
		return r, err
	}
	ownAfter, err := testkit.UsageOf(os.Getpid())
	runtime.ReadMemStats(&after)
	r.ClientNS = ownAfter.CPU - own.CPU
	r.Mallocs = float64(after.Mallocs-before.Mallocs) / float64(max(1, r.Records))
	return r, err
}

// amount is how many records of a load make so many megabytes, or as many as were allowed.
func (t turn) amount(l *clients.Load, mb int64) int64 {
	return min(mb, t.mb) * 1e6 / int64(l.RecordBytes)
}

func clientProduce(name string, s clients.Shape) workload {
	return workload{group: clientGroup, name: name, nodes: 1, peers: bothPeers,
		run: func(ctx context.Context, t turn) (figures.Result, error) {
			return oneClientLoad(s, t.work.nodes,
				func(ctx context.Context, _ turn, l *clients.Load) (figures.Result, error) {
					return l.Produce(ctx, produceWhile)
				})(ctx, t)
		}}
}

// filled gives a broker a topic with so many megabytes in it, then the load that reads.
func filled(
	s clients.Shape, mb int64,
	read func(ctx context.Context, l *clients.Load, records int64) (figures.Result, error),
) func(context.Context, turn) (figures.Result, error) {
	return func(ctx context.Context, t turn) (figures.Result, error) {
		mine, drop, err := t.load(ctx, s, 1)
		if err != nil {
			return figures.Result{}, err
		}
		defer drop()
		records := t.amount(mine, mb)
		if _, err := mine.Fill(ctx, records); err != nil {
			return figures.Result{}, err
		}
		return t.driven(ctx, func() (figures.Result, error) { return read(ctx, mine, records) })
	}
}

func clientConsume(name string, mb int64, s clients.Shape) workload {
	return workload{group: clientGroup, name: name, nodes: 1, peers: bothPeers,
		run: filled(s, mb,
			func(ctx context.Context, l *clients.Load, n int64) (figures.Result, error) {
				return l.Consume(ctx, n)
			})}
}

func clientFanOut(name string, s clients.Shape) workload {
	return workload{group: clientGroup, name: name, nodes: 1, peers: bothPeers,
		run: filled(s, fanOutMB,
			func(ctx context.Context, l *clients.Load, n int64) (figures.Result, error) {
				return l.FanOut(ctx, fanOutGroups, n)
			})}
}

func ackLatency(name string) workload {
	return workload{group: latencyGroup, name: name, nodes: 1, peers: bothPeers,
		run: oneClientLoad(single(1), 1,
			func(ctx context.Context, _ turn, l *clients.Load) (figures.Result, error) {
				return l.AckLatency(ctx, clients.Pace{
					Rate: smallRate, While: latencyWhile, Skip: latencySkip})
			})}
}

func endToEnd(name string, nodes int, rate func(turn) float64) workload {
	w := workload{group: latencyGroup, name: name, nodes: nodes, peers: bothPeers,
		run: oneClientLoad(single(clientParts), nodes,
			func(ctx context.Context, t turn, l *clients.Load) (figures.Result, error) {
				return l.EndToEnd(ctx, clients.Pace{
					Rate: rate(t), While: latencyWhile, Skip: latencySkip})
			})}
	if nodes > 1 {
		w.group, w.rounds = clusterGroup, clusterRounds
	}
	return w
}

// capacity is how many records of 1 KiB the slowest broker takes in a second while they
// are read. The rate for all is a share of it.
func (t turn) capacity() float64 {
	if rate := t.rates[mixedName]; rate > 0 {
		return rate
	}
	return defaultCapacity
}

// sdkWorkloads compare client libraries on one node of Troupe. Keys choose the
// partitions, so batches fill in all of them.
func sdkWorkloads() []workload {
	s := clients.Shape{Partitions: 8, RecordBytes: 1 << 10, BatchBytes: 256 << 10,
		Linger: clientLinger, AllAcks: true, Keys: true}
	libraries := []string{franzGo, sdk}
	read := func(way string) func(context.Context, turn) (figures.Result, error) {
		return filled(s, sdkMB,
			func(ctx context.Context, l *clients.Load, n int64) (figures.Result, error) {
				if way == sdk {
					return l.SDKConsume(ctx, n)
				}
				return l.Consume(ctx, n)
			})
	}
	return []workload{
		{group: sdkGroup, name: "client produce 256 KiB of 1 KiB", nodes: 1,
			peers: []string{peer.Troupe}, ways: libraries,
			run: oneClientLoad(s, 1,
				func(ctx context.Context, t turn, l *clients.Load) (figures.Result, error) {
					if t.way == sdk {
						return l.SDKFill(ctx, t.amount(l, sdkMB))
					}
					return l.Fill(ctx, t.amount(l, sdkMB))
				})},
		{group: sdkGroup, name: "client consume 1 KiB", nodes: 1,
			peers: []string{peer.Troupe}, ways: libraries,
			run: func(ctx context.Context, t turn) (figures.Result, error) {
				return read(t.way)(ctx, t)
			}},
	}
}
