package clientlib

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/cursor"
	"github.com/troupelog/troupe/messages"
)

const (
	// rebalanceTimeout is how long the coordinator waits for partitions to be given up;
	// drainTimeout how much of it is for what was handed out.
	rebalanceTimeout = time.Minute
	drainTimeout     = rebalanceTimeout * 3 / 4

	defaultCommitInterval = 5 * time.Second
)

// membership reports whether the consumer is a member of its group.
func (cfg *ConsumerConfig) membership() bool { return len(cfg.Partitions) == 0 }

// check returns what cannot be.
func (cfg *ConsumerConfig) check() error {
	wrong := ""
	reads := len(cfg.Topics) > 0 || cfg.Pattern != ""
	switch {
	case reads && len(cfg.Partitions) > 0:
		wrong = "Partitions are read without sharing them: set no Topics and no Pattern"
	case !reads && len(cfg.Partitions) == 0:
		wrong = "there is nothing to read: set Topics, Pattern or Partitions"
	case reads && cfg.Group == "":
		wrong = "Topics and Pattern need a Group"
	case len(cfg.Topics) > 0 && cfg.Pattern != "":
		wrong = "set either Topics or Pattern"
	case cfg.InstanceID != "" && !reads:
		wrong = "InstanceID is for members of a group, and Partitions are read by none"
	case cfg.BufferBytes < 0:
		wrong = fmt.Sprintf("BufferBytes is %d", cfg.BufferBytes)
	}
	if wrong != "" {
		return fmt.Errorf("consumer: %s: %w", wrong, ErrConfig)
	}
	if _, err := regexp.Compile(cfg.Pattern); err != nil {
		return fmt.Errorf("consumer: Pattern: %w: %w", ErrConfig, err)
	}
	if err := cfg.checkProcessing(); err != nil {
		return err
	}
	for _, topic := range cfg.Topics {
		if err := messages.CheckTopicName(topic); err != nil {
			return fmt.Errorf("consumer: Topics: %w: %w", ErrConfig, err)
		}
	}
	seen := map[Partition]bool{}
	for _, p := range cfg.Partitions {
		if p.Topic == "" || p.Index < 0 || seen[p.Partition] {
			return fmt.Errorf("consumer: partition %d of topic %q cannot be, or is twice in "+
				"Partitions: %w", p.Index, p.Topic, ErrConfig)
		}
		seen[p.Partition] = true
	}
	return nil
}

// filled returns the settings with the defaults in the place of what is not set.
func (cfg ConsumerConfig) filled() ConsumerConfig {
	if cfg.BufferBytes == 0 {
		cfg.BufferBytes = defaultBufferBytes
	}
	if cfg.CommitInterval == 0 {
		cfg.CommitInterval = defaultCommitInterval
	}
	return cfg
}

// place is the start as cursors know it.
func (s Start) place() cursor.Start {
	switch s.kind {
	case startLatest:
		return cursor.Start{ByTime: true, Value: cursor.Latest}
	case startOffset:
		return cursor.Start{Value: max(s.value, 0)}
	case startTime:
		return cursor.Start{ByTime: true, Value: max(s.value, 0)}
	case startEarliest:
	}
	return cursor.Start{ByTime: true, Value: cursor.Earliest}
}

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
