package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/exampletest"
	"github.com/troupelog/troupe/testkit"
)

// shipper runs the example until the returned function is called.
func shipper(ctx context.Context, t *testing.T, cfg clientlib.Config, o options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	var out exampletest.Output
	go func() { ended <- run(ctx, cfg, o, &out) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%v\n%s", err, &out)
		}
	}
}

// appendTo adds lines to a log, which it makes if it is not there.
func appendTo(t *testing.T, path string, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, line := range lines {
		if _, err := fmt.Fprintln(f, line); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEachLineIsShippedOnceThroughRotationTruncationAndRestart(t *testing.T) {
	ctx, cfg := exampletest.Node(t)
	client := exampletest.Client(ctx, t, cfg)
	o := options{path: filepath.Join(t.TempDir(), "app.log"), topic: "logs"}
	var want []string
	shipped := func(lines ...string) {
		t.Helper()
		want = append(want, lines...)
		testkit.Eventually(t, fmt.Sprintf("%v is shipped", lines), func() bool {
			ends, err := client.Admin().Offsets(ctx, o.topic, clientlib.Latest)
			return err == nil && ends[clientlib.Partition{Topic: o.topic}] == int64(len(want))
		})
	}

	stop := shipper(ctx, t, cfg, o) // before there is a log
	appendTo(t, o.path, "one", "two")
	shipped("one", "two")

	// Renamed with a line that nobody has read yet, and one without an end.
	appendTo(t, o.path, "three")
	if err := os.Rename(o.path, o.path+".1"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, o.path, "four")
	shipped("three", "four")

	// While nobody ships, the log goes on, is renamed and begun anew.
	stop()
	appendTo(t, o.path, "five")
	if err := os.Rename(o.path, o.path+".2"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, o.path, "six")
	stop = shipper(ctx, t, cfg, o)
	shipped("five", "six")

	// Cut to nothing. It is shorter than what was read: "six" has more bytes.
	if err := os.Truncate(o.path, 0); err != nil {
		t.Fatal(err)
	}
	appendTo(t, o.path, "7")
	shipped("7")
	stop()

	// A restart alone ships nothing.
	stop = shipper(ctx, t, cfg, o)
	appendTo(t, o.path, "eight")
	shipped("eight")
	stop()

	var got []string
	for _, r := range exampletest.Read(ctx, t, client, o.topic, len(want)) {
		got = append(got, string(r.Value))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
