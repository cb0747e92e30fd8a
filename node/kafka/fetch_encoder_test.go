package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// idleConn is a connection nobody serves, for encoders.
func idleConn(f *fakeCluster) *conn {
	s := New(Config{}, f, f, f.coords, f)
	c := &conn{s: s, info: connInfo{AdvertisedHost: "here.example", AdvertisedPort: 19092}}
	c.pipe = newPipeline(4, 1<<20, c.drop)
	return c
}

// twoNodes is a fake cluster that knows a second node, with a rack.
func twoNodes() *fakeCluster {
	f := newFakeCluster()
	f.apply(&messages.Delta{Nodes: []messages.Node{
		{ID: fakeNode, Host: "127.0.0.1", Port: 9092},
		{ID: 2, Host: "second.example", Port: 9093, Rack: "r2"},
	}})
	return f
}

// randomFetch fills a fetchCall with anything a Fetch can end in.
func randomFetch(r *rand.Rand, c *conn, version int16) *fetchCall {
	f := &fetchCall{conn: c, version: version, level: data.Isolation(r.IntN(2)),
		e: &exchange{header: requestHeader{correlation: int32(r.Uint32())}}}
	if version >= 7 {
		f.sessionID = r.Int32()
	}
	if version >= 7 && r.IntN(10) == 0 {
		f.code = codeFetchSessionIDNotFound
		return f
	}
	for range r.IntN(4) {
		t := fetchTopic{name: fmt.Sprintf("topic-%x", randomBytes(r))}
		_ = append(t.id[:0], randomBytes(r)...)
		for range r.IntN(4) {
			f.parts = append(f.parts, randomFetchPart(r, f.level))
		}
		t.end = len(f.parts)
		f.topics = append(f.topics, t)
	}
	return f
}

func randomFetchPart(r *rand.Rand, level data.Isolation) fetchPart {
	codes := []int16{codeNone, codeNone, codeNone, codeNotLeaderOrFollower, codeFencedLeaderEpoch,
		codeOffsetOutOfRange, codeUnknownTopicID}
	p := fetchPart{index: int32(r.Uint32()), code: codes[r.IntN(len(codes))]}
	p.result = data.ReadResult{
		HighWatermark: messages.Offset(r.Int64()), LastStable: messages.Offset(r.Int64()),
		LogStart: messages.Offset(r.Int64()),
		Leader: data.LeaderHint{Leader: messages.NodeID(r.IntN(4) - 1),
			Epoch: messages.LeaderEpoch(r.IntN(9))},
	}
	if r.IntN(3) == 0 && p.code == codeNone {
		p.result.Diverging = &data.EpochEnd{Epoch: messages.LeaderEpoch(r.IntN(9)), End: 77}
	}
	if level == data.ReadCommitted {
		for range r.IntN(3) {
			p.result.Aborted = append(p.result.Aborted, data.AbortedTxn{
				Producer: messages.ProducerID(r.Int64()), FirstOffset: messages.Offset(r.Int64())})
		}
	}
	if p.code == codeNone {
		for range r.IntN(3) {
			b := randomBytes(r)
			p.result.View.Extents = append(p.result.View.Extents, messages.Extent{Mem: b, Len: len(b)})
			p.result.View.Bytes += len(b)
		}
	}
	return p
}

