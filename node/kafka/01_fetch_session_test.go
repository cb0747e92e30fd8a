package kafka

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/testkit"
)

// goOn makes a request out of req that goes on with a session, without partitions.
func goOn(req *kmsg.FetchRequest, id, epoch int32) *kmsg.FetchRequest {
	next := *req
	next.SessionID, next.SessionEpoch, next.Topics = id, epoch, nil
	return &next
}

// openSession sends a full request that asks for a session and returns the request, the
// answer, and the connection.
func openSession(t *testing.T, s *testServer, f *fakeCluster, version int16, partitions ...int32,
) (*kmsg.FetchRequest, *kmsg.FetchResponse, *wire) {
	t.Helper()
	w := dial(t, s)
	req := fetchFrom(version, 0, partitions...)
	req.SessionEpoch = 0
	req.Topics[0].TopicID = f.Image().Topic("t").ID
	resp := request[*kmsg.FetchResponse](w, req)
	if resp.ErrorCode != 0 || resp.SessionID <= 0 {
		t.Fatalf("no session: %+v", resp)
	}
	return req, resp, w
}

// told lists what an answer tells of, as "partition:error:high watermark:bytes".
func told(resp *kmsg.FetchResponse) (lines []string) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			lines = append(lines, fmt.Sprintf("%d:%d:%d:%d", p.Partition, p.ErrorCode, p.HighWatermark,
				len(p.RecordBatches)))
		}
	}
	return lines
}

func TestAFetchSessionTellsOnlyWhatIsNew(t *testing.T) {
	for _, version := range []int16{7, 11, 12, 13, 18} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			f := withTopic(3)
			s := serveFake(t, f, Config{})
			req, first, w := openSession(t, s, f, version, 2, 0, 1)
			equal(t, "the full answer", told(first), []string{"2:0:0:0", "0:0:0:0", "1:0:0:0"})

			next := goOn(req, first.SessionID, 1)
			resp := request[*kmsg.FetchResponse](w, next)
			equal(t, "session", resp.SessionID, first.SessionID)
			equal(t, "an answer without news", told(resp), []string(nil))

			size := len(f.store(t, 1, batchOf(t, "a")))
			next = goOn(req, first.SessionID, 2)
			resp = request[*kmsg.FetchResponse](w, next)
			equal(t, "news of 1", told(resp), []string{fmt.Sprintf("1:0:1:%d", size)})
			if version >= 13 && resp.Topics[0].TopicID != req.Topics[0].TopicID ||
				version < 13 && resp.Topics[0].Topic != "t" {
				t.Errorf("%+v", resp.Topics[0])
			}

			next = goOn(req, first.SessionID, 3)
			resp = request[*kmsg.FetchResponse](w, next)
			equal(t, "records that the client did not take", told(resp),
				[]string{fmt.Sprintf("1:0:1:%d", size)})

			next = goOn(req, first.SessionID, 4)
			next.Topics = fetchFrom(version, 0, 1).Topics
			next.Topics[0].TopicID = req.Topics[0].TopicID
			next.Topics[0].Partitions[0].FetchOffset = 1
			equal(t, "after it took them", told(request[*kmsg.FetchResponse](w, next)), []string(nil))
		})
	}
}

func TestAFetchSessionLooksAtNothingWithoutNews(t *testing.T) {
	f := withTopic(3)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 12, 0, 1, 2)
	request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1))
	before := f.replica("t", 0).reads.Load() + f.replica("t", 2).reads.Load()
	for i := range int32(5) {
		next := goOn(req, first.SessionID, 2+i)
		next.MaxWaitMillis = 60_000
		if i > 0 { // it took what came
			next.Topics = fetchFrom(12, 0, 1).Topics
			next.Topics[0].Partitions[0].FetchOffset = int64(i)
		}
		w.send(next)
		testkit.Eventually(t, "it waits for all", func() bool {
			return f.replica("t", 0).waiting()+f.replica("t", 1).waiting()+f.replica("t", 2).waiting() == 3
		})
		size := len(f.store(t, 1, batchOf(t, "a")))
		equal(t, "news", told(receive[*kmsg.FetchResponse](w, i+2, next)),
			[]string{fmt.Sprintf("1:0:%d:%d", i+1, size)})
	}
	after := f.replica("t", 0).reads.Load() + f.replica("t", 2).reads.Load()
	equal(t, "reads of partitions without news", after-before, int64(0))
}

