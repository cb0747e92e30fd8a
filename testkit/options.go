package testkit

import (
	"os/exec"
	"time"
)

// options is how a node is started.
type options struct {
	dir     string
	host    string // on whose ports the node listens
	kafka   string
	actor   string // "": as args say
	args    []string
	env     []string
	prefix  []string
	timeout time.Duration
	port    *port   // nil: the node lives in the network of the test
	consul  *Consul // of a cluster; nil: the shared one
	network bool    // nodes of a cluster have a Network of their own

	keepActor bool // the address of the actors stays over restarts
}

// begin starts a process in the network of the node.
func (o *options) begin(cmd *exec.Cmd) error {
	if o.port == nil {
		return cmd.Start()
	}
	return o.port.begin(cmd)
}

// Option changes how StartNode and Refused start a node.
type Option func(*options)

// Dir puts the data into an existing or new folder instead of one that ends
// with the test.
func Dir(dir string) Option { return func(o *options) { o.dir = dir } }

// KafkaAddr listens there for Kafka clients instead of on a free port.
func KafkaAddr(addr string) Option { return func(o *options) { o.kafka = addr } }

// Set gives the node a setting by Kafka's property name.
func Set(name, value string) Option {
	return Args("--set", name+"="+value)
}

// Args adds command line arguments behind "troupe start".
func Args(args ...string) Option {
	return func(o *options) { o.args = append(o.args, args...) }
}

// Env adds NAME=value to the node's environment.
func Env(nameValue string) Option {
	return func(o *options) { o.env = append(o.env, nameValue) }
}

// Under runs the node under another command, which must replace itself with it:
// its arguments are followed by the node's binary and arguments.
func Under(command ...string) Option {
	return func(o *options) { o.prefix = command }
}

// ReadyWithin bounds the wait for the node to be ready. The default is 30 s.
func ReadyWithin(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// KeepActorAddr has a node listen for other nodes and the SDK where it did before, when it
// is started again, as nodes do that have settings. It listens on any port at first.
func KeepActorAddr() Option {
	return func(o *options) { o.keepActor = true }
}

// WithConsul makes the nodes of a cluster use this agent, which the test may stop,
// instead of the one that all tests share.
func WithConsul(c *Consul) Option { return func(o *options) { o.consul = c } }

// WithNetwork puts every node of a cluster on a machine of its own, as far as the
// network is concerned, so that links between them can be cut and slowed: see
// Network. It needs Linux and root.
func WithNetwork() Option { return func(o *options) { o.network = true } }

const defaultReadyTimeout = 30 * time.Second
