// Package link keeps a program connected to a cluster: it runs an actor system without
// kinds of its own, has a session with the gateway of each node that it needs, follows
// where topics are led as their actors push it, and finds nodes again after all of them
// went away.
//
// It owns the sessions, what was asked and is not answered, and the routes. Package
// clientlib alone uses it.
package link

import (
	"errors"
	"fmt"

	"github.com/troupelog/troupe/messages"
)

// ErrClosed is what requests end with when the link is closed.
var ErrClosed = errors.New("closed")

// closedError is ErrClosed, and ErrNoAnswer or ErrNotSent for those who keep account of
// what a node may have done. It is not messages.ErrUnavailable: who tries again while that
// lasts would do so for ever.
type closedError struct{ sent bool }

func (e closedError) Error() string {
	if e.sent {
		return "closed before the node answered"
	}
	return ErrClosed.Error()
}

func (e closedError) Is(target error) bool {
	return target == ErrClosed || target == ErrNoAnswer && e.sent || target == ErrNotSent && !e.sent
}

// Errors of requests without an answer. Both wrap messages.ErrUnavailable; those of a link
// that is closed are one of them, too, but without that.
var (
	// ErrNotSent: no node has seen the request.
	ErrNotSent = fmt.Errorf("the node cannot be reached: %w", messages.ErrUnavailable)
	// ErrNoAnswer: a node may have carried the request out.
	ErrNoAnswer = fmt.Errorf("the node did not answer: %w", messages.ErrUnavailable)
)

// Route is where the partitions of a topic are led at one moment. It is immutable.
type Route struct {
	Topic   string
	ID      messages.TopicID
	Version messages.MetadataVersion
	// Gone: the topic does not exist any more; there are no partitions.
	Gone       bool
	Partitions []Leader
	// MaxMessageBytes bounds a batch of the topic.
	MaxMessageBytes int
}

// Leader is who leads a partition, and since when.
type Leader struct {
	Node  messages.NodeID // NoNode: nobody, or not known
	Epoch messages.LeaderEpoch
}

// Node is a live node.
type Node struct {
	ID      messages.NodeID
	Address string // of its actor system, HOST:PORT
	Rack    string
	Kafka   string // of its Kafka listener, HOST:PORT
}
