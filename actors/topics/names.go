package topics

import (
	"fmt"
	"strings"

	"github.com/troupelog/troupe/messages"
)

// kafkaMetadata is a name that no topic may have.
const kafkaMetadata = "__cluster_metadata"

func (p *Plan) checkName(name string) error {
	if err := messages.CheckTopicName(name); err != nil {
		return err
	}
	if name == kafkaMetadata {
		return fmt.Errorf("%q is the name of Kafka's metadata log, which tools take it for: %w",
			name, messages.ErrInvalidRequest)
	}
	if p.topic(messages.TopicRef{Name: name}) != nil {
		return fmt.Errorf("topic %q: %w", name, messages.ErrTopicAlreadyExists)
	}
	other, decided := p.folded[fold(name)]
	if !decided {
		other = p.state.folded[fold(name)]
	}
	if other != "" {
		return fmt.Errorf("topic %q differs from topic %q only in '.' and '_', which metrics "+
			"cannot tell apart: choose another name: %w", name, other, messages.ErrInvalidTopic)
	}
	return nil
}

func fold(name string) string { return strings.ReplaceAll(name, ".", "_") }
