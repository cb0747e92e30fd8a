package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/data"
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
	w     *World
	id    messages.NodeID
	disk  *vfs.Mem
	fsys  *vfs.Faulty
	files *segment.Cache

	life       int // counts processes; 0: none was started
	up         bool
	paused     bool
	frozen     []func() // what waits for the end of the pause
	unclean    bool     // the next registration must say so
	registered bool
	env        *actors.Env
	image      *messages.Image
	replicas   map[messages.PartitionID]*replica
	recorded   map[messages.PartitionID]actors.Recorded // checkpointed
	skew       time.Duration                            // of its clock
}

// replica is a body with its mailbox.
type replica struct {
	n       *node
	id      messages.PartitionID
	life    int // of the node
	body    *actors.ReplicaBody
	mailbox []any
	running bool // an event that handles the next message is planned
	gone    bool
}

func (w *World) addNode(id messages.NodeID) *node {
	n := &node{w: w, id: id, disk: vfs.NewMem(), files: segment.NewCache(0),
		recorded: map[messages.PartitionID]actors.Recorded{}}
	w.nodes = append(w.nodes, n)
	n.start()
	return n
}

func (w *World) node(id messages.NodeID) *node { return w.nodes[id-1] }

// alive reports whether the process is there and runs.
func (n *node) alive() bool { return n.up && !n.paused }

// serving reports whether the node is a live member that knows it.
func (n *node) serving() bool {
	if !n.alive() || !n.registered {
		return false
	}
	self := n.image.Node(n.id)
	return self != nil && !self.Fenced
}

// start begins a process.
func (n *node) start() {
	n.life++
	n.up, n.paused, n.registered = true, false, false
	n.fsys = vfs.NewFaulty(n.disk, n.w.seed+uint64(n.life))
	n.replicas = map[messages.PartitionID]*replica{}
	n.image = messages.NewImage()
	n.env = &actors.Env{
		Self: n.id, FS: n.fsys, Files: n.files, Metrics: actors.NoMetrics{},
		Now:      func() time.Time { return n.w.now.Add(n.skew) },
		Settings: n.w.setting,
	}
	actors.NewClient(n.env)
	n.env.Init(64)
	n.w.note("node %d starts, life %d", n.id, n.life)
	n.register()
	n.checkpointLater()
}

