package clientlib

import (
	"fmt"

	"github.com/troupelog/troupe/clientlib/internal/batches"
	"github.com/troupelog/troupe/clientlib/internal/cursor"
	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/clientlib/internal/member"
	"github.com/troupelog/troupe/messages"
)

const (
	// An answer has answerMin to answerMax bytes of records, or one batch that is larger;
	// a partition has partMax bytes in the buffer at most, before its last answer.
	answerMin = 16 << 10
	answerMax = 1 << 20
	partMax   = 8 << 20
)

// part is a partition that the consumer reads. Its consumer's mu guards all of it, but for
// the reader of the answer that a caller of next has taken out.
type part struct {
	Partition
	id    messages.TopicID
	topic *topicWatch
	cur   cursor.Cursor
	life  int // counts moves: what was taken out before one is void

	answers  []*answer // that were not given out, oldest first
	buffered int       // bytes of them
	err      error     // for who calls next

	active   bool // may be given out: OnAssigned has returned
	revoking bool // is being given up
	gone     bool
	paused   bool
	out      bool // given out by the last next

	busy    bool // somebody decodes the first answer
	queued  bool // is in Consumer.queue
	dirty   bool // is in Consumer.dirty
	delayed bool // is in Consumer.delayed
	starved bool // waits for room in the buffer of the partition
}

// answer is what a leader has sent.
type answer struct {
	batches *batches.Reader
	size    int
	next    int64 // the offset behind it
	epoch   int32 // of its last record
}

// topicWatch follows where a topic is led, for its parts.
type topicWatch struct {
	parts  []*part
	route  *link.Route // nil: not known yet
	cancel func()      // nil: not watched yet; of who adds and removes partitions
}

// add takes partitions in that are not given out yet, without those that the consumer
// leaves out: the group knows no pattern that has exceptions. mu is held.
func (c *Consumer) add(ps []member.Partition) {
	for _, m := range ps {
		if c.cfg.leavesOut(m.Topic) {
			continue
		}
		at := Partition{Topic: m.Topic, Index: m.Index}
		p := &part{Partition: at, id: m.ID, topic: c.topics[m.Topic]}
		p.cur = *cursor.New(c.cfg.Start.place())
		if p.topic == nil {
			p.topic = &topicWatch{}
			c.topics[m.Topic] = p.topic
		}
		p.topic.parts = append(p.topic.parts, p)
		c.parts[at] = p
	}
	c.wakeLocator.set()
}

// watch follows the topics of partitions that were added. It is called without mu, by who
// added them.
func (c *Consumer) watch(ps []member.Partition) {
	for _, m := range ps {
		c.mu.Lock()
		t := c.topics[m.Topic]
		c.mu.Unlock()
		if t != nil && t.cancel == nil {
			t.cancel = c.link.Watch(m.Topic, func(r *link.Route) { c.routed(t, r) })
		}
	}
}

// routed hears where a topic is led. A partition whose leader is another one is asked for
// there.
func (c *Consumer) routed(t *topicWatch, now *link.Route) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := t.route
	t.route = now
	for _, p := range t.parts {
		if leaderOf(before, p.Index) != leaderOf(now, p.Index) {
			p.cur.Interrupt()
			c.touch(p)
		}
		if c.machine == nil && (now.Gone || now.ID != p.id) { // members are told by the group
			c.blame(p, p.cur.Position(), fmt.Errorf("the topic was deleted: %w", ErrUnknownTopic))
		}
	}
}

func leaderOf(r *link.Route, index int32) link.Leader {
	if r == nil || r.Gone || int(index) >= len(r.Partitions) {
		return link.Leader{Node: messages.NoNode}
	}
	return r.Partitions[index]
}

// activate has partitions given out. mu is held.
func (c *Consumer) activate(ps []member.Partition) {
	for _, m := range ps {
		if p := c.parts[Partition{Topic: m.Topic, Index: m.Index}]; p != nil {
			p.active = true
			c.touch(p)
			c.enqueue(p)
		}
	}
}

