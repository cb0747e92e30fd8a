//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
	"github.com/troupelog/troupe/bench/raw"
	"github.com/troupelog/troupe/testkit"
)

const (
	// window is how many Produce requests a connection has under way at most; it is what
	// Kafka's clients use by default.
	window = 5

	runFor     = 900 * time.Millisecond // a load without a rate, at most
	runAtRate  = 2 * time.Second
	readMB     = 256 // are read, again and again
	commitConn = 10  // connections of offset commits
)

var (
	large     = raw.Shape{BatchBytes: 64 << 10, RecordBytes: 1 << 10}
	small     = raw.Shape{BatchBytes: 16 << 10, RecordBytes: 100}
	oneRecord = raw.Shape{BatchBytes: 1 << 10, RecordBytes: 900}
	largeLZ4  = raw.Shape{BatchBytes: 64 << 10, RecordBytes: 1 << 10, LZ4: true}
	smallLZ4  = raw.Shape{BatchBytes: 16 << 10, RecordBytes: 100, LZ4: true}
)

// rawLoad is a workload of the raw driver.
type rawLoad struct {
	group      string
	title      string // has a place for the shape
	nodes      int
	peers      []string
	shape      raw.Shape
	conns      int
	partitions int
	acks       int16 // 0: of the leader
	window     int   // 0: window
	settings   map[string]string
	drive      func(ctx context.Context, t turn, l raw.Load) (figures.Result, error)
}

