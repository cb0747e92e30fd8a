package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func withLogDirs() *fakeCluster {
	f := newFakeCluster()
	f.dirs = []messages.LogDir{
		{Path: "/data/1", TotalBytes: 1000, UsableBytes: 600, Replicas: []messages.ReplicaSize{
			{Topic: "b", Partition: 1, Bytes: 30, Lag: 2},
			{Topic: "a", Partition: 0, Bytes: 10},
			{Topic: "b", Partition: 0, Bytes: 20, Future: true},
		}},
		{Path: "/data/2", Err: fmt.Errorf("/data/2: %w", messages.ErrStorage), TotalBytes: 5},
	}
	return f
}

// sizes lists "topic-partition:size" of a directory, in order.
func sizes(d kmsg.DescribeLogDirsResponseDir) []string {
	all := []string{}
	for _, t := range d.Topics {
		for _, p := range t.Partitions {
			all = append(all, fmt.Sprintf("%s-%d:%d", t.Topic, p.Partition, p.Size))
		}
	}
	return all
}

func TestDescribeLogDirsShowsEveryReplicaSorted(t *testing.T) {
	eachVersion(t, 35, func(t *testing.T, v int16) {
		resp := ask[*kmsg.DescribeLogDirsResponse](t, withLogDirs(),
			kmsg.NewPtrDescribeLogDirsRequest(), v)
		equal(t, "code", resp.ErrorCode, codeNone)
		equal(t, "directories", len(resp.Dirs), 2)
		healthy, offline := resp.Dirs[0], resp.Dirs[1]
		equal(t, "path", healthy.Dir, "/data/1")
		equal(t, "sizes", sizes(healthy), []string{"a-0:10", "b-0:20", "b-1:30"})
		equal(t, "topics", len(healthy.Topics), 2)
		equal(t, "lag", healthy.Topics[1].Partitions[1].OffsetLag, int64(2))
		equal(t, "future", healthy.Topics[1].Partitions[0].IsFuture, true)
		equal(t, "code of the offline one", offline.ErrorCode, codeStorageError)
		equal(t, "replicas of the offline one", len(offline.Topics), 0)
		if v >= 4 {
			equal(t, "size of the volume", healthy.TotalBytes, int64(1000))
			equal(t, "room on the volume", healthy.UsableBytes, int64(600))
			equal(t, "size of the offline one", offline.TotalBytes, int64(-1))
		}
	})
}

func TestDescribeLogDirsShowsOnlyWhatIsAskedFor(t *testing.T) {
	eachVersion(t, 35, func(t *testing.T, v int16) {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		req.Topics = []kmsg.DescribeLogDirsRequestTopic{}
		resp := ask[*kmsg.DescribeLogDirsResponse](t, withLogDirs(), req, v)
		equal(t, "directories for no topics", len(resp.Dirs), 2)
		equal(t, "sizes for no topics", sizes(resp.Dirs[0]), []string{})

		topic := kmsg.NewDescribeLogDirsRequestTopic()
		topic.Topic, topic.Partitions = "b", []int32{1, 1, 9}
		req.Topics = append(req.Topics, topic)
		resp = ask[*kmsg.DescribeLogDirsResponse](t, withLogDirs(), req, v)
		equal(t, "sizes", sizes(resp.Dirs[0]), []string{"b-1:30"})
	})
}

func TestDescribeLogDirsTellsThatItCannot(t *testing.T) {
	f := newFakeCluster()
	f.failControl(messages.ErrStorage)
	for v := int16(3); v <= 4; v++ {
		resp := ask[*kmsg.DescribeLogDirsResponse](t, f, kmsg.NewPtrDescribeLogDirsRequest(), v)
		equal(t, "code", resp.ErrorCode, codeStorageError)
	}
}
