package txns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
)

// identity is what a producer is known by.
type identity struct {
	id    messages.ProducerID
	epoch messages.ProducerEpoch
}

// token stands for the data of one transaction of one producer.
type token struct {
	name     string
	ending   bool // an End was sent; its direction does not change any more
	commit   bool
	answered bool
	outcomes []bool // of the markers that ended its data, by partition
}

// partition is a partition leader, as far as transactions go.
type partition struct {
	tp          messages.TopicPartition
	epochs      map[messages.ProducerID]messages.ProducerEpoch
	coordinator map[messages.ProducerID]int32
	open        map[messages.ProducerID]*token
}

// producer is one client with the transactional id. All but the last that was
// initialized are zombies and do not know it.
type producer struct {
	name   string
	v2     bool
	self   identity
	known  bool // has an identity
	busy   bool // waits for an answer
	tx     *token
	writes []*partition // that it may write to
}

// sending is a marker on its way to one partition.
type sending struct {
	m  txn.Markers
	to *partition
}

// universe runs one transactional id with random producers, failures and times,
// and checks after every step what must always hold.
type universe struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	calm  bool // nothing fails any more
	now   time.Time
	m     *Txn
	log   []coord.Record
	write *coord.Write
	epoch int32 // of the coordinator

	partitions []*partition
	producers  []*producer
	tokens     []*token
	owner      *producer // last initialized and not fenced since
	forgotten  bool      // the id expired and nobody was initialized since
	highest    map[messages.ProducerID]messages.ProducerEpoch
	given      map[identity]*producer

	asked   int
	ids     messages.ProducerID
	flying  []sending
	answers []txn.MarkersWritten // to be delivered, or delivered and to be repeated
	counts  map[string]int       // what happened, so that the test shows it tests
}

func newUniverse(t *testing.T, seed uint64, counts map[string]int) *universe {
	u := &universe{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), now: noon, ids: 100,
		highest: map[messages.ProducerID]messages.ProducerEpoch{},
		given:   map[identity]*producer{}, counts: counts}
	for i := range int32(3) {
		u.partitions = append(u.partitions, &partition{
			tp:          messages.TopicPartition{Topic: "orders", Partition: i},
			epochs:      map[messages.ProducerID]messages.ProducerEpoch{},
			coordinator: map[messages.ProducerID]int32{},
			open:        map[messages.ProducerID]*token{},
		})
	}
	for i := range 3 {
		u.producers = append(u.producers,
			&producer{name: fmt.Sprint("p", i), v2: u.rng.IntN(3) > 0})
	}
	if u.rng.IntN(2) == 0 { // epochs are about to be used up
		m := state(txn.Empty, epoch(lastEpoch-messages.ProducerEpoch(u.rng.IntN(12))))
		u.log = append(u.log, coord.Record{Key: encodeKey("pay"), Value: m.encodeValue()})
	}
	u.restart()
	return u
}

func (u *universe) failf(format string, args ...any) {
	u.t.Helper()
	u.t.Fatalf("seed %d: %s", u.seed, fmt.Sprintf(format, args...))
}

func (u *universe) chance(percent int) bool { return !u.calm && u.rng.IntN(100) < percent }

func (u *universe) NewProducerID() { u.asked++ }

func (u *universe) SendMarkers(m txn.Markers) {
	if u.m.meta.state != txn.PrepareCommit && u.m.meta.state != txn.PrepareAbort {
		u.failf("markers %+v in state %v", m, u.m.meta.state)
	}
	for _, p := range u.partitions {
		if slices.Contains(m.Partitions, p.tp) {
			u.flying = append(u.flying, sending{m, p})
		}
	}
}

