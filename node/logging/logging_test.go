package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.FixedZone("CET", 3600))

func logger(t *testing.T, out *bytes.Buffer, format Format, level string) zerolog.Logger {
	t.Helper()
	log, err := New(Options{
		Out: out, Format: format, Level: level, Now: func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestALineLooksAsItsFormatSays(t *testing.T) {
	const asJSON = `{"level":"info","topic":"orders","partition":3,` +
		`"time":"2026-03-01T11:00:00.005Z","message":"partition is online"}` + "\n"
	const asText = "11:00:00.005 INF partition is online partition=3 topic=orders\n"
	for _, tt := range []struct {
		name   string
		format Format
		want   string
	}{
		{"json", FormatJSON, asJSON},
		{"console without colour when it is no terminal", FormatConsole, asText},
		{"auto is json when it is no terminal", FormatAuto, asJSON},
		{"no format is auto", "", asJSON},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			log := logger(t, &out, tt.format, "")
			log.Info().Str("topic", "orders").Int("partition", 3).Msg("partition is online")
			if got := out.String(); got != tt.want {
				t.Errorf("got  %swant %s", got, tt.want)
			}
		})
	}
}

func TestLinesBelowTheLevelAreNotWritten(t *testing.T) {
	for level, want := range map[string]string{
		"":      "info warn error",
		"debug": "debug info warn error",
		"warn":  "warn error",
		"error": "error",
		"off":   "",
	} {
		var out bytes.Buffer
		log := logger(t, &out, FormatJSON, level)
		log.Debug().Msg("a")
		log.Info().Msg("b")
		log.Warn().Msg("c")
		log.Error().Msg("d")
		if got := strings.Join(field(t, out.String(), "level"), " "); got != want {
			t.Errorf("level %q wrote %q, want %q", level, got, want)
		}
	}
}

func TestAnUnknownFormatOrLevelIsRefusedWithTheChoices(t *testing.T) {
	for _, tt := range []struct {
		options Options
		want    string
	}{
		{Options{Level: "loud"}, `log level "loud" is none of trace, debug, info, warn, error, off`},
		{Options{Format: "xml"}, `log format "xml" is none of auto, console, json`},
	} {
		_, err := New(tt.options)
		if !errors.Is(err, messages.ErrInvalidConfig) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%+v): %v, want %s", tt.options, err, tt.want)
		}
	}
}

// secret is a message with content nobody should find in a log.
type secret struct{ payload []byte }

func (secret) String() string { return "PAYLOAD" }

type failing struct{}

func (*failing) Error() string { panic("no") }

func TestAttributesAreShownAsText(t *testing.T) {
	batch := secret{payload: bytes.Repeat([]byte("x"), 1<<20)}
	for _, tt := range []struct {
		name string
		attr slog.Attr
		want string // of the line, between the level and the time
	}{
		{"a message is its type, under a key that is not the sentence's",
			slog.Any("message", batch), `"message_type":"logging.secret"`},
		{"a text message too",
			slog.Any("message", "a record"), `"message_type":"string"`},
		{"a struct under any key is its type",
			slog.Any("request", &batch), `"request":"*logging.secret"`},
		{"bytes are their type", slog.Any("b", []byte("PAYLOAD")), `"b":"[]uint8"`},
		{"an error is its text", slog.Any("error", errors.New("no route")), `"error":"no route"`},
		{"an error that cannot print is its type",
			slog.Any("error", new(failing)), `"error":"*logging.failing"`},
		{"a process is its address",
			slog.Any("pid", actor.NewPID("host:1", "replica/7")), `"pid":"host:1/replica/7"`},
		{"no process is no reason to fail", slog.Any("pid", (*actor.PID)(nil)), `"pid":"/"`},
		{"nothing is shown as such", slog.Any("reason", nil), `"reason":"<nil>"`},
		{"a named number is a number's text", slog.Any("n", time.Month(3)), `"n":"March"`},
		{"a plain number stays a number", slog.Int("retry", 3), `"retry":3`},
		{"groups are searched", slog.Group("g", slog.Any("message", batch)),
			`"g.message_type":"logging.secret"`},
		{"a level of its own does not hide the line's",
			slog.String("level", "high"), `"level_value":"high"`},
		{"long text is cut at a whole character",
			slog.Any("error", errors.New(strings.Repeat("ä", textMax))),
			`"error":"` + strings.Repeat("ä", textMax/2) + `..."`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := `{"level":"warn",` + tt.want +
				`,"time":"2026-03-01T11:00:00.005Z","message":"dead letter"}` + "\n"
			var out bytes.Buffer
			log := Slog(logger(t, &out, FormatJSON, ""), slog.LevelWarn)
			log.Warn("dead letter", tt.attr)
			if got := out.String(); got != want {
				t.Errorf("attribute of the line: got %s, want %s", got, want)
			}
			out.Reset()
			log.With(tt.attr).Warn("dead letter")
			if got := out.String(); got != want {
				t.Errorf("attribute of the logger: got %s, want %s", got, want)
			}
		})
	}
}

