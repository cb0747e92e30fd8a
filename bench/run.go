//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
	"github.com/troupelog/troupe/bench/raw"
)

// workload is a row of a table: one load, and which brokers take it.
type workload struct {
	group string // of the table
	name  string // unlike all others
	nodes int    // 0: no broker is running; run starts what it measures
	peers []string
	// ways are what is compared instead of brokers, if there are any, such as client
	// libraries: each has its turn at the one broker, and the row's runs go by them.
	ways []string
	// run gives the broker the load once and says what it did. What it makes it removes
	// again. The broker is nil when nodes is 0.
	run func(ctx context.Context, t turn) (figures.Result, error)
	// rounds that are enough for what takes long; 0: as many as the others.
	rounds int
}

// turn is one broker's turn at a workload.
type turn struct {
	*bench
	kind   peer.Kind
	way    string       // of the workload's ways
	broker *peer.Broker // nil: run starts it, in dir
	dir    string       // of a broker that run starts: absent before and after
	topic  string       // a name that no topic had before
	round  int
	work   *workload
}

// bench is a whole run.
type bench struct {
	settings
	root  string // folder of everything
	kinds []peer.Kind
	// What the slowest did in a second, by the workload's name.
	rates    map[string]float64 // records
	requests map[string]float64
}

func newBench(s settings) *bench {
	return &bench{settings: s, rates: map[string]float64{}, requests: map[string]float64{}}
}

// workloads are all there are, in the order in which they run.
func workloads() []workload {
	return slices.Concat(rawWorkloads(), withNATS(clientWorkloads()), startWorkloads(),
		manyWorkloads())
}

// bothPeers take every load that is made of frames of Kafka's protocol; theIdeal too
// where it can.
var (
	bothPeers = []string{peer.Troupe, peer.Kafka}
	theIdeal  = []string{peer.Ideal, peer.Troupe, peer.Kafka}
	everyone  = []string{peer.Troupe, peer.Kafka, peer.NATS}
)

