package kafka

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/node/kafka/sessions"
)

// Fetch, key 1, versions 4 to 18: read record batches.
//
//	v4   record batch format v2, isolation level
//	v5   log start offsets
//	v7   fetch sessions (KIP-227), see 01_fetch_session.go
//	v9   leader epochs are checked (KIP-320)
//	v10  zstd (KIP-110)
//	v11  rack and preferred replica (KIP-392); the leader serves everybody
//	v12  flexible encoding, diverging epochs (KIP-595)
//	v13  topic ids instead of names (KIP-516)
//	v15  the replica's state is a tagged field (KIP-903); followers do not fetch here
//	v16  where the leader is, for a consumer that asked the wrong node (KIP-951)
//	v17  the directory of a follower's replica (KIP-853), passed over
//	v18  the high watermark that a follower knows (KIP-1166), passed over
//
// A request that asks for a session is served like one that does not, and gets one with
// its answer if there is room. An incremental request of a session is about all the
// partitions of the session; only those are looked at that it names or that have news.
//
// The answer leaves at once if it has min_bytes, or any partition has an error
// or a diverging epoch. Otherwise the request is parked: it is tried again when
// a partition has more, and answered as it is when max_wait is over or the
// connection ends.

// fetchWaitMax bounds how long a request may ask to be parked. Clients ask for
// less than a second; answers behind a parked Fetch occupy memory.
const fetchWaitMax = 5 * time.Minute

// fetchCall is one Fetch request under way.
type fetchCall struct {
	conn     *conn
	e        *exchange
	version  int16
	minBytes int
	maxBytes int // of records in the answer
	wait     time.Duration
	level    data.Isolation

	session   *fetchSession // that the request goes on with; nil: it stands for itself
	sessionID int32         // of the answer
	epoch     int32         // of the session's next request
	opens     bool          // the client asks for a session

	code   int16 // of the whole answer; no topics then
	topics []fetchTopic
	parts  []fetchPart // of all topics, in the order of the request
	parked *fetchPark  // nil until it is parked
}

// fetchTopic is one topic of a request.
type fetchTopic struct {
	name  string
	id    messages.TopicID
	topic *messages.Topic // nil: there is none
	end   int             // parts up to here are of this topic or one before
}

// fetchPart is one partition of a request, and what was last read from it.
type fetchPart struct {
	index    int32
	maxBytes int
	read     data.Read
	from     Partition // nil: code stands
	code     int16
	result   data.ReadResult

	cached *cachedPart     // nil: of no session
	topic  *messages.Topic // of a session; nil: there is none
}

// visible is how far the reader may see.
func (p *fetchPart) visible() messages.Offset {
	if p.read.Isolation == data.ReadCommitted {
		return p.result.LastStable
	}
	return p.result.HighWatermark
}

// fetch takes a Fetch request from the reader. It answers or parks it.
func (c *conn) fetch(e *exchange, req *kmsg.FetchRequest) {
	f := &fetchCall{conn: c, e: e, version: req.Version}
	if req.IsolationLevel == int8(data.ReadCommitted) {
		f.level = data.ReadCommitted
	}
	f.maxBytes = min(max(int(req.MaxBytes), 0), c.s.config.FetchMaxBytes)
	f.minBytes = min(max(int(req.MinBytes), 0), f.maxBytes)
	f.wait = min(time.Duration(req.MaxWaitMillis)*time.Millisecond, fetchWaitMax)
	enough := false
	f.holding(func() { enough = f.start(req) })
	if enough {
		f.answer()
		return
	}
	hurry := c.hurry // the reader's to change
	c.parks = true
	c.fetches.Add(1)
	go func() {
		defer c.fetches.Done()
		defer c.recover("fetch")
		f.holding(func() { f.park(hurry) })
		f.answer()
	}()
}

// start makes the first attempt. It reports whether the answer should leave now.
func (f *fetchCall) start(req *kmsg.FetchRequest) (enough bool) {
	if ofSession(req) {
		if enough = f.resume(req); f.session != nil || f.code != codeNone {
			return enough
		}
	} else if req.SessionID != 0 {
		f.conn.s.sessions.remove(req.SessionID)
	}
	f.opens = f.version >= 7 && req.SessionEpoch == sessions.InitialEpoch
	f.plan(req)
	enough = f.wait <= 0 || len(f.parts) == 0
	return f.readAll() || enough
}

// holding runs do, and gives back what was read if it panics: a bug must not
// keep segments on disk for ever.
func (f *fetchCall) holding(do func()) {
	done := false
	defer func() {
		if !done {
			f.release()
		}
	}()
	do()
	done = true
}

