//go:build !linux

package testkit

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
)

// port needs Linux.
type port struct {
	Addr netip.Addr
	dev  *os.File
}

func openPort(bool, ...netip.Addr) (*port, error) {
	return nil, errors.New("this system has no network namespaces")
}

func (p *port) begin(cmd *exec.Cmd) error { return cmd.Start() }

func (p *port) close() {}
