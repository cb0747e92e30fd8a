package topics

import (
	"github.com/troupelog/troupe/messages"
)

// Balance decides on one small step towards an even cluster, at most limit
// partitions of it, and returns how many partitions it moved. It is called again
// when that step is done; 0 means that nothing is left to do, or that limit
// partitions are being reassigned.
func (p *Plan) Balance(limit int) (moved int) {
	for _, t := range p.all() {
		for i := range t.Partitions {
			part := &t.Partitions[i]
			if moved == limit || part.Reassigning() || part.Leader == part.Replicas[0] {
				continue
			}
			id := messages.PartitionID{Topic: t.ID, Partition: int32(i)}
			if p.Elect(messages.ElectPreferred, id) == nil {
				moved++
			}
		}
	}
	return moved
}
