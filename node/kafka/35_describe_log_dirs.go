package kafka

import (
	"cmp"
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// DescribeLogDirs, key 35, versions 1 to 4: this node's data directories and
// how much each replica takes there (KIP-113).
//
//	v2  flexible encoding
//	v3  top-level error code
//	v4  size of the volume and room on it (KIP-827)
//
// Null topics mean all. A directory is listed even if none of the replicas
// asked for lives in it; an offline one has KAFKA_STORAGE_ERROR.
func (s *Server) describeLogDirs(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeLogDirsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	dirs, err := s.cluster.LogDirs(ctx)
	if err != nil {
		resp.ErrorCode = errorCode(err)
		return resp
	}
	wanted := wantedReplicas(req)
	for i := range dirs {
		d := kmsg.NewDescribeLogDirsResponseDir()
		d.Dir, d.ErrorCode = dirs[i].Path, errorCode(dirs[i].Err)
		if dirs[i].Err == nil {
			d.TotalBytes, d.UsableBytes = dirs[i].TotalBytes, dirs[i].UsableBytes
			d.Topics = dirTopics(dirs[i].Replicas, wanted)
		}
		resp.Dirs = append(resp.Dirs, d)
	}
	return resp
}

// wantedReplicas tells which partitions the request asks for.
func wantedReplicas(req *kmsg.DescribeLogDirsRequest) func(messages.TopicPartition) bool {
	if req.Topics == nil {
		return func(messages.TopicPartition) bool { return true }
	}
	wanted := map[messages.TopicPartition]bool{}
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			wanted[messages.TopicPartition{Topic: req.Topics[i].Topic, Partition: p}] = true
		}
	}
	return func(tp messages.TopicPartition) bool { return wanted[tp] }
}

// dirTopics groups the wanted replicas by topic, sorted.
func dirTopics(replicas []messages.ReplicaSize,
	wanted func(messages.TopicPartition) bool,
) []kmsg.DescribeLogDirsResponseDirTopic {
	sorted := slices.SortedFunc(slices.Values(replicas), func(a, b messages.ReplicaSize) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	var topics []kmsg.DescribeLogDirsResponseDirTopic
	for _, r := range sorted {
		if !wanted(messages.TopicPartition{Topic: r.Topic, Partition: r.Partition}) {
			continue
		}
		if n := len(topics); n == 0 || topics[n-1].Topic != r.Topic {
			t := kmsg.NewDescribeLogDirsResponseDirTopic()
			t.Topic = r.Topic
			topics = append(topics, t)
		}
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size, p.OffsetLag, p.IsFuture = r.Partition, r.Bytes, r.Lag, r.Future
		t := &topics[len(topics)-1]
		t.Partitions = append(t.Partitions, p)
	}
	return topics
}
