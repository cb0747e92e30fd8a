//go:build linux

package clients

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// minSleep keeps a high rate from waking the process for every record: those that are due
// within it are sent together.
const minSleep = 100 * time.Microsecond

// alarm wakes its only user to within microseconds. The runtime's own timers are late by
// up to a millisecond in a process that has nothing else to do, which is more than what
// is measured here.
type alarm struct {
	fd     int
	file   *os.File // waits in the runtime's poller, not in a thread
	buffer [8]byte
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	return &alarm{fd: fd, file: os.NewFile(uintptr(fd), "timer")}, nil
}

// sleep returns after d, or after minSleep if that is longer, or at once if d is not
// above zero.
func (a *alarm) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(d, minSleep).Nanoseconds())}
	if err := unix.TimerfdSettime(a.fd, 0, &spec, nil); err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	_, err := a.file.Read(a.buffer[:])
	return err
}

func (a *alarm) close() { _ = a.file.Close() }
