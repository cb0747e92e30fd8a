package cli

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/troupelog/troupe/messages/configs"
)

// DefaultDataDir is the data directory of a node that is not told another.
const DefaultDataDir = "data"

func newStart(deps Deps) *cobra.Command {
	var o StartOptions
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run a node",
		Long: `Start runs one node until it gets SIGINT, SIGTERM or SIGHUP; a second signal ends
it at once. One node is a whole cluster: nothing else need be installed.

With --consul it is a node of a cluster: the nodes that name the same cluster find
each other there. Start as many as you like; ids are given out.

Port 0 takes any free port. The chosen addresses are printed, one a line, and
written to DATA-DIR/troupe.addr once the node is ready.

Settings have Kafka's property names. A flag counts before the environment
(TROUPE_LOG_RETENTION_MS for log.retention.ms), that before the file, and that
before the default; "troupe config" shows the result.`,
		Example: `  troupe start
  troupe start --data-dir /var/lib/troupe --kafka-addr 0.0.0.0:9092
  troupe start --config server.properties --set log.retention.hours=24
  troupe start --kafka-addr 127.0.0.1:0
  troupe start --consul 127.0.0.1:8500 --cluster orders --rack a`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if deps.Start == nil {
				return &failure{"this binary was built without a node", "use a full build", nil}
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			o.Out, o.Err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			// A node outlives the reader of its log: with somebody listening for
			// the signal, writing to a broken pipe is an error and not the end.
			broken := make(chan os.Signal, 1)
			signal.Notify(broken, syscall.SIGPIPE)
			defer signal.Stop(broken)
			return worded(deps.Start(cmd.Context(), o))
		},
	}
	o.addFlags(cmd)
	return cmd
}

func newConfig(deps Deps, g *globals) *cobra.Command {
	var o StartOptions
	var docs bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show every setting a node would start with, and where it comes from",
		Long: `Config takes the flags of "troupe start" and prints the settings a node started
with them would have, each with its origin. It starts nothing.`,
		Example: `  troupe config
  troupe config --config server.properties --docs
  troupe config --set log.retention.hours=24 -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if deps.Config == nil {
				return &failure{"this binary was built without a node", "use a full build", nil}
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			o.Out, o.Err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			rows, err := deps.Config(o)
			if err != nil {
				return worded(err)
			}
			return g.print(cmd.OutOrStdout(), rows, func(w io.Writer) error {
				return configTable(rows, docs).write(w)
			})
		},
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&docs, "docs", false, "add what each setting is for (JSON and YAML always do)")
	return cmd
}

func configTable(rows []ConfigRow, docs bool) *table {
	if !docs {
		t := newTable("NAME", "VALUE", "ORIGIN")
		for _, r := range rows {
			t.add(r.Name, orDash(r.Value), r.Origin)
		}
		return t
	}
	t := newTable("NAME", "VALUE", "ORIGIN", "MEANING")
	for _, r := range rows {
		t.add(r.Name, orDash(r.Value), r.Origin, r.Doc)
	}
	return t
}

// orDash keeps a column's place when there is nothing to show.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ownFlags are the flags of addFlags that are settings, or name their file.
var ownFlags = []string{"data-dir", "kafka-addr", "http-addr", "actor-addr", "bulk-addr",
	"consul", "cluster", "node-id", "rack", "config"}

func (o *StartOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.DataDir, "data-dir", "",
		"folder of the node's data, made if missing (default \""+DefaultDataDir+"\")")
	f.StringVar(&o.KafkaAddr, "kafka-addr", "",
		"HOST:PORT for Kafka clients (default \""+DefaultBrokers+
			"\"; in a cluster port 9092 of every interface)")
	f.StringVar(&o.HTTPAddr, "http-addr", "",
		"HOST:PORT for health checks and metrics, \"\" for none (default \"127.0.0.1:8080\")")
	f.StringVar(&o.ActorAddr, "actor-addr", "",
		"HOST:PORT for the actors of other nodes, and for programs with the Go SDK "+
			"(default: none; in a cluster any free port)")
	f.StringVar(&o.BulkAddr, "bulk-addr", "",
		"HOST:PORT for the followers on other nodes (in a cluster; default any free port)")
	f.StringVar(&o.Consul, "consul", "",
		"HOST:PORT or URL of Consul: be a node of a cluster instead of one on its own")
	f.StringVar(&o.Cluster, "cluster", "", "name of the cluster (default \"troupe\")")
	f.StringVar(&o.NodeID, "node-id", "", "number of the node (default: given out by the cluster)")
	f.StringVar(&o.Rack, "rack", "", "where the node stands; replicas are spread over racks")
	f.StringVar(&o.ConfigFile, "config", "", "settings file: YAML, or Java's .properties")
	f.StringArrayVar(&o.Set, "set", nil, "a setting, KEY=VALUE; may be repeated")
	must(cmd.RegisterFlagCompletionFunc("set", settings(configs.Brokers)))
	must(cmd.MarkFlagDirname("data-dir"))
	must(cmd.MarkFlagFilename("config", "yaml", "yml", "properties"))
}

// check refuses what no node could use, before anything is touched.
func (o *StartOptions) check(cmd *cobra.Command) error {
	for _, name := range ownFlags {
		switch f := cmd.Flags().Lookup(name); {
		case !f.Changed || f.Value.String() != "":
		case name == "http-addr": // as http.listener has it: none is opened
			o.Set = append(o.Set, "http.listener=")
		default: // of a variable that is not set: a node on its own must not come of it
			return &usageError{fmt.Sprintf("--%s is empty", name), "name one, or leave the flag out"}
		}
	}
	for _, kv := range o.Set {
		if key, _, ok := strings.Cut(kv, "="); !ok || key == "" {
			return &usageError{fmt.Sprintf("--set %q is not KEY=VALUE", kv),
				"write it like --set log.retention.hours=24"}
		}
	}
	if o.Cluster != "" && o.Consul == "" {
		return &usageError{fmt.Sprintf("--cluster %s needs --consul", o.Cluster),
			"say where Consul is, like --consul 127.0.0.1:8500; a node on its own needs neither"}
	}
	return nil
}
