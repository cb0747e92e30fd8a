package node

import (
	"errors"
	"testing"

	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/cluster"
)

func TestAProgramThatEndsIsNoErrorInTheLog(t *testing.T) {
	const loud = `{"level":"error","lib":"x","address":"node:1","error":"eof","message":"lost"}`
	const quiet = `{"level":"debug","lib":"x","address":"client:1","error":"eof","message":"lost"}`
	for _, c := range []struct {
		level         zerolog.Level
		member, other string
	}{{zerolog.InfoLevel, loud, ""}, {zerolog.DebugLevel, loud, quiet}} {
		for address, want := range map[string]string{"node:1": c.member, "client:1": c.other} {
			out := &logLines{}
			log := newActorLog(zerolog.New(out).Level(c.level), func() []cluster.Member {
				return []cluster.Member{{Address: "node:1"}}
			})
			log.With("lib", "x").Error("lost", "address", address, "error", errors.New("eof"))
			if want != "" {
				want += "\n"
			}
			if out.String() != want {
				t.Errorf("%s at %s: %q, want %q", address, c.level, out, want)
			}
		}
	}
}