func TestAFetchSessionHearsNewsThatComesBeforeItIsParked(t *testing.T) {
	f := withTopic(2)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 12, 0, 1)
	request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1))
	once := sync.OnceFunc(func() { f.store(t, 1, batchOf(t, "a")) })
	f.replica("t", 0).edit(func(p *fakePartition) { p.onRead = once })
	next := goOn(req, first.SessionID, 2)
	next.MaxWaitMillis = 60_000
	next.Topics = fetchFrom(12, 0, 0).Topics
	if got := told(request[*kmsg.FetchResponse](w, next)); len(got) != 1 || got[0][:2] != "1:" {
		t.Errorf("%v", got)
	}
}

func TestFetchSessionErrors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		edit  func(*kmsg.FetchRequest)
		code  int16
		alive bool // the session goes on
	}{
		{"a session that there is not", func(r *kmsg.FetchRequest) { r.SessionID ^= 1 }, 70, true},
		{"no session", func(r *kmsg.FetchRequest) { r.SessionID = 0 }, 70, true},
		{"an epoch that is past", func(r *kmsg.FetchRequest) { r.SessionEpoch = 7 }, 71, true},
		{"an epoch that cannot be", func(r *kmsg.FetchRequest) { r.SessionEpoch = -2 }, 71, true},
		{"ids in a session of names", func(r *kmsg.FetchRequest) { r.Version = 13 }, 106, true},
		{"a full request closes it", func(r *kmsg.FetchRequest) { r.SessionEpoch = -1 }, 0, false},
		{"a full request replaces it", func(r *kmsg.FetchRequest) { r.SessionEpoch = 0 }, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := withTopic(1)
			s := serveFake(t, f, Config{})
			req, first, w := openSession(t, s, f, 12, 0)
			bad := goOn(req, first.SessionID, 1)
			tt.edit(bad)
			resp := request[*kmsg.FetchResponse](w, bad)
			if resp.ErrorCode != tt.code || len(resp.Topics) != 0 {
				t.Errorf("%+v, want code %d", resp, tt.code)
			}
			if tt.code != 0 && resp.SessionID != 0 {
				t.Errorf("an answer of no session has the id %d", resp.SessionID)
			}
			resp = request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1))
			if alive := resp.ErrorCode == 0; alive != tt.alive {
				t.Errorf("%+v", resp)
			}
		})
	}
}

func TestAFetchSessionForgets(t *testing.T) {
	f := withTopic(2)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 13, 0, 1)
	forget := func(partition int32) []kmsg.FetchRequestForgottenTopic {
		return []kmsg.FetchRequestForgottenTopic{{TopicID: req.Topics[0].TopicID,
			Partitions: []int32{partition}}}
	}
	request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1))
	next := goOn(req, first.SessionID, 2)
	next.ForgottenTopics = forget(0)
	request[*kmsg.FetchResponse](w, next)
	equal(t, "waiting", f.replica("t", 0).waiting()+2*f.replica("t", 1).waiting(), 2)
	f.store(t, 0, batchOf(t, "a"))
	size := len(f.store(t, 1, batchOf(t, "b")))
	resp := request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 3))
	equal(t, "what is left", told(resp), []string{fmt.Sprintf("1:0:1:%d", size)})

	next = goOn(req, first.SessionID, 4)
	next.ForgottenTopics = forget(1)
	resp = request[*kmsg.FetchResponse](w, next)
	if resp.SessionID != 0 || resp.ErrorCode != 0 || len(resp.Topics) != 0 {
		t.Errorf("a session without partitions: %+v", resp)
	}
	if n := s.Stats().FetchSessions; n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestAFetchSessionTellsOfATopicThatComesLater(t *testing.T) {
	for _, version := range []int16{12, 13} {
		f := withTopic(1)
		s := serveFake(t, f, Config{})
		req, first, w := openSession(t, s, f, version, 0)
		id := f.Image().Topic("t").ID
		request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1))

		next := goOn(req, first.SessionID, 2)
		next.Topics = fetchFrom(version, 0, 5).Topics // there is no such partition yet
		next.Topics[0].TopicID = id
		equal(t, "news", told(request[*kmsg.FetchResponse](w, next)), []string{"5:3:-1:0"})
		next = goOn(req, first.SessionID, 3)
		equal(t, "the error", told(request[*kmsg.FetchResponse](w, next)), []string{"5:3:-1:0"})
		f.mu.Lock()
		f.growLocked(f.image.Topic("t"), 6)
		f.mu.Unlock()
		next = goOn(req, first.SessionID, 4)
		equal(t, "its end", told(request[*kmsg.FetchResponse](w, next)), []string{"5:0:0:0"})
		next = goOn(req, first.SessionID, 5)
		equal(t, "no news", told(request[*kmsg.FetchResponse](w, next)), []string(nil))
	}
}

