package logging

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"

	"github.com/rs/zerolog"
)

// Slog returns a logger for libraries that log through log/slog. Lines below
// min do not appear (slog.LevelWarn keeps Proto.Actor quiet: it reports every
// started actor at Info), nor do those below the level of log, nor those that call a
// connection lost that this node has closed.
//
// Values that are neither errors nor addresses nor of a basic type are replaced
// by the name of their type, and the attribute "message" always is. Proto.Actor
// attaches whole messages to its lines: a dead letter with a batch of 1 MiB would
// become a line of 5 MiB, and show a user's records.
func Slog(log zerolog.Logger, min slog.Level) *slog.Logger {
	return slog.New(&bridge{next: zerolog.NewSlogHandler(log), min: min})
}

// bridge is immutable and safe for concurrent use.
type bridge struct {
	next slog.Handler
	min  slog.Level
}

// Enabled implements slog.Handler.
func (b *bridge) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= b.min && b.next.Enabled(ctx, level)
}

// Handle implements slog.Handler. The record's own time is dropped: the logger
// stamps every line, and a second time would be a duplicate key.
func (b *bridge) Handle(ctx context.Context, r slog.Record) error {
	trimmed := slog.Record{Level: r.Level, Message: r.Message, PC: r.PC}
	ours := false
	r.Attrs(func(a slog.Attr) bool {
		a = trim(a)
		ours = ours || a.Key == zerolog.ErrorFieldName && strings.HasSuffix(a.Value.String(), hungUp)
		trimmed.AddAttrs(a)
		return true
	})
	if ours {
		return nil
	}
	return b.next.Handle(ctx, trimmed)
}

// hungUp ends the error of a connection that this node has closed itself, which
// Proto.Actor reports as if it were lost.
const hungUp = "grpc: the client connection is closing"

// WithAttrs implements slog.Handler.
func (b *bridge) WithAttrs(attrs []slog.Attr) slog.Handler {
	trimmed := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		trimmed[i] = trim(a)
	}
	return &bridge{next: b.next.WithAttrs(trimmed), min: b.min}
}

// WithGroup implements slog.Handler.
func (b *bridge) WithGroup(name string) slog.Handler {
	return &bridge{next: b.next.WithGroup(name), min: b.min}
}

// reserved are keys zerolog writes itself: a second one in the same JSON object
// would hide the sentence, the level or the time.
var reserved = map[string]string{
	zerolog.MessageFieldName:   "message_type",
	zerolog.LevelFieldName:     "level_value",
	zerolog.TimestampFieldName: "time_value",
}

// trim returns an attribute that is safe to print.
func trim(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Key == zerolog.MessageFieldName {
		a.Value = slog.StringValue(fmt.Sprintf("%T", a.Value.Any()))
	}
	if name, ok := reserved[a.Key]; ok {
		a.Key = name
	}
	switch a.Value.Kind() {
	case slog.KindGroup:
		group := a.Value.Group()
		trimmed := make([]slog.Attr, len(group))
		for i, member := range group {
			trimmed[i] = trim(member)
		}
		a.Value = slog.GroupValue(trimmed...)
	case slog.KindAny:
		a.Value = slog.StringValue(plain(a.Value.Any()))
	}
	return a
}

// textMax bounds one value, in bytes: an error may quote its input.
const textMax = 1024

// plain renders an attribute's value: errors, actor addresses and basic types
// in full, everything else as its type only.
func plain(v any) (text string) {
	defer func() {
		if recover() != nil { // a String or Error method met a nil receiver
			text = fmt.Sprintf("%T", v)
		}
	}()
	switch v := v.(type) {
	case nil:
		return "<nil>"
	case error:
		return clip(v.Error())
	case reflect.Type:
		return v.String()
	case address:
		return clip(v.GetAddress() + "/" + v.GetId())
	}
	switch reflect.TypeOf(v).Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64, reflect.String:
		return clip(fmt.Sprint(v))
	}
	return fmt.Sprintf("%T", v)
}

// address is what an *actor.PID looks like: where an actor lives and its name.
type address interface {
	GetAddress() string
	GetId() string
}

func clip(s string) string {
	if len(s) <= textMax {
		return s
	}
	return strings.ToValidUTF8(s[:textMax], "") + "..."
}
