package node

import (
	"context"
	"log/slog"

	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/cluster"
	"github.com/troupelog/troupe/node/logging"
)

// actorLog is where the actor library logs to. It takes each broken connection for an
// error; but programs that use the SDK come and go, and when one ends that is no trouble
// of the node's. So what is said of addresses that are no members' is for debugging only.
type actorLog struct {
	loud, quiet slog.Handler
	members     func() []cluster.Member
}

func newActorLog(log zerolog.Logger, members func() []cluster.Member) *slog.Logger {
	return slog.New(actorLog{logging.Slog(log, slog.LevelWarn).Handler(),
		logging.Slog(log, slog.LevelDebug).Handler(), members})
}

// Enabled implements slog.Handler.
func (l actorLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.loud.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (l actorLog) Handle(ctx context.Context, r slog.Record) error {
	stranger := false
	r.Attrs(func(a slog.Attr) bool {
		stranger = stranger || a.Key == "address" && !l.member(a.Value.String())
		return true
	})
	if !stranger {
		return l.loud.Handle(ctx, r)
	}
	if !l.quiet.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	r.Level = slog.LevelDebug
	return l.quiet.Handle(ctx, r)
}

func (l actorLog) member(address string) bool {
	for _, m := range l.members() {
		if m.Address == address {
			return true
		}
	}
	return false
}

// WithAttrs implements slog.Handler.
func (l actorLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return actorLog{l.loud.WithAttrs(attrs), l.quiet.WithAttrs(attrs), l.members}
}

// WithGroup implements slog.Handler.
func (l actorLog) WithGroup(name string) slog.Handler {
	return actorLog{l.loud.WithGroup(name), l.quiet.WithGroup(name), l.members}
}
