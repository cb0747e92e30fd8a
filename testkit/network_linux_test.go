package testkit

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"
)

func TestLinksOfANetworkAreCutAndSlowedAndMended(t *testing.T) {
	w := newNetwork(t)
	machine := w.machine()
	ln, err := net.Listen("tcp", net.JoinHostPort(w.Host.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			_ = nc.Close()
		}
	}()
	at := netip.MustParseAddrPort(ln.Addr().String())
	// reach connects from within the machine.
	reach := func(within time.Duration) (time.Duration, error) {
		cmd := exec.Command("bash", "-c",
			fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", at.Addr(), at.Port()))
		cmd.SysProcAttr = childAttributes()
		began := time.Now()
		if err := machine.begin(cmd); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(within, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		err := cmd.Wait()
		return time.Since(began), err
	}
	const patience = 10 * time.Second
	if _, err := reach(patience); err != nil {
		t.Fatalf("a machine does not reach the test: %v", err)
	}
	w.Cut(machine.Addr, w.Host)
	if _, err := reach(300 * time.Millisecond); err == nil {
		t.Error("a machine reaches the test over a link that is cut")
	}
	w.Heal()
	const delay = 100 * time.Millisecond
	w.Slow(machine.Addr, w.Host, delay)
	if took, err := reach(patience); err != nil || took < 2*delay {
		t.Errorf("over a link with a delay of %v it takes %v to connect, %v", delay, took, err)
	}
	w.Heal()
	w.CutOneWay(w.Host, machine.Addr)
	if _, err := reach(300 * time.Millisecond); err == nil {
		t.Error("a machine connects though it cannot be answered")
	}
	w.Heal()
	if _, err := reach(patience); err != nil {
		t.Errorf("a machine does not reach the test after the links were mended: %v", err)
	}
}