// restart makes another coordinator from what is durable.
func (u *universe) restart() {
	u.epoch++
	u.write, u.asked = nil, 0
	u.m = New("pay", func() Config {
		return Config{MaxTimeout: 15 * time.Minute, IDExpiration: 7 * 24 * time.Hour,
			CoordinatorEpoch: func() int32 { return u.epoch }}
	}, u)
	for _, r := range u.log {
		if err := u.m.Replay(coord.Replayed{Record: r, Producer: none}); err != nil {
			u.failf("replay: %v", err)
		}
	}
	if u.m.meta == nil {
		u.forgotten = true
	}
	u.m.Loaded(u.now)
	u.write = u.m.TakeWrite()
}

func (u *universe) crash() {
	u.counts["crash"]++
	if u.write != nil && u.chance(50) {
		u.log = append(u.log, u.write.Records...)
		u.counts["crash after the append"]++
	}
	if u.chance(50) {
		u.m.Stop(messages.ErrNotCoordinator)
	}
	for _, p := range u.producers {
		p.busy = false
	}
	u.restart()
}

// step does one thing.
func (u *universe) step() {
	switch {
	case u.chance(2):
		u.crash()
	case u.write != nil:
		u.finishWrite()
	default:
		u.act()
		u.write = u.m.TakeWrite()
	}
	u.check()
}

func (u *universe) finishWrite() {
	w := u.write
	u.write = nil
	var err error
	if u.chance(15) {
		err = messages.ErrUnavailable
		u.counts["failed write"]++
	}
	if err == nil || u.chance(50) {
		u.log = append(u.log, w.Records...)
	}
	if err == nil {
		u.durable(w.Records[0])
	}
	w.Done(u.now, err)
	u.write = u.m.TakeWrite()
}

// durable takes note of who is fenced from now on.
func (u *universe) durable(r coord.Record) {
	if r.Value == nil {
		u.owner, u.forgotten = nil, true
		u.counts["expired"]++
		return
	}
	m, err := parseValue(r.Value)
	if err != nil {
		u.failf("own record: %v", err)
	}
	old := u.m.meta
	if old == nil || m.state != txn.PrepareAbort || m.producer != old.producer {
		return
	}
	if m.epoch == old.epoch+2 || m.epoch == maxEpoch && m.next == none {
		u.owner = nil
		u.counts["fence"]++
	}
}

func (u *universe) act() {
	switch n := u.rng.IntN(100); {
	case n < 50 && !u.calm:
		u.produce(u.producers[u.rng.IntN(len(u.producers))])
	case n < 65 && len(u.flying) > 0:
		u.deliver(u.rng.IntN(len(u.flying)))
	case n < 80 && len(u.answers) > 0:
		i := u.rng.IntN(len(u.answers))
		answer := u.answers[i]
		if !u.chance(30) { // or it comes once more
			u.answers = slices.Delete(u.answers, i, i+1)
		}
		u.m.Handle(u.now, &answer)
	case n < 87 && u.asked > 0:
		u.asked--
		u.ids++
		fresh := txn.FreshID{ID: u.ids}
		if u.chance(20) {
			fresh = txn.FreshID{Err: messages.ErrUnavailable}
		}
		u.m.Handle(u.now, &fresh)
	default:
		u.pass()
	}
}

// pass lets time go by.
func (u *universe) pass() {
	d := time.Duration(u.rng.IntN(3000)) * time.Millisecond
	switch {
	case u.chance(5):
		d = 2 * time.Minute
	case u.chance(1):
		d = 8 * 24 * time.Hour
	}
	u.now = u.now.Add(d)
	if due := u.m.Due(); !due.IsZero() && !u.now.Before(due) {
		u.m.Tick(u.now)
	}
}

