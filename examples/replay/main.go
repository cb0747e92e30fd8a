// Command replay reads a topic again from a point in time, in two ways: by itself, which
// disturbs nobody, and by setting a whole group back.
//
//	go run ./examples/replay
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/example"
)

func main() { example.Main(run) }

const (
	topic = "readings"
	group = "dashboard"
	hours = 24
	again = 6 // of the hours are read again
)

func run(ctx context.Context, cfg clientlib.Config, out io.Writer) error {
	client, err := clientlib.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	admin := client.Admin()
	if err := startOver(ctx, admin); err != nil {
		return err
	}
	now := time.Now().Truncate(time.Hour)
	if err := measure(ctx, client, now); err != nil {
		return err
	}
	from := now.Add(-again * time.Hour)

	// The dashboard reads all there is.
	if err := show(ctx, client, out, "dashboard", hours); err != nil {
		return err
	}
	if err := readAlone(ctx, client, out, from); err != nil {
		return err
	}

	// The dashboard had a bug, is mended, and shall do the last hours again. Nobody may
	// be in the group meanwhile: show has closed its consumer.
	if err := admin.ResetOffsets(ctx, group, topic, clientlib.AtTime(from)); err != nil {
		return err
	}
	return show(ctx, client, out, "dashboard, again", again)
}

// startOver makes the topic. What an earlier run left would be in the way of its numbers.
func startOver(ctx context.Context, admin *clientlib.Admin) error {
	err := admin.DeleteGroups(ctx, group)
	if err != nil && !errors.Is(err, clientlib.ErrGroupNotFound) {
		return err
	}
	err = admin.DeleteTopics(ctx, topic)
	if err != nil && !errors.Is(err, clientlib.ErrUnknownTopic) {
		return err
	}
	return admin.CreateTopics(ctx, clientlib.TopicSpec{Name: topic, Partitions: 2})
}

// measure writes a reading for each hour of the day that ends now, with the time at which
// it was taken.
func measure(ctx context.Context, client *clientlib.Client, now time.Time) error {
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: topic})
	if err != nil {
		return err
	}
	defer producer.Close(ctx)
	for i := range hours {
		at := now.Add(time.Duration(i-hours) * time.Hour)
		err := producer.Produce(ctx, &clientlib.Record{
			Time:  at,
			Key:   fmt.Append(nil, "sensor-", i%5),
			Value: fmt.Append(nil, 20+i%4),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// show is a member of the group until it has seen so many readings.
func show(ctx context.Context, client *clientlib.Client, out io.Writer, who string, want int,
) error {
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group: group, Topics: []string{topic},
	})
	if err != nil {
		return err
	}
	defer consumer.Close(ctx)
	if err := count(ctx, consumer, out, who, want); err != nil {
		return err
	}
	return consumer.Commit(ctx)
}

// readAlone reads the partitions directly: there is no group, and nothing is committed.
func readAlone(ctx context.Context, client *clientlib.Client, out io.Writer, from time.Time) error {
	var positions []clientlib.Position
	for i := range int32(2) {
		positions = append(positions, clientlib.Position{
			Partition: clientlib.Partition{Topic: topic, Index: i},
			Start:     clientlib.AtTime(from),
		})
	}
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{Partitions: positions})
	if err != nil {
		return err
	}
	defer consumer.Close(ctx)
	return count(ctx, consumer, out, "analyst", again)
}

func count(ctx context.Context, consumer *clientlib.Consumer, out io.Writer, who string, want int,
) error {
	var oldest time.Time
	seen := 0
	for seen < want {
		records, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		for _, r := range records {
			if oldest.IsZero() || r.Time.Before(oldest) {
				oldest = r.Time
			}
		}
		seen += len(records)
	}
	fmt.Fprintf(out, "%s: %d readings since %s\n", who, seen, oldest.UTC().Format(time.DateTime))
	return nil
}
