package clientlib

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// deadLetterTimeout bounds how long it takes to make a dead-letter topic, and to write a
// letter, before it is tried again later.
const deadLetterTimeout = 10 * time.Second

// clientBox writes dead letters with a producer of its own, which it makes, as the topics,
// when there is a letter.
type clientBox struct {
	client *Client

	mu       sync.Mutex // held while the producer or a topic is made
	producer *Producer
	topics   map[string]bool // that exist
}

func (b *clientBox) send(ctx context.Context, r *Record, done func(error)) {
	p, err := b.ready(ctx, r.Topic)
	if err == nil {
		err = p.Send(ctx, r, func(_ *Record, err error) {
			b.learn(r.Topic, err)
			done(err)
		})
	}
	if err != nil {
		b.learn(r.Topic, err)
		done(err)
	}
}

// ready returns the producer once it and the topic are there.
func (b *clientBox) ready(ctx context.Context, topic string) (*Producer, error) {
	ctx, cancel := context.WithTimeout(ctx, deadLetterTimeout)
	defer cancel()
	if err := b.ensure(ctx, topic); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.producer == nil {
		p, err := b.client.NewProducer(ctx, ProducerConfig{
			DeliveryTimeout: deadLetterTimeout, Refuse: true, Linger: -1,
		})
		if err != nil {
			return nil, err
		}
		p.grace = 0 // who closes it has waited for the letters
		b.producer = p
	}
	return b.producer, nil
}

// ensure makes a topic that is not known to exist.
func (b *clientBox) ensure(ctx context.Context, topic string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.topics[topic] {
		return nil
	}
	err := b.client.Admin().CreateTopics(ctx, TopicSpec{Name: topic})
	if err != nil && !errors.Is(err, ErrTopicExists) {
		return fmt.Errorf("dead-letter topic %q: %w", topic, err)
	}
	if b.topics == nil {
		b.topics = map[string]bool{}
	}
	b.topics[topic] = true
	return nil
}

// learn takes note of why a letter was not written: the topic, or the producer, may be
// gone.
func (b *clientBox) learn(topic string, err error) {
	unknown, closed := errors.Is(err, ErrUnknownTopic), errors.Is(err, ErrClosed)
	if !unknown && !closed {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if unknown {
		delete(b.topics, topic)
	}
	if closed {
		b.producer = nil
	}
}

// close closes the producer; letters under way have until ctx ends.
func (b *clientBox) close(ctx context.Context) {
	b.mu.Lock()
	p := b.producer
	b.mu.Unlock() // the callbacks of what is under way need it
	if p != nil {
		_ = p.Close(ctx) // the callbacks know what was not written
	}
}
