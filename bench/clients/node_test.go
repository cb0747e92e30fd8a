//go:build linux

package clients_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/bench/clients"
	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/node"
)

const fewRecords = 500

// newLoad starts a node in this process and makes a topic.
func newLoad(t *testing.T, s clients.Shape) *clients.Load {
	t.Helper()
	ctx := context.Background() // cleanups run when t.Context() has ended
	n, err := node.Start(ctx, node.Options{DataDir: t.TempDir(), Settings: map[string]string{
		"actor.listener": "127.0.0.1:0",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	l := &clients.Load{Shape: s, Topic: "load",
		Addrs: []string{n.KafkaAddr()}, Actor: n.ActorAddr()}
	client, err := kgo.NewClient(kgo.SeedBrokers(l.Addrs...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, int32(s.Partitions), 1, nil, l.Topic); err != nil {
		t.Fatal(err)
	}
	if err := l.Warm(ctx); err != nil {
		t.Fatal(err)
	}
	return l
}

func small() clients.Shape {
	return clients.Shape{Partitions: 3, RecordBytes: 100, BatchBytes: 1 << 10, AllAcks: true}
}

// check fails for an error, and for a result of other records than those.
func check(t *testing.T, r figures.Result, err error, records int64) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if r.Records != records || r.Bytes != records*100 || r.Took <= 0 {
		t.Errorf("%d records of %d bytes in %s; expected %d records of 100 bytes",
			r.Records, r.Bytes, r.Took, records)
	}
}

func TestWhatIsWrittenIsReadByOneByManyGroupsAndByTheSDK(t *testing.T) {
	l := newLoad(t, small())
	ctx := t.Context()
	r, err := l.Fill(ctx, fewRecords)
	check(t, r, err, fewRecords)
	if r.Requests == 0 || r.Requests > fewRecords {
		t.Errorf("%d requests for %d records", r.Requests, fewRecords)
	}
	r, err = l.Consume(ctx, fewRecords)
	check(t, r, err, fewRecords)
	r, err = l.FanOut(ctx, 2, fewRecords)
	check(t, r, err, 2*fewRecords)
	r, err = l.SDKConsume(ctx, fewRecords)
	check(t, r, err, fewRecords)
}

func TestTheSameRecordsAreWrittenWithEverySetting(t *testing.T) {
	s := small()
	s.AllAcks, s.LZ4, s.Keys, s.Linger = false, true, true, time.Millisecond
	l := newLoad(t, s)
	r, err := l.Fill(t.Context(), fewRecords)
	check(t, r, err, fewRecords)
	r, err = l.Consume(t.Context(), fewRecords)
	check(t, r, err, fewRecords)
}

func TestAGroupAtTheTailReadsAllThatIsWritten(t *testing.T) {
	l := newLoad(t, small())
	r, err := l.Mixed(t.Context(), 10*time.Millisecond)
	if err != nil || r.Records == 0 || r.Bytes != 100*r.Records {
		t.Errorf("%d records of %d bytes: %v", r.Records, r.Bytes, err)
	}
}

func TestEveryRecordAtARateHasALatency(t *testing.T) {
	p := clients.Pace{Rate: 5000, While: 100 * time.Millisecond, Skip: 10 * time.Millisecond}
	for name, run := range map[string]func(
		*clients.Load, context.Context, clients.Pace,
	) (figures.Result, error){
		"end to end":       (*clients.Load).EndToEnd,
		"acknowledgements": (*clients.Load).AckLatency,
	} {
		r, err := run(newLoad(t, small()), t.Context(), p)
		check(t, r, err, 500)
		if r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Max || r.Rate != p.Rate {
			t.Errorf("%s: p50 %s, p99 %s, max %s at %.0f/s", name, r.P50, r.P99, r.Max, r.Rate)
		}
	}
}
