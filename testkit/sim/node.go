package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/persistence/registry"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Loss is what a crash takes with it.
type Loss = vfs.CrashMode

// What a crash may take: nothing but the process, or what was not synced, or any
// part of that.
const (
	KeepingAll     = vfs.KeepAll
	LosingUnsynced = vfs.LoseUnsynced
	Torn           = vfs.Torn
)

// node is one process of the cluster over a disk that outlives it.
type node struct {
	w    *World
	id   messages.NodeID
	disk *vfs.Mem
	fsys *vfs.Faulty
	// faults are what was injected into fsys.
	faults []*vfs.Injected
	files  *segment.Cache

	life     int    // counts processes; 0: none was started
	prefix   string // what the incarnations of this process begin with
	up       bool
	paused   bool
	stopping bool
	frozen   []func()      // what waits for the end of the pause
	unclean  bool          // a power cut of which no registration told yet
	skew     time.Duration // of its clock

	agent        *control.Agent
	agentAlarm   alarm
	incarnations int             // of this process
	image        *messages.Image // the agent's newest

	store           store
	joined          bool            // the membership showed this process
	holder          registry.Holder // as this node sees it
	seen            []messages.NodeID
	controller      *control.Controller // nil: its home is elsewhere
	controllerAlarm alarm
	controllerLife  int

	requests []waiter // of clients
	env      *actors.Env
	coord    *coordinators
	replicas map[messages.PartitionID]*replica
	order    []*replica // the same, the oldest first
	lost     map[messages.PartitionID]bool
	recorded map[messages.PartitionID]actors.Recorded // checkpointed
	clean    map[messages.PartitionID]bool            // logs that were closed in good order
}

func (w *World) addNode(id messages.NodeID) *node {
	n := &node{w: w, id: id, disk: vfs.NewMem(), files: segment.NewCache(0),
		recorded: map[messages.PartitionID]actors.Recorded{},
		clean:    map[messages.PartitionID]bool{}}
	// As datadir.Open leaves it: else a power cut would take all there is.
	if err := errors.Join(n.disk.MkdirAll("data"), n.disk.SyncDir(".")); err != nil {
		w.t.Fatal(err)
	}
	w.nodes = append(w.nodes, n)
	n.start()
	return n
}

func (w *World) node(id messages.NodeID) *node { return w.nodes[id-1] }

// alive reports whether the process is there and runs.
func (n *node) alive() bool { return n.up && !n.paused }

// registered reports whether the controller knows this very process.
func (n *node) registered() bool {
	member := n.w.meta().Node(n.id)
	return n.up && member != nil && strings.HasPrefix(member.Incarnation, n.prefix)
}

// serving reports whether the node is a live member that knows it.
func (n *node) serving() bool {
	self := n.image.Node(n.id)
	return n.alive() && n.registered() && self != nil && !self.Fenced &&
		self.Epoch == n.w.meta().Node(n.id).Epoch
}

// start begins a process.
func (n *node) start() {
	n.life++
	n.prefix = fmt.Sprintf("%d.%d.", n.id, n.life)
	n.up, n.paused, n.stopping, n.joined = true, false, false, false
	n.fsys = vfs.NewFaulty(n.disk, n.w.seed+uint64(n.life))
	n.replicas, n.order = map[messages.PartitionID]*replica{}, nil
	n.lost = map[messages.PartitionID]bool{}
	n.image = messages.NewImage()
	n.holder, n.seen = registry.Holder{Node: messages.NoNode}, nil
	n.controller, n.incarnations = nil, 0
	n.store = store{Memory: n.w.service.mem.Connect(), s: n.w.service, node: n.id}
	n.env = &actors.Env{
		Self: n.id, FS: n.fsys, Files: n.files, Metrics: actors.NoMetrics{},
		Now:      func() time.Time { return n.w.now.Add(n.skew) },
		Settings: n.w.setting,
	}
	actors.NewClient(n.env)
	n.env.Init(64)
	n.startCoordinators()
	n.w.note("node %d starts, life %d", n.id, n.life)
	n.refresh()
	n.newAgent()
	n.checkpointLater()
}

// settings of the World that are not the defaults.
var worldSettings = map[string]string{
	"replica.lag.time.max.ms":                  "10000",
	"default.replication.factor":               "1",
	"min.insync.replicas":                      "1",
	"leader.imbalance.check.interval.seconds":  "30",
	"group.initial.rebalance.delay.ms":         "500",
	"group.consumer.session.timeout.ms":        "6000",
	"group.consumer.min.session.timeout.ms":    "6000",
	"group.consumer.heartbeat.interval.ms":     "1000",
	"group.consumer.min.heartbeat.interval.ms": "1000",
}

