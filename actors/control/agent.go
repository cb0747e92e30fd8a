package control

import (
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
)

// How long a node waits for the replicas of a metadata version to open before it
// counts the version as in effect all the same: long recoveries must not hold up
// healthy partitions.
const (
	startPatience = 2 * time.Second
	stepPatience  = 10 * time.Second
)

const (
	// registerRetry is how often a node registers until the controller took it in.
	registerRetry = 250 * time.Millisecond
	// patienceRefusals is how many answers that do not take the node in are nothing
	// to speak of: a controller loads, or is being elected.
	patienceRefusals = 12
	// askLost is when a command without an answer is believed to get none.
	askLost = 3 * time.Second
	// leaveBeat is how often a node that wants to stop asks whether it may.
	leaveBeat = 100 * time.Millisecond
	// suspectEvery bounds how often one node is reported as suspect.
	suspectEvery = time.Second
)

// NodeOutbox is what an agent does to its node. Calls must not block and must
// not call back.
type NodeOutbox interface {
	// Ask sends a command to the controller, wherever that is. Agent.Answered
	// gets the answer, if one comes.
	Ask(id uint64, c Command)
	// Image makes newer metadata that of this node; Applied says that it is in
	// effect here.
	Image(im *messages.Image)
	Applied(v messages.MetadataVersion)
	// Runs reports whether a replica runs here; Replicas lists those that do.
	Runs(id messages.PartitionID) bool
	Replicas() []messages.PartitionID
	// Assign tells a replica that runs here how its partition stands.
	Assign(id messages.PartitionID, t *messages.Topic, p messages.Partition)
	// Start runs replicas, Opened follows for each. Retire ends them, Delete ends
	// them and deletes their data.
	Start(ids []messages.PartitionID)
	Retire(ids []messages.PartitionID)
	Delete(ids []messages.PartitionID)
	// Moved says that a partition may be led by another replica than before.
	Moved(tp messages.TopicPartition)
	// Dropped says that a topic was deleted.
	Dropped(topic string)
	// Strays has data set aside that the metadata knows nothing of.
	Strays(im *messages.Image)
}

// AgentConfig is what an agent needs of its node.
type AgentConfig struct {
	// Node is this node as clients know it.
	Node messages.Node
	// Incarnation returns another name at each call, which no life of this node
	// had before.
	Incarnation func() string
	// Lost says what became of the data since the last registration; see
	// messages.Registration. Nil: nothing is lost.
	Lost func() (unclean bool, lost []messages.PartitionID)
	// Told hears which of the lost replicas the controller knows of by now. May be nil.
	Told     func(lost []messages.PartitionID)
	Settings func(name string) string
	Log      zerolog.Logger
}

// Agent is one node's side of what it has with the controller: it registers the
// node, keeps it alive by heartbeats, holds the newest metadata, sees to it that
// exactly the replicas assigned to the node run there, and fences the node when
// the controller does not count on it any more.
type Agent struct {
	cfg AgentConfig
	out NodeOutbox
	log zerolog.Logger

	image *messages.Image // nil until registered for the first time
	life  string
	epoch messages.NodeEpoch // NoNodeEpoch: not registered, or fenced: nothing leads here
	steps []step             // versions whose replicas are still opening, oldest first

	asked       uint64 // the latest id
	registering asking
	refusals    int                    // since it was registered last
	telling     []messages.PartitionID // what it says is lost
	lapsed      bool                   // the registration under way is out of date already
	beating     asking
	registerAt  time.Time
	beatAt      time.Time
	proposals   proposals
	suspected   map[messages.NodeID]time.Time
	leaving     *leaving
	left        bool
}

// asking is a command whose answer is awaited; the zero value is none.
type asking struct {
	id    uint64
	since time.Time
}

// leaving is a controlled shutdown under way.
type leaving struct {
	deadline time.Time
	done     func(moved bool)
}

// NewAgent returns an agent that does nothing before Start.
func NewAgent(cfg AgentConfig, out NodeOutbox) *Agent {
	return &Agent{cfg: cfg, out: out, log: cfg.Log, epoch: messages.NoNodeEpoch,
		suspected: map[messages.NodeID]time.Time{}, proposals: newProposals()}
}

func (a *Agent) self() messages.NodeID { return a.cfg.Node.ID }