// deliver has a marker written, be it of a coordinator that was replaced.
func (u *universe) deliver(i int) {
	s := u.flying[i]
	u.flying = slices.Delete(u.flying, i, i+1)
	p, id := s.to, s.m.Producer
	answer := txn.MarkersWritten{Sending: s.m.Sending, Producer: id, Epoch: s.m.Epoch,
		Partitions: []messages.TopicPartition{p.tp}}
	switch {
	case p.epochs[id] > s.m.Epoch:
		answer.Err = messages.ErrInvalidProducerEpoch
	case p.coordinator[id] > s.m.CoordinatorEpoch:
		answer.Err = txn.ErrCoordinatorFenced
	default:
		p.epochs[id], p.coordinator[id] = s.m.Epoch, s.m.CoordinatorEpoch
		if tx := p.open[id]; tx != nil {
			tx.outcomes = append(tx.outcomes, s.m.Commit)
			delete(p.open, id)
			u.counts[fmt.Sprint("ended, commit ", s.m.Commit)]++
		}
	}
	u.answers = append(u.answers, answer)
}

// append writes data, as producers do without asking the coordinator again.
func (u *universe) append(p *partition, self identity, tx *token) bool {
	if p.epochs[self.id] > self.epoch {
		return false
	}
	if open := p.open[self.id]; open != nil && open != tx {
		u.failf("%s is written into the open transaction %s", tx.name, open.name)
	}
	p.epochs[self.id], p.open[self.id] = self.epoch, tx
	return true
}

// produce lets a producer do what a client may do next.
func (u *universe) produce(p *producer) {
	n := u.rng.IntN(100)
	switch {
	case p.busy:
	case !p.known && n > 10:
		// Producers do not fence each other all the time.
	case !p.known || n < 3:
		u.initialize(p, n%2 == 0 && p.known)
	case p.tx != nil && p.tx.ending:
		u.end(p)
	case p.tx != nil && n < 35:
		p.tx.ending, p.tx.commit = true, u.rng.IntN(3) > 0
		u.end(p)
	case len(p.writes) > 0 && n < 50:
		u.append(p.writes[u.rng.IntN(len(p.writes))], p.self, p.tx)
	default:
		u.add(p)
	}
}

func (u *universe) begin(p *producer) {
	if p.tx == nil {
		p.tx = &token{name: fmt.Sprintf("%s/%d", p.name, len(u.tokens))}
		u.tokens = append(u.tokens, p.tx)
	}
}

// lost lets a producer not hear the answer.
func (u *universe) lost(p *producer) bool {
	p.busy = false
	return u.chance(10)
}

// fatal reports an error after which a producer has to begin anew.
func fatal(err error) bool {
	return errors.Is(err, txn.ErrProducerFenced) || errors.Is(err, txn.ErrInvalidMapping)
}

func (u *universe) give(p *producer, a identity) {
	if before := u.given[a]; before != nil && before != p {
		u.failf("%s is given %v, which %s has", p.name, a, before.name)
	}
	if a.epoch < u.highest[a.id] || a.epoch > lastEpoch {
		u.failf("%s is given %v, epoch %d was before", p.name, a, u.highest[a.id])
	}
	u.given[a], u.highest[a.id] = p, a.epoch
}

// ask hands over a request. Of one that speaks for an identity nothing may come
// if that was fenced, whatever the answer is.
func (u *universe) ask(p *producer, r coord.Request, speaksForItself bool) {
	idle := !u.m.busy()
	u.m.Handle(u.now, r)
	if speaksForItself && u.owner != p && idle && u.m.busy() {
		u.failf("%s was fenced and changes the state with %#v", p.name, r)
	}
}

func (u *universe) initialize(p *producer, named bool) {
	r := &txn.Init{TimeoutMs: 1000 * (1 + u.rng.Int32N(60)), Producer: none, Epoch: noEpoch}
	if named {
		r.Producer, r.Epoch = p.self.id, p.self.epoch
	}
	p.busy = true
	r.Reply = func(a txn.Initialized) {
		if a.Err == nil {
			if named && u.owner != p && !u.forgotten {
				u.failf("%s was fenced and goes on with %+v", p.name, a)
			}
			u.give(p, identity{a.Producer, a.Epoch})
			u.owner, u.forgotten = p, false
			u.counts["initialized"]++
		}
		if u.lost(p) {
			return
		}
		if a.Err == nil {
			p.self, p.known = identity{a.Producer, a.Epoch}, true
			p.tx, p.writes = nil, nil
		} else if fatal(a.Err) {
			p.known, p.tx, p.writes = false, nil, nil
		}
	}
	u.ask(p, r, named && !u.forgotten)
}

