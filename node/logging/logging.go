// Package logging builds the loggers of a node.
//
// The node makes one zerolog.Logger with New at start and hands it down; no
// other package creates one. A line is a constant sentence plus fixed keys
// (topic, partition, epoch, offset, addr, dir, error), written at a change of
// state and never per record, so that lines can be searched and counted.
//
// Libraries that log through log/slog, Proto.Actor above all, get the logger
// of Slog: it drops what is not worth an operator's time, and never prints the
// content of an actor message.
package logging

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/troupelog/troupe/messages"
)

// Format is how a line looks; the values of the setting log.format.
type Format string

// The formats of New.
const (
	// FormatAuto is console on a terminal and JSON otherwise.
	FormatAuto Format = "auto"
	// FormatConsole is for people: time, level, sentence, key=value.
	FormatConsole Format = "console"
	// FormatJSON is one JSON object a line.
	FormatJSON Format = "json"
)

// Options of New.
type Options struct {
	// Out gets one write per line. Writes come from any goroutine, one at a time.
	Out io.Writer
	// Format is FormatAuto if empty.
	Format Format
	// Level is the lowest level written: trace, debug, info, warn, error or
	// off; info if empty.
	Level string
	// Now stamps the lines; time.Now if nil.
	Now func() time.Time
}

// New returns the node's logger. It fails with messages.ErrInvalidConfig if the
// format or the level is none of those above. The logger may be used by any
// goroutine.
func New(o Options) (zerolog.Logger, error) {
	level, err := parseLevel(o.Level)
	if err != nil {
		return zerolog.Nop(), err
	}
	out, err := writer(o)
	if err != nil {
		return zerolog.Nop(), err
	}
	stamp := clock{now: o.Now}
	if stamp.now == nil {
		stamp.now = time.Now
	}
	return zerolog.New(zerolog.SyncWriter(out)).Level(level).Hook(stamp), nil
}

// clock stamps each line in UTC to the millisecond: fixed width, so that lines
// of several nodes sort as text.
type clock struct {
	now func() time.Time
}

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

func (c clock) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, c.now().UTC().Format(timeLayout))
}

var levels = map[string]zerolog.Level{
	"trace": zerolog.TraceLevel,
	"debug": zerolog.DebugLevel,
	"info":  zerolog.InfoLevel,
	"warn":  zerolog.WarnLevel,
	"error": zerolog.ErrorLevel,
	"off":   zerolog.Disabled,
}

func parseLevel(s string) (zerolog.Level, error) {
	if s == "" {
		return zerolog.InfoLevel, nil
	}
	if level, ok := levels[s]; ok {
		return level, nil
	}
	return zerolog.NoLevel, fmt.Errorf(
		"log level %q is none of trace, debug, info, warn, error, off: %w",
		s, messages.ErrInvalidConfig)
}

func writer(o Options) (io.Writer, error) {
	switch o.Format {
	case FormatJSON:
		return o.Out, nil
	case FormatConsole:
		return console(o.Out), nil
	case FormatAuto, "":
		if Terminal(o.Out) {
			return console(o.Out), nil
		}
		return o.Out, nil
	}
	return nil, fmt.Errorf("log format %q is none of auto, console, json: %w",
		o.Format, messages.ErrInvalidConfig)
}

// console shows the time of day only, and colour only where it will be seen as
// such: not in a file or pipe, and not if the user asked for none
// (https://no-color.org).
func console(out io.Writer) io.Writer {
	return zerolog.ConsoleWriter{
		Out:        out,
		NoColor:    !Terminal(out) || os.Getenv("NO_COLOR") != "",
		TimeFormat: "15:04:05.000",
	}
}

// Terminal reports whether w is a terminal.
func Terminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}
