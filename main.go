// Command troupe is the Troupe node and its command line client.
package main

import (
	"context"
	"os"
	"runtime"

	"github.com/troupelog/troupe/node"
	"github.com/troupelog/troupe/node/cli"
	"github.com/troupelog/troupe/node/config"
	"github.com/troupelog/troupe/node/metrics"
	"github.com/troupelog/troupe/persistence/vfs"
)

func main() {
	os.Exit(
		cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, cli.Deps{Start: start, Config: settings}),
	)
}

// start runs a node until ctx ends.
func start(ctx context.Context, o cli.StartOptions) error {
	placeForDisks()
	version, commit := cli.Build()
	from := sources(o)
	return node.Run(ctx, node.Options{
		Sources: &from, Out: o.Out, Log: o.Err,
		Build: metrics.Build{Version: version, Commit: commit, Go: runtime.Version()},
	})
}

// settings lists what a node started with o would run with.
func settings(o cli.StartOptions) ([]cli.ConfigRow, error) {
	cfg, err := config.Load(sources(o))
	if err != nil {
		return nil, err
	}
	var rows []cli.ConfigRow
	for _, r := range cfg.All() {
		rows = append(rows, cli.ConfigRow{Name: r.Name, Value: r.Value, Origin: r.Origin, Doc: r.Doc})
	}
	return rows, nil
}

func sources(o cli.StartOptions) config.Sources {
	return config.Sources{
		FS: vfs.OS{}, File: o.ConfigFile, Environ: os.Environ(), DataDir: o.DataDir,
		KafkaAddr: o.KafkaAddr, HTTPAddr: o.HTTPAddr, ActorAddr: o.ActorAddr, BulkAddr: o.BulkAddr,
		Consul: o.Consul, Cluster: o.Cluster, NodeID: o.NodeID, Rack: o.Rack, Set: o.Set,
	}
}
