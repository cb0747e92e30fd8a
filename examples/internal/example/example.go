// Package example is what the examples have in common: flags that say where the
// cluster is, and a node in this process if they say nothing.
//
// It owns that node and its data, which end with the example. Only the examples use it;
// what a program of your own does instead is to fill a clientlib.Config.
package example

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/node"
)

// Run is an example: it connects to the cluster, does its work, and tells out about it.
type Run func(ctx context.Context, cfg clientlib.Config, out io.Writer) error

// Main runs an example as the flags say, until it is done or Ctrl-C is pressed.
func Main(run Run) {
	var cfg clientlib.Config
	nodes := flag.String("nodes", "", "`HOST:PORT,...` of nodes: their --actor-addr")
	flag.StringVar(&cfg.Consul, "consul", "", "`HOST:PORT` of the Consul where the nodes register")
	flag.StringVar(&cfg.Cluster, "cluster", "", "`name` of the cluster in Consul")
	flag.Parse()
	if *nodes != "" {
		cfg.Nodes = strings.Split(*nodes, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, cfg, run); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, cfg clientlib.Config, run Run) error {
	if len(cfg.Nodes) > 0 || cfg.Consul != "" {
		return run(ctx, cfg, os.Stdout)
	}
	fmt.Println("no -nodes and no -consul: a node runs in this process")
	dir, err := os.MkdirTemp("", "troupe-example-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg, end, err := Embedded(ctx, dir)
	if err != nil {
		return err
	}
	err = run(ctx, cfg, os.Stdout)
	if stopped := end(); err == nil {
		err = stopped
	}
	return err
}

// stopTimeout bounds how long the node may take to stop.
const stopTimeout = 30 * time.Second

// Embedded starts a node in this process, with its data in dir, and returns how to reach
// it and how to stop it.
func Embedded(ctx context.Context, dir string) (
	cfg clientlib.Config, stop func() error, err error) {
	n, err := node.Start(ctx, node.Options{DataDir: dir})
	if err != nil {
		return cfg, nil, err
	}
	return clientlib.Config{Embedded: n}, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return n.Stop(ctx)
	}, nil
}
