package testkit

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Network is a network of machines that are none: every port has an address and,
// but for the test's own, a network namespace. Their packets go through this
// process, which drops or delays what it is told to. What is cut is silent, as
// when a cable is pulled: nobody gets an error, and open connections stay open.
type Network struct {
	Host   netip.Addr // the test and its clients
	Consul netip.Addr // behind which the agent is reached

	tb      testing.TB
	prefix  netip.Prefix
	mu      sync.Mutex
	ports   map[netip.Addr]*port
	links   map[link]*wire
	proxies []net.Listener
	running sync.WaitGroup
	closed  chan struct{}
}

// link is one direction between two addresses.
type link struct{ from, to netip.Addr }

// wire is a link that is not as it should be.
type wire struct {
	cut   bool
	delay time.Duration
	queue chan parcel // nil: nothing is delayed
}

type parcel struct {
	packet []byte
	due    time.Time
}

const (
	// mtu is as large as that of a loopback device, so that the detour through
	// this process costs little.
	mtu = 65000
	// wireQueue is how many packets a slow link holds; more are lost, as in a
	// router.
	wireQueue = 1024
)

// newNetwork makes a network in which there is the test.
func newNetwork(tb testing.TB) *Network {
	tb.Helper()
	prefix, err := freePrefix()
	if err != nil {
		tb.Fatalf("testkit: %v", err)
	}
	base := prefix.Addr().As4()
	at := func(last byte) netip.Addr {
		return netip.AddrFrom4([4]byte{base[0], base[1], base[2], last})
	}
	w := &Network{tb: tb, prefix: prefix, Host: at(254), Consul: at(253),
		ports: map[netip.Addr]*port{}, links: map[link]*wire{}, closed: make(chan struct{})}
	tb.Cleanup(w.close)
	w.attach(false, w.Host, w.Consul)
	return w
}

// freePrefix finds a network of which this machine has no address.
func freePrefix() (netip.Prefix, error) {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Prefix{}, err
	}
next:
	for range 100 {
		at := [4]byte{10, byte(200 + rand.IntN(50)), byte(rand.IntN(256)), 0}
		p := netip.PrefixFrom(netip.AddrFrom4(at), 24)
		for _, a := range taken {
			if other, err := netip.ParsePrefix(a.String()); err == nil && p.Overlaps(other) {
				continue next
			}
		}
		return p, nil
	}
	return netip.Prefix{}, errors.New("no private network of 10.200.0.0/16 to 10.249.0.0/16 is free")
}

// machine adds a machine and returns its port.
func (w *Network) machine() *port {
	w.tb.Helper()
	base := w.prefix.Addr().As4()
	for last := byte(1); last < 250; last++ {
		base[3] = last
		at := netip.AddrFrom4(base)
		w.mu.Lock()
		_, taken := w.ports[at]
		w.mu.Unlock()
		if !taken {
			return w.attach(true, at)
		}
	}
	w.tb.Fatal("testkit: the network has no room for another machine")
	return nil
}

// attach makes a port with some addresses, in a namespace of its own or in that
// of the test.
func (w *Network) attach(apart bool, addrs ...netip.Addr) *port {
	w.tb.Helper()
	p, err := openPort(apart, addrs...)
	if err != nil {
		w.tb.Fatalf("testkit: a network of its own needs Linux, root and /dev/net/tun "+
			"(run the test as root): %v", err)
	}
	w.mu.Lock()
	for _, a := range addrs {
		w.ports[a] = p
	}
	w.mu.Unlock()
	w.running.Go(func() { w.carry(p) })
	return p
}

// carry forwards what a port sends until the port is closed.
func (w *Network) carry(p *port) {
	packet := make([]byte, mtu+1)
	for {
		n, err := p.dev.Read(packet)
		if err != nil {
			return
		}
		const version4, header, source, destination = 4, 20, 12, 16
		if n < header || packet[0]>>4 != version4 {
			continue // the kernel greets neighbours by IPv6
		}
		w.forward(link{
			netip.AddrFrom4([4]byte(packet[source : source+4])),
			netip.AddrFrom4([4]byte(packet[destination : destination+4])),
		}, packet[:n])
	}
}

