//go:build linux

package raw

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	connectTimeout = 5 * time.Second

	// window is how many Produce requests a connection has under way at most; it is
	// what Kafka's clients use by default.
	window = 5
)

// load drives one broker with one scenario. Each connection has a partition.
type load struct {
	addr    string
	topic   string
	conns   int
	batch   []byte
	records int // in a batch
	batches int // per connection
}

func (l *load) bytes() int64 { return int64(l.conns) * int64(l.batches) * int64(len(l.batch)) }

// onEach runs f on every connection at once. It returns how long that took,
// counted from the moment all were connected.
func (l *load) onEach(
	ctx context.Context, f func(c net.Conn, partition int32) error,
) (time.Duration, error) {
	conns := make([]net.Conn, l.conns)
	dialer := net.Dialer{Timeout: connectTimeout}
	for i := range conns {
		c, err := dialer.DialContext(ctx, "tcp", l.addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		conns[i] = c
	}
	errs := make([]error, l.conns)
	began := time.Now()
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() { errs[i] = f(c, int32(i)) })
	}
	wg.Wait()
	return time.Since(began), errors.Join(errs...)
}

// produce sends every batch and waits for its answer, with up to window requests
// under way on each connection.
func (l *load) produce(ctx context.Context) (time.Duration, []time.Duration, error) {
	all := make([][]time.Duration, l.conns)
	took, err := l.onEach(ctx, func(c net.Conn, partition int32) error {
		request := produceFrame(l.topic, partition, l.batch)
		sent := make(chan time.Time, window-1) // one more is in the sender's hand
		failed := make(chan error, 1)
		go func() {
			defer close(sent)
			for range l.batches {
				sent <- time.Now()
				if _, err := c.Write(request); err != nil {
					failed <- err
					return
				}
			}
		}()
		seen, err := l.readAnswers(c, sent)
		all[partition] = seen
		if err != nil {
			_ = c.Close() // ends the sender
			for range sent {
				continue
			}
			return err
		}
		select {
		case err := <-failed:
			return err
		default:
			return nil
		}
	})
	return took, slices.Concat(all...), err
}

func (l *load) readAnswers(c net.Conn, sent <-chan time.Time) ([]time.Duration, error) {
	size, errorAt := ProduceAnswer(l.topic)
	answers := make([]byte, 4+size)
	latencies := make([]time.Duration, 0, l.batches)
	for range l.batches {
		if _, err := io.ReadFull(c, answers); err != nil {
			return latencies, fmt.Errorf("answer %d of %d: %w", len(latencies)+1, l.batches, err)
		}
		if got := int(binary.BigEndian.Uint32(answers)); got != size {
			return latencies, fmt.Errorf("answer of %d bytes, expected %d", got, size)
		}
		if err := answerError(answers[4:], errorAt); err != nil {
			return latencies, err
		}
		began, ok := <-sent
		if !ok {
			return latencies, errors.New("an answer to a request that was not sent")
		}
		latencies = append(latencies, time.Since(began))
	}
	return latencies, nil
}

// fetch reads every partition from its start to its end.
func (l *load) fetch(ctx context.Context) (time.Duration, error) {
	return l.onEach(ctx, func(c net.Conn, partition int32) error {
		request := fetchFrame(l.topic, partition)
		buffer := make([]byte, 256<<10)
		for got := 0; got < l.batches; {
			setFetchOffset(request, int64(got)*int64(l.records))
			if _, err := c.Write(request); err != nil {
				return err
			}
			n, err := l.readBatches(c, buffer)
			if err != nil {
				return fmt.Errorf("after %d of %d batches: %w", got, l.batches, err)
			}
			got += n
		}
		return nil
	})
}

// readBatches reads one Fetch answer and returns how many batches it held. All
// batches have the size they were sent with, because a broker stores them so.
func (l *load) readBatches(c net.Conn, buffer []byte) (int, error) {
	headSize, errorAt := FetchAnswerHead(l.topic)
	head := buffer[:4+headSize]
	if _, err := io.ReadFull(c, head); err != nil {
		return 0, err
	}
	if err := answerError(head[4:], errorAt); err != nil {
		return 0, err
	}
	size := int(int32(binary.BigEndian.Uint32(head[headSize:])))
	if total := int(binary.BigEndian.Uint32(head)); total != headSize+size || size < 0 {
		return 0, fmt.Errorf("answer of %d bytes with %d bytes of records", total, size)
	}
	if size%len(l.batch) != 0 {
		return 0, fmt.Errorf("%d bytes of records are no whole number of batches of %d",
			size, len(l.batch))
	}
	for rest := size; rest > 0; {
		n, err := c.Read(buffer[:min(rest, len(buffer))])
		if err != nil {
			return 0, err
		}
		rest -= n
	}
	return size / len(l.batch), nil
}

// quantile returns the value below which the share q of ds lies.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[min(len(ds)-1, int(q*float64(len(ds))))]
}
