package testkit

import (
	"fmt"
	"syscall"
	"testing"
)

// Disk is a small file system in memory. It needs root.
type Disk struct {
	Dir string // where it is mounted

	tb testing.TB
}

// SmallDisk mounts a disk of some megabytes that is unmounted with the test. Put
// a node's data there (Dir) to see what it does when the disk is full.
func SmallDisk(tb testing.TB, megabytes int) *Disk {
	tb.Helper()
	d := &Disk{Dir: tb.TempDir(), tb: tb}
	d.mount(0, fmt.Sprintf("size=%dm", megabytes))
	tb.Cleanup(func() {
		if err := syscall.Unmount(d.Dir, syscall.MNT_DETACH); err != nil {
			tb.Errorf("testkit: unmount %s: %v", d.Dir, err)
		}
	})
	return d
}

// Grow makes the disk larger while it is in use.
func (d *Disk) Grow(megabytes int) {
	d.tb.Helper()
	d.mount(syscall.MS_REMOUNT, fmt.Sprintf("size=%dm", megabytes))
}

// ReadOnly makes the disk refuse writes, or accept them again.
func (d *Disk) ReadOnly(yes bool) {
	d.tb.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if yes {
		flags |= syscall.MS_RDONLY
	}
	d.mount(flags, "")
}

func (d *Disk) mount(flags uintptr, data string) {
	d.tb.Helper()
	if err := syscall.Mount("troupe-test", d.Dir, "tmpfs", flags, data); err != nil {
		d.tb.Fatalf("testkit: mounting a small disk needs root (run the test as root): %v", err)
	}
}
