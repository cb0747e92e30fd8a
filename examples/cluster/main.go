// Command cluster runs a whole Troupe cluster on this machine: a Consul and three
// nodes of the real binary, with their data in ./data-cluster.
//
//	go run ./examples/cluster
//
// It prints the addresses, and what to try next. A process that ends is started
// again after some seconds, as an init system would do, so the nodes can be
// killed at will. Ctrl-C stops the nodes one after the other, as a rolling restart
// does, and then Consul; the next start goes on with the same data.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.data, "data", "data-cluster", "folder for the data and the logs")
	flag.StringVar(&o.troupe, "troupe", "", "troupe binary (default: built from this module)")
	flag.StringVar(&o.consul, "consul", "",
		"consul binary (default: the one on PATH, else bin/consul, built by tools/consul.sh)")
	flag.IntVar(&o.nodes, "nodes", 3, "how many nodes")
	flag.BoolVar(&o.anyPorts, "any-ports", false, "take free ports instead of 8500-, 9092- and 8080-")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

type options struct {
	data     string
	troupe   string
	consul   string
	nodes    int
	anyPorts bool
}

// readyTimeout bounds the wait for a node: it may have a recovery to do.
const readyTimeout = 2 * time.Minute

// run starts the cluster and stops it when ctx ends.
func run(ctx context.Context, o options, out io.Writer) error {
	if err := o.findBinaries(ctx, out); err != nil {
		return err
	}
	var running []*process
	defer func() { // the last that was started first: Consul outlives the nodes
		for _, p := range slices.Backward(running) {
			fmt.Fprintf(out, "stopping %s\n", p.name)
			p.stop()
		}
	}()
	ports, err := o.consulPorts()
	if err != nil {
		return err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	running = append(running, start(o.consulCommand(ports), out))
	for i := range o.nodes {
		running = append(running, start(o.nodeCommand(i+1, address), out))
	}
	for _, p := range running[1:] {
		select {
		case <-p.ready:
		case <-running[0].done:
			return fmt.Errorf("consul did not start: %w; its log is %s", running[0].err, running[0].log)
		case <-p.done:
			return fmt.Errorf("%s did not start: %w; its log is %s", p.name, p.err, p.log)
		case <-time.After(readyTimeout):
			return fmt.Errorf("%s is not ready after %s; its log is %s", p.name, readyTimeout, p.log)
		case <-ctx.Done():
			return nil
		}
	}
	o.explain(out, address, running)
	<-ctx.Done()
	return nil
}

// findBinaries builds what was not named.
func (o *options) findBinaries(ctx context.Context, out io.Writer) error {
	if err := os.MkdirAll(o.data, 0o755); err != nil {
		return err
	}
	if o.troupe == "" {
		o.troupe = filepath.Join(o.data, "troupe")
		build := exec.CommandContext(ctx, "go", "build", "-o", o.troupe, "github.com/troupelog/troupe")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building troupe: %w\n%s", err, text)
		}
	}
	if o.consul != "" {
		return nil
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Module.Dir}}",
		"github.com/troupelog/troupe").Output()
	if err != nil {
		return fmt.Errorf("finding tools/consul.sh: %w; name a consul with -consul", err)
	}
	script := exec.CommandContext(ctx,
		filepath.Join(strings.TrimSpace(string(root)), "tools", "consul.sh"))
	script.Stderr = out // says that it takes some minutes, when it does
	path, err := script.Output()
	if err != nil {
		return fmt.Errorf("building consul: %w; name one with -consul", err)
	}
	o.consul = strings.TrimSpace(string(path))
	return nil
}

// consulPorts are those of HTTP, of the servers' RPC and of gossip.
func (o *options) consulPorts() (ports [3]int, err error) {
	if !o.anyPorts {
		return [3]int{8500, 8300, 8301}, nil
	}
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return ports, err
		}
		defer ln.Close() // not before all are chosen
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// consulCommand runs one Consul server that keeps its data. Three of them, on
// three machines, are what a real cluster has.
func (o *options) consulCommand(ports [3]int) command {
	log := filepath.Join(o.data, "consul.log")
	return command{name: "consul", log: log, last: "==> Log data", line: []string{
		o.consul, "agent", "-server", "-bootstrap-expect=1", "-node=example", "-log-level=warn",
		"-data-dir", filepath.Join(o.data, "consul"), "-bind=127.0.0.1", "-client=127.0.0.1",
		"-http-port", strconv.Itoa(ports[0]), "-server-port", strconv.Itoa(ports[1]),
		"-serf-lan-port", strconv.Itoa(ports[2]), "-serf-wan-port=-1",
		"-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1",
		"-hcl", "performance { raft_multiplier = 1 } disable_update_check = true",
	}}
}

// nodeCommand is what one would type on each machine, but for the ports: here
// all nodes share one. Each pretends to stand in a rack of its own.
func (o *options) nodeCommand(id int, consul string) command {
	kafka, http := 9091+id, 8079+id
	if o.anyPorts {
		kafka, http = 0, 0
	}
	name := "node-" + strconv.Itoa(id)
	return command{name: name, log: filepath.Join(o.data, name+".log"), last: "actor ", line: []string{
		o.troupe, "start", "--consul", consul, "--cluster", "example",
		"--node-id", strconv.Itoa(id), "--rack", "rack-" + strconv.Itoa(id),
		"--data-dir", filepath.Join(o.data, name),
		"--kafka-addr", "127.0.0.1:" + strconv.Itoa(kafka),
		"--http-addr", "127.0.0.1:" + strconv.Itoa(http),
		// So that topics are on all nodes, and survive the loss of one.
		"--set", "default.replication.factor=" + strconv.Itoa(min(3, o.nodes)),
		"--set", "min.insync.replicas=" + strconv.Itoa(min(2, o.nodes)),
	}}
}

func (o *options) explain(out io.Writer, consul string, running []*process) {
	var brokers []string
	for _, p := range running[1:] {
		brokers = append(brokers, p.address("kafka"))
	}
	fmt.Fprintf(out, "\nconsul  http://%s  pid %d\n", consul, running[0].pid())
	for _, p := range running[1:] {
		fmt.Fprintf(out, "%s  kafka %s  metrics http://%s/metrics  pid %d\n",
			p.name, p.address("kafka"), cmp.Or(p.address("http"), "-"), p.pid())
	}
	fmt.Fprintf(out, `
The cluster is ready. In another terminal:

  export TROUPE_BROKERS=%[1]s
  %[2]s topic create events --partitions 6
  %[2]s topic describe events
  seq 100000 | %[2]s produce events
  %[2]s consume events --follow
  go run ./examples/quickstart -consul %[5]s -cluster example

Then kill -9 a node and look at the topic again: others lead, and the producer
goes on. After %[3]s the node is started again and catches up.

Ctrl-C stops everything. Data and logs stay in %[4]s.
`, strings.Join(brokers, ","), o.troupe, restartDelay, o.data, consul)
}
