// Package node puts a Troupe node together: configuration, data directories,
// registry, actors, listeners; in an order that makes a failed start harmless,
// and apart again in an order that loses nothing.
//
// It owns no state of its own beyond what is running. main calls Run. Other programs
// embed a node with Start: a test, or a service that brings its log along.
//
//	n, err := node.Start(ctx, node.Options{DataDir: "/var/lib/app/log"})
//	if err != nil {
//		return err
//	}
//	defer n.Stop(context.Background())
//	fmt.Println("Kafka clients connect to", n.KafkaAddr())
//
// An embedded node listens to Kafka clients on a free port of this machine and opens no
// other socket unless its settings say so. It installs no signal handler, ends no
// process, and several live in one process, each with a data directory of its own. The
// SDK (package clientlib) reaches it without a socket, through what Actors returns. After
// Stop nothing of it runs any more.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/actors/coordinator"
	"github.com/troupelog/troupe/cluster"
	"github.com/troupelog/troupe/node/admin"
	"github.com/troupelog/troupe/node/config"
	"github.com/troupelog/troupe/node/gateway"
	"github.com/troupelog/troupe/node/kafka"
	"github.com/troupelog/troupe/node/lag"
	"github.com/troupelog/troupe/node/metrics"
	"github.com/troupelog/troupe/persistence/datadir"
	"github.com/troupelog/troupe/persistence/registry"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// How long the steps of a shutdown may take.
const (
	drainCoordinators = 5 * time.Second  // refusing what groups and transactions wait for
	drainClients      = 20 * time.Second // answering what clients asked before
	drainActors       = 60 * time.Second // closing and flushing the logs
)

// readyTimeout bounds how long a start waits for the node's own metadata.
const readyTimeout = 30 * time.Second

// openFilesMax bounds the log files a node keeps open. Closed ones are opened
// again when they are used, which costs microseconds.
const openFilesMax = 4096

// writeOutDelay is how long what was appended stays in memory before its write-out
// starts. A burst does not compete with it, and an fdatasync finds no more than that is
// left to write: with a second of it, appends stood still for 0.3 s when a segment was full.
const writeOutDelay = 250 * time.Millisecond

// openFiles leaves more than half of the descriptors the process may have to
// connections and to the files that are open for a moment.
func openFiles(limit uint64) int {
	return int(max(1, min(openFilesMax, limit/2-limit/16)))
}

// descriptors is how many files the process may have open.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 2 * openFilesMax
	}
	return limit.Cur
}

// Node is a running node.
type Node struct {
	cfg    *config.Config
	log    zerolog.Logger
	fs     vfs.FS
	dirs   []*datadir.Dir
	store  registry.Store
	member *member // nil: a node on its own
	files  *segment.Cache
	env    *actors.Env
	client *actors.Client
	// coordinators of the groups and transactions that live here.
	coordinators *coordinator.Coordinators
	cluster      *cluster.Core
	end          func() // of cluster; set with it
	storage      *actor.PID
	metrics      *metrics.Node
	lags         *lag.Watch
	health       *health
	sockets      *sockets
	kafka        *kafka.Server
	gateway      *gateway.Gateway
	http         *admin.Server
	secured      secured     // the connections between actors
	taken        atomic.Bool // the cluster has taken this process in
	life         life
}

func (n *Node) start(ctx context.Context, out io.Writer) error {
	began := time.Now()
	var err error
	if n.member, err = openMember(n.cfg, n.log); err != nil {
		return err
	}
	if n.secured, err = loadSecured(n.cfg, n.fs, began); err != nil {
		return err
	}
	if err := n.openDirs(ctx); err != nil {
		return err
	}
	n.removeAddress()
	if n.sockets, err = listen(n.cfg); err != nil {
		return err
	}
	if err := n.openRegistry(ctx); err != nil {
		return err
	}
	if err := n.startActors(ctx); err != nil {
		return err
	}
	n.startHTTP()
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := n.client.AwaitVersion(ready, 1); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", errCalledOff, context.Cause(ctx))
		}
		return fmt.Errorf("the node did not get ready within %s; the log says what it waits for: %w",
			readyTimeout, err)
	}
	if err := n.trusted(); err != nil {
		return err
	}
	if err := n.startGateway(); err != nil {
		return err
	}
	n.serveKafka()
	n.health.ready()
	if err := n.announce(out); err != nil {
		return err
	}
	n.log.Info().Int32("node", int32(n.env.Self)).Str("cluster", n.dirs[0].Meta.ClusterID).
		Int("topics", n.client.Image().TopicCount()).Dur("took", time.Since(began)).Msg("node is ready")
	return nil
}

