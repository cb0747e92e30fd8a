package testkit

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// port is a network device whose packets this process reads and writes.
type port struct {
	Addr netip.Addr // the first, if it has several
	dev  *os.File
	ns   *os.File // the network namespace it is in; nil: that of the test
	once sync.Once
}

const ownNamespace = "/proc/thread-self/ns/net"

// openPort makes a device with addresses of a network of 256, in a new namespace
// or in that of the test.
func openPort(apart bool, addrs ...netip.Addr) (p *port, err error) {
	p = &port{Addr: addrs[0]}
	if !apart {
		p.dev, err = openDevice(addrs)
		return p, err
	}
	runtime.LockOSThread()
	home, err := os.Open(ownNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer func() { _ = home.Close() }()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("unshare: %w", err)
	}
	defer goHome(home)
	if p.ns, err = os.Open(ownNamespace); err != nil {
		return nil, err
	}
	if err := raise("lo", nil); err != nil {
		return nil, err
	}
	p.dev, err = openDevice(addrs)
	return p, err
}

// goHome takes the thread back to where it was. A thread that cannot go back must
// not serve other goroutines: it stays locked.
func goHome(home *os.File) {
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
}

// begin starts a process in the namespace of the port. The thread it is started
// by goes back: if it ended, so would the process (childAttributes).
func (p *port) begin(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	home, err := os.Open(ownNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = home.Close() }()
	if err := unix.Setns(int(p.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("setns: %w", err)
	}
	defer goHome(home)
	return cmd.Start()
}

func (p *port) close() {
	p.once.Do(func() {
		_ = p.dev.Close()
		if p.ns != nil {
			_ = p.ns.Close()
		}
	})
}

// openDevice makes a device of the thread's namespace.
func openDevice(addrs []netip.Addr) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	// The kernel chooses the number: namespaces of several tests share names.
	req, err := unix.NewIfreq("testkit%d")
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err == nil {
		err = raise(req.Name(), addrs)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("network device: %w", err)
	}
	return os.NewFile(uintptr(fd), req.Name()), nil
}

// raise gives a device addresses and switches it on.
func raise(name string, addrs []netip.Addr) error {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(sock) }()
	for i, a := range addrs {
		label := name
		if i > 0 {
			label = fmt.Sprintf("%s:%d", name, i)
		}
		if err := assign(sock, label, a); err != nil {
			return fmt.Errorf("address %v of %s: %w", a, label, err)
		}
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if addrs != nil {
		req.SetUint32(mtu)
		if err := unix.IoctlIfreq(sock, unix.SIOCSIFMTU, req); err != nil {
			return fmt.Errorf("mtu of %s: %w", name, err)
		}
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("switch on %s: %w", name, err)
	}
	return nil
}

func assign(sock int, label string, a netip.Addr) error {
	req, err := unix.NewIfreq(label)
	if err != nil {
		return err
	}
	if err := req.SetInet4Addr(a.AsSlice()); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(sock, unix.SIOCSIFADDR, req); err != nil {
		return err
	}
	if err := req.SetInet4Addr([]byte{255, 255, 255, 0}); err != nil {
		return err
	}
	return unix.IoctlIfreq(sock, unix.SIOCSIFNETMASK, req)
}
