package kafka

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/node/kafka/sessions"
)

// ofSession reports whether a request names only what changed since the one before it.
func ofSession(req *kmsg.FetchRequest) bool {
	return req.SessionEpoch != sessions.InitialEpoch && req.SessionEpoch != sessions.FinalEpoch
}

// openSession begins a session with what the request asked for and is told, if there is
// room for one.
func (f *fetchCall) openSession() {
	s := f.conn.s.sessions.open(len(f.parts), f.version >= 13)
	if s == nil {
		return
	}
	defer s.unlock()
	s.level, f.sessionID = f.level, s.id
	part := 0
	for i := range f.topics {
		t := &f.topics[i]
		for ; part < t.end; part++ {
			p := &f.parts[part]
			c := s.state.Ask(sessions.Topic{ID: t.id, Name: t.name}, p.index, sessions.Asked{
				From: p.read.From, MaxBytes: int32(p.maxBytes),
				CurrentEpoch: p.read.CurrentEpoch, LastEpoch: p.read.LastEpoch})
			s.state.Told(c, p.seen())
		}
	}
}

// resume goes on with the session that the request names. It reports whether the answer
// should leave now. Without a session afterwards, and without a code, the client has
// forgotten all partitions: the session is over, and the request stands for itself.
func (f *fetchCall) resume(req *kmsg.FetchRequest) (enough bool) {
	s := f.conn.s.sessions.find(req.SessionID)
	if s == nil {
		f.code = codeFetchSessionIDNotFound
		return true
	}
	s.mu.Lock()
	defer s.unlock()
	f.awaitTurn(s, req.SessionEpoch)
	f.code = s.begin(req)
	switch size := s.state.Size(); {
	case f.code != codeNone:
		return true
	case size == 0:
		f.conn.s.sessions.remove(s.id)
		return false
	case size > sessionPartitionsMax || !f.conn.s.sessions.used(s, size):
		f.conn.s.sessions.remove(s.id)
		f.code = codeFetchSessionIDNotFound // the client has to do without
		return true
	}
	s.wakeUser() // a request under way on another connection has come too late
	f.session, f.sessionID, f.epoch = s, s.id, s.state.Epoch()
	f.collect()
	if f.readAll() || f.wait <= 0 {
		f.settle()
		return true
	}
	f.parked = &fetchPark{more: make(chan struct{}, 1)}
	s.attach(f)
	f.awaitMore()
	return false
}

// awaitTurn has the request before it in the session answered first if it is parked on
// the same connection: a client may send one behind the other, and is served one after the
// other.
func (f *fetchCall) awaitTurn(s *fetchSession, epoch int32) {
	before, c := s.user, f.conn
	if before == nil || before.conn != c || before.epoch != epoch || s.state.Epoch() != epoch {
		return
	}
	before.parked.left = make(chan struct{})
	s.unlock()
	c.stopParking()
	c.settle()
	select {
	case <-before.parked.left:
	case <-c.ctx.Done():
	}
	s.mu.Lock()
}

// begin takes a request into the session. It returns the code of the whole answer.
func (s *fetchSession) begin(req *kmsg.FetchRequest) int16 {
	if s.ended.Load() {
		return codeFetchSessionIDNotFound
	}
	ids := req.Version >= 13
	switch err := s.state.Begin(req.SessionEpoch, ids); {
	case errors.Is(err, sessions.ErrTopicIDs):
		return codeFetchSessionTopicIDError
	case err != nil:
		return codeInvalidFetchSessionEpoch
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		name := sessions.Topic{ID: t.TopicID, Name: t.Topic}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			s.state.Ask(name, p.Partition, sessions.Asked{
				From: messages.Offset(p.FetchOffset), MaxBytes: p.PartitionMaxBytes,
				CurrentEpoch: messages.LeaderEpoch(p.CurrentLeaderEpoch),
				LastEpoch:    messages.LeaderEpoch(p.LastFetchedEpoch)})
		}
	}
	for i := range req.ForgottenTopics {
		t := &req.ForgottenTopics[i]
		for _, index := range t.Partitions {
			if p := s.state.Forget(sessions.Topic{ID: t.TopicID, Name: t.Topic}, index); p != nil {
				stopWaiting(p)
			}
		}
	}
	return codeNone
}

