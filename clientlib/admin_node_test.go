package clientlib_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/node"
)

// ofANode returns the administration of a node that ends with the test.
func ofANode(t *testing.T) (context.Context, *clientlib.Admin) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	n, err := node.Start(ctx, node.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientlib.Dial(ctx, clientlib.Config{Embedded: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(client.Close(ctx), n.Stop(ctx)); err != nil {
			t.Error(err)
		}
		cancel()
	})
	return ctx, client.Admin()
}

// is wants an error to be target; nil: no error.
func is(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got error %v, want %v", err, target)
	}
}

func TestANodeDoesWithTopicsWhatTheAdministrationSays(t *testing.T) {
	ctx, admin := ofANode(t)
	is(t, admin.CreateTopics(ctx, clientlib.TopicSpec{Name: "orders", Partitions: 3,
		Config: map[string]string{"retention.ms": "1000000"}}), nil)
	err := admin.CreateTopics(ctx,
		clientlib.TopicSpec{Name: "orders"}, clientlib.TopicSpec{Name: "a b"},
		clientlib.TopicSpec{Name: "odd", Config: map[string]string{"retention.msec": "1"}},
		clientlib.TopicSpec{Name: "wide", Replicas: 5}, clientlib.TopicSpec{Name: "plain"})
	for _, target := range []error{clientlib.ErrTopicExists, clientlib.ErrInvalidTopic,
		clientlib.ErrInvalidConfig, clientlib.ErrInvalidRequest} {
		is(t, err, target)
	}
	is(t, admin.AddPartitions(ctx, "orders", 5), nil)
	is(t, admin.AddPartitions(ctx, "orders", 2), clientlib.ErrInvalidRequest)
	topics, err := admin.Topics(ctx)
	is(t, err, nil)
	if len(topics) != 2 || topics[0].Name != "orders" || len(topics[0].Partitions) != 5 ||
		topics[1].Name != "plain" {
		t.Errorf("topics are %+v", topics)
	}

	is(t, admin.SetTopicConfig(ctx, "orders", map[string]string{"segment.bytes": "1048576"}), nil)
	is(t, admin.SetTopicConfig(ctx, "orders", map[string]string{"segment.bytes": "few"}),
		clientlib.ErrInvalidConfig)
	is(t, admin.ResetTopicConfig(ctx, "orders", "retention.ms"), nil)
	config, err := admin.TopicConfig(ctx, "orders")
	is(t, err, nil)
	if s := config["segment.bytes"]; s != (clientlib.TopicSetting{Value: "1048576", Set: true}) {
		t.Errorf("segment.bytes is %+v", s)
	}
	if s := config["retention.ms"]; s != (clientlib.TopicSetting{Value: "604800000"}) {
		t.Errorf("retention.ms is %+v", s)
	}

	is(t, admin.DeleteTopics(ctx, "orders", "nothing"), clientlib.ErrUnknownTopic)
	topics, err = admin.Topics(ctx, "plain", "orders")
	is(t, err, clientlib.ErrUnknownTopic)
	if len(topics) != 1 || topics[0].Name != "plain" {
		t.Errorf("topics are %+v", topics)
	}
	nodes, err := admin.Nodes(ctx)
	is(t, err, nil)
	if len(nodes) != 1 || nodes[0].Kafka == "" || nodes[0].Address != "" {
		t.Errorf("nodes are %+v", nodes)
	}
}

func TestANodeDoesWithGroupsWhatTheAdministrationSays(t *testing.T) {
	ctx, admin := ofANode(t)
	at := func(p int32) clientlib.Partition { return clientlib.Partition{Topic: "orders", Index: p} }
	is(t, admin.CreateTopics(ctx, clientlib.TopicSpec{Name: "orders", Partitions: 3}), nil)
	committed := func(want map[clientlib.Partition]int64) {
		t.Helper()
		got, err := admin.Committed(ctx, "billing")
		is(t, err, nil)
		if !maps.Equal(got, want) {
			t.Errorf("committed is %v, want %v", got, want)
		}
	}
	committed(map[clientlib.Partition]int64{})
	_, err := admin.Group(ctx, "billing")
	is(t, err, clientlib.ErrGroupNotFound)

	is(t, admin.SetOffsets(ctx, "billing", map[clientlib.Partition]int64{at(0): 7, at(2): 5}), nil)
	is(t, admin.SetOffsets(ctx, "billing", map[clientlib.Partition]int64{at(1): 1, at(9): 1}),
		clientlib.ErrUnknownTopic)
	committed(map[clientlib.Partition]int64{at(0): 7, at(1): 1, at(2): 5})
	is(t, admin.DeleteOffsets(ctx, "billing", at(2)), nil)
	committed(map[clientlib.Partition]int64{at(0): 7, at(1): 1})
	is(t, admin.ResetOffsets(ctx, "billing", "orders", clientlib.AtTime(time.Now())), nil)
	committed(map[clientlib.Partition]int64{at(0): 0, at(1): 0, at(2): 0})

	groups, err := admin.Groups(ctx)
	is(t, err, nil)
	if len(groups) != 1 || groups[0].ID != "billing" || groups[0].State != "Empty" {
		t.Errorf("groups are %+v", groups)
	}
	is(t, admin.DeleteGroups(ctx, "billing", "nobody"), clientlib.ErrGroupNotFound)
	groups, err = admin.Groups(ctx)
	is(t, err, nil)
	if len(groups) != 0 {
		t.Errorf("groups are %+v", groups)
	}
	is(t, admin.DeleteRecords(ctx, map[clientlib.Partition]int64{at(0): -1}), nil)
	is(t, admin.DeleteRecords(ctx, map[clientlib.Partition]int64{at(1): 7}),
		clientlib.ErrInvalidRequest)
}
