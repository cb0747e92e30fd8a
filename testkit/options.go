package testkit

import "time"

// options is how a node is started.
type options struct {
	dir     string
	kafka   string
	args    []string
	env     []string
	prefix  []string
	timeout time.Duration
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

const defaultReadyTimeout = 30 * time.Second