// asKmsg is the response kmsg would be asked to encode.
func (f *fetchCall) asKmsg() *kmsg.FetchResponse {
	resp := kmsg.NewPtrFetchResponse()
	resp.Version, resp.ErrorCode, resp.SessionID = f.version, f.code, f.sessionID
	resp.Topics = []kmsg.FetchResponseTopic{}
	part := 0
	hinted := map[messages.NodeID]bool{}
	for _, t := range f.topics {
		kt := kmsg.NewFetchResponseTopic()
		kt.Topic, kt.TopicID = t.name, t.id
		for ; part < t.end; part++ {
			p := &f.parts[part]
			kp := kmsg.NewFetchResponseTopicPartition()
			kp.Partition, kp.ErrorCode = p.index, p.code
			kp.HighWatermark, kp.LastStableOffset = int64(p.result.HighWatermark), int64(p.result.LastStable)
			kp.LogStartOffset = int64(p.result.LogStart)
			if f.level == data.ReadCommitted && p.code == codeNone {
				kp.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
				for _, a := range p.result.Aborted {
					ka := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
					ka.ProducerID, ka.FirstOffset = int64(a.Producer), int64(a.FirstOffset)
					kp.AbortedTransactions = append(kp.AbortedTransactions, ka)
				}
			}
			kp.RecordBatches, _ = p.result.View.AppendTo([]byte{})
			if d := p.result.Diverging; d != nil && p.code == codeNone {
				kp.DivergingEpoch.Epoch, kp.DivergingEpoch.EndOffset = int32(d.Epoch), int64(d.End)
			}
			if p.code == 6 || p.code == 74 {
				hintKmsg(f, resp, &kp, p.result.Leader, hinted)
			}
			kt.Partitions = append(kt.Partitions, kp)
		}
		resp.Topics = append(resp.Topics, kt)
	}
	return resp
}

func hintKmsg(f *fetchCall, resp *kmsg.FetchResponse, kp *kmsg.FetchResponseTopicPartition,
	leader data.LeaderHint, hinted map[messages.NodeID]bool,
) {
	if f.version < 16 || leader.Leader < 1 || leader.Leader > 2 {
		return // the cluster has the nodes 1 and 2
	}
	kp.CurrentLeader.LeaderID, kp.CurrentLeader.LeaderEpoch = int32(leader.Leader), int32(leader.Epoch)
	if hinted[leader.Leader] {
		return
	}
	hinted[leader.Leader] = true
	b := kmsg.NewFetchResponseBroker()
	b.NodeID, b.Host, b.Port = 1, "here.example", 19092
	if leader.Leader == 2 {
		b.NodeID, b.Host, b.Port, b.Rack = 2, "second.example", 9093, kmsg.StringPtr("r2")
	}
	resp.Brokers = append(resp.Brokers, b)
}

func TestFetchResponseIsByteIdenticalWithKmsg(t *testing.T) {
	c := idleConn(twoNodes())
	r := rand.New(rand.NewPCG(9, 9))
	for version := int16(4); version <= 18; version++ {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			for range 500 {
				f := randomFetch(r, c, version)
				want := kmsgFrame(f.e.header.correlation, f.asKmsg())
				f.e.answer = c.fetchAnswer(f)
				c.chargeAnswer(&f.e.answer)
				got := f.e.answer.wire(t)
				if !bytes.Equal(got, want) {
					t.Fatalf("got  %x\nwant %x", got, want)
				}
				c.drop(f.e)
			}
		})
	}
}

// kmsgFrame encodes a whole response frame.
func kmsgFrame(correlation int32, resp kmsg.Response) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(correlation))
	if resp.IsFlexible() {
		b = append(b, 0)
	}
	b = resp.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// wire returns the bytes of an answer as they would be sent.
func (a *answer) wire(t *testing.T) []byte {
	t.Helper()
	var b []byte
	at := 0
	for _, c := range a.cuts {
		b = append(b, a.head[at:c.at]...)
		at = c.at
		var err error
		if b, err = a.views[c.view].AppendTo(b); err != nil {
			t.Fatal(err)
		}
	}
	return append(b, a.head[at:]...)
}

func BenchmarkFetchResponseOf1000EmptyPartitions(b *testing.B) {
	c := idleConn(twoNodes())
	f := &fetchCall{conn: c, version: 16, parts: make([]fetchPart, 1000),
		topics: []fetchTopic{{name: "t", end: 1000}}}
	buf := make([]byte, 0, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = f.appendResponse(buf)
	}
}
