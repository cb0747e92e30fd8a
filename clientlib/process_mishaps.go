package clientlib

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// letterPause is between two lines of the log about dead letters of one partition.
const letterPause = 10 * time.Second

// mishaps are what went wrong with the records of a consumer: counted, and told.
type mishaps struct {
	failures, retries, deadLetters atomic.Int64

	mu   sync.Mutex
	told map[Partition]*toldLetters
}

// toldLetters is what the log was told of the dead letters of a partition.
type toldLetters struct {
	next  time.Time // when it may be told again
	since int64     // letters that it was not told of
}

// buried counts a dead letter that is written, and tells an operator: of the first one of
// each partition, and then every now and then.
func (m *mishaps) buried(log *slog.Logger, l letter, cfg *ConsumerConfig) {
	m.deadLetters.Add(1)
	at, now := Partition{l.record.Topic, l.record.Partition}, time.Now()
	m.mu.Lock()
	if m.told == nil {
		m.told = map[Partition]*toldLetters{}
	}
	t := m.told[at]
	if t == nil {
		t = &toldLetters{}
		m.told[at] = t
	}
	t.since++
	letters := t.since
	if now.Before(t.next) {
		m.mu.Unlock()
		return
	}
	t.next, t.since = now.Add(letterPause), 0
	m.mu.Unlock()
	log.Warn("records could not be handled and are dead letters now",
		"group", cfg.Group, "topic", at.Topic, "partition", at.Index, "offset", l.record.Offset,
		"to", deadLetterTopic(at.Topic, cfg.DeadLetter), "letters", letters,
		"attempts", l.attempts, "error", l.reason)
}
