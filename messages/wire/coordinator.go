package wire

import (
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// FromAdd returns the wire form of a txn.Add for the coordinator of id.
func FromAdd(id string, a *txn.Add) *AddToTxn {
	return &AddToTxn{TransactionalId: id, ProducerId: int64(a.Producer),
		ProducerEpoch: int32(a.Epoch), VerifyOnly: a.VerifyOnly, Topics: fromNames(a.Partitions)}
}

// ToAdd reads what FromAdd wrote; Reply is not set.
func ToAdd(w *AddToTxn) (id string, a *txn.Add) {
	return w.GetTransactionalId(), &txn.Add{Producer: messages.ProducerID(w.GetProducerId()),
		Epoch:      messages.ProducerEpoch(w.GetProducerEpoch()),
		Partitions: toNames(w.GetTopics()), VerifyOnly: w.GetVerifyOnly()}
}

// FromMarkers returns the wire form of markers.
func FromMarkers(m *txn.Markers) *WriteMarkers {
	return &WriteMarkers{ProducerId: int64(m.Producer), ProducerEpoch: int32(m.Epoch),
		CoordinatorEpoch: m.CoordinatorEpoch, Commit: m.Commit, Raised: m.Raised,
		Topics: fromNames(m.Partitions)}
}

// ToMarkers reads what FromMarkers wrote.
func ToMarkers(w *WriteMarkers) *txn.Markers {
	return &txn.Markers{Producer: messages.ProducerID(w.GetProducerId()),
		Epoch:            messages.ProducerEpoch(w.GetProducerEpoch()),
		CoordinatorEpoch: w.GetCoordinatorEpoch(), Commit: w.GetCommit(), Raised: w.GetRaised(),
		Partitions: toNames(w.GetTopics())}
}

// FromOutcome returns the wire form of an answer: one error for all, or one for
// each partition.
func FromOutcome(id uint64, err error, errs []error) *CoordinatorResponse {
	return &CoordinatorResponse{RequestId: id, Error: FromError(err),
		Errors: FromErrors(errs).GetErrors()}
}

// ToOutcome reads what FromOutcome wrote. errs is nil if there is one outcome for
// all: an empty list would be answers that are missing.
func ToOutcome(w *CoordinatorResponse) (errs []error, err error) {
	if len(w.GetErrors()) > 0 {
		errs = ToErrors(&ErrorList{Errors: w.GetErrors()})
	}
	return errs, ToError(w.GetError())
}

// fromNames keeps the order of the partitions: neighbours of one topic share its
// name.
func fromNames(tps []messages.TopicPartition) []*PartitionNames {
	var out []*PartitionNames
	for _, tp := range tps {
		if n := len(out); n == 0 || out[n-1].Topic != tp.Topic {
			out = append(out, &PartitionNames{Topic: tp.Topic})
		}
		last := out[len(out)-1]
		last.Partitions = append(last.Partitions, tp.Partition)
	}
	return out
}

func toNames(ws []*PartitionNames) []messages.TopicPartition {
	var out []messages.TopicPartition
	for _, w := range ws {
		for _, p := range w.GetPartitions() {
			out = append(out, messages.TopicPartition{Topic: w.GetTopic(), Partition: p})
		}
	}
	return out
}
