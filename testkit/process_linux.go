package testkit

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticksPerSecond is the unit of CPU times in /proc; Linux fixes it for users.
const ticksPerSecond = 100

// childAttributes makes a child die with the test process, however that ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// Usage is what a process has used so far.
type Usage struct {
	CPU time.Duration // user and system time
	RSS int64         // resident memory, bytes
}

// UsageOf returns what a running process has used, to the hundredth of a second.
func UsageOf(pid int) (Usage, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Usage{}, err
	}
	// The second field is the name in parentheses and may hold blanks.
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	const user, system, rss = 11, 12, 21 // counted from the field after the name
	if len(fields) <= rss {
		return Usage{}, &os.PathError{Op: "parse", Path: "stat", Err: os.ErrInvalid}
	}
	ticks := int64(0)
	for _, i := range []int{user, system} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return Usage{}, err
		}
		ticks += n
	}
	pages, err := strconv.ParseInt(fields[rss], 10, 64)
	if err != nil {
		return Usage{}, err
	}
	return Usage{
		CPU: time.Duration(ticks) * time.Second / ticksPerSecond,
		RSS: pages * int64(os.Getpagesize()),
	}, nil
}
