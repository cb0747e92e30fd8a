//go:build !linux

package netio

import "net"

// Direct writes without waiting, where that is possible.
type Direct struct{}

// NewDirect returns nil: only Linux has one.
func NewDirect(net.Conn) *Direct { return nil }

// Write sends nothing.
func (d *Direct) Write([][]byte) (int, error) { return 0, nil }
