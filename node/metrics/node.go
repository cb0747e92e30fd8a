package metrics

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Build names the running build.
type Build struct {
	Version string
	Commit  string
	Go      string
}

// Node holds the metrics of one node. All methods may be called by any
// goroutine.
type Node struct {
	registry *prometheus.Registry
	source   atomic.Pointer[func() Snapshot]

	apis   apiCounters
	topics topicCounters

	connections         prometheus.Gauge
	connectionsCreated  prometheus.Counter
	connectionsRejected *prometheus.CounterVec
	sessionsEvicted     prometheus.Counter
	sessions            prometheus.Gauge
	bytesIn, bytesOut   prometheus.Counter

	flushMs                           prometheus.Observer
	compactionMs                      prometheus.Observer
	compactionRead, compactionRemoved prometheus.Counter
	compactedAt                       atomic.Int64 // in Unix milliseconds

	recovered         prometheus.Counter
	recoveryMs        prometheus.Observer
	recoveryTruncated prometheus.Counter

	isrShrinks, isrExpands      prometheus.Counter
	replicatedIn, replicatedOut prometheus.Counter

	restarts    *prometheus.CounterVec
	deadLetters prometheus.Counter
}

// New makes the metrics of a node, with those of the process and the Go runtime
// beside them.
func New(b Build) *Node {
	r := prometheus.NewRegistry()
	n := &Node{
		registry:            r,
		apis:                newAPICounters(r),
		topics:              newTopicCounters(r),
		connections:         gauge(r, connections),
		connectionsCreated:  counter(r, connectionsCreated),
		connectionsRejected: counters(r, connectionsRejected),
		sessionsEvicted:     counter(r, fetchSessionEvictions),
		sessions:            gauge(r, sessions),
		bytesIn:             counter(r, clientBytesIn),
		bytesOut:            counter(r, clientBytesOut),
		flushMs:             histogram(r, logFlushMs),
		compactionMs:        histogram(r, compactionMs),
		compactionRead:      counter(r, compactionRead),
		compactionRemoved:   counter(r, compactionRemoved),
		recovered:           counter(r, recoveryDone),
		recoveryMs:          histogram(r, recoveryMs),
		recoveryTruncated:   counter(r, recoveryTruncatedBytes),
		isrShrinks:          counter(r, isrShrinks),
		isrExpands:          counter(r, isrExpands),
		replicatedIn:        counter(r, replicationBytesIn),
		replicatedOut:       counter(r, replicationBytesOut),
		restarts:            counters(r, actorRestarts),
		deadLetters:         counter(r, deadLetters),
	}
	n.compactedAt.Store(time.Now().UnixMilli())
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: table[sinceCompaction].Name, Help: table[sinceCompaction].Help,
	}, func() float64 { return float64(time.Now().UnixMilli() - n.compactedAt.Load()) }))
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: table[buildInfo].Name, Help: table[buildInfo].Help,
	}, table[buildInfo].Labels)
	build.WithLabelValues(b.Version, b.Commit, b.Go).Set(1)
	r.MustRegister(build, &collector{source: &n.source},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return n
}

// Bounds of a scrape: a monitoring system asks every few seconds, one at a time.
const (
	scrapesMax    = 3 // at once; more are answered with 503
	scrapeTimeout = 10 * time.Second
)

// Handler serves the metrics over HTTP.
func (n *Node) Handler() http.Handler {
	return promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: scrapesMax,
		Timeout:             scrapeTimeout,
		ErrorHandling:       promhttp.ContinueOnError,
	})
}

// Observe sets what scrapes read the state of the node from. Until then the
// gauges of the state are absent. source runs once per scrape, may run more
// than once at a time, and must not block on actors or the disk.
func (n *Node) Observe(source func() Snapshot) {
	n.source.Store(&source)
}

// ConnectionOpened counts a client connection that was accepted.
func (n *Node) ConnectionOpened() {
	n.connections.Inc()
	n.connectionsCreated.Inc()
}

