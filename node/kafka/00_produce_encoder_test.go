package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

func randomProduce(r *rand.Rand, c *conn, version int16) *produceCall {
	p := &produceCall{conn: c, version: version, acks: data.AcksAll,
		e: &exchange{header: requestHeader{correlation: int32(r.Uint32())}}}
	for range r.IntN(4) {
		t := produceTopic{name: fmt.Sprintf("topic-%x", randomBytes(r))}
		_ = append(t.id[:0], randomBytes(r)...)
		for range r.IntN(4) {
			o := produceOutcome{index: int32(r.Uint32()), done: true}
			o.result = data.AppendResult{BaseOffset: messages.Offset(r.Int64()),
				LogAppendTime: messages.Timestamp(r.Int64()), LogStart: messages.Offset(r.Int64())}
			switch r.IntN(4) {
			case 0:
				o.fail(codeNotLeaderOrFollower, messages.ErrNotLeader)
				o.result.Leader = data.LeaderHint{Leader: messages.NodeID(r.IntN(4) - 1), Epoch: 5}
			case 1:
				o.fail(codeInvalidRecord, &record.RecordErrors{Total: 2, Err: messages.ErrInvalidRecord,
					Records: []record.RecordError{{Index: 1, Message: "one"}, {Index: 7, Message: "two"}}})
			case 2:
				o.fail(codeUnknownServerError, errors.New("a secret"))
			}
			p.outcomes = append(p.outcomes, o)
		}
		t.end = len(p.outcomes)
		p.topics = append(p.topics, t)
	}
	return p
}

func (p *produceCall) asKmsg() *kmsg.ProduceResponse {
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = p.version
	hinted := map[messages.NodeID]bool{}
	part := 0
	for _, t := range p.topics {
		kt := kmsg.NewProduceResponseTopic()
		kt.Topic, kt.TopicID = t.name, t.id
		for ; part < t.end; part++ {
			o := &p.outcomes[part]
			kp := kmsg.NewProduceResponseTopicPartition()
			kp.Partition, kp.ErrorCode = o.index, o.code
			kp.BaseOffset, kp.LogAppendTime = int64(o.result.BaseOffset), int64(o.result.LogAppendTime)
			kp.LogStartOffset = int64(o.result.LogStart)
			kp.ErrorMessage = errorMessage(o.result.Err)
			if o.code == codeInvalidRecord {
				for i, text := range map[int32]string{1: "one"} {
					kp.ErrorRecords = append(kp.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{
						RelativeOffset: i, ErrorMessage: kmsg.StringPtr(text)})
				}
				kp.ErrorRecords = append(kp.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{
					RelativeOffset: 7, ErrorMessage: kmsg.StringPtr("two")})
			}
			if l := o.result.Leader; o.code == 6 && p.version >= 10 && (l.Leader == 1 || l.Leader == 2) {
				kp.CurrentLeader.LeaderID, kp.CurrentLeader.LeaderEpoch = int32(l.Leader), int32(l.Epoch)
				if !hinted[l.Leader] {
					hinted[l.Leader] = true
					resp.Brokers = append(resp.Brokers, hintBroker(l.Leader))
				}
			}
			kt.Partitions = append(kt.Partitions, kp)
		}
		resp.Topics = append(resp.Topics, kt)
	}
	return resp
}

func hintBroker(id messages.NodeID) kmsg.ProduceResponseBroker {
	b := kmsg.NewProduceResponseBroker()
	b.NodeID, b.Host, b.Port = 1, "here.example", 19092
	if id == 2 {
		b.NodeID, b.Host, b.Port, b.Rack = 2, "second.example", 9093, kmsg.StringPtr("r2")
	}
	return b
}

func TestProduceResponseIsByteIdenticalWithKmsg(t *testing.T) {
	c := idleConn(twoNodes())
	r := rand.New(rand.NewPCG(10, 10))
	for version := int16(3); version <= 13; version++ {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			for range 500 {
				p := randomProduce(r, c, version)
				want := kmsgFrame(p.e.header.correlation, p.asKmsg())
				c.respondWith(p.e, p.appendResponse)
				if got := p.e.answer.wire(t); !bytes.Equal(got, want) {
					t.Fatalf("got  %x\nwant %x", got, want)
				}
				c.drop(p.e)
			}
		})
	}
}

func TestProduceTellsNoClientWhatFailedInside(t *testing.T) {
	o := produceOutcome{}
	o.fail(codeUnknownServerError, errors.New("/data/secret: input/output error"))
	p := &produceCall{conn: idleConn(twoNodes()), version: 9, outcomes: []produceOutcome{o},
		topics: []produceTopic{{name: "t", end: 1}}}
	if b := p.appendResponse(nil); bytes.Contains(b, []byte("secret")) {
		t.Fatalf("response has %q", b)
	}
}
