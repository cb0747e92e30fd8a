package kafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestAGroupConsumerGoesOnWhereTheOneBeforeStopped(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 2)
	s := serveFake(t, f, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	producer := franz(t, s, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	produce := func(from, to int) {
		for i := from; i < to; i++ {
			must(t, producer.ProduceSync(ctx, &kgo.Record{Topic: "t", Partition: int32(i % 2),
				Value: fmt.Append(nil, i)}).FirstErr())
		}
	}
	// consume reads n records, commits and leaves.
	consume := func(n int) map[string]bool {
		cl := franz(t, s, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ClientID("reader"),
			kgo.DisableAutoCommit(), kgo.FetchMaxWait(100*time.Millisecond))
		defer cl.Close()
		seen := map[string]bool{}
		for len(seen) < n {
			fetches := cl.PollFetches(ctx)
			must(t, fetches.Err())
			fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
		}
		must(t, cl.CommitUncommittedOffsets(ctx))
		return seen
	}
	produce(0, 10)
	equal(t, "records", len(consume(10)), 10)
	produce(10, 14)
	equal(t, "records of the second", consume(4),
		map[string]bool{"10": true, "11": true, "12": true, "13": true})
	f.coords.mu.Lock()
	defer f.coords.mu.Unlock()
	equal(t, "member has left", f.coords.groups["g"].member == nil, true)
}

func TestAnAdminClientLooksAfterGroups(t *testing.T) {
	f := committed()
	adm, _, ctx := adminOf(t, f)

	groups, err := adm.ListGroups(ctx)
	must(t, err)
	equal(t, "groups", groups.Groups(), []string{"g"})
	described, err := adm.DescribeGroups(ctx, "g", "gone")
	must(t, err)
	equal(t, "state", described["g"].State, "Empty")
	equal(t, "state of one that is not there", described["gone"].State, "Dead")

	offsets, err := adm.FetchOffsets(ctx, "g")
	must(t, err)
	at, _ := offsets.Lookup("t", 0)
	equal(t, "offset", at.At, int64(7))
	equal(t, "metadata", at.Metadata, "note")
	many := adm.FetchManyOffsets(ctx, "g", "new")
	must(t, many["g"].Err, many["new"].Err)
	equal(t, "offsets of a group that is not there", len(many["new"].Fetched), 0)

	commit := kadm.Offsets{}
	commit.AddOffset("t", 1, 33, -1)
	done, err := adm.CommitOffsets(ctx, "g", commit)
	must(t, err, done.Error())
	removed, err := adm.DeleteOffsets(ctx, "g", kadm.TopicsSet{"t": {0: {}}})
	must(t, err, removed.Error())
	offsets, err = adm.FetchOffsets(ctx, "g")
	must(t, err)
	_, there := offsets.Lookup("t", 0)
	equal(t, "still there", there, false)
	at, _ = offsets.Lookup("t", 1)
	equal(t, "committed by hand", at.At, int64(33))

	gone, err := adm.DeleteGroups(ctx, "g", "gone")
	must(t, err, gone["g"].Err)
	equal(t, "second deletion", errors.Is(gone["gone"].Err, kerr.GroupIDNotFound), true)
}

func TestAnAdminClientLooksAfterTransactions(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 2)
	adm, cl, ctx := adminOf(t, f)

	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis = ptr("x"), 60_000
	got, err := init.RequestWith(ctx, cl)
	must(t, err, kerr.ErrorForCode(got.ErrorCode))
	offsets := txnCommitRequest("x", "g") // adds the group on the way
	offsets.ProducerID, offsets.ProducerEpoch = got.ProducerID, got.ProducerEpoch
	staged, err := offsets.RequestWith(ctx, cl)
	must(t, err, kerr.ErrorForCode(staged.Topics[0].Partitions[0].ErrorCode))

	listed, err := adm.ListTransactions(ctx, nil, []string{"Ongoing"})
	must(t, err)
	equal(t, "open", listed.TransactionalIDs(), []string{"x"})
	described, err := adm.DescribeTransactions(ctx, "x", "gone")
	must(t, err, described["x"].Err)
	equal(t, "producer", described["x"].ProducerID, got.ProducerID)
	equal(t, "topics", described["x"].Topics.Topics(), []string{"__consumer_offsets"})
	equal(t, "not there", errors.Is(described["gone"].Err, kerr.TransactionalIDNotFound), true)

	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch = "x", got.ProducerID, got.ProducerEpoch
	end.Commit = true
	ended, err := end.RequestWith(ctx, cl)
	must(t, err, kerr.ErrorForCode(ended.ErrorCode))
	equal(t, "epoch of the next transaction", ended.ProducerEpoch, got.ProducerEpoch+1)

	producers, err := adm.DescribeProducers(ctx, kadm.TopicsSet{"t": {0: {}, 1: {}}})
	must(t, err)
	equal(t, "partitions", len(producers["t"].Partitions), 2)
	markers, err := adm.WriteTxnMarkers(ctx, kadm.TxnMarkers{ProducerID: got.ProducerID,
		Topics: kadm.TopicsSet{"t": {1: {}}}})
	must(t, err)
	for _, m := range markers {
		must(t, m.Topics["t"].Partitions[1].Err)
	}
}

func TestAClientSpeaksTheNewGroupProtocol(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	adm, cl, ctx := adminOf(t, f)
	beat, err := consumerHeartbeatRequest("g").RequestWith(ctx, cl)
	must(t, err, kerr.ErrorForCode(beat.ErrorCode))
	equal(t, "member", *beat.MemberID, "m")
	groups, err := adm.ListGroups(ctx)
	must(t, err)
	equal(t, "groups", groups.Groups(), []string{"g"})
	describe := kmsg.NewPtrConsumerGroupDescribeRequest()
	describe.Groups = []string{"g"}
	described, err := describe.RequestWith(ctx, cl)
	must(t, err, kerr.ErrorForCode(described.Groups[0].ErrorCode))
	equal(t, "subscription", described.Groups[0].Members[0].SubscribedTopics, []string{"t"})
}
