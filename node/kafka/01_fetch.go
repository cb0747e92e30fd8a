package kafka

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// Fetch, key 1, versions 4 to 18: read record batches.
//
//	v4   record batch format v2, isolation level
//	v5   log start offsets
//	v7   fetch sessions (KIP-227), which are declined
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
// A request for a session is answered with session id 0, which every client
// takes as "none": it then names all partitions in each request, and expects
// exactly those in the answer. Incremental requests cannot come from a session
// of ours and are told so.
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
}

// fetch takes a Fetch request from the reader. It answers or parks it.
func (c *conn) fetch(e *exchange, req *kmsg.FetchRequest) {
	f := &fetchCall{conn: c, e: e, version: req.Version}
	if req.IsolationLevel == int8(data.ReadCommitted) {
		f.level = data.ReadCommitted
	}
	if req.SessionEpoch > 0 || req.SessionEpoch < -1 {
		f.code = codeFetchSessionIDNotFound
		f.answer()
		return
	}
	f.maxBytes = min(max(int(req.MaxBytes), 0), c.s.config.FetchMaxBytes)
	f.minBytes = min(max(int(req.MinBytes), 0), f.maxBytes)
	f.wait = min(time.Duration(req.MaxWaitMillis)*time.Millisecond, fetchWaitMax)
	f.plan(req)
	enough := f.wait <= 0 || len(f.parts) == 0
	f.holding(func() { enough = f.readAll() || enough })
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
	image := f.conn.s.cluster.Image()
	n := 0
	f.topics = make([]fetchTopic, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		n += len(t.Partitions)
		f.topics[i] = fetchTopic{name: t.Topic, id: t.TopicID, end: n}
		if f.version >= 13 {
			f.topics[i].topic = image.TopicByID(t.TopicID)
		} else {
			f.topics[i].topic = image.Topic(t.Topic)
		}
	}
	f.parts = make([]fetchPart, 0, n)
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			f.parts = append(f.parts, f.part(&f.topics[i], &req.Topics[i].Partitions[j]))
		}
	}
}

func (f *fetchCall) part(t *fetchTopic, asked *kmsg.FetchRequestTopicPartition) fetchPart {
	p := fetchPart{
		index:    asked.Partition,
		maxBytes: max(int(asked.PartitionMaxBytes), 0),
		read: data.Read{
			From:         messages.Offset(asked.FetchOffset),
			Isolation:    f.level,
			CurrentEpoch: messages.LeaderEpoch(asked.CurrentLeaderEpoch),
			LastEpoch:    messages.LeaderEpoch(asked.LastFetchedEpoch),
		},
	}
	var err error
	switch {
	case t.topic == nil && f.version >= 13:
		err = messages.ErrUnknownTopicID
	case t.topic == nil:
		err = messages.ErrUnknownTopicOrPartition
	default:
		p.from, err = f.conn.s.partitions.Partition(t.topic, asked.Partition)
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