func TestAFetchSessionHearsThatALeaderIsElsewhere(t *testing.T) {
	f := withTopic(2)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 12, 0, 1)
	request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1))
	next := goOn(req, first.SessionID, 2)
	next.MaxWaitMillis = 60_000
	w.send(next)
	testkit.Eventually(t, "it waits", func() bool { return f.replica("t", 1).waiting() == 1 })
	f.replica("t", 1).edit(func(p *fakePartition) { p.err = messages.ErrNotLeader })
	equal(t, "the answer", told(receive[*kmsg.FetchResponse](w, 2, next)), []string{"1:6:-1:0"})
	f.replica("t", 1).edit(func(p *fakePartition) { p.err = nil })
	equal(t, "later", told(request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 3))),
		[]string{"1:0:0:0"})
}

func TestAFetchSessionServesInTurn(t *testing.T) {
	f := withTopic(3)
	for i := range int32(3) {
		f.store(t, i, batchOf(t, "a"))
	}
	s := serveFake(t, f, Config{})
	w := dial(t, s)
	req := fetchFrom(12, 0, 0, 1, 2)
	req.SessionEpoch, req.MaxBytes = 0, 1 // one batch to an answer
	first := request[*kmsg.FetchResponse](w, req)
	var served []int32
	for epoch := range int32(6) {
		for _, p := range request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1+epoch)).
			Topics[0].Partitions {
			if len(p.RecordBatches) > 0 {
				served = append(served, p.Partition)
			}
		}
	}
	// The full answer gave records of 0, and told of all, in order.
	equal(t, "the order", served, []int32{0, 1, 2, 0, 1, 2})
}

func TestAFetchSessionSeesTheHighWatermarkOfOpenTransactions(t *testing.T) {
	f := withTopic(1)
	f.replica("t", 0).edit(func(p *fakePartition) { p.stable = 0 })
	s := serveFake(t, f, Config{})
	w := dial(t, s)
	req := fetchFrom(12, 0, 0)
	req.SessionEpoch, req.IsolationLevel = 0, 1
	first := request[*kmsg.FetchResponse](w, req)
	request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1))
	f.store(t, 0, batchOf(t, "a"))
	equal(t, "the answer", told(request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 2))),
		[]string{"0:0:1:0"})
	next := goOn(req, first.SessionID, 3)
	next.IsolationLevel = 0
	if got := told(request[*kmsg.FetchResponse](w, next)); len(got) != 1 {
		t.Errorf("a reader that now sees all is told %v", got)
	}
}

func TestARequestThatAnotherConnectionOvertakesIsToldSo(t *testing.T) {
	f := withTopic(1)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 12, 0)
	parked := goOn(req, first.SessionID, 1)
	parked.MaxWaitMillis = 60_000
	w.send(parked)
	testkit.Eventually(t, "it is parked", func() bool { return f.replica("t", 0).waiting() == 1 })
	later := goOn(req, first.SessionID, 2)
	equal(t, "the later one", told(request[*kmsg.FetchResponse](dial(t, s), later)), []string(nil))
	resp := receive[*kmsg.FetchResponse](w, 1, parked)
	if resp.ErrorCode != 71 || resp.SessionID != first.SessionID || len(resp.Topics) != 0 {
		t.Errorf("%+v", resp)
	}
}

func TestRequestsOfASessionBehindEachOtherAreServedInOrder(t *testing.T) {
	f := withTopic(1)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 12, 0)
	var reqs []kmsg.Request
	for epoch := range int32(4) {
		next := goOn(req, first.SessionID, 1+epoch)
		next.MaxWaitMillis = 60_000
		reqs = append(reqs, next)
	}
	w.send(reqs...)
	for i := range int32(3) {
		if resp := receive[*kmsg.FetchResponse](w, 1+i, req); resp.ErrorCode != 0 {
			t.Fatalf("%+v", resp)
		}
	}
	f.store(t, 0, batchOf(t, "a"))
	if resp := receive[*kmsg.FetchResponse](w, 4, req); len(resp.Topics) != 1 {
		t.Fatalf("%+v", resp)
	}
}

