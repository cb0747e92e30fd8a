package actors

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/cluster"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/datadir"
	"github.com/troupelog/troupe/persistence/registry"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) {
	// The library counts dead letters in a goroutine that ends after a second.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(
		"github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"))
}

// self is the node of all tests.
const self messages.NodeID = 1

// patience bounds every wait of a test: far more than anything takes, so that
// only what never happens runs into it.
const patience = 30 * time.Second

// plan is what a world is made of. The zero value of a field is a default.
type plan struct {
	disk     vfs.FS         // in memory
	store    registry.Store // in memory
	dirs     []string       // "data"
	settings map[string]string
}

// world is one node without its listeners: the actors over a disk and a
// registry that a test can break.
type world struct {
	t        testing.TB
	disk     vfs.FS
	store    registry.Store
	env      *Env
	client   *Client
	cluster  *cluster.Embedded
	lookup   *cluster.Lookup
	dirs     []*datadir.Dir
	storage  *actor.PID
	settings sync.Map // name -> value; the table's default otherwise
	clockMs  atomic.Int64
	metrics  *counts
	log      *testkit.LogBuffer
	ended    bool
}

// start runs a node and returns when it shows its own metadata.
func start(t testing.TB, p plan) *world {
	t.Helper()
	w := begin(t, p)
	w.await(1)
	return w
}

// begin is start without the wait.
func begin(t testing.TB, p plan) *world {
	t.Helper()
	w := &world{t: t, disk: p.disk, store: p.store, metrics: &counts{}, log: &testkit.LogBuffer{}}
	if w.disk == nil {
		w.disk = vfs.NewMem()
	}
	if w.store == nil {
		w.store = registry.NewMemory()
	}
	if p.dirs == nil {
		p.dirs = []string{"data"}
	}
	for name, value := range p.settings {
		w.settings.Store(name, value)
	}
	w.clockMs.Store(1_700_000_000_000)
	for _, name := range p.dirs {
		d, err := datadir.Open(w.disk, name, func() datadir.Meta {
			return datadir.Meta{ClusterID: "test", Node: self, DirectoryID: name}
		})
		if err != nil {
			t.Fatalf("opening %s: %v", name, err)
		}
		w.dirs = append(w.dirs, d)
	}
	w.startActors()
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			t.Logf("log of the node:\n%s", w.log)
		}
	})
	return w
}

func (w *world) startActors() {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	system := cluster.NewSystem(quiet)
	w.env = &Env{
		Self: self, FS: w.disk, Files: segment.NewCache(64), Log: zerolog.New(w.log),
		Now: func() time.Time { return time.UnixMilli(w.clockMs.Load()) }, Root: system.Root,
		Metrics: w.metrics, Settings: w.setting,
	}
	w.client = NewClient(w.env)
	w.env.Init(2)
	w.lookup = cluster.NewLookup(self, Supervise(w.env), w.kinds()...)
	var err error
	if w.cluster, err = cluster.StartEmbedded(system, "test", w.lookup, nil, nil, nil); err != nil {
		w.t.Fatal(err)
	}
	w.env.IDs = struct {
		*cluster.Embedded
		*cluster.Lookup
	}{w.cluster, w.lookup}
	if w.storage, err = StartStorage(w.env, w.dirs); err != nil {
		w.t.Fatalf("starting the storage: %v", err)
	}
	w.lookup.Ensure(KindController, []string{KindController})
	w.lookup.Ensure(KindNode, []string{"1"})
}

