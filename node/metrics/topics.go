package metrics

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// topicsMax bounds the topics that are counted by themselves. The others share
// the label otherTopics, which no topic can have as its name.
const (
	topicsMax   = 10_000
	otherTopics = "(other)"
)

// Topic counts for one topic. Get one from Node.Topic per batch or keep it; a
// Topic that was forgotten counts for nobody.
type Topic struct {
	messagesIn, bytesIn, bytesOut prometheus.Counter
	produces, failedProduces      prometheus.Counter
	fetches, failedFetches        prometheus.Counter
}

// topicCounters caches the counters of topics. Lookups take no lock: the map is
// replaced as a whole, and that happens once in the life of a topic.
type topicCounters struct {
	vecs   [topicVecs]*prometheus.CounterVec
	byName *atomic.Pointer[map[string]*Topic]
	change *sync.Mutex // guards replacing the map
	max    int
}

const topicVecs = 7

func newTopicCounters(r *prometheus.Registry) topicCounters {
	t := topicCounters{
		byName: new(atomic.Pointer[map[string]*Topic]), change: new(sync.Mutex), max: topicsMax,
	}
	for i, metric := range [topicVecs]id{
		messagesIn, bytesIn, bytesOut,
		totalProduceRequests, failedProduceRequests,
		totalFetchRequests, failedFetchRequests,
	} {
		t.vecs[i] = counters(r, metric)
	}
	t.byName.Store(&map[string]*Topic{})
	return t
}

// Topic returns the counters of a topic, which must exist: names that clients
// made up would fill the table.
func (n *Node) Topic(name string) *Topic {
	if t, ok := (*n.topics.byName.Load())[name]; ok {
		return t
	}
	return n.topics.add(name)
}

// ForgetTopic ends the series of a topic that was deleted.
func (n *Node) ForgetTopic(name string) {
	t := &n.topics
	t.change.Lock()
	defer t.change.Unlock()
	old := *t.byName.Load()
	if _, ok := old[name]; !ok || name == otherTopics {
		return
	}
	next := maps.Clone(old)
	delete(next, name)
	t.byName.Store(&next)
	for _, v := range t.vecs {
		v.DeleteLabelValues(name)
	}
}

func (t *topicCounters) add(name string) *Topic {
	t.change.Lock()
	defer t.change.Unlock()
	old := *t.byName.Load()
	if len(old) >= t.max {
		name = otherTopics
	}
	if topic, ok := old[name]; ok {
		return topic
	}
	topic := t.resolve(name)
	next := maps.Clone(old)
	next[name] = topic
	t.byName.Store(&next)
	return topic
}

func (t *topicCounters) resolve(name string) *Topic {
	return &Topic{
		messagesIn:     t.vecs[0].WithLabelValues(name),
		bytesIn:        t.vecs[1].WithLabelValues(name),
		bytesOut:       t.vecs[2].WithLabelValues(name),
		produces:       t.vecs[3].WithLabelValues(name),
		failedProduces: t.vecs[4].WithLabelValues(name),
		fetches:        t.vecs[5].WithLabelValues(name),
		failedFetches:  t.vecs[6].WithLabelValues(name),
	}
}

// Produced counts a partition of a Produce request that was appended.
func (t *Topic) Produced(records, bytes int) {
	t.produces.Inc()
	t.messagesIn.Add(float64(records))
	t.bytesIn.Add(float64(bytes))
}

// ProduceFailed counts a partition of a Produce request answered with an error.
func (t *Topic) ProduceFailed() {
	t.produces.Inc()
	t.failedProduces.Inc()
}

// Fetched counts a partition of a Fetch request and the bytes it was answered with.
func (t *Topic) Fetched(bytes int) {
	t.fetches.Inc()
	t.bytesOut.Add(float64(bytes))
}

// FetchFailed counts a partition of a Fetch request answered with an error.
func (t *Topic) FetchFailed() {
	t.fetches.Inc()
	t.failedFetches.Inc()
}