func (w rawLoad) name() string {
	var shape string
	switch w.shape {
	case large, largeLZ4:
		shape = "64 KiB of 1 KiB records"
	case small, smallLZ4:
		shape = "16 KiB of 100 B records"
	case oneRecord:
		shape = "1 KiB of one record"
	}
	if w.shape.LZ4 {
		shape += " in lz4"
	}
	return fmt.Sprintf("%s, %s, %s", fmt.Sprintf(w.title, shape), count(w.conns, "connection"),
		count(w.partitions, "partition"))
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// rawWorkloads are those of the raw driver.
func rawWorkloads() (all []workload) {
	for _, w := range slices.Concat(produceLoads(), consumeLoads(), latencyLoads(), flushLoads(),
		replicatedLoads()) {
		all = append(all, w.workload())
	}
	return append(all, commits(100, 1), commits(100, 10))
}

// manyWorkloads are those of the raw driver to a thousand partitions. They run last,
// because brokers delete such topics for a minute and longer.
func manyWorkloads() (all []workload) {
	w := rawLoad{group: "produce", title: "produce %s", peers: theIdeal, drive: produce,
		conns: 16, partitions: 1000}
	for _, w.shape = range []raw.Shape{large, small} {
		all = append(all, w.workload())
	}
	return all
}

func (w rawLoad) workload() workload {
	return workload{group: w.group, name: w.name(), nodes: max(1, w.nodes), peers: w.peers,
		run: w.run}
}

func produceLoads() []rawLoad {
	w := rawLoad{group: "produce", title: "produce %s", peers: theIdeal, drive: produce}
	var all []rawLoad
	for _, w.shape = range []raw.Shape{large, small} {
		for _, n := range [][2]int{{1, 1}, {1, 12}, {16, 16}} {
			w.conns, w.partitions = n[0], n[1]
			all = append(all, w)
		}
	}
	w.conns, w.partitions = 1, 1
	for _, w.shape = range []raw.Shape{largeLZ4, smallLZ4} {
		all = append(all, w)
	}
	w.shape, w.title, w.acks = large, "produce %s with acks=all", raw.AcksAll
	return append(all, w)
}

func consumeLoads() []rawLoad {
	w := rawLoad{group: "consume", title: "consume %s", peers: theIdeal, drive: consume}
	var all []rawLoad
	for _, w.shape = range []raw.Shape{large, small} {
		for _, n := range []int{1, 16} {
			w.conns, w.partitions = n, n
			all = append(all, w)
		}
	}
	w.shape, w.conns, w.partitions = large, 1, 1
	w.title, w.drive = "consume %s from the disk", consumeCold
	all = append(all, w)
	w.conns, w.title, w.drive = 5, "fan out %s", consume
	all = append(all, w)
	w.conns, w.partitions, w.peers = 8, 8, bothPeers
	w.title, w.drive = "produce and consume %s at the tail", tail
	return append(all, w)
}

// halfLoad is the workload whose rate latencies at half load are measured with.
var halfLoad = rawLoad{title: "produce %s", shape: large, conns: 16, partitions: 16}

func latencyLoads() []rawLoad {
	w := rawLoad{group: "latency", peers: theIdeal, shape: oneRecord, conns: 16, partitions: 16}
	fixed := func(rate float64) func(turn) float64 { return func(turn) float64 { return rate } }
	var all []rawLoad
	for _, rate := range []float64{1000} {
		w.title = fmt.Sprintf("produce %%s at %.0f/s", rate)
		w.drive = atRate(fixed(rate))
		all = append(all, w)
	}
	w.title, w.window, w.drive = "produce %s one by one", 1, produce
	all = append(all, w)
	half := func(t turn) float64 { return t.rate(halfLoad.name(), 4000) / 2 }
	w.shape, w.window = large, 0
	w.title, w.drive = "produce %s at half load", atRate(half)
	all = append(all, w)
	w.title, w.drive, w.peers = "end to end %s at half load", tailAtRate(half), bothPeers
	return append(all, w)
}

func flushLoads() []rawLoad {
	w := rawLoad{group: "flush", title: "produce %s with flush.messages=1", peers: bothPeers,
		shape: oneRecord, conns: 16, settings: map[string]string{"flush.messages": "1"},
		drive: produce}
	var all []rawLoad
	for _, w.partitions = range []int{1, 100} {
		all = append(all, w)
	}
	return all
}

func replicatedLoads() []rawLoad {
	w := rawLoad{group: "replicated", title: "produce %s to three replicas", nodes: 3,
		peers: bothPeers, shape: large, acks: raw.AcksAll, drive: produce,
		settings: map[string]string{"min.insync.replicas": "2"}}
	var all []rawLoad
	for _, n := range [][2]int{{1, 1}, {16, 12}} {
		w.conns, w.partitions = n[0], n[1]
		all = append(all, w)
	}
	w.title, w.shape = "produce %s to three replicas at 500/s", oneRecord
	w.drive = atRate(func(turn) float64 { return 500 })
	return append(all, w)
}

// run makes a topic, drives, and drops the topic.
func (w rawLoad) run(ctx context.Context, t turn) (figures.Result, error) {
	l := raw.Load{Conns: w.conns, Shape: w.shape, Acks: cmp.Or(w.acks, raw.AcksLeader),
		Window: cmp.Or(w.window, window), Bytes: t.mb << 20, For: runFor}
	drop, err := t.topicOf(ctx, &l, w.partitions, w.settings)
	if err != nil {
		return figures.Result{}, err
	}
	defer drop()
	return w.drive(ctx, t, l)
}

// topicOf makes the turn's topic and says who leads it.
func (t turn) topicOf(
	ctx context.Context, l *raw.Load, partitions int, settings map[string]string,
) (drop func(), err error) {
	drop, err = t.broker.Create(ctx, peer.Topic{Name: t.topic, Partitions: partitions,
		Replicas: max(1, t.work.nodes), Settings: settings})
	if err != nil {
		return nil, fmt.Errorf("create topic: %w", err)
	}
	l.Topic, l.Leaders = t.topic, raw.SameLeader(t.broker.Addrs[0], partitions)
	if t.kind.Name != peer.Ideal {
		l.Leaders, err = raw.Leaders(ctx, t.broker.Addrs, t.topic, partitions)
	}
	if err != nil {
		drop()
	}
	return drop, err
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

// warmed returns a driver whose first batches were sent. Close it.
func warmed(ctx context.Context, l raw.Load) (*raw.Driver, error) {
	d, err := raw.Dial(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := d.Warm(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// produce sends as fast as is answered.
func produce(ctx context.Context, t turn, l raw.Load) (figures.Result, error) {
	d, err := warmed(ctx, l)
	if err != nil {
		return figures.Result{}, err
	}
	defer d.Close()
	return t.drive(ctx, func() (raw.Outcome, error) { return d.Produce(ctx) })
}

// atRate sends at a rate, in requests per second.
func atRate(
	rate func(turn) float64,
) func(context.Context, turn, raw.Load) (figures.Result, error) {
	return func(ctx context.Context, t turn, l raw.Load) (figures.Result, error) {
		l.Bytes, l.For = 0, runAtRate
		d, err := warmed(ctx, l)
		if err != nil {
			return figures.Result{}, err
		}
		defer d.Close()
		r, err := t.drive(ctx, func() (raw.Outcome, error) { return d.ProduceAtRate(ctx, rate(t)) })
		r.Rate = rate(t)
		return r, err
	}
}

// written writes mb megabytes, shared by the partitions, and returns how many batches
// each holds. So that it does not take long it is written on as many connections.
func written(ctx context.Context, l raw.Load, mb int64) ([]int64, error) {
	l.Conns, l.Bytes, l.For, l.Acks = min(16, len(l.Leaders)), mb<<20, 0, raw.AcksLeader
	d, err := raw.Dial(ctx, l)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	_, err = d.Produce(ctx)
	return d.Holds(), err
}

// consume reads what was just written.
func consume(ctx context.Context, t turn, l raw.Load) (figures.Result, error) {
	return t.consume(ctx, l, readMB)
}

// consumeCold reads once what the page cache does not hold.
func consumeCold(ctx context.Context, t turn, l raw.Load) (figures.Result, error) {
	l.For = 0
	return t.consume(ctx, l, t.mb)
}

func (t turn) consume(ctx context.Context, l raw.Load, mb int64) (figures.Result, error) {
	holds, err := written(ctx, l, min(mb, t.mb))
	if err == nil && l.For == 0 {
		err = raw.DropCache(t.broker.Dir)
	}
	if err != nil {
		return figures.Result{}, err
	}
	d, err := raw.Dial(ctx, l)
	if err != nil {
		return figures.Result{}, err
	}
	defer d.Close()
	return t.drive(ctx, func() (raw.Outcome, error) { return d.Fetch(ctx, holds) })
}

// tail produces as fast as is answered while consumers follow.
func tail(ctx context.Context, t turn, l raw.Load) (figures.Result, error) {
	return t.tail(ctx, l, 0)
}

// tailAtRate produces at a rate while consumers follow.
func tailAtRate(
	rate func(turn) float64,
) func(context.Context, turn, raw.Load) (figures.Result, error) {
	return func(ctx context.Context, t turn, l raw.Load) (figures.Result, error) {
		l.Bytes, l.For = 0, runAtRate
		return t.tail(ctx, l, rate(t))
	}
}

func (t turn) tail(ctx context.Context, l raw.Load, rate float64) (figures.Result, error) {
	d, err := warmed(ctx, l)
	if err != nil {
		return figures.Result{}, err
	}
	defer d.Close()
	l.Conns = len(l.Leaders)
	consumers, err := raw.Dial(ctx, l)
	if err != nil {
		return figures.Result{}, err
	}
	defer consumers.Close()
	r, err := t.drive(ctx, func() (raw.Outcome, error) { return d.Tail(ctx, consumers, rate) })
	r.Rate = rate
	return r, err
}

// commits is a workload of groups that commit offsets.
func commits(groups, partitions int) workload {
	return workload{group: "offsets", nodes: 1, peers: bothPeers,
		name: fmt.Sprintf("commit offsets, %s, %s each", count(groups, "group"),
			count(partitions, "partition")),
		run: func(ctx context.Context, t turn) (figures.Result, error) {
			var l raw.Load
			drop, err := t.topicOf(ctx, &l, partitions, nil)
			if err != nil {
				return figures.Result{}, err
			}
			defer drop()
			c := raw.Commits{Addr: l.Leaders[0], Topic: t.topic, Partitions: partitions,
				Groups: groups, Conns: commitConn, Window: 20, For: runFor}
			if err := c.Begin(ctx); err != nil {
				return figures.Result{}, err
			}
			return t.drive(ctx, func() (raw.Outcome, error) { return c.Run(ctx) })
		}}
}

// warm gives a broker work for a while.
func (t turn) warm(ctx context.Context, s raw.Shape) error {
	l := raw.Load{Conns: 4, Shape: s, Acks: raw.AcksAll, Window: window, Bytes: t.mb << 20,
		For: runFor}
	drop, err := t.topicOf(ctx, &l, 4, nil)
	if err != nil {
		return err
	}
	defer drop()
	if _, err := produce(ctx, t, l); err != nil {
		return err
	}
	d, err := raw.Dial(ctx, l)
	if err != nil {
		return err
	}
	defer d.Close()
	holds := []int64{1, 1, 1, 1} // the warm-up wrote them at least
	_, err = d.Fetch(ctx, holds)
	return err
}