// measure runs the workloads that were asked for and shows what it saw.
func measure(ctx context.Context, s settings) (err error) {
	b := newBench(s)
	if b.root, err = os.MkdirTemp(s.dir, "troupe-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.root)) }()
	b.kinds = []peer.Kind{peer.NewIdeal(), peer.NewTroupe(s.troupe)}
	if s.peers {
		b.kinds = append(b.kinds, peer.NewKafka(s.kafka), peer.NewNATS(s.nats))
	}
	run, err := b.describe(ctx)
	if err != nil {
		return err
	}
	for _, nodes := range []int{1, 3, 0} {
		rows, err := b.withNodes(ctx, nodes)
		run.Rows = append(run.Rows, rows...)
		if err != nil {
			b.document = "" // it shows whole runs
			return errors.Join(err, b.show(run))
		}
	}
	return b.show(run)
}

// withNodes runs the workloads for brokers of so many nodes. Brokers run while others
// are measured: idle ones cost little, and starting them anew would cost warm caches.
func (b *bench) withNodes(ctx context.Context, nodes int) (rows []figures.Row, err error) {
	var chosen []workload
	needed := map[string]bool{}
	for _, w := range workloads() {
		if w.nodes == nodes && b.only.MatchString(w.name) {
			chosen = append(chosen, w)
			for _, name := range w.peers {
				needed[name] = true
			}
		}
	}
	running := map[string]*peer.Broker{}
	defer func() {
		for _, br := range running {
			br.Stop()
			err = errors.Join(err, os.RemoveAll(br.Dir))
		}
	}()
	for _, k := range b.kinds {
		if nodes == 0 || !needed[k.Name] {
			continue
		}
		dir := filepath.Join(b.root, fmt.Sprintf("%s-%d", k.Name, nodes))
		if running[k.Name], err = k.Start(ctx, peer.Options{Dir: dir, Nodes: nodes}); err != nil {
			delete(running, k.Name)
			return nil, fmt.Errorf("%s: %w", k.Name, err)
		}
	}
	if err := b.warm(ctx, nodes, running); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	for i := range chosen {
		row, err := b.rounds(ctx, &chosen[i], running, i)
		if len(row.Runs) > 0 {
			rows = append(rows, row)
		}
		if err != nil {
			return rows, fmt.Errorf("%s: %w", chosen[i].name, err)
		}
	}
	return rows, nil
}

// rounds lets the brokers take turns at a workload; who begins changes every round.
func (b *bench) rounds(
	ctx context.Context, w *workload, running map[string]*peer.Broker, number int,
) (figures.Row, error) {
	row := figures.Row{Workload: w.name, Group: w.group, Runs: map[string][]figures.Result{}}
	contenders, rounds := b.contenders(w), b.settings.rounds
	if w.rounds > 0 {
		rounds = min(rounds, w.rounds)
	}
	for round := range rounds {
		for i := range contenders {
			t := contenders[(i+round)%len(contenders)]
			t.broker, t.round = running[t.kind.Name], round
			t.dir = filepath.Join(b.root, fmt.Sprintf("fresh-%s", t.kind.Name))
			t.topic = fmt.Sprintf("bench-%d-%d-%d", w.nodes, number, round)
			r, err := w.run(ctx, t)
			name := cmp.Or(t.way, t.kind.Name)
			if err != nil {
				if t.broker != nil {
					err = errors.Join(err, t.broker.Died())
				}
				return row, fmt.Errorf("%s: %w", name, err)
			}
			row.Runs[name] = append(row.Runs[name], r)
		}
	}
	b.rates[w.name] = least(row, figures.Result.RecordsPerSecond)
	b.requests[w.name] = least(row, figures.Result.RequestsPerSecond)
	fmt.Fprintln(os.Stderr, "done:", w.name)
	return row, nil
}

// contenders are those who take turns at the workload, as turns that lack the round's own.
func (b *bench) contenders(w *workload) (all []turn) {
	for _, k := range b.kinds {
		if !slices.Contains(w.peers, k.Name) {
			continue
		}
		if len(w.ways) == 0 {
			all = append(all, turn{bench: b, kind: k, work: w})
		}
		for _, way := range w.ways {
			all = append(all, turn{bench: b, kind: k, work: w, way: way})
		}
	}
	return all
}

// least is the smallest of the brokers' medians.
func least(row figures.Row, value func(figures.Result) float64) (least float64) {
	for name := range row.Runs {
		median, _, _ := row.Median(name, value)
		if least == 0 || median > 0 && median < least {
			least = median
		}
	}
	return least
}

// rate is how many requests per second the slowest broker answered in a workload that
// was run before; otherwise, if it was not.
func (b *bench) rate(name string, otherwise float64) float64 {
	if r := b.requests[name]; r > 0 {
		return r
	}
	return otherwise
}

// warmRounds are enough for Java to have compiled what runs often: with one, Kafka used
// up to twice the CPU in the first two rounds that were counted.
const warmRounds = 4

// warm gives each broker loads that are not counted. Without other brokers than our own
// there is nothing to warm.
func (b *bench) warm(ctx context.Context, nodes int, running map[string]*peer.Broker) error {
	if !b.peers {
		return nil
	}
	for _, k := range b.kinds {
		if running[k.Name] == nil || k.Name == peer.NATS {
			continue
		}
		t := turn{bench: b, kind: k, broker: running[k.Name], work: &workload{nodes: nodes}}
		for i := range 2 * warmRounds {
			t.topic = fmt.Sprintf("bench-%d-warm-%d", nodes, i)
			if err := t.warm(ctx, []raw.Shape{large, small}[i%2]); err != nil {
				return fmt.Errorf("%s: %w", k.Name, err)
			}
		}
	}
	return nil
}

// timed runs a load on the broker and fills in what the broker used meanwhile.
func (t turn) timed(
	ctx context.Context, load func() (figures.Result, error),
) (figures.Result, error) {
	mallocs, err := t.broker.Mallocs(ctx)
	if err != nil {
		return figures.Result{}, err
	}
	before, err := t.broker.Usage()
	if err != nil {
		return figures.Result{}, err
	}
	r, err := load()
	if err != nil {
		return figures.Result{}, err
	}
	after, err := t.broker.Usage()
	if err != nil {
		return r, err
	}
	r.CPU, r.RSS = after.CPU-before.CPU, after.RSS
	mallocsAfter, err := t.broker.Mallocs(ctx)
	r.Allocs = mallocsAfter - mallocs
	return r, err
}
