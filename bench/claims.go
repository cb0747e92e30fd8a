//go:build linux

package main

import (
	"time"

	"github.com/troupelog/troupe/bench/figures"
)

// Names of client libraries, which are compared on one node.
const (
	franzGo = "franz-go"
	sdk     = "sdk"
)

// claims are what has to hold on a machine of two CPUs.
func claims() []figures.Claim { return nil }

// plots are the pictures of the document, by name.
func plots() map[string]figures.Plot { return nil }

func seconds(d time.Duration) float64 { return d.Seconds() }
