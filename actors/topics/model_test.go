package topics

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
)

// model is a slow twin of a whole cluster: every replica has a log of record
// numbers, leaders take records, followers copy them, and the high watermark moves
// by the rules of KIP-966. What was below it once must never be gone.
type model struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	state *State
	ids   byte
	lives int
	last  int // record number given out

	grouped bool // several decisions stand in one plan

	logs      map[messages.ReplicaID][]int
	committed map[messages.PartitionID][]int
	unclean   map[messages.PartitionID]bool // an operator asked for it in this step
	damaged   map[messages.NodeID]bool      // lost records in this step
	// pending are proposals that are under way. Their leaders count all of whom
	// they propose already (the maximal in-sync set).
	pending map[messages.PartitionID]messages.AlterPartition
	// seen is what leaders know: a proposal's answer tells the new in-sync set and
	// not what else changed.
	seen   map[messages.PartitionID]sight
	raised bool // a min.insync.replicas was set in this step
	trace  []string
}

const modelNodes = 5

// sight is the min.insync.replicas that a leader goes by, and the state of the
// partition that it has seen.
type sight struct {
	epoch messages.PartitionEpoch
	min   int
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 11)),
		state: New(messages.NewImage(), 0, Defaults{
			Partitions: 2, ReplicationFactor: 3, DeleteTopics: true,
		}),
		logs:      map[messages.ReplicaID][]int{},
		committed: map[messages.PartitionID][]int{},
		unclean:   map[messages.PartitionID]bool{},
		damaged:   map[messages.NodeID]bool{},
		pending:   map[messages.PartitionID]messages.AlterPartition{},
		seen:      map[messages.PartitionID]sight{},
	}
	for id := range messages.NodeID(modelNodes - 1) {
		m.decide(func(p *Plan) { m.register(p, id, false, nil) })
	}
	return m
}

func (m *model) image() *messages.Image { return m.state.Image() }

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	for _, line := range m.trace[max(0, len(m.trace)-25):] {
		m.t.Log(line)
	}
	m.t.Fatalf("seed %d: %s", m.seed, fmt.Sprintf(format, args...))
}

func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

// decide makes a plan, adopts it, and checks all that must hold.
func (m *model) decide(f func(p *Plan)) {
	m.t.Helper()
	before := m.image()
	p := m.state.Plan()
	f(p)
	if p.Empty() {
		return
	}
	m.state.Adopt(p, p.Delta(before.Version+1, 0, 1, "c"))
	if err := Check(m.image()); err != nil {
		m.fatalf("%v", err)
	}
	for _, t := range m.image().Topics() {
		changed := 0
		for i := range t.Partitions {
			id := messages.PartitionID{Topic: t.ID, Partition: int32(i)}
			if m.checkStep(id, before.Partition(id), &t.Partitions[i]) {
				changed++
			}
		}
		if old := before.TopicByID(t.ID); old != nil && old != t && changed == 0 && !m.grouped &&
			fmt.Sprint(old.Configs) == fmt.Sprint(t.Configs) &&
			len(old.Partitions) == len(t.Partitions) {
			m.fatalf("topic %s is in the plan and did not change", t.Name)
		}
	}
	clear(m.unclean)
	clear(m.damaged)
	m.raised = false
}

// checkStep checks how one partition came from its old state, and reports whether
// it changed.
func (m *model) checkStep(id messages.PartitionID, old, now *messages.Partition) bool {
	m.t.Helper()
	if old == nil {
		return true
	}
	a, b := *old, *now
	a.PartitionEpoch, b.PartitionEpoch = 0, 0
	changed := fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b)
	switch {
	case changed && now.PartitionEpoch <= old.PartitionEpoch,
		!changed && now.PartitionEpoch != old.PartitionEpoch && !m.grouped && !m.raised:
		m.fatalf("partition epoch %d after %d: %+v to %+v",
			now.PartitionEpoch, old.PartitionEpoch, old, now)
	case now.LeaderEpoch < old.LeaderEpoch:
		m.fatalf("the leader epoch falls: %+v to %+v", old, now)
	case now.Leader != old.Leader && now.LeaderEpoch == old.LeaderEpoch:
		m.fatalf("another leader under one epoch: %+v to %+v", old, now)
	}
	for _, r := range without(old.Replicas, now.Replicas...) {
		delete(m.logs, messages.ReplicaID{PartitionID: id, Node: r})
	}
	m.checkCommitted(id, old, now)
	return now.PartitionEpoch != old.PartitionEpoch
}

