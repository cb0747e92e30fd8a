package node

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/troupelog/troupe/testkit"
)

func TestAnEmbeddedNodeOfAClusterLeavesNothingBehind(t *testing.T) {
	consul := testkit.StartConsul(t)
	running := goleak.IgnoreCurrent() // of Consul
	dir := t.TempDir()
	for range 2 {
		log := &logLines{}
		n, err := Start(t.Context(), Options{DataDir: dir, Log: log, Settings: map[string]string{
			"consul.address": consul.Addr, "cluster.name": "embedded"}})
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		if n.ActorAddr() == "" {
			t.Error("its actors listen nowhere")
		}
		produced(t, n, "x")
		if err := n.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := goleak.Find(running); err != nil {
			t.Fatal(err)
		}
	}
}
