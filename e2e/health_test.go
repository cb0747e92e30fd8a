package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

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
