package clientlib

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	deadLetterSuffix = ".dlq"
	reasonBytes      = 4 << 10 // of an error in a header, at most
	timeHeader       = "2006-01-02T15:04:05.000Z07:00"
)

// letter is a record that cannot be handled.
type letter struct {
	record   *Record
	attempts int
	reason   error
	failed   time.Time
}

// letters are what cannot be handled of a task.
type letters struct {
	open    []letter // not written yet
	sent    int      // have no answer
	refused int      // how often some could not be written
}

// letterbox writes dead letters.
type letterbox interface {
	// send writes a record to its topic, which it makes if there is none. done is called
	// once, by any goroutine: without an error when every in-sync replica has it.
	send(ctx context.Context, r *Record, done func(error))
	// close waits for what is under way until ctx ends.
	close(ctx context.Context)
}

// post writes the letters of a task. Their answers say how it goes on.
func (p *processor) post(ctx context.Context, t *task) outcome {
	dead := t.Item.dead
	if err := undeliverable(dead.open[0], p.cfg); err != nil {
		p.fail(err)
		return outcome{task: t, fate: abandonedFate}
	}
	p.mu.Lock()
	p.posted++
	dead.sent = len(dead.open)
	p.mu.Unlock()
	for i, l := range dead.open { // after the last answer the task is another's
		p.box.send(ctx, deadLetter(l, p.cfg), func(err error) { p.answered(t, i, err) })
	}
	return outcome{task: t, fate: postedFate}
}

// undeliverable says why a letter must not be written, if it must not.
func undeliverable(l letter, cfg ConsumerConfig) error {
	r := l.record
	if cfg.DeadLetter != NoDeadLetter && !isDeadLetter(r.Topic, cfg.DeadLetter) {
		return nil
	}
	why := "there is no dead-letter topic (NoDeadLetter)"
	if cfg.DeadLetter != NoDeadLetter {
		why = "it is in a dead-letter topic already"
	}
	return fmt.Errorf("topic %q, partition %d, offset %d, after %d attempts, and %s: %w",
		r.Topic, r.Partition, r.Offset, l.attempts, why, l.reason)
}

// isDeadLetter says whether dead letters are written to a topic.
func isDeadLetter(topic, setting string) bool {
	if setting == "" {
		return strings.HasSuffix(topic, deadLetterSuffix)
	}
	return topic == setting
}

// leavesOut says whether a topic is not read although Pattern matches it: a program that
// reads everything should not get the records back that it could not handle.
func (cfg *ConsumerConfig) leavesOut(topic string) bool {
	if cfg.Pattern == "" || !isDeadLetter(topic, cfg.DeadLetter) {
		return false
	}
	return cfg.DeadLetter != "" || !strings.Contains(cfg.Pattern, deadLetterSuffix[1:])
}

// answered says what became of a task's letter. Once all are written the task is done;
// those that are not are written again later.
func (p *processor) answered(t *task, i int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dead := t.Item.dead
	dead.sent--
	p.report(dead.open[i].reason, err)
	if err == nil {
		p.mishaps.buried(p.logger, dead.open[i], &p.cfg)
		dead.open[i].record = nil
	}
	if dead.sent > 0 {
		return
	}
	p.posted--
	dead.open = slices.DeleteFunc(dead.open, func(l letter) bool { return l.record == nil })
	o := outcome{task: t, fate: handledFate}
	if len(dead.open) > 0 {
		dead.refused++
		o.fate, o.due = retriedFate, time.Now().Add(backoff(p.cfg.Retry, dead.refused))
	}
	p.settle(o)
	p.work.Broadcast()
	p.quiet.Broadcast()
}

// report logs that letters cannot be written, and that they can again. The caller holds mu.
func (p *processor) report(reason, err error) {
	if p.mute == (err != nil) || errors.Is(err, context.Canceled) {
		return
	}
	p.mute = err != nil
	if p.mute {
		p.logger.Warn("dead letters cannot be written; the records are held and tried again",
			"group", p.cfg.Group, "error", err, "reason", reason)
		return
	}
	p.logger.Info("dead letters can be written again", "group", p.cfg.Group)
}

// awaitLetters waits for what is under way until ctx ends.
func (p *processor) awaitLetters(ctx context.Context) {
	defer p.wakeAfter(ctx)()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.posted > 0 && ctx.Err() == nil {
		p.quiet.Wait()
	}
}

// deadLetterTopic is where dead letters of a topic go.
func deadLetterTopic(topic, setting string) string {
	if setting == "" {
		return topic + deadLetterSuffix
	}
	return setting
}

// deadLetter is what is written about a record.
func deadLetter(l letter, cfg ConsumerConfig) *Record {
	r := l.record
	topic := deadLetterTopic(r.Topic, cfg.DeadLetter)
	reason := l.reason.Error()
	if len(reason) > reasonBytes {
		reason = strings.ToValidUTF8(reason[:reasonBytes], "")
	}
	headers := append(make([]Header, 0, len(r.Headers)+8), r.Headers...)
	for _, h := range [...]struct{ name, value string }{
		{"topic", r.Topic},
		{"partition", strconv.Itoa(int(r.Partition))},
		{"offset", strconv.FormatInt(r.Offset, 10)},
		{"timestamp", r.Time.UTC().Format(timeHeader)},
		{"group", cfg.Group},
		{"attempts", strconv.Itoa(l.attempts)},
		{"error", reason},
		{"failed-at", l.failed.UTC().Format(timeHeader)},
	} {
		headers = append(headers, Header{"troupe.dlq." + h.name, []byte(h.value)})
	}
	if p := (*panicError)(nil); errors.As(l.reason, &p) {
		headers = append(headers, Header{"troupe.dlq.stack", p.stack[:min(len(p.stack), reasonBytes)]})
	}
	return &Record{Topic: topic, Key: r.Key, Value: r.Value, Headers: headers}
}