func TestFetchSessionsAreBounded(t *testing.T) {
	f := withTopic(2)
	s := serveFake(t, f, Config{FetchSessions: 1})
	req, first, w := openSession(t, s, f, 12, 0)
	second := fetchFrom(12, 0, 0, 1)
	second.SessionEpoch = 0
	resp := request[*kmsg.FetchResponse](w, second)
	equal(t, "an answer without a session", told(resp), []string{"0:0:0:0", "1:0:0:0"})
	if resp.SessionID != 0 {
		t.Errorf("session %d", resp.SessionID)
	}
	request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1))
	if n := f.replica("t", 0).waiting(); n != 1 {
		t.Errorf("%d wait", n)
	}
	last := goOn(req, first.SessionID, -1)
	if resp := request[*kmsg.FetchResponse](w, last); resp.SessionID != 0 || resp.ErrorCode != 0 {
		t.Errorf("%+v", resp)
	}
	if n := f.replica("t", 0).waiting(); n != 0 {
		t.Errorf("%d wait for a session that is closed", n)
	}
	none := serveFake(t, f, Config{FetchSessions: -1})
	if resp := request[*kmsg.FetchResponse](dial(t, none), second); resp.SessionID != 0 {
		t.Errorf("session %d of none", resp.SessionID)
	}
}

func TestASessionThatEndsAnswersWhatIsParked(t *testing.T) {
	f := withTopic(1)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 12, 0)
	next := goOn(req, first.SessionID, 1)
	next.MaxWaitMillis = 60_000
	w.send(next)
	testkit.Eventually(t, "it is parked", func() bool { return f.replica("t", 0).waiting() == 1 })
	request[*kmsg.FetchResponse](dial(t, s), goOn(req, first.SessionID, -1))
	if resp := receive[*kmsg.FetchResponse](w, 1, next); resp.ErrorCode != 0 {
		t.Errorf("%+v", resp)
	}
	if n := f.replica("t", 0).waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestASessionThatEndsWhileItsRequestIsReadIsNotParked(t *testing.T) {
	f := withTopic(1)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 12, 0)
	f.replica("t", 0).edit(func(p *fakePartition) {
		p.onRead = func() { s.sessions.remove(first.SessionID) }
	})
	next := goOn(req, first.SessionID, 1)
	next.MaxWaitMillis = 60_000
	if resp := request[*kmsg.FetchResponse](w, next); resp.ErrorCode != 0 {
		t.Errorf("%+v", resp)
	}
	equal(t, "waiting", f.replica("t", 0).waiting(), 0)
}

func TestIdleFetchSessionsEnd(t *testing.T) {
	f := withTopic(1)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 12, 0)
	request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 1))
	fs := s.sessions
	fs.expireAt(time.Now())
	if n, parts := fs.stats(); n != 1 || parts != 1 {
		t.Fatalf("%d sessions of %d partitions", n, parts)
	}
	fs.expireAt(time.Now().Add(sessionIdle))
	if n, _ := fs.stats(); n != 0 || f.replica("t", 0).waiting() != 0 {
		t.Errorf("%d sessions, %d wait", n, f.replica("t", 0).waiting())
	}
	resp := request[*kmsg.FetchResponse](w, goOn(req, first.SessionID, 2))
	equal(t, "code", resp.ErrorCode, int16(70))
}

func TestFetchSessionsWaitForManyBytes(t *testing.T) {
	f := withTopic(2)
	s := serveFake(t, f, Config{})
	req, first, w := openSession(t, s, f, 12, 0, 1)
	size := len(batchOf(t, "a"))
	next := goOn(req, first.SessionID, 1)
	next.MaxWaitMillis, next.MinBytes = 60_000, int32(3*size)
	w.send(next)
	for _, index := range []int32{1, 0, 1} {
		testkit.Eventually(t, "it waits for both", func() bool {
			return f.replica("t", 0).waiting() == 1 && f.replica("t", 1).waiting() == 1
		})
		f.store(t, index, batchOf(t, "a"))
	}
	equal(t, "the answer", told(receive[*kmsg.FetchResponse](w, 1, next)),
		[]string{fmt.Sprintf("0:0:1:%d", size), fmt.Sprintf("1:0:2:%d", 2*size)})
}

// One of many partitions has news, as for a consumer of a topic that little is written to.
func BenchmarkFetchOfManyPartitions(b *testing.B) {
	for _, n := range []int{12, 1000} {
		for _, session := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/session=%v", n, session), func(b *testing.B) {
				f := withTopic(n)
				f.store(b, 0, batchOf(b, "a"))
				all := make([]int32, n)
				for i := range all {
					all[i] = int32(i)
				}
				w := dial(b, serveFake(b, f, Config{}))
				_ = w.SetDeadline(time.Time{})
				req := fetchFrom(12, 0, all...)
				if session {
					req.SessionEpoch = 0
					resp := request[*kmsg.FetchResponse](w, req)
					req = goOn(req, resp.SessionID, 1)
					request[*kmsg.FetchResponse](w, req)
					req.Topics = fetchFrom(12, 0, 0).Topics
				}
				b.ReportAllocs()
				for b.Loop() {
					if session {
						req.SessionEpoch++
					}
					w.send(req)
					w.response()
				}
			})
		}
	}
}
