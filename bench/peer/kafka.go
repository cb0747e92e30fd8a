//go:build linux

package peer

import (
	"context"
	"errors"
)

// NewKafka is Apache Kafka in KRaft mode, from the jars in a folder.
func NewKafka(string) Kind { return later(Kafka) }

// NewNATS is NATS JetStream.
func NewNATS(string) Kind { return later(NATS) }

func later(name string) Kind {
	return Kind{Name: name, Start: func(context.Context, Options) (*Broker, error) {
		return nil, errors.New("not built yet")
	}, Version: func(context.Context) (string, error) { return "", errors.New("not built yet") }}
}
