package testkit

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// committed is what a group's committed offsets must not fall below: what a commit
// was acknowledged with, and what a fetch has seen. It is safe for concurrent use.
type committed struct {
	topic string

	mu    sync.Mutex
	floor map[int32]int64
}

func (c *committed) raise(partition int32, offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor[partition] = max(c.floor[partition], offset)
}

// answered takes in a commit's answer; refused is told what no member of a healthy
// group is told.
func (c *committed) answered(
	req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, refused func(int32, error),
) {
	asked := map[int32]int64{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if t.Topic == c.topic {
				asked[p.Partition] = p.Offset
			}
		}
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			offset, ours := asked[p.Partition]
			err := kerr.ErrorForCode(p.ErrorCode)
			switch {
			case err != nil && !expected(err):
				refused(p.Partition, err)
			case err == nil && ours && (t.Topic == c.topic || t.Topic == ""):
				c.raise(p.Partition, offset)
			}
		}
	}
}

// before returns the floor as it is now, for a fetch that is about to be made.
func (c *committed) before() map[int32]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.floor)
}

// fetched compares a fetch with the floor before it.
func (c *committed) fetched(
	floor map[int32]int64, got kadm.OffsetResponses, fell func(p int32, from, to int64),
) {
	for p, want := range floor {
		have := int64(-1)
		if o, ok := got.Lookup(c.topic, p); ok {
			if o.Err != nil {
				continue
			}
			have = o.At
		}
		if have < want {
			fell(p, want, have)
		}
	}
	got.Each(func(o kadm.OffsetResponse) {
		if o.Err == nil && o.Topic == c.topic && o.At >= 0 {
			c.raise(o.Partition, o.At)
		}
	})
}

// offsetReader asks what a group has committed, again and again, while nodes die. It
// is used by one goroutine at a time.
type offsetReader struct {
	brokers []string
	client  *kgo.Client
}

// fetch returns all offsets of a group. A client that failed is thrown away: it may
// remember a coordinator that has died.
func (o *offsetReader) fetch(ctx context.Context, group string) (kadm.OffsetResponses, error) {
	if o.client == nil {
		client, err := kgo.NewClient(kgo.SeedBrokers(o.brokers...),
			kgo.DialTimeout(time.Second), kgo.RetryTimeout(time.Second))
		if err != nil {
			return nil, err
		}
		o.client = client
	}
	got, err := kadm.NewClient(o.client).FetchOffsets(ctx, group)
	if err != nil {
		o.close()
	}
	return got, err
}

func (o *offsetReader) close() {
	if o.client != nil {
		o.client.Close()
		o.client = nil
	}
}