// startActors builds the actor system and everything that lives in it.
func (n *Node) startActors(ctx context.Context) error {
	var placement atomic.Pointer[cluster.Lookup] // nil: it is not known yet
	system := cluster.NewSystem(newActorLog(n.log, func() []cluster.Member {
		if l := placement.Load(); l != nil {
			return l.View().Members
		}
		return nil
	}))
	system.EventStream.Subscribe(func(event any) {
		if _, ok := event.(*actor.DeadLetterEvent); ok {
			n.metrics.DeadLetter()
		}
	})
	n.files = segment.NewCache(openFiles(descriptors()))
	n.files.WriteOutLater(writeOutDelay)
	n.env = &actors.Env{
		Self: n.dirs[0].Meta.Node, FS: n.fs, Files: n.files, Log: n.log, Now: time.Now,
		Root: system.Root, Metrics: n.metrics,
	}
	n.client = actors.NewClient(n.env)
	n.env.Settings = n.setting
	threads, _ := n.cfg.Int("num.recovery.threads.per.data.dir")
	n.env.Init(threads * len(n.dirs))
	lookup := cluster.NewLookup(n.env.Self, actors.Supervise(n.env), n.kinds()...)
	placement.Store(lookup)
	var err error
	if n.member != nil {
		err = n.member.join(ctx, n, system, lookup)
	} else {
		var e *cluster.Embedded
		e, err = cluster.StartEmbedded(system, "troupe", lookup, n.sockets.actor,
			n.secured.server, n.secured.client)
		if err == nil {
			n.cluster, n.end = e.Core, e.Stop
		}
	}
	if err != nil {
		return err
	}
	n.env.IDs = identities{n.cluster, lookup}
	if err := n.startCoordinators(); err != nil {
		return err
	}
	if n.storage, err = actors.StartStorage(n.env, n.dirs); err != nil {
		return err
	}
	if n.member != nil {
		n.member.serve(n)
	} else {
		lookup.Ensure(actors.KindController, []string{actors.KindController})
	}
	lookup.Ensure(actors.KindNode, []string{nodeIdentity(n.env.Self)})
	return nil
}

// stop ends what was started, last things first. It returns what kept it from
// being a clean shutdown. Others are waited for until ctx ends; the logs are closed in
// any case.
func (n *Node) stop(ctx context.Context) error {
	var errs []error
	n.health.drain()
	n.removeAddress()
	if n.member != nil {
		n.handOver(ctx)
	}
	if n.lags != nil {
		n.lags.Close()
	}
	if n.coordinators != nil { // members that wait for others would hold up their connections
		ctx, cancel := context.WithTimeout(ctx, drainCoordinators)
		defer cancel()
		n.coordinators.Stop(ctx)
	}
	n.sendClientsAway(ctx)
	if n.env != nil {
		errs = append(errs, n.stopActors())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	n.sockets.close()
	if n.http != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = n.http.Shutdown(ctx) // scrapers do not matter now
	}
	n.life.serving.Wait()
	for _, d := range n.dirs {
		errs = append(errs, d.Close())
	}
	err := errors.Join(errs...)
	if err == nil && n.cluster != nil {
		n.log.Info().Msg("node stopped cleanly")
	}
	return err
}

// sendClientsAway answers what clients asked before, of both front doors.
func (n *Node) sendClientsAway(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainClients)
	defer cancel()
	var leaving sync.WaitGroup
	if n.gateway != nil {
		n.env.NodesChanged.Store(nil)
		leaving.Go(func() {
			if err := n.gateway.Stop(ctx); err != nil {
				n.log.Warn().Err(err).Msg("programs that use the SDK were cut off")
			}
		})
	}
	if n.kafka != nil {
		if err := n.kafka.Shutdown(ctx); err != nil {
			n.log.Warn().Err(err).Msg("clients were cut off")
		}
	}
	leaving.Wait()
}

// stopActors ends the virtual actors, closes every log, and then the system.
func (n *Node) stopActors() error {
	if n.member != nil {
		n.member.stop()
	}
	if n.cluster != nil {
		n.cluster.Lookup.Shutdown()
	}
	var err error
	if n.storage != nil {
		done := make(chan error, 1)
		n.cluster.System.Root.Send(n.storage, &actors.DrainStorage{Done: func(err error) { done <- err }})
		select {
		case err = <-done:
		case <-time.After(drainActors):
			err = fmt.Errorf("logs were not closed within %s; the next start recovers them", drainActors)
		}
	}
	if n.cluster != nil {
		n.end()
	}
	n.env.Close()
	n.files.Close()
	return err
}
