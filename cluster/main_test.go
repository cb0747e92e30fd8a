package cluster

import (
	"os"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) {
	if cfg := os.Getenv(memberEnv); cfg != "" {
		runMember(cfg)
		return
	}
	testkit.Main(m)
}
