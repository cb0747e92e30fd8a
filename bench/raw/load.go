//go:build linux

package raw

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	connectTimeout = 5 * time.Second
	leadersTimeout = 60 * time.Second
	leadersAgain   = 20 * time.Millisecond
	loadTimeout    = 60 * time.Second // beyond what a load is given
)

// Acks of a Load.
const (
	AcksLeader = 1
	AcksAll    = -1
)

// Load is what a Driver does to a topic that is there.
type Load struct {
	Leaders []string // address of each partition's leader: Leaders, or SameLeader
	Topic   string
	Conns   int // connections; there is one at least for each node that leads
	Shape   Shape
	Acks    int16 // AcksLeader or AcksAll
	Window  int   // requests under way on a connection, at most; 1 or more

	// A load ends when it moved so many bytes, before compression, or was at it for so
	// long, whichever is first. One of them is given.
	Bytes int64
	For   time.Duration
}

// SameLeader are the leaders of so many partitions of a broker of one node.
func SameLeader(addr string, partitions int) []string {
	return slices.Repeat([]string{addr}, partitions)
}

// Leaders asks the brokers who leads each partition of a topic, until each has a leader
// that serves it and all of its replicas are in sync.
func Leaders(ctx context.Context, addrs []string, topic string, partitions int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, leadersTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(addrs...))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	tick := time.NewTicker(leadersAgain)
	defer tick.Stop()
	for {
		leaders, err := askLeaders(ctx, kadm.NewClient(client), topic)
		if err == nil && len(leaders) == partitions {
			return leaders, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("leaders of %s: %w", topic, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

func askLeaders(ctx context.Context, admin *kadm.Client, topic string) ([]string, error) {
	m, err := admin.Metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := m.Topics[topic].Err; err != nil {
		return nil, err
	}
	at := map[int32]string{}
	for _, n := range m.Brokers {
		at[n.NodeID] = fmt.Sprintf("%s:%d", n.Host, n.Port)
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error() // of a leader that does not know yet that it is
	}
	if err != nil {
		return nil, err
	}
	var leaders []string
	for _, p := range m.Topics[topic].Partitions.Sorted() {
		if p.Err != nil {
			return nil, p.Err
		}
		if at[p.Leader] == "" || len(p.ISR) < len(p.Replicas) {
			return nil, fmt.Errorf("partition %d has leader %d and in sync %v of %v",
				p.Partition, p.Leader, p.ISR, p.Replicas)
		}
		leaders = append(leaders, at[p.Leader])
	}
	return leaders, nil
}

// share is a connection's part of a load.
type share struct {
	addr       string
	partitions []int32
}

// shares spreads connections over the nodes that lead, by turns, and the partitions of
// each node over its connections. Connections beyond the number of a node's partitions
// share them.
func shares(leaders []string, conns int) []share {
	led := map[string][]int32{}
	var addrs []string // in order, so that it is the same every time
	for p, addr := range leaders {
		if led[addr] == nil {
			addrs = append(addrs, addr)
		}
		led[addr] = append(led[addr], int32(p))
	}
	all := make([]share, max(conns, len(addrs)))
	for i := range all {
		addr := addrs[i%len(addrs)]
		// The node's connections are numbers i%len(addrs), then every len(addrs)-th.
		turn, of := i/len(addrs), (len(all)-i%len(addrs)+len(addrs)-1)/len(addrs)
		all[i].addr = addr
		for k, p := range led[addr] {
			if len(led[addr]) <= of && k == turn%len(led[addr]) || len(led[addr]) > of && k%of == turn {
				all[i].partitions = append(all[i].partitions, p)
			}
		}
	}
	return all
}

// Driver has the connections of a Load, and does it. It does one thing at a time.
type Driver struct {
	load  Load
	batch Batch
	lanes []*lane
}

// lane is one connection, driven by one goroutine.
type lane struct {
	conn       *net.TCPConn
	partitions []int32
	sent       []int64 // batches acknowledged, of each of partitions
	latencies  []time.Duration
	bytes      int64 // uncompressed
	requests   int64
}

// Dial builds the frames and connects. Close what it returns.
func Dial(ctx context.Context, l Load) (*Driver, error) {
	if l.Window < 1 || l.Bytes == 0 && l.For == 0 || len(l.Leaders) == 0 {
		return nil, fmt.Errorf("load %+v has no window, no end, or no partitions", l)
	}
	d := &Driver{load: l}
	var err error
	if d.batch, err = l.Shape.Batch(); err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: connectTimeout}
	for _, s := range shares(l.Leaders, l.Conns) {
		c, err := dialer.DialContext(ctx, "tcp", s.addr)
		if err != nil {
			d.Close()
			return nil, err
		}
		d.lanes = append(d.lanes, &lane{conn: c.(*net.TCPConn), partitions: s.partitions,
			sent: make([]int64, len(s.partitions))})
	}
	return d, nil
}

// Close closes the connections.
func (d *Driver) Close() {
	for _, l := range d.lanes {
		_ = l.conn.Close()
	}
}

// Batch is what the driver sends.
func (d *Driver) Batch() Batch { return d.batch }

// Holds returns how many batches the driver has put into each partition.
func (d *Driver) Holds() []int64 {
	holds := make([]int64, len(d.load.Leaders))
	for _, l := range d.lanes {
		for i, p := range l.partitions {
			holds[p] += l.sent[i]
		}
	}
	return holds
}

// Outcome is what a driver did.
type Outcome struct {
	Requests  int64 // Produce or Fetch requests that were answered
	Records   int64
	Bytes     int64 // of batches, uncompressed
	Took      time.Duration
	Latencies []time.Duration // in no order
}

// first returns the first error: what breaks one connection breaks others alike.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// onEach runs f on every connection at once, and sums up.
func (d *Driver) onEach(ctx context.Context, f func(l *lane) error) (Outcome, error) {
	for _, l := range d.lanes {
		l.requests, l.bytes, l.latencies = 0, 0, l.latencies[:0]
		// A connection that fails to take a deadline fails to do anything else.
		_ = l.conn.SetDeadline(time.Now().Add(d.load.For + loadTimeout))
		stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	errs := make([]error, len(d.lanes))
	began := time.Now()
	var wg sync.WaitGroup
	for i, l := range d.lanes {
		wg.Go(func() { errs[i] = f(l) })
	}
	wg.Wait()
	o := Outcome{Took: time.Since(began)}
	for _, l := range d.lanes {
		o.Requests += l.requests
		o.Bytes += l.bytes
		o.Latencies = append(o.Latencies, l.latencies...)
	}
	o.Records = o.Bytes / int64(d.batch.Plain) * int64(d.batch.Records)
	// What ended the context explains what happened to the connections then.
	if err := context.Cause(ctx); err != nil {
		return o, err
	}
	return o, first(errs)
}
