package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

func markersRequest() *kmsg.WriteTxnMarkersRequest {
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	for i, topic := range []string{"t", "gone"} {
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.Committed, m.CoordinatorEpoch = int64(7+i), 3, i == 0, 5
		rt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		rt.Topic, rt.Partitions = topic, []int32{0, 1, 9}
		m.Topics = append(m.Topics, rt)
		req.Markers = append(req.Markers, m)
	}
	return req
}

func TestWriteTxnMarkersWritesWhereThisNodeLeads(t *testing.T) {
	eachVersion(t, 27, func(t *testing.T, v int16) {
		for err, want := range map[error]int16{
			nil: 0, txn.ErrCoordinatorFenced: 52, messages.ErrInvalidProducerEpoch: 47,
			messages.ErrUnavailable: 6,
		} {
			f := newFakeCluster()
			f.addTopic("t", 2)
			f.coords.err = err
			resp := ask[*kmsg.WriteTxnMarkersResponse](t, f, markersRequest(), v)
			var codes []int16
			for i, m := range resp.Markers {
				equal(t, "producer", m.ProducerID, int64(7+i))
				for _, p := range m.Topics[0].Partitions {
					codes = append(codes, p.ErrorCode)
				}
			}
			// The fake does not lead partition 0; 9 and the second topic are not there.
			equal(t, "codes", codes, []int16{6, want, 3, 3, 3, 3})
			equal(t, "markers", f.coords.marks, []txn.Markers{{Producer: 7, Epoch: 3,
				CoordinatorEpoch: 5, Commit: true,
				Partitions: []messages.TopicPartition{{Topic: "t"}, {Topic: "t", Partition: 1}}}})
		}
	})
}
