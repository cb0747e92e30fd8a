package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/troupelog/troupe/testkit"
)

func TestHealthAndMetricsAreServed(t *testing.T) {
	node := testkit.StartNode(t)
	browser := http.Client{Timeout: patience}
	for path, want := range map[string]string{
		"/healthz": "", "/readyz": "", "/metrics": "kafka_server_replicamanager_partitioncount",
	} {
		resp, err := browser.Get("http://" + node.HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v, %.200q", path, resp.Status, err, body)
		}
	}
}

// Nobody set an id; tools look for a node's own among its settings all the same.
func TestANodeShowsItsIDAmongItsSettings(t *testing.T) {
	n := testkit.StartNode(t)
	described, err := kadm.NewClient(client(t, n)).DescribeBrokerConfigs(patient(t), 1)
	if err != nil || len(described) != 1 {
		t.Fatalf("%d described, %v", len(described), err)
	}
	shown := map[string]string{}
	for _, s := range described[0].Configs {
		shown[s.Key] = s.MaybeValue()
	}
	if shown["broker.id"] != "1" || shown["node.id"] != "1" {
		t.Errorf("node 1 shows broker.id=%s, node.id=%s", shown["broker.id"], shown["node.id"])
	}
}