// setting gives every broker setting its value.
func (w *World) setting(name string) string {
	if v, ok := worldSettings[name]; ok {
		return v
	}
	d, ok := configs.Broker(name)
	if !ok {
		w.t.Fatalf("there is no setting %s", name)
	}
	return d.Default
}

// do has the node do something after a while, unless this process has ended by
// then. A paused one does it when it goes on.
func (n *node) do(d time.Duration, f func()) {
	life := n.life
	n.w.after(d, func() { n.run(life, f) })
}

func (n *node) run(life int, f func()) {
	switch {
	case !n.up || n.life != life:
	case n.paused:
		n.frozen = append(n.frozen, func() { n.run(life, f) })
	default:
		f()
	}
}

// followerLost tells the leaders here that the connection of a follower broke.
func (n *node) followerLost(follower messages.NodeID) {
	for _, r := range n.order {
		r.send(actors.FollowerLost(follower))
	}
}

// checkpointLater records the logs' bounds now and then, as a log dir does.
func (n *node) checkpointLater() {
	n.do(n.w.between(time.Second, 6*time.Second), func() {
		for _, r := range n.order {
			if r.body.Log() != nil {
				n.recorded[r.id] = r.body.Recorded()
			}
		}
		n.checkpointLater()
	})
}

// Crash ends the process of a node at once.
func (w *World) Crash(id messages.NodeID, loss Loss) {
	n := w.node(id)
	if !n.up {
		return
	}
	w.note("node %d crashes, loss %d", id, loss)
	for _, r := range n.order {
		r.body.Crash()
		r.gone = true
	}
	n.end()
	n.disk = n.disk.CrashClone(w.rng.Uint64(), loss)
	n.unclean = n.unclean || loss != KeepingAll
	w.net.breakAll(false, func(l link) bool { return l.from == id || l.to == id })
}

func (n *node) end() {
	n.up, n.paused, n.frozen, n.controller = false, false, nil, nil
	n.env.Close()
	for _, r := range n.requests {
		r.lost()
	}
	n.requests = nil
	if n.w.stopped { // it must be back for the World to rest
		n.w.after(time.Second, func() { n.w.Start(n.id) })
	}
}

// Stop ends a node in good order, as SIGTERM does: its leaderships move away, its
// logs are closed. It returns when the process is gone.
func (w *World) Stop(id messages.NodeID) {
	w.t.Helper()
	n := w.node(id)
	life := n.life
	n.stop()
	w.RunUntil("the node has stopped", func() bool { return !n.up || n.life != life })
}

func (n *node) stop() {
	if !n.alive() || n.stopping {
		return
	}
	n.w.note("node %d is told to stop", n.id)
	n.stopping = true
	n.agentDo(func(now time.Time) {
		n.agent.Leave(now, now.Add(10*time.Second), func(bool) {
			n.do(n.w.soon(), func() {
				for _, r := range n.order {
					r.send(actors.Leave{})
				}
				n.stopped()
			})
		})
	})
}

// stopped ends the process once the last replica has left, or left its log to the
// next start.
func (n *node) stopped() {
	if len(n.order) > 0 {
		n.do(time.Millisecond, n.stopped)
		return
	}
	n.w.note("node %d has stopped", n.id)
	s := n.w.service
	if s.reachable(n.id) {
		delete(s.members, n.id)
		s.expire(n.id)
	}
	n.end()
	n.w.net.breakAll(false, func(l link) bool { return l.from == n.id || l.to == n.id })
}

// Start begins a new process on a node that ended.
func (w *World) Start(id messages.NodeID) {
	if n := w.node(id); !n.up {
		n.start()
	}
}

// Join adds a node to the cluster and returns its id.
func (w *World) Join() messages.NodeID {
	n := w.addNode(messages.NodeID(len(w.nodes) + 1))
	w.RunUntil("the new node is registered", n.serving)
	return n.id
}

// Pause stops a process without ending it, as SIGSTOP does.
func (w *World) Pause(id messages.NodeID) {
	n := w.node(id)
	if !n.alive() {
		return
	}
	w.note("node %d is paused", id)
	n.paused = true
	w.net.breakAll(true, func(l link) bool { return l.from == id || l.to == id })
}

// Resume lets a paused process go on, with all that waited.
func (w *World) Resume(id messages.NodeID) {
	n := w.node(id)
	if !n.up || !n.paused {
		return
	}
	w.note("node %d goes on", id)
	n.paused = false
	waited := n.frozen
	n.frozen = nil
	for i, f := range waited { // in the order in which they came
		w.after(time.Duration(i)*time.Microsecond, f)
	}
}

// drop forgets a replica that has ended.
func (n *node) drop(r *replica) {
	r.gone = true
	delete(n.replicas, r.id)
	n.order = slices.DeleteFunc(n.order, func(o *replica) bool { return o == r })
}