// kinds are those of package node, over one member.
func (w *world) kinds() []cluster.Kind {
	here := func(v *cluster.View, _ string) messages.NodeID { return v.Self }
	return []cluster.Kind{
		{Name: KindController, Owner: here, Props: func(string) *actor.Props {
			return NewController(w.env, ControllerConfig{
				Store:     w.store,
				ClusterID: func() string { return "test" },
				Defaults: func() topics.Defaults {
					return topics.Defaults{Partitions: 1, ReplicationFactor: 1, DeleteTopics: true}
				},
			})
		}},
		{Name: KindNode, Owner: here, Props: func(string) *actor.Props {
			return NewNode(w.env, NodeConfig{
				Node: messages.Node{ID: self, Host: "localhost", Port: 9092}})
		}},
		{Name: KindTopic, Owner: here, Props: func(name string) *actor.Props {
			return NewTopic(w.env, name)
		}},
		{
			Name: KindReplica, Owner: replicaHome, Retire: Leave{},
			Props: func(string) *actor.Props { return nil },
			Spawn: func(id, name string, _ *actor.Props, done func(*actor.PID, error)) {
				w.client.PlaceReplica(id, name, done)
			},
		},
		{Name: KindPartition, Alias: func(*cluster.View, string) (string, string, bool) {
			return "", "", false
		}},
	}
}

func replicaHome(v *cluster.View, identity string) messages.NodeID {
	id, err := messages.ParseReplicaIdentity(identity)
	if err != nil || v.Image.Partition(id.PartitionID) == nil {
		return messages.NoNode
	}
	return id.Node
}

func (w *world) setting(name string) string {
	if v, ok := w.client.Image().NodeConfigs[self][name]; ok {
		return v
	}
	if v, ok := w.settings.Load(name); ok {
		return v.(string)
	}
	d, ok := configs.Broker(name)
	if !ok {
		w.t.Errorf("there is no setting %s", name)
		return ""
	}
	return d.Default
}

// stop drains the node, as SIGTERM does, and returns what kept it from being a
// clean shutdown.
func (w *world) stop() error {
	w.t.Helper()
	w.ended = true
	w.lookup.Shutdown()
	done := make(chan error, 1)
	w.env.Root.Send(w.storage, &DrainStorage{Done: func(err error) { done <- err }})
	err := receive(w.t, "the end of the drain", done)
	w.shut()
	return err
}

// kill ends the node without a drain: a crash, as far as the disk is concerned
// that a test cloned before it.
func (w *world) kill() {
	if !w.ended {
		w.ended = true
		w.lookup.Shutdown()
		_ = w.env.Root.StopFuture(w.storage).Wait()
		w.shut()
	}
}

func (w *world) shut() {
	w.cluster.Stop()
	w.env.Close()
	w.env.Files.Close()
	for _, d := range w.dirs {
		_ = d.Close()
	}
}

// await waits until a metadata version is in effect.
func (w *world) await(v messages.MetadataVersion) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.client.AwaitVersion(ctx, v); err != nil {
		w.t.Fatal(err)
	}
}

// create makes a topic and returns it.
func (w *world) create(name string, partitions int32, settings ...string) *messages.Topic {
	w.t.Helper()
	c := messages.CreateTopic{Name: name, Partitions: partitions, ReplicationFactor: 1,
		Configs: messages.Config{}}
	for i := 0; i < len(settings); i += 2 {
		c.Configs[settings[i]] = settings[i+1]
	}
	results, err := w.client.CreateTopics(w.t.Context(), []messages.CreateTopic{c}, false)
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		w.t.Fatalf("creating %s: %v", name, err)
	}
	return w.client.Image().Topic(name)
}

func (w *world) delete(name string) {
	w.t.Helper()
	results, err := w.client.DeleteTopics(w.t.Context(), []messages.TopicRef{{Name: name}})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		w.t.Fatalf("deleting %s: %v", name, err)
	}
}

// leader returns the replica that leads a partition, once it does.
func (w *world) leader(topic string, partition int32) *Replica {
	w.t.Helper()
	var r *Replica
	w.eventually(topic+" leads", func() (ok bool) {
		if t := w.client.Image().Topic(topic); t != nil {
			var err error
			r, err = w.client.Replica(t, partition)
			return err == nil
		}
		return false
	})
	return r
}

// produce appends one record per value and fails the test unless all are
// acknowledged.
func (w *world) produce(topic string, values ...string) {
	w.t.Helper()
	r := w.leader(topic, 0)
	for _, v := range values {
		if res := w.append(r, data.AcksAll, batchOf(v)); res.Err != nil {
			w.t.Fatalf("appending %q to %s: %v", v, topic, res.Err)
		}
	}
}

