//go:build linux

package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// javaOptions are those that Kafka's own kafka-server-start.sh gives by default.
var javaOptions = []string{
	"-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
	"-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
	"-Djava.awt.headless=true",
}

// kafkaSettings are set on every node. What is not here is as Kafka has it by default:
// 1 GB segments, no fsync but in the background, 2 threads that recover.
var kafkaSettings = map[string]string{
	"process.roles":                  "broker,controller",
	"controller.listener.names":      "CONTROLLER",
	"inter.broker.listener.name":     "PLAINTEXT",
	"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
	"auto.create.topics.enable":      "false",
	// What its server.properties has, which is sized for far more cores than are needed.
	"num.network.threads": "3",
	"num.io.threads":      "8",
	// Those of the system, which grow, and not the 100 KB of its server.properties.
	"socket.send.buffer.bytes":    "-1",
	"socket.receive.buffer.bytes": "-1",
	// A group's first member need not wait for others here.
	"group.initial.rebalance.delay.ms": "0",
	// The files of a dropped topic are to be gone before the next workload.
	"log.segment.delete.delay.ms": "100",
	"log.initial.task.delay.ms":   "1000",
}

// log4j is the configuration of Kafka's log: warnings, to its output. By default it is
// told more.
const log4j = `status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
`

// clusterID is any one: 16 bytes in base64.
const clusterID = "dHJvdXBlLWJlbmNoLTAwMQ"

// NewKafka is Apache Kafka in KRaft mode, every node both broker and controller, from the
// jars in a folder or in its subfolder libs; empty: they are fetched with Maven.
func NewKafka(jars string) Kind {
	k := &kafka{jars: sync.OnceValues(func() (string, error) {
		if jars == "" {
			return script(context.Background(), "peers.sh", "kafka")
		}
		if libs := filepath.Join(jars, "libs"); isDir(libs) {
			jars = libs
		}
		return filepath.Abs(jars)
	})}
	return Kind{Name: Kafka, Version: k.version, Prepare: k.prepare, Start: k.start}
}

type kafka struct {
	jars func() (string, error)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// java is the command that runs a class of Kafka's.
func (k *kafka) java(options []string, class ...string) ([]string, error) {
	jars, err := k.jars()
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("kafka needs a JDK: %w", err)
	}
	return slices.Concat([]string{path}, options,
		[]string{"-cp", filepath.Join(jars, "*")}, class), nil
}

func (k *kafka) version(ctx context.Context) (string, error) {
	command, err := k.java(nil, "kafka.Kafka", "--version")
	if err != nil {
		return "", err
	}
	// Standard error says what log configuration there is not.
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return fmt.Sprintf("Apache Kafka %s, KRaft, java %s; %s", lines[len(lines)-1],
		strings.Join(javaOptions, " "), settingsInWords(kafkaSettings)), nil
}

// settingsInWords lists the settings that are about speed.
func settingsInWords(settings map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !strings.Contains(name, "listener") && name != "process.roles" {
			words = append(words, name+"="+settings[name])
		}
	}
	return strings.Join(words, " ")
}

// kafkaNode is where one node lives.
type kafkaNode struct {
	dir        string // of its data
	properties string // file
	addr       string // for clients
	controller string // address among controllers
}

// layout chooses the addresses of the nodes and writes their settings anew. All of a
// broker's files but its data can change between starts.
func layout(o Options) ([]kafkaNode, error) {
	addrs, err := freeAddresses(2 * o.Nodes)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	nodes := make([]kafkaNode, o.Nodes)
	for i := range nodes {
		base := filepath.Join(o.Dir, nodeName(i))
		nodes[i] = kafkaNode{dir: base, properties: base + ".properties",
			addr: addrs[2*i], controller: addrs[2*i+1]}
	}
	err = os.WriteFile(filepath.Join(o.Dir, "log4j2.properties"), []byte(log4j), 0o644)
	for i, n := range nodes {
		text := properties(nodes, i, o.Settings)
		err = errors.Join(err, os.WriteFile(n.properties, []byte(text), 0o644))
	}
	return nodes, err
}

