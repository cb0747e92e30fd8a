package wire

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// Size is how many bytes an answer has on the wire.
func (x *ClientResponse) Size() int { return proto.Size(x) }

// FromNewTopics is FromCreateTopics for a client: the receiver chooses the ids.
func FromNewTopics(topics []messages.CreateTopic) *CreateTopics {
	w := &CreateTopics{}
	for i := range topics {
		w.Topics = append(w.Topics, fromCreateTopic(&topics[i], nil))
	}
	return w
}

// ToNewTopic reads one topic of what FromNewTopics wrote. The topic has its name also
// with an error.
func ToNewTopic(w *CreateTopic) (messages.CreateTopic, error) {
	t, err := toCreateTopic(w)
	t.Name = w.GetName()
	return t, err
}

// FromInit returns the wire form of a request for a producer id.
func FromInit(id string, r *txn.Init) *ClientInitProducer {
	return &ClientInitProducer{TransactionalId: id, TimeoutMs: r.TimeoutMs,
		ProducerId: int64(r.Producer), ProducerEpoch: int32(r.Epoch)}
}

// ToInit reads what FromInit wrote; Reply is not set. It fails with ErrMalformed on an
// epoch beyond 16 bits, and on a producer id without an epoch or an epoch without an id.
func ToInit(w *ClientInitProducer) (id string, r *txn.Init, err error) {
	r = &txn.Init{TimeoutMs: w.GetTimeoutMs(), Producer: messages.ProducerID(w.GetProducerId())}
	if r.Epoch, err = toProducerEpoch(w.GetProducerEpoch()); err == nil &&
		(r.Producer == messages.NoProducerID) != (r.Epoch == -1) {
		err = malformed("producer id %d has epoch %d", r.Producer, r.Epoch)
	}
	return w.GetTransactionalId(), r, err
}

// FromEnd returns the wire form of the end of a transaction.
func FromEnd(id string, r *txn.End) *ClientEndTxn {
	return &ClientEndTxn{TransactionalId: id, ProducerId: int64(r.Producer),
		ProducerEpoch: int32(r.Epoch), Commit: r.Commit}
}

// ToEnd reads what FromEnd wrote; Reply is not set. Each transaction has an epoch of
// its own.
func ToEnd(w *ClientEndTxn) (id string, r *txn.End, err error) {
	r = &txn.End{Producer: messages.ProducerID(w.GetProducerId()), Commit: w.GetCommit(), V2: true}
	r.Epoch, err = toProducerEpoch(w.GetProducerEpoch())
	return w.GetTransactionalId(), r, err
}

// FromProducer returns the wire form of a producer id and its epoch.
func FromProducer(id messages.ProducerID, epoch messages.ProducerEpoch) *ClientProducer {
	return &ClientProducer{ProducerId: int64(id), ProducerEpoch: int32(epoch)}
}

// ToProducer reads what FromProducer wrote.
func ToProducer(w *ClientProducer) (messages.ProducerID, messages.ProducerEpoch, error) {
	epoch, err := toProducerEpoch(w.GetProducerEpoch())
	return messages.ProducerID(w.GetProducerId()), epoch, err
}

func toProducerEpoch(n int32) (messages.ProducerEpoch, error) {
	if n < -1 || n > math.MaxInt16 {
		return 0, malformed("producer epoch %d", n)
	}
	return messages.ProducerEpoch(n), nil
}

func fromCreateTopic(t *messages.CreateTopic, id []byte) *CreateTopic {
	return &CreateTopic{
		Name:              t.Name,
		Partitions:        t.Partitions,
		ReplicationFactor: int32(t.ReplicationFactor),
		Assignment:        fromAssignment(t.Assignment),
		Configs:           FromConfig(t.Configs),
		TopicId:           id,
	}
}

// toCreateTopic reads all but the id. Its errors name the topic.
func toCreateTopic(w *CreateTopic) (messages.CreateTopic, error) {
	t := messages.CreateTopic{Name: w.GetName(), Partitions: w.GetPartitions()}
	var err error
	t.ReplicationFactor, err = toReplicationFactor(w.GetReplicationFactor())
	if err == nil {
		t.Assignment, err = toAssignment(w.GetAssignment())
	}
	if err == nil {
		t.Configs, err = ToConfig(w.GetConfigs())
	}
	if err != nil {
		return messages.CreateTopic{}, fmt.Errorf("topic %q: %w", w.GetName(), err)
	}
	return t, nil
}
