package kafka

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// place is a partition by what clients call its topic.
type place struct {
	topic string
	id    [16]byte
	index int32
}

// toldOf is what a client was told of a partition.
type toldOf struct {
	code        int16
	high, start int64
	records     string
	diverges    int64
}

// sessionClient follows a session as clients do: it remembers what it was told of each
// partition until it is told something else, and takes the records of an answer.
type sessionClient struct {
	w         *wire
	r         *rand.Rand
	version   int16
	isolation int8
	id, epoch int32
	sent      map[place]int64 // offsets, as the server knows them
	want      map[place]int64
	seen      map[place]toldOf
}

// request makes a request of some partitions at their offsets.
func (c *sessionClient) request(parts map[place]int64) *kmsg.FetchRequest {
	req := fetchFrom(c.version, 0)
	req.Topics, req.IsolationLevel = nil, c.isolation
	for _, at := range slices.SortedFunc(maps.Keys(parts), func(a, b place) int {
		return int(a.index-b.index) + 100*int(a.id[15]) - 100*int(b.id[15])
	}) {
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = at.topic, at.id
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = at.index, parts[at], 1<<20
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// answered lists what an answer tells of, by what the client calls it.
func (c *sessionClient) answered(resp *kmsg.FetchResponse) map[place]toldOf {
	got := map[place]toldOf{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			at := place{t.Topic, t.TopicID, p.Partition}
			if c.version >= 13 {
				at.topic = ""
			}
			got[at] = toldOf{p.ErrorCode, p.HighWatermark, p.LogStartOffset, string(p.RecordBatches),
				p.DivergingEpoch.EndOffset}
		}
	}
	return got
}

// fetch sends the next request of the session, or one that opens it.
func (c *sessionClient) fetch(t *testing.T) {
	changed := map[place]int64{}
	for at, offset := range c.want {
		if old, ok := c.sent[at]; !ok || old != offset || c.r.IntN(20) == 0 {
			changed[at] = offset
		}
	}
	req := c.request(changed)
	req.SessionID, req.SessionEpoch = c.id, c.epoch
	for at := range c.sent {
		if _, ok := c.want[at]; !ok {
			req.ForgottenTopics = append(req.ForgottenTopics, kmsg.FetchRequestForgottenTopic{
				Topic: at.topic, TopicID: at.id, Partitions: []int32{at.index}})
			delete(c.seen, at)
		}
	}
	resp := request[*kmsg.FetchResponse](c.w, req)
	if resp.ErrorCode != 0 {
		t.Fatalf("epoch %d: %+v", c.epoch, resp)
	}
	for at, s := range c.seen { // records come again if they were not taken
		s.records, s.diverges = "", -1
		c.seen[at] = s
	}
	maps.Copy(c.seen, c.answered(resp))
	if c.id, c.epoch = resp.SessionID, c.epoch+1; c.id == 0 {
		c.sent, c.epoch = map[place]int64{}, 0
		return
	}
	c.sent = maps.Clone(c.want)
}

// change makes the client want other partitions now and then, some that are not there.
func (c *sessionClient) change(f *fakeCluster, topics []string) {
	for _, name := range topics {
		for index := range int32(5) {
			at := place{topic: name, index: index}
			if c.version >= 13 {
				at.topic, at.id = "", f.Image().Topic(name).ID
			}
			_, wanted := c.want[at]
			switch {
			case !wanted && c.r.IntN(6) == 0:
				c.want[at] = 0
			case wanted && c.r.IntN(25) == 0:
				delete(c.want, at)
			}
		}
	}
	for at := range c.want { // topics that are gone, in the end
		if at.topic == "" && f.Image().TopicByID(at.id) == nil && c.r.IntN(5) == 0 {
			delete(c.want, at)
		}
	}
}

// take moves on behind the records that came, mostly.
func (c *sessionClient) take(t *testing.T) {
	for at, s := range c.seen {
		switch {
		case s.code == codeOffsetOutOfRange:
			c.want[at] = s.start
		case s.records != "" && c.r.IntN(4) > 0:
			c.want[at] = next(t, s.records, c.want[at])
		}
	}
}

// disturb does something to the cluster that the clients may hear of.
func disturb(t *testing.T, f *fakeCluster, r *rand.Rand, topics []string) {
	name, index := topics[r.IntN(len(topics))], r.Int32N(4)
	p := f.replica(name, index)
	switch r.IntN(9) {
	case 0:
		err := []error{nil, nil, messages.ErrNotLeader, messages.ErrStorage}[r.IntN(4)]
		p.edit(func(p *fakePartition) { p.err = err })
	case 1:
		p.edit(func(p *fakePartition) { p.start = min(p.start+1, p.high) })
	case 2:
		p.edit(func(p *fakePartition) { p.hold = !p.hold })
	case 3:
		p.edit(func(p *fakePartition) { p.high = p.endLocked() })
	case 4:
		p.edit(func(p *fakePartition) { p.stable = p.high })
	case 5:
		err := []error{nil, nil, messages.ErrNotLeader}[r.IntN(3)]
		f.fail(name, index, err)
		p.edit(func(*fakePartition) {}) // as whoever led before tells
	case 6:
		if r.IntN(10) != 0 {
			return
		}
		var old []*fakePartition
		for i := range int32(4) {
			old = append(old, f.replica(name, i))
		}
		_, _ = f.DeleteTopics(context.Background(), []messages.TopicRef{{Name: name}})
		f.addTopic(name, 4)
		for _, p := range old {
			p.edit(func(p *fakePartition) { p.err = messages.ErrNotLeader })
		}
	default:
		p.edit(func(p *fakePartition) { p.err = nil })
		appendTo(t, p)
	}
}

// A client with a session and one that asks for everything each time must see the same,
// whatever happens meanwhile.
func TestAClientWithASessionSeesWhatOneWithoutSees(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			f := withTopic(4)
			f.addTopic("u", 4)
			topics := []string{"t", "u"}
			s := serveFake(t, f, Config{})
			c := &sessionClient{w: dial(t, s), r: r, version: int16(7 + r.IntN(12)),
				isolation: int8(r.IntN(2)),
				sent:      map[place]int64{}, want: map[place]int64{}, seen: map[place]toldOf{}}
			full := dial(t, s)
			for range 150 {
				for range r.IntN(4) {
					disturb(t, f, r, topics)
				}
				c.change(f, topics)
				if len(c.want) == 0 {
					continue
				}
				c.fetch(t)
				resp := request[*kmsg.FetchResponse](full, c.request(c.want))
				if want := c.answered(resp); !maps.Equal(c.seen, want) {
					t.Fatalf("v%d: with a session\n%+v\nwithout\n%+v", c.version, c.seen, want)
				}
				c.take(t)
			}
		})
	}
}

