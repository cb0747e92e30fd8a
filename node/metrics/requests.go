package metrics

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Bounds of the tables of resolved counters. They hold all of Kafka's keys,
// versions and errors with room to grow; what is outside is counted too, after a
// slower lookup.
const (
	keysMax     = 128
	versionsMax = 32
	errorsMax   = 192
	errorsMin   = -1 // UNKNOWN_SERVER_ERROR
)

// apiCounters counts by API key. Counters are resolved at their first use, so
// that a scrape shows only APIs that somebody called.
type apiCounters struct {
	requests *prometheus.CounterVec
	errors   *prometheus.CounterVec
	timeMs   *prometheus.HistogramVec
	byKey    *[keysMax]apiCounter
}

type apiCounter struct {
	byVersion [versionsMax]atomic.Pointer[prometheus.Counter]
	byError   [errorsMax]atomic.Pointer[prometheus.Counter] // index: code - errorsMin
	timeMs    atomic.Pointer[prometheus.Observer]
}

func newAPICounters(r *prometheus.Registry) apiCounters {
	return apiCounters{
		requests: counters(r, requests),
		errors:   counters(r, requestErrors),
		timeMs:   histograms(r, requestTimeMs),
		byKey:    new([keysMax]apiCounter),
	}
}

// Request counts a request of a known API and version that was answered, and
// how long that took from its last byte read to its response handed over.
func (n *Node) Request(key, version int16, took time.Duration) {
	n.apis.request(key, version).Inc()
	n.apis.time(key).Observe(milliseconds(took))
}

// RequestError counts an error code other than 0 in the answer to a partition.
func (n *Node) RequestError(key, code int16) {
	n.apis.error(key, code).Inc()
}

func (a *apiCounters) request(key, version int16) prometheus.Counter {
	if !within(key, keysMax) || !within(version, versionsMax) {
		return a.requests.WithLabelValues(apiName(key), strconv.Itoa(int(version)))
	}
	place := &a.byKey[key].byVersion[version]
	if c := place.Load(); c != nil {
		return *c
	}
	c := a.requests.WithLabelValues(apiName(key), strconv.Itoa(int(version)))
	place.Store(&c)
	return c
}

func (a *apiCounters) error(key, code int16) prometheus.Counter {
	if !within(key, keysMax) || !within(code-errorsMin, errorsMax) {
		return a.errors.WithLabelValues(apiName(key), errorName(code))
	}
	place := &a.byKey[key].byError[code-errorsMin]
	if c := place.Load(); c != nil {
		return *c
	}
	c := a.errors.WithLabelValues(apiName(key), errorName(code))
	place.Store(&c)
	return c
}

func (a *apiCounters) time(key int16) prometheus.Observer {
	if !within(key, keysMax) {
		return a.timeMs.WithLabelValues(apiName(key))
	}
	place := &a.byKey[key].timeMs
	if o := place.Load(); o != nil {
		return *o
	}
	o := a.timeMs.WithLabelValues(apiName(key))
	place.Store(&o)
	return o
}

func within(i int16, max int) bool { return i >= 0 && int(i) < max }

// inKafkasWords turns kmsg's spelling of an API's name into Kafka's.
var inKafkasWords = strings.NewReplacer("ISR", "Isr", "SASL", "Sasl", "ID", "Id", "ACL", "Acl",
	"SCRAM", "Scram", "PartitionAssignments", "PartitionReassignments")

// apiName is Kafka's name of an API. Kafka's metrics tell a consumer's Fetch
// from a follower's, and dashboards ask for FetchConsumer; nobody else fetches
// through the listener.
func apiName(key int16) string {
	if key == int16(kmsg.Fetch) {
		return "FetchConsumer"
	}
	return inKafkasWords.Replace(kmsg.NameForKey(key))
}

// errorName is Kafka's name of an error code, the code itself if it has none.
func errorName(code int16) string {
	switch code {
	case 0:
		return "NONE"
	case kerr.NotLeaderForPartition.Code:
		return "NOT_LEADER_OR_FOLLOWER" // kerr has the name it had before Kafka 2.6
	}
	if e := kerr.TypedErrorForCode(code); e != nil && e.Code == code {
		return e.Message
	}
	return strconv.Itoa(int(code))
}
