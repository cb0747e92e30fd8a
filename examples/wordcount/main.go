// Command wordcount counts words exactly once, though its first stage fails again and
// again in the middle of its work. The stage reads lines, writes words, and commits how
// far it has read, all in one transaction: either everything of it counts or nothing.
//
//	go run ./examples/wordcount
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/example"
)

func main() { example.Main(run) }

const (
	linesTopic = "lines"
	wordsTopic = "words"
	failures   = 3 // of the first stage
)

// text is what is counted, many times over.
var text = []string{
	"the log is the truth",
	"and the truth is in the log",
	"what is not in the log is not",
}

const repeats = 40

func run(ctx context.Context, cfg clientlib.Config, out io.Writer) error {
	client, err := clientlib.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	for _, topic := range []string{linesTopic, wordsTopic} {
		err := client.Admin().CreateTopics(ctx, clientlib.TopicSpec{Name: topic, Partitions: 3})
		if err != nil && !errors.Is(err, clientlib.ErrTopicExists) {
			return err
		}
	}
	if err := writeLines(ctx, client); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	split := make(chan error, 1)
	go func() {
		defer stop() // nobody waits for words that do not come
		split <- splitLines(ctx, client, out)
	}()
	counts, err := countWords(ctx, client)
	stop()
	if err := errors.Join(err, <-split); err != nil {
		return err
	}
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(out, "%s %d\n", word, counts[word])
	}
	return nil
}

func writeLines(ctx context.Context, client *clientlib.Client) error {
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: linesTopic})
	if err != nil {
		return err
	}
	defer producer.Close(ctx)
	var lines []*clientlib.Record
	for i := range repeats {
		for _, line := range text {
			key := fmt.Append(nil, i) // spreads the lines over the partitions
			lines = append(lines, &clientlib.Record{Key: key, Value: []byte(line)})
		}
	}
	return producer.Produce(ctx, lines...)
}

// errCrash is what happens to the first stage.
var errCrash = errors.New("the machine is unplugged")

// splitLines is the first stage. When its function fails the transaction is aborted:
// nobody sees its words, and its lines are read again. The same happens when the program
// dies, or another member gets the partition: the transactional id fences what is left.
func splitLines(ctx context.Context, client *clientlib.Client, out io.Writer) error {
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{
		Topic: wordsTopic, TransactionalID: "splitter-1", // one for each that runs
	})
	if err != nil {
		return err
	}
	defer producer.Close(ctx)
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group: "splitter", Topics: []string{linesTopic},
		Retry: clientlib.Retry{Attempts: -1, Backoff: 10 * time.Millisecond},
	})
	if err != nil {
		return err
	}
	defer consumer.Close(ctx)
	failed := 0
	return consumer.ProcessTransactions(ctx, producer,
		func(ctx context.Context, tx *clientlib.Transaction, lines []*clientlib.Record) error {
			for _, line := range lines {
				for word := range strings.FieldsSeq(string(line.Value)) {
					// The same word is always in the same partition. What fails, fails
					// the transaction.
					err := tx.Send(ctx, &clientlib.Record{Key: []byte(word), Value: []byte("1")}, nil)
					if err != nil {
						return err
					}
				}
			}
			if failed < failures {
				failed++
				fmt.Fprintln(out, "failed after", len(lines), "lines:", errCrash)
				return errCrash
			}
			return nil
		})
}

// countWords is the second stage. It sees what is committed, as every consumer does that
// is not told otherwise.
func countWords(ctx context.Context, client *clientlib.Client) (map[string]int, error) {
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group: "counter", Topics: []string{wordsTopic},
	})
	if err != nil {
		return nil, err
	}
	defer consumer.Close(ctx)
	counts := map[string]int{}
	for left := len(strings.Fields(strings.Join(text, " "))) * repeats; left > 0; {
		words, err := consumer.Poll(ctx)
		if err != nil {
			return nil, err
		}
		for _, word := range words {
			counts[string(word.Key)]++
		}
		left -= len(words)
	}
	return counts, consumer.Commit(ctx)
}
