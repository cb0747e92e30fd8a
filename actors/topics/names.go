package topics

import (
	"fmt"
	"strings"

	"github.com/troupelog/troupe/messages"
)

// maxNameLength is Kafka's bound: with the partition number the name must still
// fit into a file name.
const maxNameLength = 249

// kafkaMetadata is a name that no topic may have.
const kafkaMetadata = "__cluster_metadata"

func (p *Plan) checkName(name string) error {
	if err := CheckName(name); err != nil {
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

// CheckName checks a topic's name by Kafka's rules: 1 to 249 characters of
// a-z, A-Z, 0-9, '.', '_' and '-', and neither "." nor "..". It fails with
// messages.ErrInvalidTopic.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name is empty: %w", messages.ErrInvalidTopic)
	case name == "." || name == "..":
		return fmt.Errorf(
			"the name %q is a folder of the file system: %w",
			name,
			messages.ErrInvalidTopic,
		)
	case len(name) > maxNameLength:
		return fmt.Errorf("the name has %d characters, at most %d are allowed: %w",
			len(name), maxNameLength, messages.ErrInvalidTopic)
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf(
				"the name %q contains %q; only letters, digits, '.', '_' and '-' are allowed: %w",
				name,
				string(rune(c)),
				messages.ErrInvalidTopic,
			)
		}
	}
	return nil
}

func fold(name string) string { return strings.ReplaceAll(name, ".", "_") }