func (w *Network) forward(l link, packet []byte) {
	if to := w.route(l, packet); to != nil {
		_, _ = to.dev.Write(packet) // a full or closed port loses packets
	}
}

// route returns the port that a packet goes to now, nil if it is lost or comes
// later. A slow link's queue is closed under the same lock that it is filled under.
func (w *Network) route(l link, packet []byte) *port {
	w.mu.Lock()
	defer w.mu.Unlock()
	to, on := w.ports[l.to], w.links[l]
	switch {
	case to == nil || on != nil && on.cut:
		return nil
	case on == nil || on.queue == nil:
		return to
	}
	select {
	case on.queue <- parcel{append([]byte(nil), packet...), time.Now().Add(on.delay)}:
	default: // a full queue loses packets
	}
	return nil
}

// Cut makes a link silent, in both directions.
func (w *Network) Cut(a, b netip.Addr) {
	w.change(a, b, func(on *wire) { on.cut = true })
}

// CutOneWay makes a link silent from one end to the other only.
func (w *Network) CutOneWay(from, to netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(link{from, to}, func(on *wire) { on.cut = true })
}

// Slow delays every packet of a link, in both directions.
func (w *Network) Slow(a, b netip.Addr, delay time.Duration) {
	w.change(a, b, func(on *wire) { on.delay = delay })
}

// Heal makes all links as they should be.
func (w *Network) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l, on := range w.links {
		if on.queue != nil {
			close(on.queue)
		}
		delete(w.links, l)
	}
}

func (w *Network) change(a, b netip.Addr, how func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(link{a, b}, how)
	w.set(link{b, a}, how)
}

// set replaces a link's state: a state that is in use never changes.
func (w *Network) set(l link, how func(*wire)) {
	on := &wire{}
	if old := w.links[l]; old != nil {
		*on = wire{cut: old.cut, delay: old.delay}
		if old.queue != nil {
			close(old.queue)
		}
	}
	how(on)
	if on.delay > 0 {
		on.queue = make(chan parcel, wireQueue)
		w.running.Go(func() { w.deliver(l.to, on.queue) })
	}
	w.links[l] = on
}

// deliver hands over the packets of a slow link when they are due.
func (w *Network) deliver(to netip.Addr, queue <-chan parcel) {
	for p := range queue {
		select {
		case <-time.After(time.Until(p.due)):
		case <-w.closed:
			return
		}
		w.mu.Lock()
		at := w.ports[to]
		w.mu.Unlock()
		_, _ = at.dev.Write(p.packet)
	}
}

// proxy serves a TCP address of the test's network at an address of this one.
func (w *Network) proxy(at netip.Addr, target string) (addr string) {
	w.tb.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(at.String(), "0"))
	if err != nil {
		w.tb.Fatalf("testkit: %v", err)
	}
	w.proxies = append(w.proxies, ln)
	w.running.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.splice(in, target) })
		}
	})
	return ln.Addr().String()
}

// splice connects two connections until one of them ends.
func (w *Network) splice(in net.Conn, target string) {
	defer in.Close()
	out, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return // the caller sees its connection end
	}
	defer out.Close()
	ended := make(chan struct{}, 2)
	for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(c[0], c[1])
			ended <- struct{}{}
		}()
	}
	select {
	case <-ended:
	case <-w.closed:
	}
}

func (w *Network) close() {
	close(w.closed)
	w.Heal()
	for _, ln := range w.proxies {
		_ = ln.Close()
	}
	w.mu.Lock()
	for _, p := range w.ports {
		p.close()
	}
	w.mu.Unlock()
	w.running.Wait()
}

// String names the network for people.
func (w *Network) String() string { return fmt.Sprintf("network %v", w.prefix) }
