// Command natsload gives NATS JetStream one load with NATS' own client, and prints what it
// saw as one line of JSON. bench runs it as a process of its own, so that the client is no
// dependency of Troupe.
//
// A partition is a stream: partition 2 of topic "a" is stream "a-2", which has the subject
// "a.2". The streams have to be there.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// load is what the command line asks for.
type load struct {
	url         string
	kind        string
	topic       string
	partitions  int
	recordBytes int
	records     int64         // to write or to read; 0: write for a while
	while       time.Duration // in which records are due, or written as fast as possible
	skip        time.Duration // of that, at first, whose latencies do not count
	rate        float64       // records per second
	window      int           // records that are not acknowledged yet, at most
	pull        int           // records that a consumer asks for at once
}

// result has the names that bench gives to what it measures. Times are nanoseconds.
type result struct {
	Records  int64         `json:"records"`
	Requests int64         `json:"requests,omitempty"`
	Bytes    int64         `json:"bytes"`
	Took     time.Duration `json:"took"`
	ClientNS time.Duration `json:"clientCpu"`
	Mallocs  float64       `json:"mallocs"` // per record
	P50      time.Duration `json:"p50,omitempty"`
	P99      time.Duration `json:"p99,omitempty"`
	P999     time.Duration `json:"p999,omitempty"`
	Max      time.Duration `json:"max,omitempty"`
	Rate     float64       `json:"rate,omitempty"`
}

func main() {
	var l load
	flag.StringVar(&l.url, "url", nats.DefaultURL, "of the server")
	flag.StringVar(&l.kind, "load", "", "produce, consume, ack or end-to-end")
	flag.StringVar(&l.topic, "topic", "", "begins the names of the streams")
	flag.IntVar(&l.partitions, "partitions", 1, "streams")
	flag.IntVar(&l.recordBytes, "record", 1024, "bytes of a record")
	flag.Int64Var(&l.records, "records", 0, "to write or to read (default: write for a while)")
	flag.DurationVar(&l.while, "while", time.Second, "how long records are written")
	flag.DurationVar(&l.skip, "skip", 0, "time at first whose latencies do not count")
	flag.Float64Var(&l.rate, "rate", 0, "records per second, for latencies")
	flag.IntVar(&l.window, "window", 4096, "records without acknowledgement, at most")
	flag.IntVar(&l.pull, "pull", 4096, "records that a consumer asks for at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := l.run(ctx)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "natsload:", err)
		os.Exit(1)
	}
}

// run connects and gives the load, and adds what this process used for it.
func (l *load) run(ctx context.Context) (result, error) {
	run, ok := map[string]func(context.Context, jetstream.JetStream) (result, error){
		"produce": l.produce, "consume": l.consume, "ack": l.ack, "end-to-end": l.endToEnd,
	}[l.kind]
	if !ok {
		return result{}, fmt.Errorf("there is no load %q", l.kind)
	}
	if l.partitions < 1 || l.recordBytes < valueHead {
		return result{}, fmt.Errorf("a load needs a partition, and records of %d bytes", valueHead)
	}
	conn, err := nats.Connect(l.url)
	if err != nil {
		return result{}, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(l.window))
	if err != nil {
		return result{}, err
	}
	if _, err := js.AccountInfo(ctx); err != nil { // the first answer is not measured
		return result{}, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used := cpu()
	r, err := run(ctx, js)
	r.ClientNS = cpu() - used
	runtime.ReadMemStats(&after)
	r.Mallocs = float64(after.Mallocs-before.Mallocs) / float64(max(1, r.Records))
	return r, err
}

// cpu is what this process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// result counts so many records.
func (l *load) result(records int64, took time.Duration) result {
	return result{Records: records, Bytes: records * int64(l.recordBytes), Took: took}
}

func (l *load) stream(partition int) string { return fmt.Sprintf("%s-%d", l.topic, partition) }

func (l *load) subjects() []string {
	s := make([]string, l.partitions)
	for i := range s {
		s[i] = fmt.Sprintf("%s.%d", l.topic, i)
	}
	return s
}

var errFailed = errors.New("a record was not stored")
