package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// adminOf connects a real client to a server over the fake.
func adminOf(t *testing.T, f *fakeCluster) (*kadm.Client, *kgo.Client, context.Context) {
	t.Helper()
	s := serveFake(t, f, Config{})
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return kadm.NewClient(cl), cl, ctx
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnAdminClientManagesTopics(t *testing.T) {
	f := newFakeCluster()
	adm, cl, ctx := adminOf(t, f)

	made, err := adm.CreateTopics(ctx, 3, 1, map[string]*string{"retention.ms": ptr("1000")}, "a", "b")
	must(t, err, made.Error())
	equal(t, "partitions of the answer", made["a"].NumPartitions, int32(3))
	equal(t, "id of the answer", made["a"].ID, kadm.TopicID(f.Image().Topic("a").ID))
	_, err = adm.CreateTopic(ctx, 3, 1, nil, "a")
	equal(t, "second creation", errors.Is(err, kerr.TopicAlreadyExists), true)

	grown, err := adm.UpdatePartitions(ctx, 5, "a")
	must(t, err, grown.Error())
	topics, err := adm.ListTopics(ctx)
	must(t, err, topics.Error())
	equal(t, "topics", topics.Names(), []string{"a", "b"})
	equal(t, "partitions", len(topics["a"].Partitions), 5)
	equal(t, "leader", topics["a"].Partitions[4].Leader, int32(fakeNode))

	gone, err := adm.DeleteTopics(ctx, "a")
	must(t, err, gone.Error())
	_, err = adm.DeleteTopic(ctx, "a")
	equal(t, "second deletion", errors.Is(err, kerr.UnknownTopicOrPartition), true)
	// kadm would answer from its cache.
	left, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
	must(t, err)
	equal(t, "topics left", described(left), []string{"b:0"})
}

func TestAnAdminClientManagesConfigs(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 1)
	adm, _, ctx := adminOf(t, f)

	altered, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "retention.ms", Value: ptr("1000")},
		{Op: kadm.SetConfig, Name: "segment.bytes", Value: ptr("5000")},
	}, "a")
	must(t, err)
	must(t, altered[0].Err)
	altered, err = adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.DeleteConfig, Name: "segment.bytes"},
	}, "a")
	must(t, err)
	must(t, altered[0].Err)
	described, err := adm.DescribeTopicConfigs(ctx, "a")
	must(t, err)
	r, err := described.On("a", nil)
	must(t, err, r.Err)
	for _, c := range r.Configs {
		switch c.Key {
		case "retention.ms":
			equal(t, "value", c.MaybeValue(), "1000")
			equal(t, "source", c.Source, kmsg.ConfigSourceDynamicTopicConfig)
		case "segment.bytes":
			equal(t, "source", c.Source, kmsg.ConfigSourceDefaultConfig)
		}
	}
	altered, err = adm.AlterTopicConfigsState(ctx, []kadm.AlterConfig{
		{Name: "flush.ms", Value: ptr("7")},
	}, "a")
	must(t, err)
	must(t, altered[0].Err)
	equal(t, "configs", f.Image().Topic("a").Configs, messages.Config{"flush.ms": "7"})

	brokers, err := adm.DescribeBrokerConfigs(ctx, int32(fakeNode))
	must(t, err)
	must(t, brokers[0].Err)
	equal(t, "has broker settings", len(brokers[0].Configs) > 50, true)
}

func TestAnAdminClientDescribesTheCluster(t *testing.T) {
	f := withLogDirs()
	f.addTopic("a", 2)
	adm, _, ctx := adminOf(t, f)

	cluster, err := adm.BrokerMetadata(ctx)
	must(t, err)
	equal(t, "cluster id", cluster.Cluster, "fake-cluster-id-000000")
	equal(t, "controller", cluster.Controller, int32(fakeNode))
	equal(t, "brokers", cluster.Brokers.NodeIDs(), []int32{int32(fakeNode)})

	dirs, err := adm.DescribeBrokerLogDirs(ctx, int32(fakeNode), nil)
	must(t, err)
	equal(t, "directories", len(dirs), 2)
	equal(t, "size", dirs["/data/1"].Size(), int64(60))
	equal(t, "offline", errors.Is(dirs["/data/2"].Err, kerr.KafkaStorageError), true)

	f.replica("a", 1).edit(func(p *fakePartition) { p.start, p.high = 5, 9 })
	ends, err := adm.ListEndOffsets(ctx, "a")
	must(t, err, ends.Error())
	at, _ := ends.Lookup("a", 1)
	equal(t, "end", at.Offset, int64(9))
	deleted, err := adm.DeleteRecords(ctx, ends.Offsets())
	must(t, err, deleted.Error())
	starts, err := adm.ListStartOffsets(ctx, "a")
	must(t, err, starts.Error())
	at, _ = starts.Lookup("a", 1)
	equal(t, "start after deletion", at.Offset, int64(9))
}

func TestAClientFindsCoordinators(t *testing.T) {
	adm, _, ctx := adminOf(t, newFakeCluster())
	groups := adm.FindGroupCoordinators(ctx, "g", "h")
	must(t, groups.Error())
	equal(t, "node of a group", groups["h"].NodeID, int32(fakeNode))
	txns := adm.FindTxnCoordinators(ctx, "t")
	must(t, txns.Error())
	equal(t, "node of a transaction", txns["t"].NodeID, int32(fakeNode))
}

func TestAClientGetsTheTopicsItNames(t *testing.T) {
	f := newFakeCluster()
	f.set("auto.create.topics.enable", "true")
	_, cl, ctx := adminOf(t, f)
	req := metadataRequest("new")
	req.AllowAutoTopicCreation = true
	resp, err := req.RequestWith(ctx, cl)
	must(t, err)
	equal(t, "topics", described(resp), []string{"new:0"})

	page := kmsg.NewPtrDescribeTopicPartitionsRequest()
	paged, err := page.RequestWith(ctx, cl)
	must(t, err)
	equal(t, "topics of a page", len(paged.Topics), 1)

	about, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, cl)
	must(t, err)
	equal(t, "brokers", len(about.Brokers), 1)
}
