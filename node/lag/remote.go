package lag

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

const (
	// readersMax bounds the records that are read at a time from other nodes.
	readersMax = 8
	// batchMax bounds one batch that is read for a timestamp, in bytes. A larger one
	// is not worth it.
	batchMax = 16 << 20
)

// remote asks the leaders on other nodes, over their Kafka listeners. It makes its
// client when it is first needed.
type remote struct {
	image  func() *messages.Image
	client *kgo.Client
}

// open returns the client, or nil if there is nobody to ask.
func (r *remote) open() *kgo.Client {
	if r.client != nil {
		return r.client
	}
	var seeds []string
	for _, n := range r.image().Live() {
		seeds = append(seeds, net.JoinHostPort(n.Host, strconv.Itoa(int(n.Port))))
	}
	if len(seeds) == 0 {
		return nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.ClientID("troupe-lag"),
		kgo.DialTimeout(patience), kgo.RetryTimeout(patience), kgo.RequestTimeoutOverhead(patience),
		kgo.BrokerMaxReadBytes(batchMax), kgo.FetchMaxBytes(batchMax), kgo.MetadataMinAge(time.Second))
	if err != nil {
		return nil // an address that is none: there is no other to ask
	}
	r.client = cl
	return cl
}

func (r *remote) close() {
	if r.client != nil {
		r.client.Close()
	}
}

// ends implements leaders: one request to each of the nodes.
func (r *remote) ends(
	ctx context.Context, of []messages.TopicPartition,
) map[messages.TopicPartition]messages.Offset {
	out := map[messages.TopicPartition]messages.Offset{}
	cl := r.open()
	if cl == nil {
		return out
	}
	req := kmsg.NewPtrListOffsetsRequest()
	byTopic := map[string]int{}
	for _, tp := range of {
		i, ok := byTopic[tp.Topic]
		if !ok {
			i = len(req.Topics)
			byTopic[tp.Topic] = i
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = tp.Topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = tp.Partition, -1 // the high watermark
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			continue // the others have answered all the same
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 && p.Offset >= 0 {
					tp := messages.TopicPartition{Topic: t.Topic, Partition: p.Partition}
					out[tp] = messages.Offset(p.Offset)
				}
			}
		}
	}
	return out
}

// times implements leaders: a Fetch for each place, which a leader answers with the
// one batch that holds it however few bytes are asked for (KIP-74).
func (r *remote) times(ctx context.Context, of []place) map[place]messages.Timestamp {
	out := map[place]messages.Timestamp{}
	cl := r.open()
	if cl == nil {
		return out
	}
	im := r.image()
	var mu sync.Mutex
	var all sync.WaitGroup
	turns := make(chan struct{}, readersMax)
	for _, at := range of {
		t := im.Topic(at.Topic)
		if t == nil || int(at.Partition) >= len(t.Partitions) {
			continue
		}
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			leader := cl.Broker(int(t.Partitions[at.Partition].Leader))
			if ts := fetchTime(ctx, leader, t.ID, at); ts != messages.NoTimestamp {
				mu.Lock()
				defer mu.Unlock()
				out[at] = ts
			}
		})
	}
	all.Wait()
	return out
}

func fetchTime(
	ctx context.Context, leader *kgo.Broker, topic messages.TopicID, at place,
) messages.Timestamp {
	if ctx.Err() != nil {
		return messages.NoTimestamp
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxBytes = -1, 1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = at.Topic, topic
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = at.Partition, int64(at.at), 1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, leader)
	if err != nil {
		return messages.NoTimestamp
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.Partition == at.Partition && p.ErrorCode == 0 {
				return firstTime(p.RecordBatches, at.at)
			}
		}
	}
	return messages.NoTimestamp
}
