// Package sessions decides about fetch sessions (KIP-227): what a node remembers of a
// consumer's Fetch requests, so that a request names only the partitions that changed
// and an answer holds only those that have something new.
//
// A Cache decides which sessions are kept, and which make way for others. A Session
// decides which requests belong to it, which of its partitions must be looked at, and
// which an answer tells of. Both are machines: no clock, no randomness, no locks; times
// and ids come in as arguments, and each belongs to one caller at a time. They know
// nothing of each other: a Cache keeps any value, and a Session is reached without the
// Cache once it was found.
//
// Only the Kafka listener uses it (node/kafka/fetch_sessions.go).
package sessions

import "time"

// Limits bound a Cache. Zero sessions or partitions mean that there are none.
type Limits struct {
	Sessions   int // kept at a time (max.incremental.fetch.session.cache.slots)
	Partitions int // of one session
	Total      int // partitions of all sessions together
	// Stale is how long a session was not used when it makes way for any other, and
	// how long one is safe from a larger one. Kafka's is 120 s.
	Stale time.Duration
	// Idle is how long a session was not used when it ends although nobody needs its
	// place.
	Idle time.Duration
}

// Cache decides which sessions are kept. It has one owner.
type Cache[S any] struct {
	limits Limits
	byID   map[int32]*slot[S]
	// The slots, in a ring in the order of their last use: ring.newer is the one that
	// was not used for longest.
	ring  slot[S]
	total int // partitions of all
}

// slot is the place of one session.
type slot[S any] struct {
	id            int32
	session       S
	partitions    int
	created, used time.Time
	older, newer  *slot[S]
}

// NewCache returns an empty cache.
func NewCache[S any](l Limits) *Cache[S] {
	c := &Cache[S]{limits: l, byID: map[int32]*slot[S]{}}
	c.ring.older, c.ring.newer = &c.ring, &c.ring
	return c
}

// Len returns how many sessions there are, and how many partitions they have together.
func (c *Cache[S]) Len() (sessions, partitions int) { return len(c.byID), c.total }

// Find returns the session with an id.
func (c *Cache[S]) Find(id int32) (s S, ok bool) {
	if at := c.byID[id]; at != nil {
		return at.session, true
	}
	return s, false
}

// Room makes room for a session of so many partitions. It reports whether there is, and
// returns the sessions that it removed.
//
// As in Kafka, a session makes way when it was not used for Limits.Stale, and otherwise
// the one with the fewest partitions, if those are fewer than the new one's and it was in
// use for longer than Limits.Stale. So one that is asked for over and over cannot push
// others out that serve more.
func (c *Cache[S]) Room(now time.Time, partitions int) (evicted []S, ok bool) {
	if partitions > min(c.limits.Partitions, c.limits.Total) || c.limits.Sessions <= 0 {
		return nil, false
	}
	for len(c.byID) >= c.limits.Sessions || c.total+partitions > c.limits.Total {
		at := c.lesser(now, partitions)
		if at == nil {
			return evicted, false
		}
		c.remove(at)
		evicted = append(evicted, at.session)
	}
	return evicted, true
}

// lesser returns the slot that a session of so many partitions may have, or nil.
func (c *Cache[S]) lesser(now time.Time, partitions int) (least *slot[S]) {
	oldest := c.ring.newer
	if oldest != &c.ring && now.Sub(oldest.used) > c.limits.Stale {
		return oldest
	}
	for at := oldest; at != &c.ring; at = at.newer {
		if at.used.Sub(at.created) > c.limits.Stale && at.partitions < partitions {
			least, partitions = at, at.partitions
		}
	}
	return least
}

// Add keeps a session under an id that Find does not know, after Room said that there is
// room.
func (c *Cache[S]) Add(id int32, s S, now time.Time, partitions int) {
	at := &slot[S]{id: id, session: s, partitions: partitions, created: now, used: now}
	c.byID[id] = at
	c.total += partitions
	c.push(at)
}

// Used says that a session was used, and how many partitions it has now. It reports false
// if it is not kept, or cannot be because it has become too large; it is removed then.
func (c *Cache[S]) Used(id int32, now time.Time, partitions int) bool {
	at := c.byID[id]
	if at == nil {
		return false
	}
	if partitions > c.limits.Partitions || c.total-at.partitions+partitions > c.limits.Total {
		c.remove(at)
		return false
	}
	c.total += partitions - at.partitions
	at.partitions, at.used = partitions, now
	c.unlink(at)
	c.push(at)
	return true
}

// Remove removes a session, and returns it if there was one.
func (c *Cache[S]) Remove(id int32) (s S, ok bool) {
	at := c.byID[id]
	if at == nil {
		return s, false
	}
	c.remove(at)
	return at.session, true
}

// Expire removes the sessions that were not used for Limits.Idle. After the time that it
// returns the next one may be due; 0: there is none.
func (c *Cache[S]) Expire(now time.Time) (gone []S, next time.Duration) {
	for {
		oldest := c.ring.newer
		if oldest == &c.ring {
			return gone, 0
		}
		if left := oldest.used.Add(c.limits.Idle).Sub(now); left > 0 {
			return gone, left
		}
		c.remove(oldest)
		gone = append(gone, oldest.session)
	}
}

// Clear removes all sessions.
func (c *Cache[S]) Clear() (gone []S) {
	for oldest := c.ring.newer; oldest != &c.ring; oldest = c.ring.newer {
		c.remove(oldest)
		gone = append(gone, oldest.session)
	}
	return gone
}

func (c *Cache[S]) remove(at *slot[S]) {
	delete(c.byID, at.id)
	c.total -= at.partitions
	c.unlink(at)
}

func (c *Cache[S]) push(at *slot[S]) {
	at.older, at.newer = c.ring.older, &c.ring
	at.older.newer, at.newer.older = at, at
}

func (c *Cache[S]) unlink(at *slot[S]) { at.older.newer, at.newer.older = at.newer, at.older }
