package messages

import "fmt"

// maxTopicName is Kafka's bound: with the partition number the name must still fit
// into a file name.
const maxTopicName = 249

// CheckTopicName checks a topic's name by Kafka's rules: 1 to 249 characters of
// a-z, A-Z, 0-9, '.', '_' and '-', and neither "." nor "..". It fails with
// ErrInvalidTopic.
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name is empty: %w", ErrInvalidTopic)
	case name == "." || name == "..":
		return fmt.Errorf("the name %q is a folder of the file system: %w", name, ErrInvalidTopic)
	case len(name) > maxTopicName:
		return fmt.Errorf("the name has %d characters, at most %d are allowed: %w",
			len(name), maxTopicName, ErrInvalidTopic)
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("the name %q contains %q; only letters, digits, '.', '_' and '-' "+
				"are allowed: %w", name, string(rune(c)), ErrInvalidTopic)
		}
	}
	return nil
}
