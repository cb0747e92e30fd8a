package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/persistence/vfs"
)

// file puts a settings file into a file system of its own.
func file(t testing.TB, name, text string) vfs.FS {
	t.Helper()
	fsys := vfs.NewMem()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return fsys
}

// mustLoad loads sources that are right.
func mustLoad(t testing.TB, s Sources) *Config {
	t.Helper()
	c, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// errorLines loads sources that are wrong.
func errorLines(t testing.TB, s Sources) []string {
	t.Helper()
	c, err := Load(s)
	if err == nil || c != nil {
		t.Fatalf("no error, but %v", c)
	}
	return strings.Split(err.Error(), "\n")
}

func TestEverySettingHasItsDefaultWhenNobodySetsIt(t *testing.T) {
	c := mustLoad(t, Sources{})
	for _, d := range configs.Brokers() {
		want := d.Default
		if d.Optional {
			want = ""
		}
		if c.Value(d.Name) != want || c.Origin(d.Name) != "default" || c.Overridden(d.Name) {
			t.Errorf("%s is %q from %q, want %q", d.Name, c.Value(d.Name), c.Origin(d.Name), want)
		}
	}
	if len(c.Warnings()) > 0 {
		t.Errorf("warns of %v", c.Warnings())
	}
}

func TestTheStrongerSourceWins(t *testing.T) {
	const name = "/troupe.yaml"
	fsys := file(t, name, "log.level: warn\n")
	env := []string{"TROUPE_LOG_LEVEL=error", "HOME=/root", "TROUPE_LOG_LEVEL=debug"}
	flags := []string{"log.level=trace", "log.level = info"}
	for _, tt := range []struct {
		name          string
		sources       Sources
		value, origin string
	}{
		{"the default, when nobody says anything",
			Sources{}, "info", "default"},
		{"the file before the default",
			Sources{FS: fsys, File: name}, "warn", "file /troupe.yaml:1"},
		{"the environment before the file, the last of equal variables",
			Sources{FS: fsys, File: name, Environ: env}, "debug", "env TROUPE_LOG_LEVEL"},
		{"flags before the environment, the last of equal flags",
			Sources{FS: fsys, File: name, Environ: env, Set: flags}, "info", "flag --set"},
		{"a file named by the environment is read as well",
			Sources{FS: fsys, Environ: []string{"TROUPE_CONFIG=" + name}},
			"warn", "file /troupe.yaml:1"},
		{"a file named by a flag instead of that of the environment",
			Sources{FS: fsys, File: name, Environ: []string{"TROUPE_CONFIG=/missing.yaml"}},
			"warn", "file /troupe.yaml:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustLoad(t, tt.sources)
			if c.Value("log.level") != tt.value || c.Origin("log.level") != tt.origin {
				t.Errorf("%q from %q, want %q from %q",
					c.Value("log.level"), c.Origin("log.level"), tt.value, tt.origin)
			}
			if c.Overridden("log.level") != (tt.origin != "default") {
				t.Errorf("Overridden is %v", c.Overridden("log.level"))
			}
		})
	}
}

