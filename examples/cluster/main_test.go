package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// output is what a run has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// cluster runs the example and returns the brokers it prints, and how to stop it.
func cluster(t *testing.T, o options) (brokers string, printed *output, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	printed, ended := &output{}, make(chan error, 1)
	go func() { ended <- run(ctx, o, printed) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%v\n%s", err, printed)
		}
	})
	t.Cleanup(end)
	testkit.Eventually(t, "the cluster is ready", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the cluster ended: %v\n%s", err, printed)
		default:
		}
		_, brokers, _ = strings.Cut(printed.String(), "export TROUPE_BROKERS=")
		brokers, _, _ = strings.Cut(brokers, "\n")
		return brokers != ""
	})
	return brokers, printed, end
}

// What the example tells its user to do works, and Ctrl-C loses nothing. The
// nodes are started before Consul answers.
func TestTheExampleRunsStopsAndGoesOn(t *testing.T) {
	o := options{data: filepath.Join(t.TempDir(), "cluster"), troupe: testkit.Binary(t),
		consul: os.Getenv(testkit.ConsulEnv), nodes: 3, anyPorts: true}
	troupe := func(brokers, stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), o.troupe, append(args, "--brokers", brokers)...)
		cmd.Stdin = strings.NewReader(stdin)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("troupe %v: %v\n%s", args, err, &errs)
		}
		return string(text)
	}
	brokers, printed, stop := cluster(t, o)
	created := troupe(brokers, "", "topic", "create", "events", "--partitions", "1")
	if !strings.Contains(created, "replication factor 3") {
		t.Errorf("created a topic that is not on every node: %s", created)
	}
	troupe(brokers, "one\ntwo\n", "produce", "events")
	stop()
	if text := printed.String(); !strings.HasSuffix(text,
		"stopping node-3\nstopping node-2\nstopping node-1\nstopping consul\n") {
		t.Errorf("it did not stop in good order:\n%s", text)
	}

	brokers, _, _ = cluster(t, o)
	if got := troupe(brokers, "", "consume", "events"); got != "one\ntwo\n" {
		t.Errorf("after a restart the topic holds %q", got)
	}
}
