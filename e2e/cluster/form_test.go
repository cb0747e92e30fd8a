package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/troupelog/troupe/testkit"
)

func TestThreeNodesFormAClusterThatKeepsEveryRecordThreeTimes(t *testing.T) {
	c := testkit.StartCluster(t, 3)
	c.Create("orders", 3, 3)
	load := testkit.StartLoad(t, c, "orders")
	load.AwaitAcks(20_000)
	finish(t, c, load, 3)
}

// The registry gave the ids out; tools look for a node's own among its settings.
func TestNodesShowTheirOwnIDAmongTheirSettings(t *testing.T) {
	c := testkit.StartCluster(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	described, err := kadm.NewClient(c.Client()).DescribeBrokerConfigs(ctx, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range described {
		for _, s := range d.Configs {
			if (s.Key == "broker.id" || s.Key == "node.id") && s.MaybeValue() != d.Name {
				t.Errorf("node %s shows %s=%s", d.Name, s.Key, s.MaybeValue())
			}
		}
	}
}
