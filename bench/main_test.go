//go:build linux

package main

import (
	"os"
	"testing"

	"github.com/troupelog/troupe/bench/ideal"
	"github.com/troupelog/troupe/bench/peer"
)

// The test binary plays the ideal broker when it is asked to.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == peer.IdealCommand {
		exit(ideal.Serve(os.Args[2]))
	}
	os.Exit(m.Run())
}
