//go:build linux

package clients

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/bench/figures"
)

// assignedTimeout is how long a group of one member may take to get its partitions.
const assignedTimeout = 30 * time.Second

// member makes a client that is alone in a group and has all partitions of the topic,
// of which it reads nothing until it is told to resume.
func (l *Load) member(ctx context.Context, group string, count *requests) (*kgo.Client, error) {
	var lock sync.Mutex
	missing, all := l.Partitions, make(chan struct{})
	assigned := func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
		lock.Lock()
		defer lock.Unlock()
		before := missing
		if missing -= len(got[l.Topic]); missing <= 0 && before > 0 {
			close(all)
		}
	}
	client, err := l.consumer(count, kgo.ConsumerGroup(group), kgo.OnPartitionsAssigned(assigned))
	if err != nil {
		return nil, err
	}
	client.PauseFetchTopics(l.Topic)
	timer := time.NewTimer(assignedTimeout)
	defer timer.Stop()
	select {
	case <-all:
		return client, nil
	case <-timer.C:
		err = fmt.Errorf("group %s got no partitions in %s", group, assignedTimeout)
	case <-ctx.Done():
		err = ctx.Err()
	}
	client.Close()
	return nil, err
}

// FanOut lets so many groups read so many records of the topic at once. The result counts
// what all of them read, from when the last of them had its partitions.
func (l *Load) FanOut(ctx context.Context, groups int, records int64) (figures.Result, error) {
	count := fetchRequests()
	var members []*kgo.Client
	defer func() {
		for _, m := range members {
			m.Close()
		}
	}()
	for g := range groups {
		m, err := l.member(ctx, fmt.Sprintf("%s-%d", l.Topic, g), count)
		if err != nil {
			return figures.Result{}, err
		}
		members = append(members, m)
	}
	began := time.Now()
	var wg sync.WaitGroup
	var failed failure
	for _, m := range members {
		m.ResumeFetchTopics(l.Topic)
		wg.Go(func() { failed.note(poll(ctx, m, records+l.warmed)) })
	}
	wg.Wait()
	took := time.Since(began)
	return l.result(int64(groups)*records, count.count.Load(), took), failed.err()
}

// Mixed writes as much as it can for a while, and a group reads it at the same time. The
// result counts each record once, and the time until the last of them was read.
func (l *Load) Mixed(ctx context.Context, while time.Duration) (figures.Result, error) {
	member, err := l.member(ctx, l.Topic, fetchRequests())
	if err != nil {
		return figures.Result{}, err
	}
	defer member.Close()
	count := produceRequests()
	producer, err := l.filler(ctx, count)
	if err != nil {
		return figures.Result{}, err
	}
	defer producer.Close()
	member.ResumeFetchTopics(l.Topic)
	var produced figures.Result
	written := make(chan int64, 1)
	began := time.Now()
	err = both(ctx, func(ctx context.Context) (err error) {
		produced, err = l.write(ctx, producer, count, until(while))
		written <- produced.Records + l.warmed
		return err
	}, func(ctx context.Context) error { return pollUntil(ctx, member, written) })
	produced.Took = time.Since(began)
	return produced, err
}

// pollUntil reads as many records as it is told by and by.
func pollUntil(ctx context.Context, client *kgo.Client, written <-chan int64) error {
	// A poll that waits for records has to end when it is told that there are no more.
	polling, cancel := context.WithCancel(ctx)
	defer cancel()
	expected := make(chan int64, 1)
	go func() {
		defer close(expected)
		select {
		case n := <-written:
			expected <- n
			cancel()
		case <-polling.Done():
		}
	}()
	got := int64(0)
	for polling.Err() == nil {
		fetches := client.PollFetches(polling)
		got += int64(fetches.NumRecords())
		if err := fetches.Err(); err != nil && polling.Err() == nil {
			return err
		}
	}
	total, ok := <-expected
	if !ok {
		return ctx.Err()
	}
	if got == total {
		return nil
	}
	return poll(ctx, client, total-got)
}
