package kafka

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/node/kafka/sessions"
)

// Bounds of fetch sessions. A partition of one takes about 300 bytes.
const (
	sessionPartitionsMax  = 50_000  // of one session
	sessionsPartitionsMax = 250_000 // of all sessions
	sessionStale          = 2 * time.Minute
	sessionIdle           = 10 * time.Minute
)

// fetchSessions are the fetch sessions of a server. Sessions belong to no connection:
// a client may go on with one on another connection.
type fetchSessions struct {
	metrics Metrics

	mu     sync.Mutex // taken with or without a fetchSession.mu, which is never taken under it
	cache  *sessions.Cache[*fetchSession]
	timer  *time.Timer // for the next that is idle; nil while there are none
	closed bool
}

// fetchSession is one fetch session. What its partitions wait for outlasts a request: a
// request looks only at those that somebody has called for, and at those that the client
// said something about.
type fetchSession struct {
	id    int32
	ended atomic.Bool // it is in the cache no more

	mu    sync.Mutex // to be unlocked by unlock
	state *sessions.Session[sessionPart]
	level data.Isolation // that the partitions wait at
	user  *fetchCall     // the request that is parked; nil: none
	spare []*cachedPart  // empty, for news

	newsMu sync.Mutex // nothing else is locked under it
	news   []*cachedPart
	more   chan struct{} // of user
}

// cachedPart is one partition of a session.
type cachedPart = sessions.Part[sessionPart]

// sessionPart is what the listener keeps with a partition of a session.
type sessionPart struct {
	from   Partition // that notify waits for; nil: none yet
	notify func()
	cancel func()
	awaits bool // under newsMu: notify was not called yet

	fresh bool  // there is news that the request under way has not looked at
	in    int32 // epoch of the last request that has it in its parts
}

func newFetchSessions(slots int, m Metrics) *fetchSessions {
	return &fetchSessions{metrics: m, cache: sessions.NewCache[*fetchSession](sessions.Limits{
		Sessions: slots, Partitions: sessionPartitionsMax, Total: sessionsPartitionsMax,
		Stale: sessionStale, Idle: sessionIdle,
	})}
}

// open makes a session for so many partitions, without any yet. It is locked. nil: there
// is no room for one.
func (fs *fetchSessions) open(partitions int, ids bool) *fetchSession {
	now := time.Now()
	fs.mu.Lock()
	var s *fetchSession
	evicted, ok := fs.cache.Room(now, partitions)
	if ok && !fs.closed {
		s = &fetchSession{id: fs.freeIDLocked(),
			state: sessions.NewSession[sessionPart](ids, sessionPartitionsMax)}
		s.mu.Lock() // nobody else has it yet
		fs.cache.Add(s.id, s, now, partitions)
		if fs.timer == nil {
			fs.timer = time.AfterFunc(sessionIdle, func() { fs.expireAt(time.Now()) })
		}
	}
	fs.mu.Unlock()
	for _, e := range evicted {
		fs.metrics.FetchSessionEvicted()
		e.end()
	}
	return s
}

// freeIDLocked returns an id that no session has and nobody can guess from others.
func (fs *fetchSessions) freeIDLocked() int32 {
	for {
		id := rand.Int32N(math.MaxInt32-1) + 1
		if _, taken := fs.cache.Find(id); !taken {
			return id
		}
	}
}

func (fs *fetchSessions) find(id int32) *fetchSession {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	s, _ := fs.cache.Find(id)
	return s
}

// used says that a session was used and has so many partitions now. It reports false if
// the session ended.
func (fs *fetchSessions) used(s *fetchSession, partitions int) bool {
	now := time.Now()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if s.ended.Load() {
		return false
	}
	if !fs.cache.Used(s.id, now, partitions) {
		s.ended.Store(true) // the caller has it locked, and unlocks it
		return false
	}
	return true
}

// remove ends the session with an id, if there is one.
func (fs *fetchSessions) remove(id int32) {
	fs.mu.Lock()
	s, ok := fs.cache.Remove(id)
	fs.mu.Unlock()
	if ok {
		s.end()
	}
}

