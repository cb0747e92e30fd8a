package control

import (
	"errors"

	"github.com/troupelog/troupe/messages"
)

// Settle makes sense of the answer to a command that was sent before without an
// answer, and may have been carried out then: what the first one did makes the
// second one fail, which is not a failure of the whole.
func Settle(c Command, a *Answer) {
	switch c := c.(type) {
	case *DeleteTopics:
		for i := range a.Topics {
			forgive(&a.Topics[i].Err, messages.ErrUnknownTopicOrPartition, messages.ErrUnknownTopicID)
		}
	case *CreatePartitions:
		for i := range a.Topics {
			if r := &a.Topics[i]; r.Partitions == c.Topics[i].Count {
				forgive(&r.Err, messages.ErrInvalidPartitions)
			}
		}
	case *ElectLeaders:
		for i := range a.Errs {
			forgive(&a.Errs[i], messages.ErrElectionNotNeeded)
		}
	case *Reassign:
		for i := range a.Errs {
			forgive(&a.Errs[i], messages.ErrNoReassignmentInProgress)
		}
	case *Unregister:
		forgive(&a.Err, messages.ErrUnknownNode)
	}
}

func forgive(err *error, kinds ...error) {
	for _, k := range kinds {
		if errors.Is(*err, k) {
			*err = nil
			return
		}
	}
}
