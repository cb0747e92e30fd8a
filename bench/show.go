//go:build linux

package main

import (
	"context"
	"time"

	"github.com/troupelog/troupe/bench/figures"
)

// describe says where and with what the run is.
func (b *bench) describe(ctx context.Context) (*figures.Run, error) {
	run := &figures.Run{Versions: map[string]string{}, Date: time.Now().UTC()}
	for _, k := range b.kinds {
		v, err := k.Version(ctx)
		if err != nil {
			return nil, err
		}
		run.Versions[k.Name] = v
	}
	return run, nil
}

func (b *bench) show(*figures.Run) error { return nil }