// appendTo appends a batch of one record to a partition.
func appendTo(t *testing.T, p *fakePartition) {
	t.Helper()
	b, _, err := record.Parse(batchOf(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	p.Append(&data.Append{Batch: b, Done: func(data.AppendResult) {}})
}

// next is the offset behind some batches, the first of which begins at an offset.
func next(t *testing.T, batches string, at int64) int64 {
	t.Helper()
	for b := []byte(batches); len(b) > 0; {
		batch, rest, err := record.Parse(b)
		if err != nil || int64(batch.BaseOffset) != at {
			t.Fatalf("a batch at %d, want %d: %v", batch.BaseOffset, at, err)
		}
		at, b = int64(batch.NextOffset()), rest
	}
	return at
}

func TestAClientWithASessionReadsTheWholeLogWhileItGrows(t *testing.T) {
	const partitions, batches = 8, 60
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			f := withTopic(partitions)
			s := serveFake(t, f, Config{})
			c := &sessionClient{r: r, version: int16(7 + r.IntN(12)), sent: map[place]int64{},
				want: map[place]int64{}, seen: map[place]toldOf{}}
			for i := range int32(partitions) {
				at := place{topic: "t", index: i}
				if c.version >= 13 {
					at.topic, at.id = "", f.Image().Topic("t").ID
				}
				c.want[at] = 0
			}
			var producer sync.WaitGroup
			producer.Go(func() {
				for range batches {
					for i := range int32(partitions) {
						appendTo(t, f.replica("t", i))
					}
				}
			})
			defer producer.Wait()
			conns := []*wire{dial(t, s), dial(t, s)}
			size := len(batchOf(t, "a"))
			for left := partitions * batches; left > 0; {
				c.w = conns[r.IntN(2)]
				// One that wants a byte need not wait long: there is more to come.
				wait, minBytes := int32(60_000), int32(1)
				if r.IntN(2) == 0 {
					wait, minBytes = 20, int32(r.IntN(4*size))
				}
				got := c.fetchSome(t, wait, minBytes, int32(r.IntN(6*size)))
				for at, told := range got {
					left -= int(next(t, told.records, c.want[at]) - c.want[at])
					c.want[at] = next(t, told.records, c.want[at])
				}
			}
		})
	}
}

// fetchSome fetches what changed within limits, and returns what came.
func (c *sessionClient) fetchSome(t *testing.T, wait, minBytes, maxBytes int32,
) map[place]toldOf {
	t.Helper()
	changed := map[place]int64{}
	for at, offset := range c.want {
		if old, ok := c.sent[at]; !ok || old != offset {
			changed[at] = offset
		}
	}
	req := c.request(changed)
	req.SessionID, req.SessionEpoch = c.id, c.epoch
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = wait, minBytes, maxBytes
	resp := request[*kmsg.FetchResponse](c.w, req)
	if resp.ErrorCode != 0 || resp.SessionID == 0 {
		t.Fatalf("epoch %d: %+v", c.epoch, resp)
	}
	c.id, c.epoch, c.sent = resp.SessionID, c.epoch+1, maps.Clone(c.want)
	return c.answered(resp)
}
