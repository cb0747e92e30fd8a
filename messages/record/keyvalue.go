package record

import "github.com/troupelog/troupe/messages"

// KeyValue is a record of an internal topic. A nil Value is a tombstone.
type KeyValue struct {
	Key, Value []byte
}

// OfKeyValues returns the batch that a coordinator writes to its internal topic:
// the records in order, at least one, all with the create time now, not
// compressed. It is ready to be appended and shares no memory with the records;
// R is KeyValue or a type like it, such as coord.Record.
//
// With a producer id the batch is part of that producer's transaction
// (TxnOffsetCommit) and has no sequence: the coordinator has its own ways to tell
// a request that is sent again. With NoProducerID it is part of none.
//
// It fails with messages.ErrBatchTooLarge above 2 GiB, and with
// messages.ErrInvalidRecord when there are no records. The topic's
// max.message.bytes is for the caller to check.
func OfKeyValues[R ~struct{ Key, Value []byte }](records []R, id messages.ProducerID,
	epoch messages.ProducerEpoch, now messages.Timestamp) (Batch, error) {
	if len(records) == 0 {
		return Batch{}, messages.ErrInvalidRecord
	}
	bu := NewBuilder(Compression{})
	if id != messages.NoProducerID {
		bu.Producer(id, epoch, messages.NoSequence).Transactional()
	}
	for _, r := range records {
		kv := KeyValue(r)
		bu.Append(now, kv.Key, kv.Value)
	}
	return bu.Build()
}