func TestFlagsOfTheirOwnAreSettings(t *testing.T) {
	c := mustLoad(t, Sources{
		DataDir: "/a,/b", KafkaAddr: "[::1]:0", HTTPAddr: ":0", ActorAddr: "10.0.0.1:7000",
	})
	for name, want := range map[string][2]string{
		"log.dirs":       {"/a,/b", "flag --data-dir"},
		"listeners":      {"PLAINTEXT://[::1]:0", "flag --kafka-addr"},
		"http.listener":  {":0", "flag --http-addr"},
		"actor.listener": {"10.0.0.1:7000", "flag --actor-addr"},
	} {
		if got := [2]string{c.Value(name), c.Origin(name)}; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if dirs := c.List("log.dirs"); !slices.Equal(dirs, []string{"/a", "/b"}) {
		t.Errorf("data directories are %q", dirs)
	}
	mustLoad(t, Sources{DataDir: "/a", Set: []string{"log.dirs=/a"}}) // the same is no conflict
}

func TestAnEmptyValueOfAnOptionalSettingUnsetsIt(t *testing.T) {
	c := mustLoad(t, Sources{
		FS:      file(t, "/s.properties", "broker.rack=r1\nlog.retention.ms=5\n"),
		File:    "/s.properties",
		Environ: []string{"TROUPE_BROKER_RACK="},
		Set:     []string{"log.retention.ms="},
	})
	for _, name := range []string{"broker.rack", "log.retention.ms"} {
		if c.Value(name) != "" || c.Overridden(name) || c.Origin(name) != "default" {
			t.Errorf("%s is %q from %q", name, c.Value(name), c.Origin(name))
		}
	}
}

func TestSettingsForTheSameThingAreDecidedBySourceThenAsInKafka(t *testing.T) {
	const fileText = "log.retention.ms=1000\nlog.retention.hours=9\nlog.dir=/old\nbroker.id=7\n"
	for _, tt := range []struct {
		name     string
		file     string
		env      []string
		set      []string
		want     map[string]string // values
		origins  map[string]string
		warnings []string
	}{
		{
			name: "in one source the first of Kafka's names counts",
			file: fileText,
			want: map[string]string{
				"log.retention.ms": "1000", "log.retention.hours": "168",
				"log.dirs": "/old", "node.id": "7", "broker.id": "7",
			},
			origins: map[string]string{
				"log.retention.hours": "ignored: log.retention.ms (file /s.properties:1) " +
					"says it already (file /s.properties:2)",
				"log.dirs": "log.dir (file /s.properties:3)",
				"node.id":  "broker.id (file /s.properties:4)",
			},
			warnings: []string{"log.retention.hours is ignored: log.retention.ms " +
				"(file /s.properties:1) says it already (file /s.properties:2)"},
		},
		{
			name: "a stronger source counts whatever its unit",
			file: "log.retention.ms=1000\nlog.dirs=/new\n",
			env:  []string{"TROUPE_LOG_RETENTION_HOURS=2", "TROUPE_LOG_DIR=/env"},
			want: map[string]string{
				"log.retention.ms": "", "log.retention.hours": "2",
				"log.dirs": "/env", "log.dir": "/env",
			},
			origins: map[string]string{
				"log.retention.ms": "ignored: log.retention.hours " +
					"(env TROUPE_LOG_RETENTION_HOURS) says it already (file /s.properties:1)",
				"log.dirs": "log.dir (env TROUPE_LOG_DIR)",
			},
			warnings: []string{
				"log.dirs is ignored: log.dir (env TROUPE_LOG_DIR) says it already " +
					"(file /s.properties:2)",
				"log.retention.ms is ignored: log.retention.hours " +
					"(env TROUPE_LOG_RETENTION_HOURS) says it already (file /s.properties:1)",
			},
		},
		{
			name: "three sources, three units",
			file: "log.retention.ms=1000\n",
			env:  []string{"TROUPE_LOG_RETENTION_MINUTES=3"},
			set:  []string{"log.retention.hours=4"},
			want: map[string]string{
				"log.retention.ms": "", "log.retention.minutes": "", "log.retention.hours": "4",
			},
			warnings: []string{
				"log.retention.minutes is ignored: log.retention.hours (flag --set) says it " +
					"already (env TROUPE_LOG_RETENTION_MINUTES)",
				"log.retention.ms is ignored: log.retention.minutes " +
					"(env TROUPE_LOG_RETENTION_MINUTES) says it already (file /s.properties:1)",
			},
		},
		{
			name: "a broker id of -1 says nothing",
			file: "broker.id=-1\n",
			set:  []string{"node.id=3"},
			want: map[string]string{"node.id": "3", "broker.id": "3"},
			origins: map[string]string{
				"node.id": "flag --set", "broker.id": "node.id (flag --set)",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustLoad(t, Sources{
				FS: file(t, "/s.properties", tt.file), File: "/s.properties",
				Environ: tt.env, Set: tt.set,
			})
			for name, want := range tt.want {
				if c.Value(name) != want {
					t.Errorf("%s is %q from %q, want %q", name, c.Value(name), c.Origin(name), want)
				}
			}
			for name, want := range tt.origins {
				if c.Origin(name) != want {
					t.Errorf("%s is from %q, want %q", name, c.Origin(name), want)
				}
			}
			if got := c.Warnings(); !slices.Equal(got, tt.warnings) {
				t.Errorf("warns of %q, want %q", got, tt.warnings)
			}
		})
	}
}

func TestEverythingWrongIsReportedAtOnceWithItsPlace(t *testing.T) {
	const text = "log.retension.ms=5\n" +
		"log.segment.bytes=1GB\n" +
		"\n" +
		"retention.ms=5\n" +
		"authorizer.class.name=org.Example\n" +
		"create.topic.policy.class.name=\n" +
		"port=9092\n" +
		"broker.id=1\n"
	got := errorLines(t, Sources{
		FS: file(t, "/s.properties", text), File: "/s.properties",
		Environ: []string{
			"TROUPE_NUM_PARTITION=3", "TROUPE_NUM_PARTITIONS=0", "TROUPE_NODE_ID=2",
		},
		DataDir: "/a",
		Set: []string{"log.dirs=/b", "nonsense", "log.level=loud", "=1",
			"node.drain=false"},
	})
	want := []string{
		`file /s.properties:1: unknown setting "log.retension.ms", ` +
			`did you mean "log.retention.ms"?`,
		`file /s.properties:2: log.segment.bytes cannot be "1GB": ` +
			`it must be a whole number of bytes, at least 1048576 and at most 2147483647`,
		`file /s.properties:4: unknown setting "retention.ms", did you mean "log.retention.ms"?`,
		`file /s.properties:5: authorizer.class.name cannot be honoured: ` +
			`Troupe has no access control and would let everybody in; remove it to accept that`,
		`file /s.properties:7: port cannot be honoured: Kafka removed it in 3.0; use listeners`,
		`env TROUPE_NUM_PARTITION: unknown setting "num.partition", ` +
			`did you mean "num.partitions"?`,
		`env TROUPE_NUM_PARTITIONS: num.partitions cannot be "0": ` +
			`it must be a whole number, at least 1 and at most 2147483647`,
		`flag --set: log.dirs is given by flag --data-dir too; use one of them`,
		`flag --set: "nonsense" is not of the form key=value`,
		`flag --set: log.level cannot be "loud": ` +
			`it must be one of trace, debug, info, warn, error`,
		`flag --set: "=1" is not of the form key=value`,
		`file /s.properties:8: broker.id is 1 but node.id is 2 (env TROUPE_NODE_ID): ` +
			`they name the same number, give node.id alone`,
		`flag --set: node.drain is decided while the node runs: use "troupe node drain"`,
	}
	for i := range want {
		want[i] += ": invalid configuration"
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheWrongFileIsNotReportedLineByLine(t *testing.T) {
	got := errorLines(t, Sources{
		FS: file(t, "/s.properties", strings.Repeat("x\ny\n", 5000)), File: "/s.properties",
		Set: []string{"listeners=SSL://:1"},
	})
	if len(got) > errsMax+1 {
		t.Errorf("%d errors", len(got))
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "no.such.setting.%d=1\n", i)
	}
	got = errorLines(t, Sources{FS: file(t, "/s.properties", many.String()), File: "/s.properties"})
	const last = "950 more of the kind: invalid configuration"
	if len(got) != errsMax+1 || got[errsMax] != last {
		t.Errorf("%d errors, the last %q", len(got), got[len(got)-1])
	}
}

func TestWithoutAFileSystemTheFileIsTheOperatingSystems(t *testing.T) {
	name := filepath.Join(t.TempDir(), "troupe.yaml")
	if err := os.WriteFile(name, []byte("num.partitions: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, _ := mustLoad(t, Sources{File: name}).Int("num.partitions"); n != 7 {
		t.Errorf("num.partitions is %d", n)
	}
}

func TestVariablesThatAreNoSettingsAreLeftAlone(t *testing.T) {
	c := mustLoad(t, Sources{Environ: []string{
		"TROUPE_BROKERS=a:9092", "TROUPE_CONFIG=", "PATH=/bin", "TROUPE", "LOG_LEVEL=debug",
		// Kubernetes sets these beside services named troupe and troupe-kafka.
		"TROUPE_SERVICE_HOST=10.1.2.3", "TROUPE_SERVICE_PORT=9092",
		"TROUPE_SERVICE_PORT_KAFKA=9092", "TROUPE_PORT=tcp://10.1.2.3:9092",
		"TROUPE_PORT_9092_TCP=tcp://10.1.2.3:9092", "TROUPE_PORT_9092_TCP_PROTO=tcp",
		"TROUPE_PORT_9092_TCP_PORT=9092", "TROUPE_PORT_9092_TCP_ADDR=10.1.2.3",
		"TROUPE_KAFKA_SERVICE_HOST=10.1.2.3", "TROUPE_KAFKA_PORT_9092_TCP_ADDR=10.1.2.3",
	}})
	for _, row := range c.All() {
		if row.Static || row.Ignored {
			t.Errorf("%+v", row)
		}
	}
}

func TestEverySettingHasAVariableOfItsOwn(t *testing.T) {
	if len(byVariable) != len(configs.Brokers()) {
		t.Errorf("%d variables for %d settings", len(byVariable), len(configs.Brokers()))
	}
	for name := range byVariable {
		if kubernetes.MatchString(name) || slices.Contains(notSettings, name) {
			t.Errorf("%s is taken for something else", name)
		}
	}
}

func TestAFileThatCannotBeReadIsNamed(t *testing.T) {
	folder := vfs.NewMem()
	if err := folder.MkdirAll("/dir.yaml"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		sources Sources
		want    string
		is      error
	}{
		{"it does not exist", Sources{FS: vfs.NewMem(), File: "/missing.yaml"},
			"--config: there is no settings file /missing.yaml", fs.ErrNotExist},
		{"it does not exist where the environment says",
			Sources{FS: vfs.NewMem(), Environ: []string{"TROUPE_CONFIG=/missing.yaml"}},
			"TROUPE_CONFIG: there is no settings file /missing.yaml", fs.ErrNotExist},
		{"it is a folder", Sources{FS: folder, File: "/dir.yaml"},
			"--config: settings file /dir.yaml is not a regular file", messages.ErrInvalidConfig},
		{"its kind is unknown", Sources{FS: folder, File: "/server.conf"},
			"--config: /server.conf is neither a .properties nor a .yaml file; name it so",
			messages.ErrInvalidConfig},
		{"it is huge", Sources{
			FS: file(t, "/s.yaml", strings.Repeat("#", fileMax+1)), File: "/s.yaml"},
			"--config: settings file /s.yaml has 1048577 bytes, at most 1048576 are read",
			messages.ErrInvalidConfig},
		{"it is no text", Sources{FS: file(t, "/s.yaml", "a: \xff"), File: "/s.yaml"},
			"--config: settings file /s.yaml is not UTF-8 text", messages.ErrInvalidConfig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(tt.sources)
			if !errors.Is(err, tt.is) || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// stockKafka is what the server.properties of a fresh Kafka 4 with its own
// quorum says, without the comments.
const stockKafka = `
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
ssl.keystore.password=hunter2
`

func TestTheConfigurationOfAKafkaBrokerWorks(t *testing.T) {
	c := mustLoad(t, Sources{
		FS: file(t, "/server.properties", stockKafka), File: "/server.properties",
	})
	want := []Listener{{Name: "PLAINTEXT", Port: 9092,
		AdvertisedHost: "localhost", AdvertisedPort: 9092}}
	if got := c.Listeners(); !slices.Equal(got, want) {
		t.Errorf("listeners are %+v, want %+v", got, want)
	}
	const warning = "settings of Kafka that mean nothing to Troupe are ignored: " +
		"controller.listener.names, controller.quorum.bootstrap.servers, " +
		"inter.broker.listener.name, listener.security.protocol.map, num.io.threads, " +
		"num.network.threads, process.roles, share.coordinator.state.topic.min.isr, " +
		"share.coordinator.state.topic.replication.factor, socket.receive.buffer.bytes, " +
		"socket.send.buffer.bytes, ssl.keystore.password"
	if got := c.Warnings(); !slices.Equal(got, []string{warning}) {
		t.Errorf("warns of %q", got)
	}
	rows := c.All()
	if !slices.IsSortedFunc(rows, func(a, b Row) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("rows are not sorted by name")
	}
	for _, want := range []Row{
		{Name: "num.io.threads", Value: "8", Ignored: true,
			Origin: "ignored: Troupe has no thread pools to size (file /server.properties:11)"},
		{Name: "ssl.keystore.password", Value: "(hidden)", Ignored: true,
			Origin: "ignored: Troupe serves PLAINTEXT listeners only (file /server.properties:26)"},
		{Name: "log.dirs", Value: "/tmp/kraft-combined-logs", Default: "data", Static: true,
			Origin: "file /server.properties:15", Doc: def("log.dirs").Doc},
		{Name: "log.retention.ms", Null: true, Origin: "default", Doc: def("log.retention.ms").Doc},
		{Name: "log.level", Value: "info", Default: "info", Origin: "default",
			Doc: def("log.level").Doc},
	} {
		if !slices.Contains(rows, want) {
			t.Errorf("no row %+v", want)
		}
	}
}

func TestSettingsThatChangeNothingAreWarnedOf(t *testing.T) {
	c := mustLoad(t, Sources{Set: []string{"log.flush.scheduler.interval.ms=10",
		"group.share.session.timeout.ms=45000", "group.share.min.session.timeout.ms=45000"}})
	want := []string{
		"group.share.min.session.timeout.ms (flag --set), group.share.session.timeout.ms " +
			"(flag --set) have no effect: Troupe has no share groups yet",
		"log.flush.scheduler.interval.ms (flag --set) has no effect: " +
			def("log.flush.scheduler.interval.ms").NoEffect,
	}
	if got := c.Warnings(); !slices.Equal(got, want) {
		t.Errorf("warns of %q, want %q", got, want)
	}
}