// expireAt ends the sessions that are idle.
func (fs *fetchSessions) expireAt(now time.Time) {
	fs.mu.Lock()
	gone, next := fs.cache.Expire(now)
	switch {
	case fs.closed || fs.timer == nil:
	case next > 0:
		fs.timer.Reset(next)
	default:
		fs.timer.Stop()
		fs.timer = nil
	}
	fs.mu.Unlock()
	for _, s := range gone {
		s.end()
	}
}

// close ends all sessions, and lets none begin.
func (fs *fetchSessions) close() {
	fs.mu.Lock()
	fs.closed = true
	if fs.timer != nil {
		fs.timer.Stop()
	}
	gone := fs.cache.Clear()
	fs.mu.Unlock()
	for _, s := range gone {
		s.end()
	}
}

func (fs *fetchSessions) stats() (n, partitions int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.cache.Len()
}

// end ends a session that is not in the cache any more. A request that is parked is
// answered as it stands: nobody calls for its partitions any more.
func (s *fetchSession) end() {
	s.ended.Store(true)
	s.wakeUser()
	s.tidy()
}

// unlock gives the session back.
func (s *fetchSession) unlock() {
	s.mu.Unlock()
	s.tidy()
}

// tidy makes the partitions of a session that ended wait for nothing. If somebody has it
// locked he does so when he unlocks it: whoever ends a session must not wait for a disk
// that its owner reads.
func (s *fetchSession) tidy() {
	if !s.ended.Load() || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	s.state.Each(stopWaiting)
}

func stopWaiting(p *cachedPart) {
	if p.Own.cancel != nil {
		p.Own.cancel()
		p.Own.cancel, p.Own.from = nil, nil
	}
}

// attach makes a request the one that news wakes, also that which came since it heard.
func (s *fetchSession) attach(f *fetchCall) {
	s.user = f
	s.newsMu.Lock()
	defer s.newsMu.Unlock()
	s.more = f.parked.more
	if len(s.news) > 0 || s.ended.Load() {
		signal(s.more)
	}
}

// wakeUser makes the request that is parked look again.
func (s *fetchSession) wakeUser() {
	s.newsMu.Lock()
	more := s.more
	s.newsMu.Unlock()
	if more != nil {
		signal(more)
	}
}

// notified takes news of a partition. Any goroutine calls it.
func (s *fetchSession) notified(p *cachedPart) {
	s.newsMu.Lock()
	p.Own.awaits = false
	s.news = append(s.news, p)
	more := s.more
	s.newsMu.Unlock()
	if more != nil {
		signal(more)
	}
}

// hear returns the partitions with news, some perhaps twice. The slice is good until the
// next call.
func (s *fetchSession) hear() []*cachedPart {
	s.newsMu.Lock()
	defer s.newsMu.Unlock()
	heard := s.news
	s.news, s.spare = s.spare[:0], heard
	return heard
}

// await sees to it that notified is called when a partition has more than what was read
// from it. It reports whether that is so, and what was read still holds.
func (s *fetchSession) await(p *fetchPart) bool {
	if p.from == nil {
		return false
	}
	c := p.cached
	s.newsMu.Lock()
	standing := c.Own.awaits && c.Own.from == p.from
	c.Own.awaits = true
	s.newsMu.Unlock()
	if !standing {
		stopWaiting(c)
		if c.Own.notify == nil {
			c.Own.notify = func() { s.notified(c) }
		}
		c.Own.from = p.from
		c.Own.cancel = p.from.Await(p.read.Isolation, p.visible(), c.Own.notify)
	}
	// What else a reader is told of may have changed between reading and waiting.
	now, epoch := p.from.Offsets(), p.read.CurrentEpoch
	return now.LogStart == p.result.LogStart && (epoch < 0 || epoch == now.Epoch)
}

// look wakes the partitions that have to be looked at although nobody called.
func (s *fetchSession) look(level data.Isolation) {
	switch {
	case level != s.level:
		s.level = level
		s.state.Each(func(p *cachedPart) {
			stopWaiting(p)
			s.newsMu.Lock()
			p.Own.awaits = false
			s.newsMu.Unlock()
			s.state.Wake(p)
		})
	case level == data.ReadCommitted:
		// They are called for when the last stable offset moves, and told of the high
		// watermark.
		s.state.Each(func(p *cachedPart) {
			if p.Own.from != nil && p.Own.from.Offsets().HighWatermark != p.Told() {
				s.state.Wake(p)
			}
		})
	}
}