// checkCommitted checks that whoever may lead has all that was committed.
func (m *model) checkCommitted(id messages.PartitionID, old, now *messages.Partition) {
	m.t.Helper()
	leaderLog := m.log(id, now.Leader)
	outside := now.Leader != messages.NoNode &&
		(m.damaged[now.Leader] || !slices.Contains(with(old.ISR, old.ELR), now.Leader))
	sole := len(without(old.Replicas, old.Adding...)) == 1 ||
		m.grouped && len(without(now.Replicas, now.Adding...)) == 1
	t := m.image().TopicByID(id.Topic)
	allowed := m.unclean[id] || t.Configs["unclean.leader.election.enable"] == "true"
	if outside && !sole {
		if !allowed && !m.has(id, now.Leader) {
			m.fatalf("an unclean election nobody allowed: %+v to %+v", old, now)
		}
		m.committed[id] = common(m.committed[id], leaderLog)
	}
	for _, r := range with(now.ISR, now.ELR) {
		// A sole replica has all there is, even if damaged; and an unclean leader may
		// be gone again within the plan that elected it.
		if sole || allowed && m.grouped {
			m.committed[id] = common(m.committed[id], m.log(id, r))
		}
		if !m.has(id, r) {
			m.fatalf("node %d may lead and lacks committed records %v, it has %v: %+v to %+v",
				r, m.committed[id], m.log(id, r), old, now)
		}
	}
}

func (m *model) log(id messages.PartitionID, n messages.NodeID) []int {
	return m.logs[messages.ReplicaID{PartitionID: id, Node: n}]
}

func (m *model) has(id messages.PartitionID, n messages.NodeID) bool {
	return len(common(m.committed[id], m.log(id, n))) == len(m.committed[id])
}

// common returns the longest common prefix.
func common(a, b []int) []int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n:n]
}

// register registers a node as a new process.
func (m *model) register(
	p *Plan, id messages.NodeID, unclean bool, lost []messages.PartitionID,
) {
	m.lives++
	err := p.Register(messages.Registration{
		Node: messages.Node{
			ID: id, Host: "h", Port: 9092, Incarnation: fmt.Sprint(m.lives),
			Rack: fmt.Sprintf("r%d", id%3), Directory: fmt.Sprint("disk of ", id),
		},
		Unclean: unclean, Lost: lost,
	}, messages.NodeEpoch(m.image().Version+1))
	if err != nil {
		m.fatalf("node %d cannot register: %v", id, err)
	}
}

// pick returns a random partition, and false when there is none.
func (m *model) pick() (*messages.Topic, messages.PartitionID, *messages.Partition, bool) {
	topics := m.image().Topics()
	if len(topics) == 0 {
		return nil, messages.PartitionID{}, nil, false
	}
	t := topics[m.rng.IntN(len(topics))]
	i := m.rng.IntN(len(t.Partitions))
	return t, messages.PartitionID{Topic: t.ID, Partition: int32(i)}, &t.Partitions[i], true
}

func (m *model) minISR(t *messages.Topic, part *messages.Partition) int {
	n := 1
	if v, ok := m.image().NodeConfigs[messages.NoNode]["min.insync.replicas"]; ok {
		_, _ = fmt.Sscan(v, &n)
	}
	if v, ok := t.Configs["min.insync.replicas"]; ok {
		_, _ = fmt.Sscan(v, &n)
	}
	return min(n, len(part.Target()))
}

// look lets a leader see the newest metadata.
func (m *model) look(t *messages.Topic, id messages.PartitionID, part *messages.Partition) {
	m.seen[id] = sight{part.PartitionEpoch, m.minISR(t, part)}
}

// catchUp lets a leader see what it must have seen to act on that state.
func (m *model) catchUp(t *messages.Topic, id messages.PartitionID, part *messages.Partition) {
	if s, ok := m.seen[id]; !ok || s.epoch != part.PartitionEpoch {
		m.look(t, id, part)
	}
}

