package cluster

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

// series returns the lines of a node's /metrics that begin so, sorted.
func series(t *testing.T, n *testkit.Node, begin string) []string {
	t.Helper()
	resp, err := (&http.Client{Timeout: time.Minute}).Get("http://" + n.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, begin) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	slices.Sort(found)
	return found
}

// One node tells of a group, and knows of the partitions that others lead.
func TestTheCoordinatorTellsTheLagOfPartitionsLedElsewhere(t *testing.T) {
	c := testkit.StartCluster(t, 3)
	c.Create("orders", 3, 1)
	p := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range 30 {
		r := &kgo.Record{Topic: "orders", Partition: int32(i % 3), Value: fmt.Append(nil, i),
			Timestamp: time.Now().Add(-time.Hour)}
		if err := p.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	c.Node(1).Troupe("group", "reset", "billing", "orders", "--to", "4")
	var want []string
	for partition := range 3 {
		want = append(want, fmt.Sprintf(
			`kafka_consumergroup_lag{consumergroup="billing",partition="%d",topic="orders"} 6`, partition))
	}
	testkit.Eventually(t, "a node tells the lag of each partition", func() bool {
		var lags, ages []string
		for id := range int32(3) {
			lags = append(lags, series(t, c.Node(id+1), "kafka_consumergroup_lag{")...)
			ages = append(ages, series(t, c.Node(id+1), "kafka_consumergroup_lag_seconds{")...)
		}
		old := func(line string) bool { // an hour and some seconds
			_, value, _ := strings.Cut(line, "} ")
			var seconds float64
			_, err := fmt.Sscan(value, &seconds)
			return err == nil && seconds >= 3600 && seconds < 3700
		}
		return slices.Equal(lags, want) && len(ages) == 3 &&
			!slices.ContainsFunc(ages, func(line string) bool { return !old(line) })
	})
}
