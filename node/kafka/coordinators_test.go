package kafka

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/testkit"
)

// coordinated are requests of every API that a group or a transactional id
// answers, about topic "t", "g" and "x".
func coordinated() []kmsg.Request {
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{"g"}
	describe848 := kmsg.NewPtrConsumerGroupDescribeRequest()
	describe848.Groups = []string{"g"}
	remove := kmsg.NewPtrDeleteGroupsRequest()
	remove.Groups = []string{"g"}
	describeTxn := kmsg.NewPtrDescribeTransactionsRequest()
	describeTxn.TransactionalIDs = []string{"x"}
	return []kmsg.Request{
		commitRequest("g"), fetchOffsetsRequest("g"), joinRequest("g"), heartbeatRequest("g"),
		leaveRequest("g", "m"), syncRequest("g"), describe, remove, offsetDeleteRequest("g"),
		initRequest(ptr("x"), 7, 3), addPartitionsRequest("x", "t"), addOffsetsRequest("x", "g"),
		endTxnRequest("x", true), txnCommitRequest("x", "g"), describeTxn,
		consumerHeartbeatRequest("g"), describe848,
	}
}

// firstCode is the error of a response: the first field of that name, at the top
// or in what it lists.
func firstCode(v reflect.Value) (int16, bool) {
	if code := v.FieldByName("ErrorCode"); code.IsValid() && code.Int() != 0 {
		return int16(code.Int()), true
	}
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct {
			for j := range f.Len() {
				if code, ok := firstCode(f.Index(j)); ok {
					return code, true
				}
			}
		}
	}
	return codeNone, false
}

// codeOf asks and returns the error of the answer.
func codeOf(t *testing.T, f *fakeCluster, req kmsg.Request, version int16) int16 {
	t.Helper()
	resp := ask[kmsg.Response](t, f, req, version)
	code, _ := firstCode(reflect.ValueOf(resp).Elem())
	return code
}

// byVersion returns a rule: below the version it is old, then it is now.
func byVersion(since, old, now int16) func(int16) int16 {
	return func(v int16) int16 {
		if v < since {
			return old
		}
		return now
	}
}

func TestErrorsOfCoordinatorsBecomeWhatTheVersionKnows(t *testing.T) {
	heartbeat, sync, offsetCommit, txnCommit := int16(12), int16(14), int16(8), int16(28)
	initTxn, add, addOffsets, end := int16(22), int16(24), int16(25), int16(26)
	for _, tt := range []struct {
		err  error
		want int16
		but  map[int16]func(int16) int16 // by key
	}{
		{messages.ErrUnavailable, 15, nil},
		{messages.ErrNotCoordinator, 16, nil},
		{messages.ErrNotLeader, 16, nil},
		{messages.ErrNotEnoughReplicas, 15, nil},
		{messages.ErrRequestTimedOut, 15, nil},
		{context.DeadlineExceeded, 15, nil},
		{messages.ErrStorage, 16, nil},
		{errors.New("?"), -1, nil},
		{messages.ErrCoordinatorLoading, 14, map[int16]func(int16) int16{
			heartbeat: byVersion(0, 0, 0), sync: byVersion(0, 27, 27), txnCommit: byVersion(2, 15, 14),
		}},
		{messages.ErrOverloaded, 14, map[int16]func(int16) int16{
			heartbeat: byVersion(0, 0, 0), sync: byVersion(0, 27, 27), txnCommit: byVersion(2, 15, 14),
		}},
		{group.ErrIllegalGeneration, 22, nil},
		{group.ErrUnknownMember, 25, nil},
		{group.ErrFencedInstance, 82, nil},
		{group.ErrStaleMemberEpoch, 113, map[int16]func(int16) int16{
			offsetCommit: byVersion(9, 35, 113), txnCommit: byVersion(0, 22, 22),
		}},
		{group.ErrGroupNotFound, 69, map[int16]func(int16) int16{
			offsetCommit: byVersion(9, 22, 69), txnCommit: byVersion(0, 22, 22),
			15: byVersion(6, 0, 69),
		}},
		{txn.ErrProducerFenced, 90, map[int16]func(int16) int16{
			initTxn: byVersion(4, 47, 90), add: byVersion(2, 47, 90), addOffsets: byVersion(2, 47, 90),
			end: byVersion(2, 47, 90), txnCommit: byVersion(3, 47, 90),
		}},
		{messages.ErrInvalidProducerEpoch, 47, nil},
		{txn.ErrAbortable, 120, map[int16]func(int16) int16{
			initTxn: byVersion(5, 48, 120), add: byVersion(5, 48, 120), addOffsets: byVersion(4, 48, 120),
			end: byVersion(4, 48, 120), txnCommit: byVersion(4, 48, 120),
		}},
		{txn.ErrConcurrent, 51, nil},
	} {
		t.Run(tt.err.Error(), func(t *testing.T) {
			f := newFakeCluster()
			f.addTopic("t", 1)
			f.coords.refuse(fmt.Errorf("wrapped: %w", tt.err))
			for _, req := range coordinated() {
				eachVersion(t, req.Key(), func(t *testing.T, v int16) {
					want := tt.want
					if rule := tt.but[req.Key()]; rule != nil {
						want = rule(v)
					}
					if req.Key() == txnCommit && v == 5 && (want == 15 || want == 16) {
						want = 14 // of the transaction's coordinator: the group's is this one
					}
					equal(t, kmsg.NameForKey(req.Key()), codeOf(t, f, req, v), want)
				})
			}
		})
	}
}