// work lets data flow: records in, copies made, the high watermark moved.
func (m *model) work() {
	t, id, part, ok := m.pick()
	if !ok || part.Leader == messages.NoNode {
		return
	}
	lead := messages.ReplicaID{PartitionID: id, Node: part.Leader}
	if m.rng.IntN(2) == 0 {
		m.last++
		m.logs[lead] = append(slices.Clone(m.logs[lead]), m.last)
	}
	for _, r := range part.Replicas {
		if n := m.image().Node(r); n != nil && !n.Fenced && r != part.Leader && m.rng.IntN(3) > 0 {
			m.logs[messages.ReplicaID{PartitionID: id, Node: r}] = slices.Clone(m.logs[lead])
		}
	}
	if m.rng.IntN(4) == 0 {
		m.look(t, id, part)
	}
	m.catchUp(t, id, part)
	if len(part.ISR) < m.seen[id].min {
		return
	}
	hw := m.logs[lead]
	for _, r := range part.ISR {
		hw = common(hw, m.log(id, r))
	}
	if a, ok := m.pending[id]; ok && a.LeaderEpoch == part.LeaderEpoch {
		for _, r := range a.ISR {
			hw = common(hw, m.log(id, r.Node))
		}
	}
	if len(hw) > len(m.committed[id]) {
		m.committed[id] = slices.Clone(hw)
	}
}

// propose lets a leader propose an in-sync set: mostly a true one. It may take its
// time to arrive; a leader has one proposal under way.
func (m *model) propose(p *Plan) {
	t, id, part, ok := m.pick()
	if !ok || part.Leader == messages.NoNode {
		return
	}
	a, late := m.pending[id]
	if late = late && a.LeaderEpoch == part.LeaderEpoch; !late {
		m.catchUp(t, id, part)
		a = m.proposal(id, part)
		if m.rng.IntN(3) == 0 {
			m.pending[id] = a
			return
		}
	}
	delete(m.pending, id)
	from := part.Leader
	switch m.rng.IntN(12) {
	case 0:
		a.LeaderEpoch--
	case 1:
		a.PartitionEpoch--
	case 2:
		from++
	}
	r := p.AlterPartition(from, a)
	m.note("%d proposes %+v, late %v: %+v %v", from, a, late, r.Partition, r.Err)
	wrong := a.LeaderEpoch != part.LeaderEpoch || a.PartitionEpoch != part.PartitionEpoch ||
		from != part.Leader
	if r.Err == nil {
		m.seen[id] = sight{r.Partition.PartitionEpoch, m.seen[id].min}
	}
	if wrong && r.Err == nil {
		m.fatalf("a stale proposal was accepted: %+v", a)
	}
}

func (m *model) proposal(
	id messages.PartitionID, part *messages.Partition,
) messages.AlterPartition {
	a := messages.AlterPartition{
		ID: id, LeaderEpoch: part.LeaderEpoch, PartitionEpoch: part.PartitionEpoch,
	}
	for _, r := range part.Replicas {
		n := m.image().Node(r)
		caughtUp := slices.Equal(m.log(id, r), m.log(id, part.Leader))
		stays := slices.Contains(part.ISR, r) && m.rng.IntN(4) > 0
		if r == part.Leader || n != nil && !n.Fenced && !n.Leaving && (caughtUp || stays) {
			a.ISR = append(a.ISR, messages.ISRMember{Node: r, Epoch: n.Epoch})
		}
	}
	return a
}

// lose takes records from a node's replicas and returns which lost some.
func (m *model) lose(n messages.NodeID) (lost []messages.PartitionID) {
	m.damaged[n] = true
	for _, t := range m.image().Topics() {
		for i := range t.Partitions {
			r := messages.ReplicaID{
				PartitionID: messages.PartitionID{Topic: t.ID, Partition: int32(i)}, Node: n,
			}
			if log := m.logs[r]; len(log) > 0 && m.rng.IntN(2) == 0 {
				m.logs[r] = slices.Clone(log[:m.rng.IntN(len(log))])
				lost = append(lost, r.PartitionID)
			}
		}
	}
	return lost
}