// ConnectionClosed counts the end of a connection that was opened.
func (n *Node) ConnectionClosed() { n.connections.Dec() }

// ConnectionRejected counts a connection this node closed before its time. The
// reasons are constants of the caller, never input.
func (n *Node) ConnectionRejected(reason string) {
	n.connectionsRejected.WithLabelValues(reason).Inc()
}

// FetchSessionEvicted counts a fetch session that made way for another.
func (n *Node) FetchSessionEvicted() { n.sessionsEvicted.Inc() }

// SessionOpened counts a session of a program that uses the SDK, SessionClosed its end.
func (n *Node) SessionOpened() { n.sessions.Inc() }

// SessionClosed counts the end of a session that was opened.
func (n *Node) SessionClosed() { n.sessions.Dec() }

// BytesIn counts bytes of request frames.
func (n *Node) BytesIn(bytes int) { n.bytesIn.Add(float64(bytes)) }

// BytesOut counts bytes of response frames.
func (n *Node) BytesOut(bytes int) { n.bytesOut.Add(float64(bytes)) }

// LogFlushed counts a flush of a log and how long it took.
func (n *Node) LogFlushed(took time.Duration) { n.flushMs.Observe(milliseconds(took)) }

// Compacted counts a compaction, how long it took, what it read and by how many
// bytes the log is shorter.
func (n *Node) Compacted(took time.Duration, read, removed int64) {
	n.compactionMs.Observe(milliseconds(took))
	n.compactionRead.Add(float64(max(read, 0)))
	n.compactionRemoved.Add(float64(max(removed, 0)))
	n.compactedAt.Store(time.Now().UnixMilli())
}

// PartitionRecovered counts a partition that was opened, how long that took and
// how many bytes recovery cut off its log.
func (n *Node) PartitionRecovered(took time.Duration, truncatedBytes int64) {
	n.recovered.Inc()
	n.recoveryMs.Observe(milliseconds(took))
	n.recoveryTruncated.Add(float64(truncatedBytes))
}

// ISRChanged counts a change of an in-sync set by so many replicas, fewer with
// less than 0.
func (n *Node) ISRChanged(by int) {
	if by < 0 {
		n.isrShrinks.Inc()
	} else {
		n.isrExpands.Inc()
	}
}

// ReplicatedIn counts bytes of batches that came from leaders on other nodes.
func (n *Node) ReplicatedIn(bytes int) { n.replicatedIn.Add(float64(bytes)) }

// ReplicatedOut counts bytes of batches that went to followers on other nodes.
func (n *Node) ReplicatedOut(bytes int) { n.replicatedOut.Add(float64(bytes)) }

// ActorRestarted counts a restart by a supervisor. The kinds are constants.
func (n *Node) ActorRestarted(kind string) { n.restarts.WithLabelValues(kind).Inc() }

// DeadLetter counts a message to an actor that no longer exists.
func (n *Node) DeadLetter() { n.deadLetters.Inc() }

func milliseconds(d time.Duration) float64 {
	return float64(d) / float64(time.Millisecond)
}

func counter(r *prometheus.Registry, i id) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: table[i].Name, Help: table[i].Help,
	})
	r.MustRegister(c)
	return c
}

func counters(r *prometheus.Registry, i id) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: table[i].Name, Help: table[i].Help,
	}, table[i].Labels)
	r.MustRegister(v)
	return v
}

func gauge(r *prometheus.Registry, i id) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: table[i].Name, Help: table[i].Help})
	r.MustRegister(g)
	return g
}

func histogram(r *prometheus.Registry, i id) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: table[i].Name, Help: table[i].Help, Buckets: table[i].Buckets,
	})
	r.MustRegister(h)
	return h
}

func histograms(r *prometheus.Registry, i id) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: table[i].Name, Help: table[i].Help, Buckets: table[i].Buckets,
	}, table[i].Labels)
	r.MustRegister(v)
	return v
}