// properties is the settings file of a node, with more settings that win.
func properties(nodes []kafkaNode, i int, more map[string]string) string {
	replicas, inSync := strconv.Itoa(min(3, len(nodes))), strconv.Itoa(min(2, len(nodes)))
	var voters []string
	for j, n := range nodes {
		voters = append(voters, fmt.Sprintf("%d@%s", j+1, n.controller))
	}
	all, n := maps.Clone(kafkaSettings), nodes[i]
	maps.Copy(all, map[string]string{
		"node.id":                    strconv.Itoa(i + 1),
		"log.dirs":                   n.dir,
		"listeners":                  "PLAINTEXT://" + n.addr + ",CONTROLLER://" + n.controller,
		"advertised.listeners":       "PLAINTEXT://" + n.addr,
		"controller.quorum.voters":   strings.Join(voters, ","),
		"default.replication.factor": replicas,
		"min.insync.replicas":        inSync,

		"offsets.topic.replication.factor":                 replicas,
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            inSync,
	})
	maps.Copy(all, more)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s=%s\n", name, all[name])
	}
	return b.String()
}

// prepare formats the folders of the nodes that are not formatted.
func (k *kafka) prepare(ctx context.Context, o Options) error {
	nodes, err := layout(o)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if _, err := os.Stat(filepath.Join(n.dir, "meta.properties")); err == nil {
			continue
		}
		command, err := k.java(nil, "kafka.tools.StorageTool", "format", "-t", clusterID,
			"-c", n.properties)
		if err != nil {
			return err
		}
		if _, err := versionOf(ctx, command...); err != nil {
			return fmt.Errorf("formatting Kafka's folder: %w", err)
		}
	}
	return nil
}

func (k *kafka) start(ctx context.Context, o Options) (*Broker, error) {
	if err := k.prepare(ctx, o); err != nil {
		return nil, err
	}
	nodes, err := layout(o)
	if err != nil {
		return nil, err
	}
	logging := "-Dlog4j2.configurationFile=" + filepath.Join(o.Dir, "log4j2.properties")
	b := &Broker{Name: Kafka, Dir: o.Dir, Began: time.Now()}
	b.Create, b.FirstRecord, b.Fill = b.createTopic, b.firstRecord, b.fill
	for _, n := range nodes {
		command, err := k.java(append(slices.Clone(javaOptions), logging), "kafka.Kafka", n.properties)
		if err == nil {
			err = b.add(n.dir+".log", command...)
		}
		if err != nil {
			b.Kill()
			return nil, err
		}
		b.Addrs = append(b.Addrs, n.addr)
	}
	if err := b.awaitNodes(ctx); err != nil {
		b.Kill()
		return nil, err
	}
	return b, nil
}

// awaitNodes waits until every node knows all nodes.
func (b *Broker) awaitNodes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, addr := range b.Addrs {
		client, err := newClient(addr)
		if err != nil {
			return err
		}
		defer client.Close()
		err = b.poll(ctx, func() (bool, error) {
			c, err := net.Dial("tcp", addr) // costs less than a client that fails
			if err != nil {
				return false, err
			}
			_ = c.Close()
			r := kmsg.NewPtrMetadataRequest()
			r.Topics = []kmsg.MetadataRequestTopic{}
			resp, err := client.SeedBrokers()[0].Request(ctx, r)
			if err != nil {
				return false, err
			}
			m, ok := resp.(*kmsg.MetadataResponse)
			return ok && len(m.Brokers) == len(b.Addrs), nil
		})
		if err != nil {
			return fmt.Errorf("%s is not ready: %w", addr, err)
		}
	}
	return nil
}

// freeAddresses are different ones that nobody listened on a moment ago.
func freeAddresses(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, cmp.Or(err, errors.New("no free port"))
		}
		defer func() { _ = l.Close() }() // not before all are chosen
		addrs[i] = l.Addr().String()
	}
	return addrs, nil
}

func nodeName(i int) string { return "node-" + strconv.Itoa(i+1) }