func (a *Agent) registered() bool { return a.epoch != messages.NoNodeEpoch }

// Start registers this life of the node. Until it is taken in, the metadata of an
// earlier life must not be acted on: its leader epochs are used up.
func (a *Agent) Start(now time.Time) {
	a.life = a.cfg.Incarnation()
	a.register(now)
}

func (a *Agent) ask(now time.Time, c Command) asking {
	a.asked++
	a.out.Ask(a.asked, c)
	return asking{a.asked, now}
}

func (a *Agent) register(now time.Time) {
	if a.lapsed { // what the controller may have taken in under this name is out of date
		a.lapsed, a.life = false, a.cfg.Incarnation()
	}
	n := a.cfg.Node
	n.Incarnation = a.life
	r := messages.Registration{Node: n}
	if a.cfg.Lost != nil {
		r.Unclean, r.Lost = a.cfg.Lost()
	}
	a.telling = r.Lost
	a.registering = a.ask(now, &Register{r})
	a.registerAt = now.Add(registerRetry)
}

// Due is when Tick wants to be called; zero: not before something happens.
func (a *Agent) Due() time.Time {
	if a.left {
		return time.Time{}
	}
	due := a.registerAt
	if a.registered() {
		due = a.beatAt
	}
	if l := a.leaving; l != nil {
		due = earliest(due, l.deadline)
	}
	for _, s := range a.steps {
		if len(s.waiting) > 0 {
			due = earliest(due, s.until)
		}
	}
	return due
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// Tick does what time brings about.
func (a *Agent) Tick(now time.Time) {
	if l := a.leaving; l != nil && !now.Before(l.deadline) {
		a.log.Warn().Msg("leaderships did not move away in time, stopping all the same")
		a.finish(false)
	}
	a.patienceEnds(now)
	a.proposals.lost(now)
	switch {
	case a.left:
	case !a.registered():
		if !now.Before(a.registerAt) {
			if a.registering.id == 0 || now.Sub(a.registering.since) >= askLost {
				a.register(now)
			} else {
				a.registerAt = now.Add(registerRetry)
			}
		}
	case !now.Before(a.beatAt):
		a.beat(now)
	}
}

// beat sends a heartbeat unless the answer to one may still come.
func (a *Agent) beat(now time.Time) {
	interval := millis(a.cfg.Settings, "broker.heartbeat.interval.ms")
	if a.leaving != nil {
		interval = min(interval, leaveBeat)
	}
	a.beatAt = now.Add(interval)
	if a.beating.id != 0 && now.Sub(a.beating.since) < min(askLost, 2*interval) {
		return
	}
	a.beating = a.ask(now, &Heartbeat{messages.Heartbeat{Node: a.self(), Epoch: a.epoch,
		Version: a.image.Version, Incarnation: a.life, Leave: a.leaving != nil}})
}

// Answered is the answer to the command of that id. An error that tells nothing
// of the controller's mind changes nothing: the node goes on as it is, for a
// controller that cannot be reached must not stop the data path.
func (a *Agent) Answered(now time.Time, id uint64, r *Answer) {
	if id == 0 {
		return
	}
	switch id {
	case a.registering.id:
		a.registering = asking{}
		a.registrationAnswered(now, r)
	case a.beating.id:
		a.beating = asking{}
		a.beatAnswered(now, r)
	case a.proposals.flying.id:
		a.proposals.answered(r)
		if errors.Is(r.Err, messages.ErrStaleNodeEpoch) {
			a.fence(now, r.Err.Error())
		}
		a.propose(now)
	}
}

func (a *Agent) registrationAnswered(now time.Time, r *Answer) {
	if a.registered() || a.left {
		return
	}
	if a.lapsed {
		a.register(now)
		return
	}
	a.registerAt = now.Add(registerRetry)
	if r.Err != nil || r.Snapshot == nil {
		level := zerolog.DebugLevel
		if a.refusals++; a.refusals == patienceRefusals {
			level = zerolog.WarnLevel
		}
		if errors.Is(r.Err, messages.ErrDuplicateNode) || errors.Is(r.Err, messages.ErrInvalidRequest) {
			level = zerolog.ErrorLevel
			a.registerAt = now.Add(10 * registerRetry) // only an operator can help
		}
		a.log.WithLevel(level).Err(r.Err).Msg("the controller does not take this node in")
		return
	}
	epoch := messages.NoNodeEpoch
	for _, n := range r.Snapshot.Nodes {
		if n.ID == a.self() && n.Incarnation == a.life && !n.Fenced {
			epoch = n.Epoch
		}
	}
	if epoch == messages.NoNodeEpoch {
		return // fenced meanwhile, or an answer to an earlier life
	}
	patience := stepPatience
	if a.image == nil {
		patience = startPatience
	}
	a.refusals = 0
	a.epoch = epoch
	if !a.apply(now, r.Snapshot, patience) {
		a.epoch = messages.NoNodeEpoch // of a controller that is none any more
		return
	}
	if a.cfg.Told != nil {
		a.cfg.Told(a.telling)
	}
	a.beatAt = now
	if a.leaving == nil {
		a.beatAt = now.Add(millis(a.cfg.Settings, "broker.heartbeat.interval.ms"))
	}
}

func (a *Agent) beatAnswered(now time.Time, r *Answer) {
	switch {
	case !a.registered():
	case errors.Is(r.Err, messages.ErrStaleNodeEpoch):
		a.fence(now, r.Err.Error())
	case r.Err != nil || r.Heartbeat == nil:
		a.log.Debug().Err(r.Err).Msg("heartbeat was not answered")
	default:
		if r.Heartbeat.Update != nil {
			a.apply(now, r.Heartbeat.Update, stepPatience)
		}
		if r.Heartbeat.MayStop && a.leaving != nil {
			a.finish(true)
		}
	}
}

// Delta is metadata that the controller pushed. A gap before it is filled by the
// answer to a heartbeat.
//
// docs/flows/replication.md: leader 3.
func (a *Agent) Delta(now time.Time, d *messages.Delta) {
	if a.image == nil {
		return // the snapshot that answers the registration will contain it
	}
	newer := d.To > a.image.Version && d.ControllerEpoch >= a.image.ControllerEpoch
	if !a.apply(now, d, stepPatience) && newer && a.registered() {
		a.beat(now)
	}
}

// Lapsed says that the registration is out of date: the membership lost this node
// for a while, so that the controller must have fenced it, or a replica lost
// records that were durable.
func (a *Agent) Lapsed(now time.Time) {
	if a.registered() {
		a.fence(now, "its membership lapsed, or a replica lost records")
		return
	}
	a.lapsed = true
}

// fence ends all leading here, because the controller has others lead by now, and
// registers the node again, as another incarnation in the same process.
func (a *Agent) fence(now time.Time, why string) {
	if !a.registered() {
		return
	}
	a.epoch = messages.NoNodeEpoch
	a.beating = asking{}
	a.proposals.refuse(messages.ErrStaleNodeEpoch)
	if a.leaving != nil || a.left {
		a.finish(true) // this is how the controller lets it go
		return
	}
	a.log.Warn().Str("reason", why).Msg("node is fenced: it leads nothing and registers again")
	a.tellAll()
	a.life = a.cfg.Incarnation()
	a.register(now)
}

// Suspect tells the controller that another node may be dead.
func (a *Agent) Suspect(now time.Time, n messages.NodeID) {
	if a.image == nil || n == a.self() || now.Sub(a.suspected[n]) < suspectEvery {
		return
	}
	node := a.image.Node(n)
	if node == nil || node.Fenced {
		return
	}
	a.suspected[n] = now
	a.ask(now, &Suspect{messages.Suspicion{By: a.self(), Suspect: n, Epoch: node.Epoch}})
}

// Leave asks the controller to move this node's leaderships away. Done is called
// once: when that is done, or at the deadline, with moved as false.
func (a *Agent) Leave(now, deadline time.Time, done func(moved bool)) {
	if a.left || a.leaving != nil || !a.registered() {
		a.left = a.leaving == nil
		done(a.leaving == nil)
		return
	}
	a.leaving = &leaving{deadline, done}
	a.beating = asking{} // one that asks to leave must not wait for it
	a.beat(now)
}

// finish ends the node's life in the cluster; it does not register again.
func (a *Agent) finish(moved bool) {
	a.left = true
	if l := a.leaving; l != nil {
		a.leaving = nil
		l.done(moved)
	}
}