// append appends a batch and waits for the answer.
func (w *world) append(r *Replica, acks data.Acks, b record.Batch) data.AppendResult {
	w.t.Helper()
	return receive(w.t, "the answer to an append", appendAsync(r, acks, b))
}

func appendAsync(r *Replica, acks data.Acks, b record.Batch) <-chan data.AppendResult {
	done := make(chan data.AppendResult, 2) // a second answer must be seen, not block
	r.Append(&data.Append{Batch: b, Acks: acks, Done: func(res data.AppendResult) { done <- res }})
	return done
}

// consume returns the values from the log start on.
func (w *world) consume(topic string) []string {
	w.t.Helper()
	r := w.leader(topic, 0)
	values := []string{}
	o := r.Offsets()
	for at := o.LogStart; at < o.HighWatermark; {
		res := r.Read(data.Read{From: at, MaxBytes: 1 << 20, MinOne: true,
			CurrentEpoch: messages.NoEpoch, LastEpoch: messages.NoEpoch})
		if res.Err != nil {
			w.t.Fatalf("reading %s from %d: %v", topic, at, res.Err)
		}
		b, err := res.View.AppendTo(nil)
		res.View.Release()
		if err != nil || len(b) == 0 {
			w.t.Fatalf("reading %s from %d of %+v: %d bytes, %v", topic, at, o, len(b), err)
		}
		for len(b) > 0 {
			var batch record.Batch
			if batch, b, err = record.Parse(b); err != nil {
				w.t.Fatalf("reading %s from %d: %v", topic, at, err)
			}
			for r, err := range record.Records(&batch, record.InflateLimit) {
				if err != nil {
					w.t.Fatal(err)
				}
				if r.Offset >= at {
					values = append(values, string(r.Value))
				}
			}
			at = batch.NextOffset()
		}
	}
	return values
}

// eventually waits for a condition.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	testkit.Eventually(w.t, what, ok)
}

// receive waits for what a channel brings.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	select {
	case v := <-from:
		return v
	case <-end.C:
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// batchOf returns a batch of records with these values.
func batchOf(values ...string) record.Batch { return build(newBatch(values...)) }

func newBatch(values ...string) *record.Builder {
	b := record.NewBuilder(record.Compression{})
	for _, v := range values {
		b.Append(1_700_000_000_000, nil, []byte(v))
	}
	return b
}

func build(b *record.Builder) record.Batch {
	batch, err := b.Build()
	if err != nil {
		panic(fmt.Sprintf("a batch of a test cannot be built: %v", err))
	}
	return batch
}

func values(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = prefix + strconv.Itoa(i)
	}
	return out
}

// exists reports whether a name is on the disk.
func (w *world) exists(name ...string) bool {
	_, err := w.disk.Stat(path.Join(name...))
	return err == nil
}

// counts is a Metrics that adds up.
type counts struct {
	restarted, recovered, flushed atomic.Int64
	shrunk, grown                 atomic.Int64 // in-sync sets
	in, out                       atomic.Int64 // bytes replicated
	compacted, removed            atomic.Int64 // runs, and bytes they removed
	forgotten                     sync.Map
}

func (c *counts) ActorRestarted(string)                   { c.restarted.Add(1) }
func (c *counts) LogFlushed(time.Duration)                { c.flushed.Add(1) }
func (c *counts) PartitionRecovered(time.Duration, int64) { c.recovered.Add(1) }
func (c *counts) ReplicatedIn(bytes int)                  { c.in.Add(int64(bytes)) }
func (c *counts) ReplicatedOut(bytes int)                 { c.out.Add(int64(bytes)) }
func (c *counts) ForgetTopic(name string)                 { c.forgotten.Store(name, true) }

func (c *counts) Compacted(_ time.Duration, _, removed int64) {
	c.removed.Add(removed)
	c.compacted.Add(1)
}

func (c *counts) ISRChanged(by int) {
	if by < 0 {
		c.shrunk.Add(1)
	} else {
		c.grown.Add(1)
	}
}
