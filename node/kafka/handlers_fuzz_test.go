package kafka

import (
	"context"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

// fuzzFake is a small cluster with something of everything.
func fuzzFake() *fakeCluster {
	f := withLogDirs()
	f.addNodes()
	f.addTopic("a", 3)
	f.addTopic("b", 1)
	f.addTopic("t", 1)
	f.coords.make("g", group.Classic).member = &group.Member{MemberID: "m"}
	f.coords.groups["g"].generation = 5
	f.coords.txns["x"] = &txn.Description{ID: "x", Producer: 7, Epoch: 3}
	f.set("auto.create.topics.enable", "true")
	return f
}

// fuzzCluster refuses topics as large as no controller would make them.
type fuzzCluster struct{ *fakeCluster }

func (c fuzzCluster) CreateTopics(ctx context.Context, topics []messages.CreateTopic,
	validateOnly bool,
) ([]messages.TopicResult, error) {
	for i := range topics {
		if topics[i].Partitions > 100 {
			return nil, messages.ErrInvalidPartitions
		}
	}
	return c.fakeCluster.CreateTopics(ctx, topics, validateOnly)
}

func (c fuzzCluster) CreatePartitions(ctx context.Context, topics []messages.CreatePartitions,
	validateOnly bool,
) ([]messages.TopicResult, error) {
	for i := range topics {
		if topics[i].Count > 100 {
			return nil, messages.ErrInvalidPartitions
		}
	}
	return c.fakeCluster.CreatePartitions(ctx, topics, validateOnly)
}

// Bounds of an answer: an answer about everything there is, and so many bytes
// for each byte of the request. CreateTopics sets the factor: a name of one
// byte is answered with all settings of the topic.
const (
	answerFixedMax  = 64 << 10
	answerFactorMax = 1 << 10
)

// FuzzHandlers sends whatever the guard lets through to the handlers. None may
// panic, and an answer may not be out of all proportion to its request.
func FuzzHandlers(f *testing.F) {
	add := func(req kmsg.Request) {
		rest := req.AppendTo(nil)
		if req.IsFlexible() {
			rest = append([]byte{0}, rest...) // the header's tags
		}
		which := slices.IndexFunc(apis, func(a api) bool { return a.key == req.Key() })
		f.Add(byte(which), byte(req.GetVersion()-apis[which].accepts), rest)
	}
	for i := range apis {
		for v := apis[i].accepts; v <= apis[i].max; v++ {
			req := kmsg.RequestForKey(apis[i].key)
			req.SetVersion(v)
			add(req)
		}
	}
	for _, seed := range fuzzSeeds() {
		add(seed)
	}
	f.Fuzz(func(t *testing.T, which, ver byte, rest []byte) {
		a := &apis[int(which)%len(apis)]
		version := a.accepts + int16(ver)%(a.max-a.accepts+1)
		if a.serve == nil {
			return
		}
		fake := fuzzFake()
		s := New(Config{}, fake, fuzzCluster{fake}, fake.coords, fake)
		body, _, err := s.shapes[a.key][version-a.accepts].check(rest)
		if err != nil {
			return
		}
		req := kmsg.RequestForKey(a.key)
		req.SetVersion(version)
		if err := req.ReadFrom(body); err != nil {
			t.Fatalf("the guard accepted what kmsg refuses: %v", err)
		}
		resp := a.serve(s, t.Context(), &call{req: req, version: version, conn: testConn})
		if resp == nil {
			t.Fatal("the handler closed the connection")
		}
		answer := resp.AppendTo(nil)
		if limit := answerFixedMax + answerFactorMax*len(rest); len(answer) > limit {
			t.Fatalf("%s v%d answers %d bytes with %d", a.name, version, len(rest), len(answer))
		}
		received := req.ResponseKind()
		received.SetVersion(version)
		if err := received.ReadFrom(answer); err != nil {
			t.Fatalf("the answer cannot be decoded: %v", err)
		}
	})
}

// fuzzSeeds are requests that reach deep into the handlers.
func fuzzSeeds() []kmsg.Request {
	seeds := []kmsg.Request{
		listOffsetsRequest("a", [2]int64{0, -1}, [2]int64{1, 5}),
		metadataRequest("a", "new"),
		createRequest(newTopic("c", 2, 1), assigned("d", 0, 1)),
		deleteRequest(6, "a", "gone"),
		deleteRecordsRequest("a", [2]int64{0, -1}),
		initRequest(nil, 5, 1),
		describeRequest(2, "a", "segment.bytes"),
		describeRequest(4, "1"),
		alterRequest(2, "a", [2]string{"segment.bytes", "1"}),
		growRequest("a", 5),
		pageRequest(2, "a", "b"),
	}
	seeds = append(seeds, coordinated()...)
	seeds = append(seeds, markersRequest(), producersRequest(0, 1), findRequest(1),
		&kmsg.ListTransactionsRequest{TransactionalIDPattern: ptr("a.*")})
	table := newAPITable()
	for _, req := range seeds {
		req.SetVersion(table.find(req.Key()).max)
	}
	return seeds
}
