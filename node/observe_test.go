package node

import (
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/metrics"
)

func TestPartitionsAreRatedByTheirInSyncSet(t *testing.T) {
	type ids = []messages.NodeID
	for _, tt := range []struct {
		name   string
		part   messages.Partition
		minISR int
		want   metrics.Replica
	}{
		{"all in sync", messages.Partition{Replicas: ids{1, 2, 3}, ISR: ids{3, 1, 2}}, 2,
			metrics.Replica{}},
		{"one lags", messages.Partition{Replicas: ids{1, 2, 3}, ISR: ids{1, 2}}, 2,
			metrics.Replica{UnderReplicated: true, AtMinISR: true}},
		{"too many lag", messages.Partition{Replicas: ids{1, 2, 3}, ISR: ids{1}}, 2,
			metrics.Replica{UnderReplicated: true, UnderMinISR: true}},
		{"fewer replicas than the minimum", messages.Partition{Replicas: ids{1}, ISR: ids{1}}, 2,
			metrics.Replica{AtMinISR: true}},
		{"an added one has yet to catch up", messages.Partition{Replicas: ids{1, 4, 2}, ISR: ids{1, 2},
			Adding: ids{4}, Removing: ids{2}}, 1, metrics.Replica{Reassigning: true}},
		{"one is added to reach the minimum", messages.Partition{Replicas: ids{1, 4}, ISR: ids{1},
			Adding: ids{4}}, 2, metrics.Replica{Reassigning: true, UnderMinISR: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got metrics.Replica
			if rateISR(&got, &tt.part, tt.minISR); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
