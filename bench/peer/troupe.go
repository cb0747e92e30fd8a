//go:build linux

package peer

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// addressFile is written by Troupe and by the ideal broker when they are ready.
const addressFile = "troupe.addr"

// IdealCommand is the first argument with which a command of bench has to run the ideal
// broker (ideal.Serve) in the folder that the second names.
const IdealCommand = "ideal-broker"

// NewIdeal is the ideal broker.
func NewIdeal() Kind {
	return Kind{Name: Ideal, Start: startIdeal,
		Version: func(context.Context) (string, error) { return "bench/ideal", nil }}
}

func startIdeal(ctx context.Context, o Options) (*Broker, error) {
	if o.Nodes != 1 {
		return nil, errors.New("the ideal broker is one process")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b, err := startNode(ctx, Ideal, o.Dir, self, IdealCommand, o.Dir)
	if err != nil {
		return nil, err
	}
	// It makes a topic of whatever it is sent, and begins anew when an empty frame tells
	// it to.
	b.Create = func(ctx context.Context, _ Topic) (func(), error) {
		return func() { forget(ctx, b.Addrs[0]) }, nil
	}
	return b, nil
}

// forget makes the ideal broker drop all it has: a frame of no bytes says so.
func forget(ctx context.Context, addr string) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(make([]byte, 4)); err == nil {
		_, _ = c.Read(make([]byte, 1)) // the broker closes when it is done
	}
}

// NewTroupe is Troupe's own binary.
func NewTroupe(binary string) Kind {
	return Kind{Name: Troupe, Version: func(ctx context.Context) (string, error) {
		return versionOf(ctx, binary, "version")
	}, Start: func(ctx context.Context, o Options) (*Broker, error) {
		return startTroupe(ctx, binary, o)
	}}
}

func startTroupe(ctx context.Context, binary string, o Options) (*Broker, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	command := []string{path, "start", "--data-dir", o.Dir, "--kafka-addr", "127.0.0.1:0",
		"--http-addr", "127.0.0.1:0", "--actor-addr", "127.0.0.1:0"}
	for k, v := range o.Settings {
		command = append(command, "--set", k+"="+v)
	}
	b, err := startNode(ctx, Troupe, o.Dir, command...)
	if err == nil {
		b.Create = b.createTopic
	}
	return b, err
}

// startNode runs a process that writes its addresses to a file in its folder.
func startNode(ctx context.Context, name, dir string, command ...string) (*Broker, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, addressFile)
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	p, err := run(dir+".log", nil, command...)
	if err != nil {
		return nil, err
	}
	b := &Broker{Name: name, Dir: dir, processes: []*process{p}}
	err = p.await(ctx, func() bool {
		var addresses struct {
			Kafka string `json:"kafka"`
			HTTP  string `json:"http"`
			Actor string `json:"actor"`
		}
		text, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(text, &addresses) != nil || addresses.Kafka == "" {
			return false
		}
		b.Addrs, b.Actor = []string{addresses.Kafka}, addresses.Actor
		if addresses.HTTP != "" {
			b.HTTP = []string{addresses.HTTP}
		}
		return true
	})
	if err != nil {
		p.stop()
		return nil, err
	}
	return b, nil
}

// createTopic makes a topic of a broker that speaks Kafka's protocol.
func (b *Broker) createTopic(ctx context.Context, t Topic) (func(), error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs...))
	if err != nil {
		return nil, err
	}
	admin := kadm.NewClient(client)
	settings := map[string]*string{}
	for k, v := range t.Settings {
		settings[k] = &v
	}
	replicas := int16(max(1, t.Replicas))
	resp, err := admin.CreateTopic(ctx, int32(t.Partitions), replicas, settings, t.Name)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return func() {
		defer client.Close()
		// A topic that stays costs disk, not correctness.
		_, _ = admin.DeleteTopic(ctx, t.Name)
	}, nil
}
