//go:build linux

// Command bench measures Troupe beside other brokers, in one run: the brokers take turns
// under the same load, in the same minutes, so the ratio between them means something
// even where the absolute numbers do not.
//
// The ideal broker (bench/ideal) is the least a broker can do: it reads frames, checks a
// CRC, appends to preallocated files and serves them with sendfile. It has no actors, no
// metadata and no protocol worth the name, so it is a ceiling for this machine. With
// -peers, Apache Kafka and NATS JetStream are measured too.
//
// The raw driver (bench/raw) sends Kafka frames that were encoded before the clock starts
// and throws answers away: what is measured is the broker, not a client library. Real
// clients are in bench/clients. Brokers are processes of their own; their CPU time comes
// from /proc.
//
//	go run ./bench -troupe bin/troupe            beside the ideal broker
//	go run ./bench -peers -rounds 5              beside all
//	go run ./bench -only 'produce 64 KiB'        some workloads
//	go run ./bench -list                         what there is
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/troupelog/troupe/bench/ideal"
	"github.com/troupelog/troupe/bench/peer"
)

// settings of a run, from the command line.
type settings struct {
	troupe string         // binary
	kafka  string         // folder with Kafka's jars; empty: they are fetched
	nats   string         // binary; empty: it is built
	dir    string         // on the disk to measure
	peers  bool           // Kafka and NATS too
	mb     int64          // megabytes of batches for a run at most
	rounds int            // how often each workload is repeated
	only   *regexp.Regexp // names of workloads

	guard    bool   // fail when what smokeClaims says does not hold
	document string // to write what was seen into; empty: it is printed only
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == peer.IdealCommand {
		exit(ideal.Serve(os.Args[2]))
	}
	s := settings{}
	only := flag.String("only", "", "measure only workloads whose name matches this expression")
	list := flag.Bool("list", false, "list the workloads")
	smoke := flag.Bool("smoke", false, "a short run for CI that fails when a node got much slower")
	again := flag.Bool("render", false, "measure nothing; write -document from what it shows already")
	flag.StringVar(&s.document, "document", "", "write what was seen into this Markdown document")
	flag.StringVar(&s.troupe, "troupe", "bin/troupe", "the binary to measure")
	flag.StringVar(&s.kafka, "kafka", "", "folder with Kafka's jars (default: fetched with Maven)")
	flag.StringVar(&s.nats, "nats", "", "nats-server binary (default: built from tools/peers)")
	flag.StringVar(&s.dir, "dir", "", "a folder on the disk to measure (default: a temporary one)")
	flag.BoolVar(&s.peers, "peers", false, "measure Kafka and NATS too")
	flag.Int64Var(&s.mb, "mb", 1024, "megabytes of batches for one run, at most")
	flag.IntVar(&s.rounds, "rounds", 5, "how often each workload is repeated; the median counts")
	flag.Parse()
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		exit(fmt.Errorf("-only: %w", err))
	}
	if *smoke {
		s.smoke()
	}
	if *list {
		for _, w := range workloads() {
			fmt.Printf("%-10s %s\n", w.group, w.name)
		}
		return
	}
	if *again {
		exit(render(s.document))
	}
	if err := s.check(*only); err != nil {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(measure(ctx, s))
}

// check refuses a document of less than all workloads beside all brokers.
func (s settings) check(only string) error {
	if s.document != "" && (!s.peers || s.guard || only != "") {
		return errors.New("-document shows whole runs: give it -peers, and neither -only nor -smoke")
	}
	return nil
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
