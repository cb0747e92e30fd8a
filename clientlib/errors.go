package clientlib

import (
	"errors"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

// Errors, for errors.Is. Those of the cluster keep its text, which names the thing and
// the remedy.
var (
	// ErrClosed: the client, producer or consumer was closed. It is never ErrUnavailable.
	ErrClosed = link.ErrClosed
	// ErrConfig: a setting that cannot be.
	ErrConfig = errors.New("invalid settings")
	// ErrUnavailable: no node answers. It was tried until the context ended.
	ErrUnavailable = messages.ErrUnavailable
	// ErrTimedOut: a record was not acknowledged in time. It may be in the topic.
	ErrTimedOut = messages.ErrRequestTimedOut
	// ErrBufferFull: ProducerConfig.Refuse, and there is no room.
	ErrBufferFull = errors.New("buffer of the producer is full")
	// ErrUnknownTopic: no such topic or partition.
	ErrUnknownTopic = messages.ErrUnknownTopicOrPartition
	// ErrTopicExists: a topic has this name.
	ErrTopicExists = messages.ErrTopicAlreadyExists
	// ErrInvalidTopic: a name that no topic can have.
	ErrInvalidTopic = messages.ErrInvalidTopic
	// ErrInvalidRecord: a record that breaks a rule of its topic.
	ErrInvalidRecord = messages.ErrInvalidRecord
	// ErrTooLarge: a record above max.message.bytes of its topic.
	ErrTooLarge = messages.ErrBatchTooLarge
	// ErrNotEnoughReplicas: fewer than min.insync.replicas.
	ErrNotEnoughReplicas = messages.ErrNotEnoughReplicas
	// ErrInvalidRequest: something that cannot be asked for.
	ErrInvalidRequest = messages.ErrInvalidRequest
	// ErrInvalidConfig: a setting of a topic that does not exist or cannot have the value.
	ErrInvalidConfig = messages.ErrInvalidConfig
	// ErrFenced: another producer has the transactional id, or another member the
	// instance id. Close and make a new one if that was not meant.
	ErrFenced = txn.ErrProducerFenced
	// ErrAborted: the transaction failed and was, or has to be, aborted; begin anew.
	ErrAborted = txn.ErrAbortable
	// ErrGroupNotFound: no such group.
	ErrGroupNotFound = group.ErrGroupNotFound
	// ErrGroupNotEmpty: the group has members.
	ErrGroupNotEmpty = group.ErrNonEmptyGroup
	// ErrGroupFull: the group takes no more members.
	ErrGroupFull = group.ErrFull
	// ErrNotAssigned: the partition is not the consumer's, or not any more.
	ErrNotAssigned = errors.New("not assigned to this consumer")
	// ErrCorrupt: records that came damaged, or that no consumer can read.
	ErrCorrupt = errors.New("records are damaged")
	// ErrDecode: a payload that the serialiser does not understand.
	ErrDecode = errors.New("payload cannot be decoded")
)