// collect lays out the partitions of the session that have to be looked at.
func (f *fetchCall) collect() {
	s := f.session
	for _, c := range s.hear() {
		s.state.Wake(c)
	}
	s.look(f.level)
	due := s.state.Due()
	f.parts = make([]fetchPart, 0, len(due)+1) // for one with news while it is parked
	for _, c := range due {
		f.add(c)
	}
}

// add lays out one partition of the session.
func (f *fetchCall) add(c *cachedPart) {
	c.Own.in, c.Own.fresh = f.epoch, false
	topic := f.topic(c.Topic.Name, c.Topic.ID)
	p := f.part(topic, c.Index, c.Asked.MaxBytes, data.Read{
		From: c.Asked.From, Isolation: f.level,
		CurrentEpoch: c.Asked.CurrentEpoch, LastEpoch: c.Asked.LastEpoch})
	p.cached, p.topic = c, topic
	f.parts = append(f.parts, p)
}

// hear lays out the partitions with news, and marks them.
func (f *fetchCall) hear() {
	s, before := f.session, len(f.parts)
	for _, c := range s.hear() {
		s.state.Wake(c)
		if c.Gone() {
			continue
		}
		if c.Own.in != f.epoch {
			f.add(c)
		}
		c.Own.fresh = true
	}
	if len(f.parts) > before {
		slices.SortFunc(f.parts, func(a, b fetchPart) int {
			return cmp.Compare(a.cached.Turn(), b.cached.Turn())
		})
	}
}

// parkInSession is park for a request of a session.
func (f *fetchCall) parkInSession(hurry <-chan struct{}) {
	timer := time.NewTimer(f.wait)
	defer timer.Stop()
	for !f.again(f.awaitNews(timer, hurry)) {
		continue
	}
}

// again looks at the partitions with news, and reports whether the answer should leave.
func (f *fetchCall) again(over bool) (done bool) {
	s := f.session
	s.mu.Lock()
	defer s.unlock()
	if s.state.Epoch() != f.epoch {
		// Another request has come meanwhile, so the client does not wait for this one.
		f.release()
		f.parts, f.code = nil, codeInvalidFetchSessionEpoch
		f.leave()
		return true
	}
	over = over || s.ended.Load()
	f.hear()
	enough := false
	if f.minBytes <= 1 {
		enough = f.heard()
	} else if f.promising() || over {
		enough = f.readAll()
	}
	if !enough && !over {
		f.awaitMore()
		return false
	}
	f.settle()
	f.leave()
	return true
}

// leave says that the request is not parked any more.
func (f *fetchCall) leave() {
	s := f.session
	if f.parked.left != nil {
		close(f.parked.left)
	}
	if s.user != f {
		return
	}
	s.user = nil
	s.newsMu.Lock()
	s.more = nil
	s.newsMu.Unlock()
}

// awaitMore has the partitions that were looked at call when they have more.
func (f *fetchCall) awaitMore() {
	for i := range f.parts {
		f.session.await(&f.parts[i])
	}
}

// settle leaves in the answer what the client has to be told, topic by topic.
func (f *fetchCall) settle() {
	s := f.session
	kept := f.parts[:0]
	for i := range f.parts {
		p := &f.parts[i]
		seen := p.seen()
		seen.Quiet = !seen.Failed && !seen.Diverging && p.read.From >= p.visible() && s.await(p)
		if !s.state.Tell(p.cached, seen) {
			p.result.View.Release()
			continue
		}
		kept = append(kept, *p)
		t := p.cached.Topic
		if n := len(f.topics); n == 0 || f.topics[n-1].name != t.Name || f.topics[n-1].id != t.ID {
			f.topics = append(f.topics, fetchTopic{name: t.Name, id: t.ID, topic: p.topic})
		}
		f.topics[len(f.topics)-1].end = len(kept)
	}
	clear(f.parts[len(kept):])
	f.parts = kept
}

// seen is what the machine of the session has to know of what was read.
func (p *fetchPart) seen() sessions.Seen {
	return sessions.Seen{
		Records: p.result.View.Bytes > 0, Failed: p.code != codeNone,
		Diverging: p.result.Diverging != nil,
		High:      p.result.HighWatermark, Start: p.result.LogStart,
	}
}
