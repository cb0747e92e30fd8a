package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/config"
)

// logLines collects the log of a node for a test that fails.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// embedded starts a node that stops with the test.
func embedded(t *testing.T, o Options) *Node {
	t.Helper()
	log := &logLines{}
	o.Log = log
	n, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			t.Log(log)
		}
	})
	return n
}

// produced writes a record through a node's Kafka listener.
func produced(t *testing.T, n *Node, value string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	record := &kgo.Record{Topic: "orders", Value: []byte(value)}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// consumed reads so many records through a node's Kafka listener.
func consumed(t *testing.T, n *Node, count int) (values []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.ConsumeTopics("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(values) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func TestAnEmbeddedNodeServesAndKeepsItsRecords(t *testing.T) {
	dir := t.TempDir()
	for round := range 2 {
		var out strings.Builder
		n, err := Start(t.Context(), Options{DataDir: dir, Out: &out,
			Settings: map[string]string{"num.partitions": "1"}})
		if err != nil {
			t.Fatal(err)
		}
		if n.ActorAddr() != "" || !strings.HasPrefix(n.KafkaAddr(), "127.0.0.1:") {
			t.Errorf("it listens at %q and %q", n.KafkaAddr(), n.ActorAddr())
		}
		if want := "kafka " + n.KafkaAddr() + "\n"; out.String() != want {
			t.Errorf("it printed %q, want %q", out.String(), want)
		}
		if _, ok := n.Actors().(*actor.ActorSystem); !ok {
			t.Errorf("its actors are %T", n.Actors())
		}
		produced(t, n, fmt.Sprint("round ", round))
		got, want := consumed(t, n, round+1), fmt.Sprint("round ", round)
		if len(got) != round+1 || got[round] != want {
			t.Errorf("read %q in round %d", got, round)
		}
		select {
		case <-n.Done():
			t.Error("it is done before it was stopped")
		default:
		}
		for range 2 {
			if err := n.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		<-n.Done()
		if err := n.Err(); err != nil {
			t.Errorf("a node that was stopped failed with %v", err)
		}
		if err := goleak.Find(); err != nil {
			t.Fatal(err)
		}
	}
}

// Proto.Actor silences gRPC's log each time it begins to listen, which the race detector
// takes for a race with those that listen already: one of the two does not.
func TestTwoNodesLiveInOneProcess(t *testing.T) {
	settings := map[string]string{"actor.listener": "127.0.0.1:0", "http.listener": "127.0.0.1:0"}
	var nodes []*Node
	for i := range 2 {
		settings["node.id"] = fmt.Sprint(i)
		nodes = append(nodes, embedded(t, Options{DataDir: t.TempDir(), Settings: settings}))
		delete(settings, "actor.listener")
	}
	if nodes[0].ActorAddr() == "" || nodes[1].ActorAddr() != "" {
		t.Errorf("their actors listen at %q and %q", nodes[0].ActorAddr(), nodes[1].ActorAddr())
	}
	for i, n := range nodes {
		produced(t, n, fmt.Sprint("node ", i))
		if got := consumed(t, n, 1); got[0] != fmt.Sprint("node ", i) {
			t.Errorf("node %d has %q", i, got)
		}
	}
}

func TestAFailedStartGivesEverythingBack(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	used := embedded(t, Options{DataDir: t.TempDir()})
	running := goleak.IgnoreCurrent() // of that node
	damaged := t.TempDir()
	meta := filepath.Join(damaged, "meta.properties")
	if err := os.WriteFile(meta, []byte("\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ours := free.Addr().String()
	free.Close()
	for _, tt := range []struct {
		name string
		o    Options
		says string
	}{
		{"no folder", Options{}, "DataDir"},
		{"two kinds of settings", Options{DataDir: fresh, Sources: &config.Sources{}}, "Sources"},
		{"an unknown setting", Options{DataDir: fresh,
			Settings: map[string]string{"num.partition": "3"}}, "num.partitions"},
		{"a port in use", Options{DataDir: fresh, Settings: map[string]string{
			"listeners": "PLAINTEXT://" + ours, "actor.listener": taken.Addr().String(),
		}}, "in use"},
		{"a folder in use", Options{DataDir: used.dirs[0].Path}, used.dirs[0].Path},
		{"a damaged folder", Options{DataDir: damaged}, damaged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := Start(t.Context(), tt.o)
			if err == nil || n != nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v, %v; want an error that has %q", n, err, tt.says)
			}
			if err := goleak.Find(running); err != nil {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Options{DataDir: fresh}); !errors.Is(err, context.Canceled) {
		t.Errorf("a start that was called off: %v", err)
	}
	n := embedded(t, Options{DataDir: fresh, Settings: map[string]string{
		"listeners": "PLAINTEXT://" + ours}})
	if n.KafkaAddr() != ours {
		t.Errorf("it listens at %s", n.KafkaAddr())
	}
}

func TestSettingsOfAProgramAreNamedWhenTheyAreWrong(t *testing.T) {
	_, err := Start(t.Context(), Options{DataDir: t.TempDir(),
		Settings: map[string]string{"num.partitions": "many"}})
	if !errors.Is(err, messages.ErrInvalidConfig) || !strings.Contains(err.Error(), "num.partitions") {
		t.Errorf("got %v", err)
	}
}

func TestANodeWhoseListenerFailsIsDone(t *testing.T) {
	n := embedded(t, Options{DataDir: t.TempDir()})
	_ = n.sockets.kafka[0].Close()
	select {
	case <-n.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
	}
	if err := n.Err(); err == nil || !strings.Contains(err.Error(), "kafka listener") {
		t.Errorf("it failed with %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{DataDir: t.TempDir(), Out: writerFunc(func(p []byte) (int, error) {
			ready <- string(p)
			return len(p), nil
		})})
	}()
	select {
	case text := <-ready:
		if !strings.HasPrefix(text, "kafka 127.0.0.1:") {
			t.Errorf("it printed %q", text)
		}
	case err := <-done:
		t.Fatalf("it ended with %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
