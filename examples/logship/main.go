// Command logship follows a log file as tail -F does and ships its lines into a topic. It
// keeps no file of positions: each record has a header that says where in which file the
// next line is, and a shipper that starts reads the last record. So what is shipped and
// how far it came cannot disagree, and a line is neither lost nor shipped twice when the
// shipper, a node or the machine dies.
//
//	go run ./examples/logship -file /var/log/syslog
//
// Logs may be renamed (path > path.1) or cut to nothing. What was renamed and compressed,
// or renamed twice, while the shipper did not run is lost to it. Each log needs a
// partition of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/example"
)

func main() {
	var o options
	flag.StringVar(&o.path, "file", "", "`path` of the log (default: one is written for you)")
	flag.StringVar(&o.topic, "topic", "logs", "`topic` of the lines")
	partition := flag.Int("partition", 0, "`number` of the partition that is this log's alone")
	example.Main(func(ctx context.Context, cfg clientlib.Config, out io.Writer) error {
		o.partition = int32(*partition)
		if o.path != "" {
			return run(ctx, cfg, o, out)
		}
		dir, err := os.MkdirTemp("", "troupe-logship-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.path = filepath.Join(dir, "demo.log")
		go demo(ctx, o.path)
		return run(ctx, cfg, o, out)
	})
}

type options struct {
	path      string
	topic     string
	partition int32
}

// placeHeader is the header of the place behind a line.
const placeHeader = "place"

const (
	pollEvery    = 100 * time.Millisecond // of a log that has no more
	flushTimeout = 10 * time.Second
)

// run ships until ctx ends.
func run(ctx context.Context, cfg clientlib.Config, o options, out io.Writer) error {
	client, err := clientlib.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	err = client.Admin().CreateTopics(ctx, clientlib.TopicSpec{Name: o.topic})
	if err != nil && !errors.Is(err, clientlib.ErrTopicExists) {
		return err
	}
	from, err := lastPlace(ctx, client, o)
	if err != nil {
		return err
	}
	log, err := open(o.path, from)
	if err != nil {
		return err
	}
	defer log.close()
	fmt.Fprintf(out, "shipping %s from byte %d on\n", o.path, log.at.next)
	return ship(ctx, client, log, o, out)
}

// lastPlace is where the last record says that the next line is; the zero place if there
// is no record.
func lastPlace(ctx context.Context, client *clientlib.Client, o options) (place, error) {
	p := clientlib.Partition{Topic: o.topic, Index: o.partition}
	first, err := client.Admin().Offsets(ctx, o.topic, clientlib.Earliest)
	if err != nil {
		return place{}, err
	}
	end, err := client.Admin().Offsets(ctx, o.topic, clientlib.Latest)
	if err != nil || end[p] == first[p] {
		return place{}, err
	}
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Partitions: []clientlib.Position{{Partition: p, Start: clientlib.AtOffset(end[p] - 1)}},
	})
	if err != nil {
		return place{}, err
	}
	defer consumer.Close(ctx)
	records, err := consumer.Poll(ctx)
	if err != nil {
		return place{}, err
	}
	return parsePlace(string(records[len(records)-1].Header(placeHeader)))
}

func ship(ctx context.Context, client *clientlib.Client, log *tail, o options, out io.Writer,
) error {
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{
		Topic:       o.topic,
		Partitioner: clientlib.Explicit,
		Compression: clientlib.Zstd,
		// The next line says that this one was shipped, so none may be given up.
		DeliveryTimeout: 24 * time.Hour,
	})
	if err != nil {
		return err
	}
	defer producer.Close(ctx)
	failed := make(chan error, 1)
	delivered := func(_ *clientlib.Record, err error) {
		if err != nil {
			select {
			case failed <- err:
			default: // one is enough to stop
			}
		}
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	lines := 0
	for ctx.Err() == nil {
		line, behind, ok, err := log.next()
		if err != nil {
			return err
		}
		if ok {
			// A line that is not sent because ctx ends is read again by the next shipper.
			err := producer.Send(ctx, &clientlib.Record{Partition: o.partition, Value: line,
				Headers: []clientlib.Header{{Key: placeHeader, Value: []byte(behind.String())}},
			}, delivered)
			if err != nil && ctx.Err() == nil {
				return err
			}
			lines++
			continue
		}
		select {
		case <-tick.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
	}
	fmt.Fprintf(out, "read %d lines\n", lines)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	return producer.Flush(ctx)
}

// demo writes a log that is renamed now and then, until ctx ends.
func demo(ctx context.Context, path string) {
	tick := time.NewTicker(2 * pollEvery)
	defer tick.Stop()
	for i := 1; ; i++ {
		if i%50 == 0 {
			_ = os.Rename(path, path+".1") // then the log goes on as it is
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return // the folder is gone: the example ends
		}
		fmt.Fprintf(f, "%s line %d\n", time.Now().Format(time.RFC3339), i)
		f.Close()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