// setting gives every broker setting its default.
func (w *World) setting(name string) string {
	d, ok := configs.Broker(name)
	if !ok {
		w.t.Fatalf("there is no setting %s", name)
	}
	switch name {
	case "replica.lag.time.max.ms":
		return "10000"
	case "default.replication.factor", "min.insync.replicas":
		return "1"
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

// apply takes over what the controller decided.
func (n *node) apply(d *messages.Delta) {
	next, ok := n.image.Apply(d)
	if !ok {
		if d.To > n.image.Version {
			n.w.control.snapshot(n)
		}
		return
	}
	n.image, n.registered = next, true
	n.env.Client.SetImage(next)
	if d.Nodes != nil {
		for _, r := range n.sorted() {
			r.send(actors.NodesChanged)
		}
	}
	topics := d.Topics
	if d.Snapshot {
		topics = next.Topics()
	}
	for _, t := range topics {
		for i := range t.Partitions {
			n.assign(t, int32(i))
		}
	}
}

func (n *node) assign(t *messages.Topic, index int32) {
	p := t.Partitions[index]
	id := messages.PartitionID{Topic: t.ID, Partition: index}
	r := n.replicas[id]
	if !slices.Contains(p.Replicas, n.id) {
		return
	}
	if r == nil {
		n.spawn(t, id)
		return
	}
	r.send(actors.Assigned(t, p))
}

func (n *node) spawn(t *messages.Topic, id messages.PartitionID) {
	r := &replica{n: n, id: id, life: n.life}
	var recorded *actors.Recorded
	if rec, ok := n.recorded[id]; ok {
		recorded = &rec
	}
	r.body = actors.NewReplicaBody(n.env, actors.ReplicaBodyConfig{
		ID: messages.ReplicaID{PartitionID: id, Node: n.id}, Topic: t.Name,
		Folder: fmt.Sprintf("data/%s-%d", t.Name, id.Partition),
		Out:    r, Send: r.send, Recorded: recorded, Flush: r.flush,
	})
	n.replicas[id] = r
	r.send(actors.Begin)
}

// followerLost tells the leaders here that the connection of a follower broke.
func (n *node) followerLost(follower messages.NodeID) {
	for _, r := range n.sorted() {
		r.send(actors.FollowerLost(follower))
	}
}

// sorted are the replicas in an order that the same seed repeats.
func (n *node) sorted() []*replica {
	out := make([]*replica, 0, len(n.replicas))
	for _, t := range n.image.Topics() {
		for i := range t.Partitions {
			if r := n.replicas[messages.PartitionID{Topic: t.ID, Partition: int32(i)}]; r != nil {
				out = append(out, r)
			}
		}
	}
	return out
}

// checkpointLater records the logs' bounds now and then, as a log dir does.
func (n *node) checkpointLater() {
	n.do(n.w.between(time.Second, 6*time.Second), func() {
		for _, r := range n.sorted() {
			if r.body.Log() != nil {
				n.recorded[r.id] = r.body.Recorded()
			}
		}
		n.checkpointLater()
	})
}

// send puts m into the mailbox.
func (r *replica) send(m any) {
	if r.gone || !r.n.up || r.life != r.n.life {
		return
	}
	r.mailbox = append(r.mailbox, m)
	r.run()
}

func (r *replica) run() {
	if r.running {
		return
	}
	r.running = true
	r.n.do(r.n.w.soon(), func() {
		r.running = false
		if r.gone || len(r.mailbox) == 0 {
			return
		}
		m := r.mailbox[0]
		r.mailbox = r.mailbox[1:]
		r.body.Receive(m)
		if len(r.mailbox) > 0 {
			r.run()
		}
	})
}

// Self implements actors.ReplicaOutbox.
func (r *replica) Self(m any) { r.send(m) }

// After implements actors.ReplicaOutbox.
func (r *replica) After(d time.Duration, m any) { r.n.do(d, func() { r.send(m) }) }

// Opened implements actors.ReplicaOutbox.
func (r *replica) Opened(messages.PartitionID) {}

// Lost implements actors.ReplicaOutbox. A World knows beforehand: see unclean.
func (r *replica) Lost(messages.PartitionID) {}

// Removed implements actors.ReplicaOutbox.
func (r *replica) Removed(messages.PartitionID) {}

// Stop implements actors.ReplicaOutbox.
func (r *replica) Stop() { r.gone = true }

func (r *replica) flush(run func() error, reply func(error)) {
	r.n.do(r.n.w.between(50*time.Microsecond, 20*time.Millisecond), func() { reply(run()) })
}

// Fetch implements actors.ReplicaOutbox.
func (r *replica) Fetch(
	leader messages.NodeID, q *data.ReplicaFetch, reply func(*data.ReplicaFetched),
) {
	w, from := r.n.w, r.n.id
	answered := false
	once := func(res *data.ReplicaFetched) {
		if !answered {
			answered = true
			reply(res)
		}
	}
	lost := func() { once(&data.ReplicaFetched{Err: messages.ErrUnavailable}) }
	c := w.net.connect(from, leader)
	if c == nil {
		r.n.do(w.between(time.Millisecond, 500*time.Millisecond), lost)
		return
	}
	c.failed = append(c.failed, lost)
	w.net.send(c, from, leader, func() {
		peer := w.node(leader)
		peer.run(peer.life, func() {
			peer.env.FetchReplica(q, func(res *data.ReplicaFetched) {
				onWire := *res
				if res.Err == nil {
					onWire.Records, onWire.Err = res.View.AppendTo(nil)
				}
				res.View.Release()
				onWire.View = messages.View{}
				w.net.send(c, leader, from, func() { once(&onWire) })
			})
		})
	})
}

// Propose implements actors.ReplicaOutbox.
func (r *replica) Propose(
	a messages.AlterPartition, reply func(messages.AlterPartitionResult),
) {
	r.n.w.control.propose(r.n, a, reply)
}

// Crash ends the process of a node at once.
func (w *World) Crash(id messages.NodeID, loss Loss) {
	n := w.node(id)
	if !n.up {
		return
	}
	w.note("node %d crashes, loss %d", id, loss)
	for _, r := range n.sorted() {
		r.body.Crash()
		r.gone = true
	}
	n.up, n.paused, n.frozen = false, false, nil
	n.disk = n.disk.CrashClone(w.rng.Uint64(), loss)
	n.unclean = n.unclean || loss != KeepingAll
	w.net.breakAll(false, func(l link) bool { return l.from == id || l.to == id })
}

// Start begins a new process on a node that crashed.
func (w *World) Start(id messages.NodeID) {
	if n := w.node(id); !n.up {
		n.start()
	}
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
