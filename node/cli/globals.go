package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// DefaultBrokers is where the commands look for a cluster unless told.
const DefaultBrokers = "127.0.0.1:9092"

// brokersEnv names the environment variable behind --brokers.
const brokersEnv = "TROUPE_BROKERS"

// defaultTimeout is how long a command waits for the cluster unless told.
const defaultTimeout = 30 * time.Second

// Bounds of --timeout: below, no request can be told from a slow one; above,
// the client library refuses.
const (
	timeoutMin = time.Second
	timeoutMax = 15 * time.Minute
)

// globals are the flags every command has.
type globals struct {
	brokers string // comma-separated; empty: from the environment
	output  string // "table", "json" or "yaml"
	timeout time.Duration
	verbose bool

	running bool // the command line was understood
}

func (g *globals) addFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&g.brokers, "brokers", "", "brokers to ask first, HOST:PORT[,HOST:PORT]... "+
		"(default $"+brokersEnv+" or "+DefaultBrokers+")")
	f.StringVarP(&g.output, "output", "o", formatTable, "how to print results: table, json or yaml")
	f.DurationVar(&g.timeout, "timeout", defaultTimeout, "how long to wait for the cluster")
	f.BoolVar(&g.verbose, "verbose", false, "say on standard error what the client does")
	must(root.RegisterFlagCompletionFunc("output",
		words(formatTable, formatJSON, formatYAML)))
}

// check refuses values no command can work with.
func (g *globals) check() error {
	switch g.output {
	case formatTable, formatJSON, formatYAML:
	default:
		return &usageError{fmt.Sprintf("--output %q is unknown", g.output), "use table, json or yaml"}
	}
	if g.timeout < timeoutMin || g.timeout > timeoutMax {
		return &usageError{fmt.Sprintf("--timeout %s is out of bounds", g.timeout),
			fmt.Sprintf("use %s to %s", timeoutMin, timeoutMax)}
	}
	return nil
}

// brokerList is the comma-separated list of brokers to ask first.
func (g *globals) brokerList() string {
	if g.brokers != "" {
		return g.brokers
	}
	if env := os.Getenv(brokersEnv); env != "" {
		return env
	}
	return DefaultBrokers
}

// client opens a client with the options all commands share. The caller closes
// it. No connection is made before the first request.
func (g *globals) client(stderr io.Writer, opts ...kgo.Opt) (*kgo.Client, error) {
	all := []kgo.Opt{
		kgo.SeedBrokers(splitList(g.brokerList())...),
		kgo.ClientID("troupe"),
		kgo.RetryTimeout(g.timeout),
		kgo.RequestTimeoutOverhead(g.timeout),
		kgo.DialTimeout(g.timeout),
		kgo.MetadataMinAge(250 * time.Millisecond), // a command is short: see a new leader soon
	}
	if g.verbose {
		all = append(all, kgo.WithLogger(kgo.BasicLogger(stderr, kgo.LogLevelInfo, nil)))
	}
	cl, err := kgo.NewClient(append(all, opts...)...)
	if err != nil {
		return nil, &failure{fmt.Sprintf("cannot use these settings: %v", err),
			"check --brokers and the other flags", err}
	}
	return cl, nil
}

// admin runs f with a client for administration and a context that ends after
// the timeout.
func (g *globals) admin(
	cmd *cobra.Command, f func(ctx context.Context, adm *kadm.Client) error,
) error {
	return g.connect(cmd, func(ctx context.Context, _ *kgo.Client, adm *kadm.Client) error {
		return f(ctx, adm)
	})
}

// connect is admin for what kadm has no method for.
func (g *globals) connect(
	cmd *cobra.Command, f func(ctx context.Context, cl *kgo.Client, adm *kadm.Client) error,
) error {
	cl, err := g.adminClient(cmd)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), g.timeout)
	defer cancel()
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(int32(g.timeout.Milliseconds()))
	return f(ctx, cl, adm)
}

// adminClient opens a client that asks another broker in time when one hangs,
// which is when people look at their cluster.
func (g *globals) adminClient(cmd *cobra.Command) (*kgo.Client, error) {
	attempt := max(timeoutMin, g.timeout/attempts)
	return g.client(cmd.ErrOrStderr(), kgo.DialTimeout(attempt), kgo.RequestTimeoutOverhead(attempt))
}

// attempts is how many brokers that hang, one after the other, a command outlives.
const attempts = 10

// splitList splits at commas and drops blanks.
func splitList(s string) []string {
	var out []string
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// must stops on a mistake in the command tree, which every run would meet.
func must(err error) {
	if err != nil {
		panic("BUG: " + err.Error())
	}
}
