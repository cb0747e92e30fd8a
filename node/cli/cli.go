// Package cli is the command line of the binary: it parses flags, calls, and
// prints.
//
// The commands that talk to a cluster (topic, produce, consume, cluster,
// partition, node) are plain Kafka clients, so they work against any Kafka
// cluster. Those about this node (start, config) go through the hooks of Deps,
// and those about files (log) only read. main.go is the one caller.
//
// What is printed is an interface: results go to standard output, as an aligned
// table for people or as JSON or YAML whose field names stay; progress and
// errors go to standard error, and an error is one line that names the thing
// and the remedy.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of the binary.
const (
	ExitOK      = 0 // the command did what it was asked
	ExitFailure = 1 // it could not; standard error says why
	ExitUsage   = 2 // the command line is wrong; nothing was tried
)

// Deps is what the commands need from the rest of the binary. A command whose
// hook is nil says that this binary was built without it.
type Deps struct {
	// Start runs a node until ctx ends, and returns once it has shut down
	// cleanly. It prints the addresses it chose to StartOptions.Out.
	Start func(ctx context.Context, o StartOptions) error
	// Config returns every effective setting of a node started with o, in the
	// order to print them.
	Config func(o StartOptions) ([]ConfigRow, error)
}

// StartOptions is what the flags of "troupe start" and "troupe config" say. An
// empty string means the flag was not given, so that the environment, the file
// or the default decides.
type StartOptions struct {
	DataDir    string
	KafkaAddr  string
	HTTPAddr   string
	ActorAddr  string
	BulkAddr   string
	Consul     string
	Cluster    string
	NodeID     string
	Rack       string
	ConfigFile string
	Set        []string // "key=value", in the order given; the last one counts
	Out        io.Writer
	Err        io.Writer
}

// ConfigRow is one effective setting of a node.
type ConfigRow struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"` // e.g. "default", "flag --set", "file troupe.yaml"
	Doc    string `json:"doc"`    // one sentence
}

// Main runs the command line args (without the program's name) and returns the
// exit code. The first SIGINT, SIGTERM or SIGHUP cancels the command's context,
// so that it ends in good order; a second one ends the process at once. SIGHUP
// stays ignored under nohup.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, deps Deps) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	go func() {
		select {
		case <-signals:
			// Before anybody hears of the first signal, so that the second one
			// surely has its default effect.
			signal.Stop(signals)
			cancel()
		case <-ctx.Done():
		}
	}()
	return run(ctx, args, stdin, stdout, stderr, deps)
}

// run is Main without the signals.
func run(
	ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, deps Deps,
) int {
	root, g := newRoot(deps)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil || errors.Is(err, syscall.EPIPE) { // the reader of our output had enough
		return ExitOK
	}
	var bad *usageError
	usage := errors.As(err, &bad) || !g.running
	fmt.Fprintln(stderr, errorLine(cmd, err, usage, g))
	if usage {
		return ExitUsage
	}
	return ExitFailure
}

// Command returns the command tree. Its streams are those of cobra
// (SetIn, SetOut, SetErr); Main prints its errors and derives the exit code.
func Command(deps Deps) *cobra.Command {
	root, _ := newRoot(deps)
	return root
}

func newRoot(deps Deps) (*cobra.Command, *globals) {
	g := &globals{}
	root := &cobra.Command{
		Use:   "troupe",
		Short: "A distributed commit log that speaks Kafka's protocol",
		Long: `Troupe is a distributed commit log that speaks Kafka's protocol.

"troupe start" runs a node. The other commands are clients of it, or of any
Kafka cluster: name its brokers with --brokers or TROUPE_BROKERS.`,
		Example: `  troupe start
  troupe topic create orders --partitions 6
  troupe produce orders --file orders.log
  troupe consume orders --from start`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := g.check(); err != nil {
				return err
			}
			g.running = true
			return nil
		},
	}
	g.addFlags(root)
	build, _ := debug.ReadBuildInfo()
	root.Version = describeBuild(build).sentence()
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(
		newStart(deps), newConfig(deps, g), newTopic(g), newProduce(g), newConsume(g),
		newClusterCommand(g), newPartition(g), newNode(g), newGroup(g), newTxn(g), newLog(g),
		newVersion(g),
	)
	return group(root), g
}

// group makes cmd a command that only groups others: alone it shows its help.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2 // typing errors to look past
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		remedy := fmt.Sprintf("see %s --help", cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			remedy = "did you mean " + strings.Join(near, " or ") + "?"
		}
		return &usageError{why: fmt.Sprintf("unknown command %q", args[0]), remedy: remedy}
	}
	return cmd
}

// none refuses arguments.
func none(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Sprintf("%q is too much", args[0]), "usage: " + cmd.UseLine()}
	}
	return nil
}

// need checks the number of arguments: at least 1, and no more than most unless
// that is 0. thing says what they are.
func need(most int, thing string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return &usageError{thing + " is missing", "usage: " + cmd.UseLine()}
		case most > 0 && len(args) > most:
			return &usageError{fmt.Sprintf("%q is too much", args[most]), "usage: " + cmd.UseLine()}
		}
		return nil
	}
}
