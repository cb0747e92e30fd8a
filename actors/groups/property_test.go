package groups

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

// partitions are what the clients of the property test share.
const partitions = 6

// client is one random consumer. It keeps to the protocol, except when it does not.
type client struct {
	name       string // of the process; a static one has it as instance id
	static     bool
	id         string
	generation int32
	joining    *box[group.Joined]
	syncing    *box[group.Synced]
	syncedFor  int32
	made       map[string][]byte // as leader
}

// crowd is random clients around one group.
type crowd struct {
	*world
	rng     *rand.Rand
	clients []*client
	ids     int
	// given is what was handed out: by generation, by the member's name.
	given  map[int32]map[string]string
	shared int          // assignments given while others of the generation were out
	lives  int          // entries of the log up to the end of the last life of the group
	waits  []func() int // of every request: how many answers it has
}

func newCrowd(t testing.TB, seed uint64) *crowd {
	c := &crowd{
		world: newWorld(t), rng: rand.New(rand.NewPCG(seed, 4)),
		given: map[int32]map[string]string{},
	}
	c.cfg.InitialRebalanceDelay = time.Duration(c.rng.IntN(3)) * time.Second
	c.cfg.OffsetsRetention = 20 * time.Minute
	for i := range 5 {
		c.clients = append(c.clients, &client{name: fmt.Sprintf("c%d", i), static: i < 2})
	}
	return c
}

func track[T any](c *crowd) *box[T] {
	b := &box[T]{}
	c.waits = append(c.waits, func() int { return len(b.got) })
	return b
}

func TestRandomClientsNeverBreakTheRules(t *testing.T) {
	seeds, shared := 150, 0
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		c := newCrowd(t, uint64(seed))
		for range 400 {
			c.step()
		}
		c.fail = nil
		for _, producer := range c.g.PendingProducers() {
			c.endTxn(producer, true)
		}
		c.advance(2 * time.Hour)
		for i, answers := range c.waits {
			if answers() != 1 {
				t.Fatalf("seed %d: request %d of %d has %d answers", seed, i, len(c.waits), answers())
			}
		}
		if !c.g.Empty() {
			t.Fatalf("seed %d: nobody is there any more, but:\n%s%s", seed, remembers(c.g),
				membersOf(c.g))
		}
		if !c.rebuilt().Empty() {
			t.Fatalf("seed %d: the log says:\n%s", seed, membersOf(c.rebuilt()))
		}
		shared += c.shared
	}
	if shared < 10*seeds {
		t.Errorf("%d assignments were handed out beside another, the clients do too little", shared)
	}
}

func (c *crowd) step() {
	c.fail = nil
	if c.rng.IntN(12) == 0 {
		c.fail = messages.ErrUnavailable
	}
	before, length := remembers(c.g), len(c.log)
	switch k := c.rng.IntN(200); {
	case k < 140:
		c.act(c.clients[c.rng.IntN(len(c.clients))])
	case k < 180:
		c.advance(time.Duration(c.rng.IntN(1500)) * time.Millisecond)
	case k < 182:
		c.advance(time.Duration(c.rng.IntN(15)) * time.Second)
	case k < 183:
		c.advance(time.Duration(c.rng.IntN(15)) * time.Minute)
	case k < 193:
		c.endTxn(messages.ProducerID(c.rng.IntN(3)), c.rng.IntN(2) == 0)
	case k < 196:
		c.administer()
	case k < 198:
		c.compare()
		c.failOver()
	default:
		c.compare()
	}
	if len(c.log) == length && remembers(c.g) != before {
		c.t.Fatalf("without a record\n%s became\n%s", before, remembers(c.g))
	}
	if got, want := remembers(c.g), c.twin(); got != want {
		c.t.Fatalf("offsets are\n%s, the log says\n%s", got, want)
	}
	for ; c.lives < len(c.log); c.lives++ {
		if e := c.log[c.lives]; !e.end && e.Value == nil && e.Key[1] == byte(metadataKey) {
			clear(c.given) // the group was deleted, and counts from 1 again
		}
	}
	for i, answers := range c.waits {
		if answers() > 1 {
			c.t.Fatalf("request %d was answered %d times", i, answers())
		}
	}
	c.learn()
}