func TestAnEmptyNameReachesNoCoordinator(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	for _, req := range []kmsg.Request{
		commitRequest(""), fetchOffsetsRequest(""), joinRequest(""), heartbeatRequest(""),
		leaveRequest("", "m"), syncRequest(""), offsetDeleteRequest(""), addOffsetsRequest("x", ""),
		&kmsg.DescribeGroupsRequest{Groups: []string{""}},
		&kmsg.DeleteGroupsRequest{Groups: []string{""}},
		&kmsg.ConsumerGroupDescribeRequest{Groups: []string{""}},
	} {
		eachVersion(t, req.Key(), func(t *testing.T, v int16) {
			equal(t, kmsg.NameForKey(req.Key()), codeOf(t, f, req, v), codeInvalidGroupID)
		})
	}
	for _, req := range []kmsg.Request{
		initRequest(ptr(""), 7, 3), addPartitionsRequest("", "t"), addOffsetsRequest("", "g"),
		endTxnRequest("", true), txnCommitRequest("", "g"), consumerHeartbeatRequest(""),
		&kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{""}},
	} {
		eachVersion(t, req.Key(), func(t *testing.T, v int16) {
			equal(t, kmsg.NameForKey(req.Key()), codeOf(t, f, req, v), codeInvalidRequest)
		})
	}
	equal(t, "coordinators asked", f.coords.count(), 0)
}

func TestManyQuestionsAreAskedTogetherButNotTooMany(t *testing.T) {
	f := newFakeCluster()
	const gatherMax = 64 // as package door has it
	const n = 3*gatherMax + 5
	var waiting []*group.Describe
	script(f, func(_ string, r *group.Describe) {
		waiting = append(waiting, r) // all by the one goroutine that asks
		if len(waiting) == gatherMax || f.coords.count() == n {
			for _, w := range waiting {
				w.Reply(group.Description{Type: group.Classic, State: group.Empty})
			}
			waiting = nil
		}
	})
	req := kmsg.NewPtrDescribeGroupsRequest()
	for i := range n {
		req.Groups = append(req.Groups, fmt.Sprint("g", i))
	}
	resp := ask[*kmsg.DescribeGroupsResponse](t, f, req, 6)
	equal(t, "groups", len(resp.Groups), n)
	for i, g := range resp.Groups {
		equal(t, "group", g.Group, req.Groups[i])
		equal(t, "state", g.State, "Empty")
	}
}

func TestMembersThatWaitAreSentAwayWhenTheNodeStops(t *testing.T) {
	for _, req := range []kmsg.Request{joinRequest("g"), syncRequest("g")} {
		f := newFakeCluster()
		f.coords.answer = func(string, coord.Request) bool { return true } // never
		s := serveFake(t, f, Config{})
		c := dial(t, s)
		answered := make(chan kmsg.Response, 1)
		go func() { answered <- request[kmsg.Response](c, versioned(req, 5)) }()
		testkit.Eventually(t, "the group is asked", func() bool { return f.coords.count() == 1 })
		s.stop(t)
		select {
		case resp := <-answered:
			code, _ := firstCode(reflect.ValueOf(resp).Elem())
			equal(t, "code", code, codeCoordinatorNotAvailable)
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
		}
	}
}

func TestUUIDsAreRandomAndOfTheirKind(t *testing.T) {
	shape := regexp.MustCompile(
		`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	var all []string
	for range 100 {
		id := newUUID()
		if !shape.MatchString(id) || slices.Contains(all, id) {
			t.Fatalf("after %v comes %q", all, id)
		}
		all = append(all, id)
	}
}