// plan lays out the topics and partitions of the request.
func (f *fetchCall) plan(req *kmsg.FetchRequest) {
	n := 0
	f.topics = make([]fetchTopic, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		n += len(t.Partitions)
		f.topics[i] = fetchTopic{name: t.Topic, id: t.TopicID, topic: f.topic(t.Topic, t.TopicID), end: n}
	}
	f.parts = make([]fetchPart, 0, n)
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			p := &req.Topics[i].Partitions[j]
			f.parts = append(f.parts, f.part(f.topics[i].topic, p.Partition, p.PartitionMaxBytes,
				data.Read{
					From:         messages.Offset(p.FetchOffset),
					Isolation:    f.level,
					CurrentEpoch: messages.LeaderEpoch(p.CurrentLeaderEpoch),
					LastEpoch:    messages.LeaderEpoch(p.LastFetchedEpoch),
				}))
		}
	}
}

// topic finds a topic as requests of this version name it; nil: there is none.
func (f *fetchCall) topic(name string, id messages.TopicID) *messages.Topic {
	if f.version >= 13 {
		return f.conn.s.cluster.Image().TopicByID(id)
	}
	return f.conn.s.cluster.Image().Topic(name)
}

// part lays out one partition.
func (f *fetchCall) part(t *messages.Topic, index, maxBytes int32, read data.Read) fetchPart {
	p := fetchPart{index: index, maxBytes: max(int(maxBytes), 0), read: read}
	var err error
	switch {
	case t == nil && f.version >= 13:
		err = messages.ErrUnknownTopicID
	case t == nil:
		err = messages.ErrUnknownTopicOrPartition
	default:
		p.from, err = f.conn.s.partitions.Partition(t, index)
	}
	if err != nil {
		p.fail(fetchErrorCode(err, f.version), err)
	}
	return p
}

// fail makes code the partition's answer, without records or watermarks.
func (p *fetchPart) fail(code int16, err error) {
	p.result.View.Release()
	p.from, p.code = nil, code
	p.result = data.ReadResult{Err: err, HighWatermark: messages.NoOffset,
		LastStable: messages.NoOffset, LogStart: messages.NoOffset,
		Leader: p.result.Leader}
	if p.result.Leader == (data.LeaderHint{}) {
		p.result.Leader.Leader = messages.NoNode
	}
}

// readAll reads every partition within the limits of the request. It reports
// whether the answer should leave now.
//
// The first partition that has something returns at least its first batch, even
// if that exceeds every limit: a consumer with small buffers would never get
// past it otherwise (KIP-74).
func (f *fetchCall) readAll() (enough bool) {
	f.release()
	left := f.maxBytes
	total := 0
	for i := range f.parts {
		p := &f.parts[i]
		if p.from == nil {
			enough = true
			continue
		}
		p.read.MaxBytes, p.read.MinOne = min(p.maxBytes, max(left, 0)), total == 0
		if f.readPart(p) {
			enough = true
		}
		left -= p.result.View.Bytes
		total += p.available()
	}
	return enough || total >= f.minBytes
}

// readPart reads one partition. It reports an error or a diverging epoch,
// neither of which may wait.
func (f *fetchCall) readPart(p *fetchPart) (urgent bool) {
	p.result = p.from.Read(p.read)
	p.code = fetchErrorCode(p.result.Err, f.version)
	if p.code == codeNone && f.version < 10 && zstdTopic(p.from) {
		p.fail(codeUnsupportedCompressionType, messages.ErrUnsupportedCompression)
	}
	return p.code != codeNone || p.result.Diverging != nil
}

// available is how many bytes a partition has for the reader, up to what it
// asked for, as Kafka counts them for min_bytes: whole batches seldom fill a
// limit to the byte, and a consumer whose minimum is its limit must not wait.
func (p *fetchPart) available() int {
	if p.result.View.More {
		return max(p.result.View.Bytes, p.maxBytes)
	}
	return p.result.View.Bytes
}

// zstdTopic reports whether a topic's own codec is zstd, which clients before
// Fetch 10 are not told to read. Where producers choose the codec, an old client
// gets what is there, as from Kafka: kafka-python reads zstd with Fetch 4.
func zstdTopic(from Partition) bool {
	s := from.Settings()
	return s != nil && s.CompressionType == "zstd"
}

// release gives back all records that were read.
func (f *fetchCall) release() {
	for i := range f.parts {
		f.parts[i].result.View.Release()
	}
}

// answer encodes the response and sends it or hands it to the writer. What was read
// is released once it is sent.
func (f *fetchCall) answer() {
	if f.opens {
		f.openSession()
	}
	f.count()
	f.conn.finishNow(f.e, f.conn.fetchAnswer(f))
}

// count reports every partition to the metrics.
func (f *fetchCall) count() {
	m := f.conn.s.config.Metrics
	part := 0
	for i := range f.topics {
		t := &f.topics[i]
		var of TopicMetrics // nil: a name that a client made up is no label
		if t.topic != nil {
			of = m.Topic(t.topic.Name)
		}
		for ; part < t.end; part++ {
			p := &f.parts[part]
			if p.code != codeNone {
				m.RequestError(keyFetch, p.code)
			}
			switch {
			case of == nil:
			case p.code != codeNone:
				of.FetchFailed()
			default:
				of.Fetched(p.result.View.Bytes)
			}
		}
	}
}