// act lets a client do something.
func (c *crowd) act(p *client) {
	if p.joining != nil || p.syncing != nil {
		if c.rng.IntN(50) != 0 {
			return // it waits
		}
		p.joining, p.syncing = nil, nil // it lost patience
	}
	switch k := c.rng.IntN(60); {
	case p.id != "" && p.generation > 0 && p.syncedFor != p.generation && k < 54:
		c.sync1(p)
	case p.generation <= 0 && k < 50, k < 1:
		c.join1(p)
	case k < 30:
		b := track[error](c)
		c.do(&group.Heartbeat{MemberID: p.id, InstanceID: p.instance(), Generation: p.generation,
			Reply: b.put})
		c.heard(p, b.one(c.t))
	case k < 55:
		c.commit1(p)
	case k < 56:
		b := track[group.Left](c)
		c.do(&group.Leave{Members: []group.Leaving{{MemberID: p.id, InstanceID: p.instance()}},
			Reply: b.put})
		p.forget()
	case k < 57:
		p.forget() // it is started again
	default:
		b := track[group.Committed](c)
		c.do(&group.TxnCommit{
			Producer: messages.ProducerID(c.rng.IntN(3)), MemberID: p.id, InstanceID: p.instance(),
			Generation: p.generation, Offsets: c.someOffsets(), Reply: b.put,
		})
	}
}

func (p *client) instance() string {
	if p.static {
		return p.name
	}
	return ""
}

func (p *client) forget() { *p = client{name: p.name, static: p.static, generation: -1} }

// heard lets a client do what the real ones do about an error.
func (c *crowd) heard(p *client, err error) {
	switch {
	case errors.Is(err, group.ErrUnknownMember), errors.Is(err, group.ErrFencedInstance):
		p.forget()
	case errors.Is(err, group.ErrIllegalGeneration), errors.Is(err, group.ErrRebalanceInProgress):
		p.generation = -1
	}
}

func (c *crowd) join1(p *client) {
	c.ids++
	r, _ := newJoin(fmt.Sprintf("%s-%d", p.name, c.ids))
	p.joining = track[group.Joined](c)
	r.MemberID, r.InstanceID, r.Reply = p.id, p.instance(), p.joining.put
	r.RequireKnownID, r.CanSkipAssignment = c.rng.IntN(2) == 0, c.rng.IntN(2) == 0
	r.RebalanceTimeoutMs = int32(c.rng.IntN(30)) * 1000
	if c.rng.IntN(4) == 0 {
		r.Protocols = append(r.Protocols, group.Protocol{Name: "sticky", Metadata: subscribe("u")})
	}
	c.do(r)
}

func (c *crowd) sync1(p *client) {
	p.syncing = track[group.Synced](c)
	c.do(&group.Sync{
		MemberID: p.id, InstanceID: p.instance(), Generation: p.generation, Assignments: p.made,
		Reply: p.syncing.put,
	})
}

func (c *crowd) commit1(p *client) {
	var all []coord.Request
	for range 1 + c.rng.IntN(3) {
		b := track[group.Committed](c)
		all = append(all, &group.Commit{
			MemberID: p.id, InstanceID: p.instance(), Generation: p.generation,
			Offsets: c.someOffsets(), Reply: b.put,
		})
	}
	c.do(all...)
}

func (c *crowd) someOffsets() (list []group.Offset) {
	for range 1 + c.rng.IntN(3) {
		list = append(list, at("t", int32(c.rng.IntN(partitions)), messages.Offset(c.rng.IntN(1e6))))
	}
	return list
}

func (c *crowd) administer() {
	tp := messages.TopicPartition{Topic: "t", Partition: int32(c.rng.IntN(partitions))}
	switch c.rng.IntN(4) {
	case 0:
		b := track[error](c)
		c.do(&group.Delete{Reply: b.put})
	case 1:
		b := track[group.Committed](c)
		c.do(&group.DeleteOffsets{Partitions: []messages.TopicPartition{tp}, Reply: b.put})
	case 2:
		c.do(&group.TopicsDeleted{Topics: []string{"t"}})
	default:
		c.describe()
	}
}

// learn hands the clients their answers and checks what they are told.
func (c *crowd) learn() {
	for _, p := range c.clients {
		if p.joining != nil && !p.joining.waits() {
			j := p.joining.one(c.t)
			p.joining = nil
			c.joinedAs(p, j)
		}
		if p.syncing != nil && !p.syncing.waits() {
			s := p.syncing.one(c.t)
			p.syncing = nil
			if s.Err != nil {
				c.heard(p, s.Err)
				continue
			}
			p.syncedFor = p.generation
			c.assigned(p, s.Assignment)
		}
	}
}

