//go:build !linux

package testkit

import (
	"errors"
	"syscall"
	"time"
)

func childAttributes() *syscall.SysProcAttr { return nil }

// Usage is what a process has used so far.
type Usage struct {
	CPU time.Duration // user and system time
	RSS int64         // resident memory, bytes
}

// UsageOf needs Linux and fails here.
func UsageOf(int) (Usage, error) {
	return Usage{}, errors.New("the usage of another process is only known on Linux")
}
