//go:build linux

package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// NewNATS is NATS JetStream, from a nats-server binary; empty: one is built. A partition
// is a stream of its own, in files, on one server: partition 2 of topic "a" is stream
// "a-2" with the subject "a.2".
func NewNATS(binary string) Kind {
	n := &nats{binary: sync.OnceValues(func() (string, error) {
		if binary == "" {
			return script(context.Background(), "peers.sh", "nats")
		}
		return filepath.Abs(binary)
	})}
	return Kind{Name: NATS, Version: n.version, Prepare: noPreparation, Start: n.start}
}

type nats struct {
	binary func() (string, error)
}

func (n *nats) version(ctx context.Context) (string, error) {
	binary, err := n.binary()
	if err != nil {
		return "", err
	}
	v, err := versionOf(ctx, binary, "--version")
	return v + "; JetStream in files, a stream for each partition, one replica; fsync every " +
		"2 minutes as by default (sync_interval); driven by nats.go, which publishes without " +
		"waiting, up to a window", err
}

func (n *nats) start(ctx context.Context, o Options) (*Broker, error) {
	if o.Nodes != 1 {
		return nil, errors.New("NATS is measured as one server")
	}
	binary, err := n.binary()
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	base := filepath.Join(o.Dir, nodeName(0))
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, err
	}
	config := natsConfig(addrs[0], base, o.Settings)
	if err := os.WriteFile(base+".conf", []byte(config), 0o644); err != nil {
		return nil, err
	}
	b := &Broker{Name: NATS, Dir: o.Dir, Addrs: addrs, Began: time.Now()}
	b.Create, b.FirstRecord, b.Fill = b.createStreams, b.firstMessage, b.fillStreams
	if err := b.add(base+".log", binary, "-c", base+".conf"); err != nil {
		return nil, err
	}
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err = b.poll(ready, func() (bool, error) {
		err := ask(ready, addrs[0], "$JS.API.INFO", nil)
		return err == nil, err
	})
	if err != nil {
		b.Kill()
		return nil, fmt.Errorf("%s is not ready: %w", addrs[0], err)
	}
	return b, nil
}

// natsConfig is the server's file. A setting that begins with "jetstream." goes where
// those of JetStream are.
func natsConfig(addr, dir string, settings map[string]string) string {
	var server, store strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if inner, ok := strings.CutPrefix(name, "jetstream."); ok {
			fmt.Fprintf(&store, "  %s: %s\n", inner, settings[name])
		} else {
			fmt.Fprintf(&server, "%s: %s\n", name, settings[name])
		}
	}
	return fmt.Sprintf("listen: %q\n%sjetstream {\n  store_dir: %q\n%s}\n", addr, &server, dir, &store)
}

// createStreams makes the streams of a topic.
func (b *Broker) createStreams(ctx context.Context, t Topic) (func(), error) {
	for p := range t.Partitions {
		if err := b.createStream(ctx, t.Name, p); err != nil {
			return nil, err
		}
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
		defer cancel()
		for p := range t.Partitions {
			// A stream that stays costs disk, not correctness.
			_ = ask(ctx, b.Addrs[0], "$JS.API.STREAM.DELETE."+streamName(t.Name, p), nil)
		}
	}, nil
}

func streamName(topic string, partition int) string {
	return fmt.Sprintf("%s-%d", topic, partition)
}

func (b *Broker) createStream(ctx context.Context, topic string, partition int) error {
	name := streamName(topic, partition)
	config, err := json.Marshal(map[string]any{
		"name": name, "subjects": []string{fmt.Sprintf("%s.%d", topic, partition)},
		"storage": "file", "retention": "limits", "discard": "old", "num_replicas": 1,
		"max_msgs": -1, "max_bytes": -1, "max_consumers": -1, "max_msg_size": -1,
	})
	if err != nil {
		return err
	}
	if err := ask(ctx, b.Addrs[0], "$JS.API.STREAM.CREATE."+name, config); err != nil {
		return fmt.Errorf("creating stream %s: %w", name, err)
	}
	return nil
}

// firstMessage is FirstRecord.
func (b *Broker) firstMessage(ctx context.Context, t Topic) error {
	if t.Partitions > 0 {
		err := b.poll(ctx, func() (bool, error) {
			err := b.createStream(ctx, t.Name, 0)
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return b.poll(ctx, func() (bool, error) {
		err := ask(ctx, b.Addrs[0], t.Name+".0", make([]byte, 100))
		return err == nil, err
	})
}

// NATSLoad runs tools/peers/natsload on the server and returns what it prints.
func (b *Broker) NATSLoad(ctx context.Context, args ...string) ([]byte, error) {
	path, err := natsload()
	if err != nil {
		return nil, err
	}
	args = append([]string{"-url", "nats://" + b.Addrs[0]}, args...)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", err, said.String()), b.Died())
	}
	return out.Bytes(), nil
}

var natsload = sync.OnceValues(func() (string, error) {
	return script(context.Background(), "peers.sh", "natsload")
})