func (c *crowd) joinedAs(p *client, j group.Joined) {
	switch {
	case errors.Is(j.Err, group.ErrMemberIDRequired):
		p.id = j.MemberID
	case j.Err != nil:
		c.heard(p, j.Err)
	default:
		p.id, p.generation, p.syncedFor = j.MemberID, j.Generation, -1
		p.made = nil
		if j.Leader != j.MemberID || j.SkipAssignment {
			return
		}
		p.made = map[string][]byte{}
		for n := range partitions {
			m := j.Members[n%len(j.Members)].MemberID
			p.made[m] = append(p.made[m], byte('0'+n))
		}
	}
}

// assigned checks that a generation has one assignment, in which a partition has
// one owner.
func (c *crowd) assigned(p *client, assignment []byte) {
	all := c.given[p.generation]
	if all == nil {
		all = map[string]string{}
		c.given[p.generation] = all
	}
	if had, ok := all[p.name]; ok && had != string(assignment) {
		c.t.Fatalf("%s has %q in generation %d, and had %q", p.name, assignment, p.generation, had)
	}
	all[p.name] = string(assignment)
	if len(all) > 1 {
		c.shared++
	}
	for name, other := range all {
		if name != p.name && bytes.ContainsAny(assignment, other) {
			c.t.Fatalf("%s and %s share %q and %q in generation %d", name, p.name, other, assignment,
				p.generation)
		}
	}
}

// compare checks that the log says all that the group knows.
func (c *crowd) compare() {
	c.t.Helper()
	again := c.rebuilt()
	if got, want := remembers(again), remembers(c.g); got != want {
		c.t.Fatalf("the log says\n%s, the group\n%s", got, want)
	}
	if !slices.Equal(again.PendingProducers(), c.g.PendingProducers()) {
		c.t.Fatal("the log has other transactions")
	}
	got, want := membersOf(again), membersOf(c.g)
	if strings.HasPrefix(want, "Stable") && got != want {
		c.t.Fatalf("the log says\n%s, the group\n%s", got, want)
	}
}

// twin works the offsets out of the log, slowly: for each partition the last
// record that is neither in a transaction that was aborted or is open, nor before
// a tombstone.
func (c *crowd) twin() string {
	outcome := make([]string, len(c.log)) // of the transaction that an entry is in
	for i, e := range c.log {
		for j := i + 1; j < len(c.log) && e.Producer != messages.NoProducerID; j++ {
			if end := c.log[j]; end.end && end.Producer == e.Producer {
				outcome[i] = map[bool]string{true: "committed", false: "aborted"}[end.commit]
				break
			}
		}
	}
	committed, pending := map[int32]int{}, map[[2]int64]int{}
	for i, e := range c.log {
		k, err := ParseKey(e.Key)
		switch {
		case e.end || err == nil && !k.isOffset():
		case err != nil:
			c.t.Fatal(err)
		case e.Value == nil:
			delete(committed, k.Partition)
			for producer := range int64(3) {
				delete(pending, [2]int64{producer, int64(k.Partition)})
			}
		case e.Producer == messages.NoProducerID || outcome[i] == "committed" && c.survives(i, k):
			committed[k.Partition] = i
		case outcome[i] == "":
			pending[[2]int64{int64(e.Producer), int64(k.Partition)}] = i
		}
	}
	var b strings.Builder
	show := func(prefix string, i int) {
		k, _ := ParseKey(c.log[i].Key)
		o, err := parseOffsetValue(k.partition(), c.log[i].Value)
		if err != nil {
			c.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s%v\n", prefix, o)
	}
	for n := range int32(partitions) {
		if i, ok := committed[n]; ok {
			show("", i)
		}
	}
	for producer := range int64(3) {
		for n := range int64(partitions) {
			if i, ok := pending[[2]int64{producer, n}]; ok {
				show(fmt.Sprintf("pending of %d: ", producer), i)
			}
		}
	}
	return b.String()
}

// survives reports that no tombstone came between entry i and its marker.
func (c *crowd) survives(i int, k Key) bool {
	for _, e := range c.log[i+1:] {
		if e.end && e.Producer == c.log[i].Producer {
			return true
		}
		if e.Value == nil && !e.end && bytes.Equal(e.Key[2:], c.log[i].Key[2:]) {
			return false
		}
	}
	return false
}
