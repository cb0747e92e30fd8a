//go:build linux

package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// addressFile is written by Troupe and by the ideal broker when they are ready.
const addressFile = "troupe.addr"

// IdealCommand is the first argument with which a command of bench has to run the ideal
// broker (ideal.Serve) in the folder that the second names.
const IdealCommand = "ideal-broker"

// NewIdeal is the ideal broker.
func NewIdeal() Kind {
	return Kind{Name: Ideal, Start: startIdeal, Prepare: noPreparation,
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
	b := &Broker{Name: Ideal, Dir: o.Dir, Began: time.Now()}
	dir := filepath.Join(o.Dir, nodeName(0))
	if err := b.addNodes(ctx, []string{self, IdealCommand, dir}); err != nil {
		return nil, err
	}
	// It makes a topic of whatever it is sent, and begins anew when an empty frame tells
	// it to.
	b.Create = func(ctx context.Context, _ Topic) (func(), error) {
		return func() { forget(context.WithoutCancel(ctx), b.Addrs[0]) }, nil
	}
	b.FirstRecord = func(context.Context, Topic) error {
		return errors.New("the ideal broker knows only the frames of bench/raw")
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

// NewTroupe is Troupe's own binary. Three nodes have a Consul of their own.
func NewTroupe(binary string) Kind {
	return Kind{Name: Troupe, Prepare: noPreparation,
		Version: func(ctx context.Context) (string, error) {
			return versionOf(ctx, binary, "version")
		},
		Start: func(ctx context.Context, o Options) (*Broker, error) {
			return startTroupe(ctx, binary, o)
		}}
}

func noPreparation(context.Context, Options) error { return nil }

func startTroupe(ctx context.Context, binary string, o Options) (*Broker, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	b := &Broker{Name: Troupe, Dir: o.Dir}
	b.Create, b.FirstRecord, b.Fill = b.createTopic, b.firstRecord, b.fill
	var more []string
	if o.Nodes > 1 {
		consul, err := b.startConsul(ctx)
		if err != nil {
			b.Kill()
			return nil, fmt.Errorf("consul: %w", err)
		}
		more = []string{"--consul", consul, "--cluster", "bench",
			"--set", "default.replication.factor=3", "--set", "min.insync.replicas=2"}
	}
	for _, k := range slices.Sorted(maps.Keys(o.Settings)) {
		more = append(more, "--set", k+"="+o.Settings[k])
	}
	var commands [][]string
	for i := range o.Nodes {
		command := []string{path, "start", "--data-dir", filepath.Join(o.Dir, nodeName(i)),
			"--kafka-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--actor-addr", "127.0.0.1:0"}
		if o.Nodes > 1 {
			command = append(command, "--bulk-addr", "127.0.0.1:0", "--node-id", strconv.Itoa(i+1))
		}
		commands = append(commands, append(command, more...))
	}
	b.Began = time.Now()
	if err := b.addNodes(ctx, commands...); err != nil {
		return nil, err
	}
	if err := b.awaitNodes(ctx); err != nil {
		b.Kill()
		return nil, err
	}
	return b, nil
}

// add starts a process of a node.
func (b *Broker) add(log string, command ...string) error {
	p, err := run(log, nil, command...)
	if err == nil {
		b.processes = append(b.processes, p)
	}
	return err
}

// addNodes runs processes that each write their addresses to a file in their folder, and
// waits until all did. When it fails, nothing runs any more.
func (b *Broker) addNodes(ctx context.Context, commands ...[]string) (err error) {
	defer func() {
		if err != nil {
			b.Kill()
		}
	}()
	for i, command := range commands {
		dir := filepath.Join(b.Dir, nodeName(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		err := os.Remove(filepath.Join(dir, addressFile))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := b.add(dir+".log", command...); err != nil {
			return err
		}
	}
	for i, p := range b.processes {
		file := filepath.Join(b.Dir, nodeName(i), addressFile)
		err := p.await(ctx, func() bool {
			var addresses struct {
				Kafka string `json:"kafka"`
				HTTP  string `json:"http"`
				Actor string `json:"actor"`
			}
			text, err := os.ReadFile(file)
			if err != nil || json.Unmarshal(text, &addresses) != nil || addresses.Kafka == "" {
				return false
			}
			b.Addrs = append(b.Addrs, addresses.Kafka)
			if addresses.HTTP != "" {
				b.HTTP = append(b.HTTP, addresses.HTTP)
			}
			if i == 0 {
				b.Actor = addresses.Actor
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// startConsul runs one Consul server, as a node's neighbours would share, and returns
// its address. It keeps its ports, as its data names them.
func (b *Broker) startConsul(ctx context.Context) (string, error) {
	binary, err := script(ctx, "consul.sh")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.Dir, "consul")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	ports, err := keptPorts(dir + ".ports")
	if err != nil {
		return "", err
	}
	p, err := run(dir+".log", nil, binary, "agent", "-server", "-bootstrap-expect=1",
		"-node=bench", "-data-dir", dir, "-log-level=warn", "-bind=127.0.0.1", "-client=127.0.0.1",
		"-http-port", ports[0], "-server-port", ports[1], "-serf-lan-port", ports[2],
		"-serf-wan-port=-1", "-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1",
		"-hcl", "performance { raft_multiplier = 1 } disable_update_check = true")
	if err != nil {
		return "", err
	}
	b.others = append(b.others, p)
	addr := net.JoinHostPort("127.0.0.1", ports[0])
	return addr, p.await(ctx, func() bool { return consulIsHealthy(ctx, addr) })
}

// keptPorts are three free ports at first, and those that the file names afterwards.
func keptPorts(file string) ([]string, error) {
	if text, err := os.ReadFile(file); err == nil {
		if ports := strings.Fields(string(text)); len(ports) == 3 {
			return ports, nil
		}
	}
	addrs, err := freeAddresses(3)
	if err != nil {
		return nil, err
	}
	var ports []string
	for _, addr := range addrs {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, os.WriteFile(file, []byte(strings.Join(ports, " ")), 0o644)
}

var httpClient = &http.Client{Timeout: 5 * time.Second}

// consulIsHealthy is whether the server has elected itself and knows itself healthy:
// before that it makes no sessions.
func consulIsHealthy(ctx context.Context, addr string) bool {
	url := "http://" + addr + "/v1/health/node/bench?consistent"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := httpClient.Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var checks []struct{ CheckID, Status string }
	if json.NewDecoder(resp.Body).Decode(&checks) != nil {
		return false
	}
	for _, c := range checks {
		if c.CheckID == "serfHealth" && c.Status == "passing" {
			return true
		}
	}
	return false
}
