package main

import (
	"context"
	"strings"
	"testing"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/exampletest"
	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// readsWhatItWrote runs the example so many times.
func readsWhatItWrote(ctx context.Context, t *testing.T, cfg clientlib.Config, times int) {
	t.Helper()
	for range times {
		var out exampletest.Output
		if err := run(ctx, cfg, &out); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		for i, text := range greetings {
			if got := strings.Count(out.String(), "wrote "+text+" to partition "); got != 1 {
				t.Errorf("%q was written %d times:\n%s", text, got, &out)
			}
			want := "read " + text + " of visitor-" + string(rune('0'+i)) + "\n"
			if got := strings.Count(out.String(), want); got != 1 {
				t.Errorf("%q was read %d times:\n%s", text, got, &out)
			}
		}
	}
}

func TestTheQuickstartReadsWhatItWrote(t *testing.T) {
	ctx, cfg := exampletest.Node(t)
	readsWhatItWrote(ctx, t, cfg, 2) // it can be run again
}

// The binary, on its own and without Consul, as the README says.
func TestTheQuickstartWorksWithANodeThatRunsByItself(t *testing.T) {
	node := testkit.StartNode(t, testkit.Args("--actor-addr", "127.0.0.1:0"))
	ctx, cancel := context.WithTimeout(t.Context(), exampletest.Timeout)
	defer cancel()
	// Once: a second remote in one process makes gRPC's logger, which is global, a race.
	readsWhatItWrote(ctx, t, clientlib.Config{Nodes: []string{node.Actor}}, 1)
}
