package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// patience bounds every wait for the cluster; a healthy one needs a fraction.
const patience = 2 * time.Minute

// gently keeps a load that goes on for long from becoming a load of the machine.
var gently = kgo.MaxBufferedRecords(100)

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// finish ends a load, checks its history, and compares the replicas.
func finish(t *testing.T, c *testkit.Cluster, l *testkit.Load, partitions int32) {
	t.Helper()
	c.AwaitInSync(l.Topic)
	l.Finish()
	c.Stop()
	c.SameReplicas(l.Topic, partitions)
}
