package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/config"
	"github.com/troupelog/troupe/node/logging"
	"github.com/troupelog/troupe/node/metrics"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Options are what a node is started with.
type Options struct {
	// DataDir is the folder that holds what the node stores; it is made if there is
	// none. Several, separated by commas, share the partitions. No two nodes may use one
	// at a time.
	DataDir string
	// Settings are settings by Kafka's property names, such as "num.partitions". Without
	// "listeners" the node serves Kafka clients on a free port of 127.0.0.1, without
	// "http.listener" it serves no metrics, and without "actor.listener" only this process
	// reaches its actors.
	Settings map[string]string
	// Log gets the log, one write a line; nil: there is none. The setting log.level says
	// how much.
	Log io.Writer
	// Out gets the addresses that the node listens on, one a line, once it is ready;
	// nil: nobody is told.
	Out io.Writer
	// Build is shown by the metrics.
	Build metrics.Build
	// Sources say where settings come from, as for the command line, with the defaults
	// of a node that runs by itself. DataDir and Settings must be empty then.
	Sources *config.Sources
}

// sources are where the settings come from.
func (o *Options) sources() (config.Sources, error) {
	if o.Sources != nil {
		if o.DataDir != "" || len(o.Settings) > 0 {
			return config.Sources{}, fmt.Errorf("a node is given Sources, and DataDir or Settings "+
				"too; use one of them: %w", messages.ErrInvalidConfig)
		}
		return *o.Sources, nil
	}
	s := config.Sources{FS: vfs.OS{}, DataDir: o.DataDir,
		Settings: map[string]string{"http.listener": ""}}
	if _, ok := o.Settings["listeners"]; !ok {
		s.KafkaAddr = "127.0.0.1:0"
	}
	for name, value := range o.Settings {
		s.Settings[name] = value
	}
	if o.DataDir == "" && s.Settings["log.dirs"] == "" && s.Settings["log.dir"] == "" {
		return s, fmt.Errorf("a node needs a folder for its data; set DataDir: %w",
			messages.ErrInvalidConfig)
	}
	return s, nil
}

// errCalledOff: a start was told to stop.
var errCalledOff = errors.New("the start was called off")

// assemble reads the settings. Nothing runs yet.
func assemble(o *Options) (*Node, error) {
	sources, err := o.sources()
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(sources)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	log, err := logging.New(logging.Options{Out: o.Log, Level: cfg.Value("log.level"),
		Format: logging.Format(cfg.Value("log.format"))})
	if err != nil {
		return nil, err
	}
	for _, w := range cfg.Warnings() {
		log.Warn().Msg(w)
	}
	return &Node{cfg: cfg, log: log, fs: vfs.OS{}, metrics: metrics.New(o.Build),
		health: newHealth(), life: life{done: make(chan struct{})}}, nil
}

// Start starts a node and returns when it is ready: clients that connect to it are
// served. ctx bounds the start alone; the node runs until Stop. A start that fails
// leaves nothing behind: no goroutine, no socket, no lock on the data. Its error names
// what is wrong and the remedy; it wraps messages.ErrInvalidConfig where a setting is to
// blame.
func Start(ctx context.Context, o Options) (*Node, error) {
	n, err := assemble(&o)
	if err != nil {
		return nil, err
	}
	if err := n.start(ctx, o.Out); err != nil {
		// Why it did not start says more than what is wrong with the ruins.
		_ = n.Stop(context.WithoutCancel(ctx))
		return nil, err
	}
	return n, nil
}

// Run starts a node, prints and writes down its addresses once it is ready, and
// stops it in good order when ctx ends. An error is one line that names what is
// wrong and the remedy.
func Run(ctx context.Context, o Options) error {
	n, err := assemble(&o)
	if err != nil {
		return err
	}
	err = n.start(ctx, o.Out)
	stopping := context.WithoutCancel(ctx)
	if err != nil {
		stopped := n.Stop(stopping)
		if errors.Is(err, errCalledOff) {
			return stopped
		}
		return err
	}
	select {
	case <-ctx.Done():
		n.log.Info().Msg("node is stopping")
		return n.Stop(stopping)
	case <-n.Done():
		return errors.Join(n.Err(), n.Stop(stopping))
	}
}

// Stop stops the node in good order and waits for that: it hands over what it leads if it
// is one of a cluster, answers clients, closes its logs. ctx bounds how long it waits for
// others, at most 40 seconds; what is its own it finishes in any case. The error says what
// kept it from being a clean stop; the next start recovers from that. Only the first call
// stops the node, others wait for it and return the same.
func (n *Node) Stop(ctx context.Context) error {
	n.life.stop.Do(func() {
		n.life.stopped = n.stop(ctx)
		n.life.end(nil)
	})
	return n.life.stopped
}

// Done is closed when the node cannot go on, because a listener failed, or when it has
// stopped. After a failure it is still to be stopped.
func (n *Node) Done() <-chan struct{} { return n.life.done }

// Err is why Done is closed: what failed, or nil if the node was stopped. It is nil
// before.
func (n *Node) Err() error {
	select {
	case <-n.life.done:
		return n.life.failure
	default:
		return nil
	}
}

// KafkaAddr is the HOST:PORT where programs on this machine reach the first Kafka
// listener.
func (n *Node) KafkaAddr() string { return address(n.sockets.kafka[0].Listener) }

// ActorAddr is the HOST:PORT where other nodes and programs that use the SDK reach the
// node, "" if it has no such listener.
func (n *Node) ActorAddr() string { return address(n.sockets.actor) }

// Actors is the actor system of the node, an *actor.ActorSystem of Proto.Actor. It is
// for Config.Embedded of the SDK (package clientlib), which reaches the node in the same
// process through it, without a socket. Close such a client before the node stops.
func (n *Node) Actors() any { return n.cluster.System }

// life is how a node ends.
type life struct {
	serving sync.WaitGroup // of the listeners
	done    chan struct{}
	once    sync.Once
	failure error // set before done is closed

	stop    sync.Once
	stopped error
}

// end closes done; the first reason counts.
func (l *life) end(failure error) {
	l.once.Do(func() {
		l.failure = failure
		close(l.done)
	})
}

// serve runs the server of a listener. When it ends by itself, with neither nil nor
// closed, the node cannot go on.
func (l *life) serve(what string, ln net.Listener, serve func() error, closed error) {
	l.serving.Go(func() {
		if err := serve(); err != nil && !errors.Is(err, closed) {
			l.end(fmt.Errorf("%s listener %s ended: %w", what, ln.Addr(), err))
		}
	})
}