// remove forgets partitions, and returns what ends the watches that nobody needs any
// more: to be called without mu, before any partition is added. mu is held.
func (c *Consumer) remove(ps []Partition) (cancels []func()) {
	for _, at := range ps {
		p := c.parts[at]
		if p == nil {
			continue
		}
		c.void(p)
		p.gone = true
		delete(c.parts, at)
		t := p.topic
		for i, other := range t.parts {
			if other == p {
				t.parts = append(t.parts[:i:i], t.parts[i+1:]...)
				break
			}
		}
		if len(t.parts) == 0 {
			delete(c.topics, at.Topic)
			if t.cancel != nil {
				cancels = append(cancels, t.cancel)
			}
		}
	}
	for i := 0; i < len(c.given); i++ {
		if c.given[i].gone {
			c.given = append(c.given[:i:i], c.given[i+1:]...)
			i--
		}
	}
	c.touchAll() // the others' share of the buffer has grown
	c.news.ring()
	return cancels
}

// void drops what was fetched of a part and not given out. mu is held.
func (c *Consumer) void(p *part) {
	p.life++
	c.buffered -= p.buffered
	p.answers, p.buffered, p.err = nil, 0, nil
	c.fed()
}

// seek moves a part. mu is held.
func (c *Consumer) seek(p *part, to Start) {
	c.void(p)
	p.cur.Seek(to.place())
	c.touch(p)
	c.news.ring()
}

// touch has the fetcher look at a part. mu is held.
func (c *Consumer) touch(p *part) {
	if !p.dirty {
		p.dirty = true
		c.dirty = append(c.dirty, p)
	}
	c.wakeFetcher.set()
}

func (c *Consumer) touchAll() {
	for _, p := range c.parts {
		c.touch(p)
	}
}

// fed has everybody who waited for room in the buffer look again. mu is held.
func (c *Consumer) fed() {
	if c.starved && c.buffered < c.cfg.BufferBytes {
		c.starved = false
		c.touchAll()
	}
}

// answerBytes is how much a fetch asks for, and share how much a part may have in the
// buffer. mu is held.
func (c *Consumer) answerBytes() (answer, share int) {
	share = min(c.cfg.BufferBytes/max(len(c.parts), 1), partMax)
	return min(max(share/2, answerMin), answerMax), share
}

// room reports whether a part may fetch. mu is held.
func (c *Consumer) room(p *part) bool {
	answer, share := c.answerBytes()
	if p.buffered > 0 && p.buffered+answer > share {
		p.starved = true
		return false
	}
	if c.buffered >= c.cfg.BufferBytes {
		c.starved = true
		return false
	}
	return true
}

// idle reports that nothing of the part is fetched or given out. mu is held.
func (p *part) idle() bool { return p.gone || p.revoking || p.paused }

// enqueue has next look at a part, if it has something. mu is held.
func (c *Consumer) enqueue(p *part) {
	if p.queued || p.busy || !p.active || p.idle() || len(p.answers) == 0 && p.err == nil {
		return
	}
	p.queued = true
	c.queue = append(c.queue, p)
	c.ready.ring()
}

// dequeue returns a part that has something, or nil. mu is held.
func (c *Consumer) dequeue() *part {
	for len(c.queue) > 0 {
		p := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		p.queued = false
		if p.active && !p.idle() && (len(p.answers) > 0 || p.err != nil) {
			return p
		}
	}
	return nil
}

// pause stops fetching of partitions and hands out nothing of them until resume; unknown
// ones are ignored. A pause ends with the assignment.
func (c *Consumer) pause(ps ...Partition) { c.setPaused(ps, true) }

// resume ends a pause.
func (c *Consumer) resume(ps ...Partition) { c.setPaused(ps, false) }

func (c *Consumer) setPaused(ps []Partition, paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range ps {
		if p := c.parts[at]; p != nil {
			p.paused = paused
			c.touch(p)
			c.enqueue(p)
		}
	}
}
