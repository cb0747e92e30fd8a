//go:build linux

package peer

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadata has brokers 1 and 2, and partitions with these leaders.
func metadata(leaders ...int32) *kmsg.MetadataResponse {
	m := kmsg.NewPtrMetadataResponse()
	m.Brokers = []kmsg.MetadataResponseBroker{
		{NodeID: 1, Host: "127.0.0.1", Port: 9092}, {NodeID: 2, Host: "127.0.0.1", Port: 9093},
	}
	m.Topics = make([]kmsg.MetadataResponseTopic, 1)
	for i, leader := range leaders {
		m.Topics[0].Partitions = append(m.Topics[0].Partitions,
			kmsg.MetadataResponseTopicPartition{Partition: int32(i), Leader: leader})
	}
	return m
}

func TestATopicIsLedWhenAllOfItsPartitionsAre(t *testing.T) {
	if !led(metadata(1, 2, 1).Topics[0], 3) {
		t.Error("all partitions have leaders")
	}
	if led(metadata(1, 2).Topics[0], 3) {
		t.Error("one partition is not known")
	}
	if led(metadata(1, -1, 2).Topics[0], 3) {
		t.Error("one partition has no leader")
	}
	m := metadata(1, 2, 1)
	m.Topics[0].Partitions[1].ErrorCode = kerr.LeaderNotAvailable.Code
	if led(m.Topics[0], 3) {
		t.Error("one partition is in error")
	}
}

func TestANodeLeadsThePartitionsThatNameIt(t *testing.T) {
	m := metadata(1, 2, 1, 2, 2)
	for addr, want := range map[string][]int32{
		"127.0.0.1:9092": {0, 2}, "127.0.0.1:9093": {1, 3, 4}, "127.0.0.1:9094": nil,
	} {
		if got := partitionsOf(addr, m); !slices.Equal(got, want) {
			t.Errorf("%s leads %v, expected %v", addr, got, want)
		}
	}
}
