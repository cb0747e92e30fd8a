package cli

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// gapBytes is how much is fetched to look for a gap. A broker sends the first
// batch whole even if it is larger (KIP-74).
const gapBytes = 1 << 20

// gapWait bounds one look for gaps, so that a cluster that is gone is still
// noticed in time.
const gapWait = 5 * time.Second

// skipGaps moves past offsets whose records a compaction removed. The end of a
// partition can be such a gap, and the client says nothing of batches in which
// it finds no record, so without this the reading would wait for what is not
// there. A partition whose leader cannot be asked stays as it is.
func (r *reader) skipGaps(ctx context.Context) (moved bool) {
	ctx, cancel := context.WithTimeout(ctx, min(r.patience, gapWait))
	defer cancel()
	details, err := kadm.NewClient(r.cl).ListTopics(ctx, r.topic)
	if err != nil {
		return false
	}
	for p, s := range r.todo {
		d := details[r.topic]
		next := s.next
		if leader := d.Partitions[p].Leader; leader >= 0 {
			next = afterGap(fetchBatches(ctx, r.cl.Broker(int(leader)), d, p, s.next), s.next)
		}
		if next == s.next {
			continue
		}
		moved = true
		r.advance(p, next, -1)
	}
	return moved
}

// fetchBatches asks a broker for the batches of a partition from an offset on;
// nil when it does not give any.
func fetchBatches(
	ctx context.Context, broker *kgo.Broker, topic kadm.TopicDetail, partition int32, from int64,
) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes = gapBytes
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic.Topic, topic.ID
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, from, gapBytes
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, broker)
	if err != nil {
		return nil
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.Partition == partition && p.ErrorCode == 0 {
				return p.RecordBatches
			}
		}
	}
	return nil
}

// afterGap returns the first offset from next on that the batches hold a record
// of, or the one after the last batch if they hold none. Bytes that are not
// understood end the search.
func afterGap(batches []byte, next int64) int64 {
	for len(batches) > 0 {
		b, rest, err := record.Parse(batches)
		if err != nil {
			return next
		}
		batches = rest
		if int64(b.NextOffset()) <= next {
			continue
		}
		for rec, err := range record.Records(&b, record.InflateLimit) {
			if err != nil || rec.Offset >= messages.Offset(next) {
				return next
			}
		}
		next = int64(b.NextOffset())
	}
	return next
}