func (u *universe) add(p *producer) {
	u.begin(p)
	to := u.partitions[u.rng.IntN(len(u.partitions))]
	self, tx := p.self, p.tx
	p.busy = true
	u.ask(p, &txn.Add{Producer: self.id, Epoch: self.epoch,
		Partitions: []messages.TopicPartition{to.tp},
		Reply: func(a txn.Added) {
			if a.Err == nil && u.owner != p {
				u.failf("%s was fenced and adds to a transaction", p.name)
			}
			if u.lost(p) {
				return
			}
			switch {
			case a.Err == nil:
				if !u.append(to, self, tx) {
					u.failf("%v refuses the rightful producer %v", to.tp, self)
				}
				p.writes = append(p.writes, to)
				u.counts["added"]++
			case fatal(a.Err):
				p.known, p.tx, p.writes = false, nil, nil
			}
		}}, true)
}

func (u *universe) end(p *producer) {
	tx := p.tx
	p.busy, p.writes = true, nil
	u.ask(p, &txn.End{Producer: p.self.id, Epoch: p.self.epoch, Commit: tx.commit, V2: p.v2,
		Reply: func(a txn.Ended) {
			if a.Err == nil {
				if u.owner != p {
					u.failf("%s was fenced and ends a transaction", p.name)
				}
				tx.answered = true
				if p.v2 {
					u.give(p, identity{a.Producer, a.Epoch})
				}
				u.counts[fmt.Sprintf("answered, commit %v, V2 %v", tx.commit, p.v2)]++
			}
			switch {
			case u.lost(p):
			case a.Err == nil && p.v2:
				p.self, p.tx = identity{a.Producer, a.Epoch}, nil
			case a.Err == nil || errors.Is(a.Err, messages.ErrInvalidTxnState):
				p.tx = nil
			case fatal(a.Err):
				p.known, p.tx = false, nil
			}
		}}, true)
}

// check holds after every step.
func (u *universe) check() {
	for _, tx := range u.tokens {
		for _, commit := range tx.outcomes {
			if commit != tx.outcomes[0] {
				u.failf("%s ends as %v", tx.name, tx.outcomes)
			}
			if tx.answered && commit != tx.commit {
				u.failf("%s was answered commit %v and ends as %v", tx.name, tx.commit, tx.outcomes)
			}
		}
	}
	if u.m.fenced {
		u.failf("the coordinator takes itself for replaced")
	}
}

// settle ends what is open: nothing fails, and time goes by.
func (u *universe) settle() {
	u.calm = true
	for range 20_000 {
		open := len(u.flying) > 0 || u.write != nil
		for _, p := range u.partitions {
			open = open || len(p.open) > 0
		}
		m := u.m.meta
		if !open && (m == nil || m.state == txn.Empty || m.completed()) {
			return
		}
		u.step()
	}
	u.failf("transactions do not end: state %v, %d markers on their way",
		u.m.meta.state, len(u.flying))
}

func TestRandomProducersFailuresAndTimes(t *testing.T) {
	counts := map[string]int{}
	for seed := range uint64(400) {
		u := newUniverse(t, seed, counts)
		for range 800 {
			u.step()
		}
		u.settle()
	}
	for _, what := range []string{"crash", "crash after the append", "failed write", "fence",
		"expired", "initialized", "added", "ended, commit true", "ended, commit false",
		"answered, commit true, V2 true", "answered, commit true, V2 false",
		"answered, commit false, V2 true", "answered, commit false, V2 false"} {
		if counts[what] < 100 {
			t.Errorf("%q happened %d times: the test does not test it", what, counts[what])
		}
	}
}