func TestTheBridgeIsQuietBelowItsLevelAndBelowTheLoggers(t *testing.T) {
	for _, tt := range []struct {
		level string
		min   slog.Level
		want  string
	}{
		{"debug", slog.LevelWarn, "warn error"},
		{"debug", slog.LevelInfo, "info warn error"},
		{"error", slog.LevelDebug, "error"},
		{"off", slog.LevelDebug, ""},
	} {
		var out bytes.Buffer
		log := Slog(logger(t, &out, FormatJSON, tt.level), tt.min).WithGroup("actor")
		log.Debug("a")
		log.Info("b")
		log.Warn("c")
		log.Error("d")
		if got := strings.Join(field(t, out.String(), "level"), " "); got != tt.want {
			t.Errorf("logger at %s, bridge at %v: got %q, want %q",
				tt.level, tt.min, got, tt.want)
		}
	}
}

func TestConnectionsThatTheNodeClosedAreNotReportedAsLost(t *testing.T) {
	var out bytes.Buffer
	log := Slog(logger(t, &out, FormatJSON, ""), slog.LevelWarn)
	for _, cause := range []string{"grpc: the client connection is closing", "reset by peer"} {
		log.Error("EndpointWriter lost connection", slog.String("address", "h:1"),
			slog.Any("error", errors.New("rpc error: code = Canceled desc = "+cause)))
	}
	if got := field(t, out.String(), "error"); len(got) != 1 || !strings.HasSuffix(got[0], "peer") {
		t.Errorf("it reports %q", got)
	}
}

func TestProtoActorLogsThroughTheBridge(t *testing.T) {
	var out bytes.Buffer
	log := Slog(logger(t, &out, FormatJSON, ""), slog.LevelInfo)
	system := actor.NewActorSystem(actor.WithLoggerFactory(
		func(*actor.ActorSystem) *slog.Logger { return log }))
	defer system.Shutdown()
	pid := system.Root.Spawn(actor.PropsFromFunc(func(actor.Context) {}))
	if err := system.Root.PoisonFuture(pid).Wait(); err != nil {
		t.Fatal(err)
	}
	system.Root.Send(pid, secret{payload: []byte("x")}) // a dead letter
	var letter string
	for line := range strings.Lines(out.String()) {
		if n := strings.Count(line, `"time":`); n != 1 {
			t.Errorf("%d times in %s", n, line)
		}
		if strings.Contains(line, "[DeadLetter]") {
			letter = line
		}
	}
	if !strings.Contains(letter, `"message_type":"logging.secret"`) ||
		strings.Contains(out.String(), "PAYLOAD") {
		t.Errorf("the message is not shown by its type alone:\n%s", out.String())
	}
}

// field returns one field of every line.
func field(t *testing.T, lines, key string) []string {
	t.Helper()
	var values []string
	for line := range strings.Lines(lines) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		values = append(values, fields[key].(string))
	}
	return values
}
