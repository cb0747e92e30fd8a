package config

import (
	"testing"

	"go.uber.org/goleak"
)

// The library for properties lexes in a goroutine of its own; it must end with
// every file, whatever is wrong with it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
