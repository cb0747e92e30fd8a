package testkit_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

// kv reads a key, or writes it when value is not "".
func kv(t *testing.T, addr, key, value string) string {
	t.Helper()
	url, method := "http://"+addr+"/v1/kv/"+key+"?raw", http.MethodGet
	if value != "" {
		method = http.MethodPut
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(value))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestConsulKeepsItsDataUntilItIsWiped(t *testing.T) {
	c := testkit.StartConsul(t)
	kv(t, c.Addr, "a", "x")
	c.Kill()
	c.Restart()
	if got := kv(t, c.Addr, "a", ""); got != "x" {
		t.Errorf("after a kill Consul has %q", got)
	}
	c.Restart()
	if got := kv(t, c.Addr, "a", ""); got != "x" {
		t.Errorf("after a restart Consul has %q", got)
	}
	c.Stop()
	c.Wipe()
	c.Restart()
	if got := kv(t, c.Addr, "a", ""); got != "" {
		t.Errorf("after a wipe Consul has %q", got)
	}
}

func TestTheSharedConsulIsOne(t *testing.T) {
	first := testkit.SharedConsul(t)
	if second := testkit.SharedConsul(t); second != first {
		t.Errorf("two tests share %s and %s", first, second)
	}
	kv(t, first, "testkit/"+t.Name(), "x")
}
