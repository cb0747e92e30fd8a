//go:build linux

// Command bench measures a node beside an ideal broker, in one run.
//
// The ideal broker (ideal.go) is the least a broker can do: it reads frames,
// checks a CRC, appends to preallocated files and serves them with sendfile. It
// has no actors, no metadata and no protocol worth the name, so it is a ceiling
// for this machine. Both take turns under the same load, in the same minutes, so
// the ratio between them means something even where the absolute numbers do not.
//
// The load is made of Kafka frames that were encoded before the clock starts:
// what is measured is the broker, not a client library. Brokers are processes of
// their own; their CPU time comes from /proc.
//
// Offset commits are measured on the node alone (commits.go), and producers and consumers
// of the SDK beside those of franz-go (sdk.go).
//
//	go run ./bench -troupe bin/troupe
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// settings of a run, from the command line.
type settings struct {
	troupe    string
	dir       string
	megabytes int64 // of batches per measurement
	rounds    int
	only      string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == idealCommand {
		exit(serveIdeal(os.Args[2]))
	}
	var s settings
	flag.StringVar(&s.troupe, "troupe", "bin/troupe", "the binary to measure")
	flag.StringVar(&s.dir, "dir", "", "a folder on the disk to measure (default: a temporary one)")
	flag.Int64Var(&s.megabytes, "mb", 1024, "megabytes of batches per measurement")
	flag.IntVar(&s.rounds, "rounds", 3, "how often each measurement is repeated; the median counts")
	flag.StringVar(&s.only, "only", "", "measure only scenarios whose name contains this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(compare(ctx, s))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// compare starts both brokers, lets them take turns, and prints what it saw.
func compare(ctx context.Context, s settings) (err error) {
	dir, err := os.MkdirTemp(s.dir, "troupe-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	ideal, err := startIdeal(ctx, filepath.Join(dir, "ideal"))
	if err != nil {
		return fmt.Errorf("ideal broker: %w", err)
	}
	defer ideal.stop()
	troupe, err := startTroupe(ctx, s.troupe, filepath.Join(dir, "troupe"))
	if err != nil {
		return fmt.Errorf("troupe: %w", err)
	}
	defer troupe.stop()

	var table table
	for _, sc := range scenarios {
		if !sc.matches(s.only) {
			continue
		}
		row, err := measure(ctx, s, sc, ideal, troupe)
		if err != nil {
			return fmt.Errorf("%s: %w", sc.name(), err)
		}
		fmt.Fprintln(os.Stderr, "done:", sc.name())
		table = append(table, row)
	}
	if err := table.write(os.Stdout); err != nil {
		return err
	}
	if err := measureCommits(ctx, s, troupe, os.Stdout); err != nil {
		return err
	}
	if !strings.Contains(sdkName, s.only) {
		return nil
	}
	return measureSDK(ctx, s, troupe, os.Stdout)
}