// command takes one random decision.
func (m *model) command(p *Plan) {
	n := messages.NodeID(m.rng.IntN(modelNodes))
	switch k := m.rng.IntN(100); {
	case k < 35:
		m.propose(p)
	case k < 45:
		m.note("fence %d", n)
		p.Fence(n)
	case k < 60:
		m.note("register %d", n)
		m.register(p, n, false, nil)
	case k < 63:
		m.note("register %d unclean, lost %v", n, m.lose(n))
		m.register(p, n, true, nil)
	case k < 66:
		lost := m.lose(n)
		m.note("register %d lost %v", n, lost)
		m.register(p, n, false, lost)
	case k < 70:
		m.note("leave %d: leads %d", n, p.Leave(n))
	case k < 73:
		_ = p.SetDraining(n, m.rng.IntN(2) == 0)
	case k < 79:
		m.note("balance: %d", p.Balance(1+m.rng.IntN(4)))
	default:
		m.ask(p, k)
	}
}

// ask is what operators and clients ask for.
func (m *model) ask(p *Plan, k int) {
	t, id, part, ok := m.pick()
	switch {
	case k < 82 && m.image().TopicCount() < 4 || !ok:
		m.ids++
		c := plain(fmt.Sprint("t", m.ids), 1+m.rng.Int32N(3), 1+int16(m.rng.IntN(3)))
		if m.rng.IntN(2) == 0 {
			c.Configs = messages.Config{"min.insync.replicas": "2"}
		}
		r := p.CreateTopic(c, messages.TopicID{15: m.ids})
		m.note("create %s: %v", c.Name, r.Err)
	case k < 83:
		m.note("delete %s", t.Name)
		p.DeleteTopic(messages.TopicRef{ID: t.ID})
	case k < 89:
		to := p.usable()
		m.rng.Shuffle(len(to), func(i, j int) { to[i], to[j] = to[j], to[i] })
		r := messages.Reassign{ID: id}
		for _, n := range to[:min(len(to), 1+m.rng.IntN(3))] {
			r.Replicas = append(r.Replicas, n.ID)
		}
		m.note("reassign %+v to %v: %v", part, r.Replicas, p.Reassign(r))
	case k < 91:
		err := p.Reassign(messages.Reassign{ID: id})
		if !part.Reassigning() && !errors.Is(err, messages.ErrNoReassignmentInProgress) {
			m.note("cancel: %v", err) // an earlier command of this plan may have begun one
		}
		m.note("cancel %+v: %v", part, err)
	case k < 94:
		m.note("elect %+v: %v", part, p.Elect(messages.ElectPreferred, id))
	case k < 95:
		m.unclean[id] = true
		m.note("elect unclean %+v: %v", part, p.Elect(messages.ElectUnclean, id))
	case k < 98:
		m.set(p, messages.ConfigTopic, t.Name, "min.insync.replicas", 1+m.rng.IntN(3))
	case k < 99:
		m.set(p, messages.ConfigBroker, "", "min.insync.replicas", 1+m.rng.IntN(3))
	default:
		on := m.rng.IntN(4) == 0
		for i := range t.Partitions {
			at := messages.PartitionID{Topic: t.ID, Partition: int32(i)}
			// If only within this plan, before it or after it.
			m.unclean[at] = m.unclean[at] || on ||
				t.Configs["unclean.leader.election.enable"] == "true"
		}
		m.set(p, messages.ConfigTopic, t.Name, "unclean.leader.election.enable", on)
	}
}

func (m *model) set(p *Plan, kind messages.ConfigResourceType, name, key string, value any) {
	m.raised = m.raised || key == "min.insync.replicas"
	err := p.AlterConfigs(messages.AlterConfigs{
		Resource: messages.ConfigResource{Type: kind, Name: name},
		Changes:  []messages.ConfigChange{{Key: key, Value: fmt.Sprint(value)}},
	})
	m.note("set %s of %q to %v: %v", key, name, value, err)
}

func TestNothingCommittedIsLostWhateverHappens(t *testing.T) {
	for seed := range uint64(300) {
		m := newModel(t, seed)
		for range 250 {
			if m.rng.IntN(2) == 0 {
				m.work()
				continue
			}
			m.decide(m.command)
		}
		if m.last == 0 {
			m.fatalf("nothing was written")
		}
	}
}

// Several decisions may stand in one plan: a proposal between the death of one
// node and the return of another.
func TestDecisionsOfOnePlanAreAsSafeAsOneByOne(t *testing.T) {
	for seed := range uint64(150) {
		m := newModel(t, seed+10_000)
		m.grouped = true
		for range 120 {
			m.work()
			m.decide(func(p *Plan) {
				for range 1 + m.rng.IntN(3) {
					m.command(p)
				}
			})
		}
	}
}
