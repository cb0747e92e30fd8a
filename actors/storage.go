package actors

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/datadir"
)

// Messages to the storage actor.
type (
	// placeReplica asks for a replica to be spawned in the directory that has
	// it, or in the one with the fewest.
	placeReplica struct {
		id   messages.ReplicaID
		name string
		done func(*actor.PID, error)
	}
	// setAsideStrays moves partitions on disk out of the way that the metadata
	// does not place here.
	setAsideStrays struct{ image *messages.Image }
	// replicaRemoved says that a replica's data was deleted.
	replicaRemoved struct{ id messages.PartitionID }
	// describeDirs asks for the data directories and what is in them.
	describeDirs struct{ reply func([]messages.LogDir) }
	// DrainStorage ends all replicas, closes their logs and marks the
	// directories clean. Done is called once, with what went wrong.
	DrainStorage struct{ Done func(error) }
	dirDrained   struct{ err error }
)

// storage is the parent of the log-dir actors. It knows which directory has
// which partition and places new ones.
type storage struct {
	env     *Env
	log     zerolog.Logger
	dirs    []*dirHandle
	found   map[messages.PartitionID]foundAt // on disk, not spawned in this life yet
	count   map[*dirHandle]int               // replicas placed
	left    int                              // directories that still drain
	drained func(error)
	errs    []error
}

type foundAt struct {
	dir *dirHandle
	at  datadir.Partition
}

// StartStorage spawns the storage actor over opened data directories and
// returns when it can be used.
func StartStorage(env *Env, dirs []*datadir.Dir) (*actor.PID, error) {
	s := &storage{env: env, log: env.Log.With().Str("actor", "storage").Logger(),
		found: map[messages.PartitionID]foundAt{}, count: map[*dirHandle]int{}}
	for _, d := range dirs {
		h := newDirHandle(d, env.Root, env.number("log.dir.max.bytes"))
		s.dirs = append(s.dirs, h)
		for _, p := range d.Partitions {
			id := messages.PartitionID{Topic: p.TopicID, Partition: p.Partition}
			if other, twice := s.found[id]; twice {
				return nil, &datadir.Error{Dir: d.Path,
					Wrong:  fmt.Sprintf("partition %s-%d is also in %s", p.Topic, p.Partition, other.dir.dir.Path),
					Remedy: "move the older of the two folders away"}
			}
			s.found[id] = foundAt{h, p}
		}
	}
	for _, d := range dirs {
		if err := d.Begin(); err != nil {
			return nil, err
		}
	}
	strategy := newSupervisor(env, "log-dir", nil)
	props := actor.PropsFromProducer(func() actor.Actor { return s },
		append(env.Props("storage"), actor.WithSupervisor(strategy))...)
	pid, err := env.Root.SpawnNamed(props, "storage")
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	env.storage.Store(pid)
	return pid, nil
}

func (s *storage) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.spawnDirs(ctx)
	case *placeReplica:
		s.place(ctx, m)
	case *setAsideStrays:
		s.setAsideStrays(m.image)
	case replicaRemoved:
		if f, ok := s.found[m.id]; ok {
			s.count[f.dir]--
			delete(s.found, m.id)
		}
	case *describeDirs:
		m.reply(s.describe())
	case *DrainStorage:
		s.drain(ctx, m)
	case dirDrained:
		s.dirDrained(ctx, m.err)
	}
}

func (s *storage) spawnDirs(ctx actor.Context) {
	for i, d := range s.dirs {
		d.pid = ctx.SpawnPrefix(newLogDir(s.env, d), fmt.Sprintf("log-dir-%d-", i))
	}
}

func (s *storage) place(ctx actor.Context, m *placeReplica) {
	if s.drained != nil {
		m.done(nil, fmt.Errorf("the node is stopping: %w", messages.ErrUnavailable))
		return
	}
	t := s.env.Client.Image().TopicByID(m.id.Topic)
	if t == nil {
		m.done(nil, fmt.Errorf("topic %s: %w", m.id.Topic, messages.ErrUnknownTopicID))
		return
	}
	spawn := &spawnReplica{id: m.id, topic: t.Name, name: m.name, done: m.done}
	at, onDisk := s.found[m.id.PartitionID]
	dir := at.dir
	if onDisk {
		spawn.folder = at.at.Dir
	} else {
		dir = s.emptiest()
		spawn.folder = dir.folderOf(t.Name, m.id.Partition)
		// A restarted replica must come back to where its data is.
		s.found[m.id.PartitionID] = foundAt{dir, datadir.Partition{Dir: spawn.folder,
			Topic: t.Name, Partition: m.id.Partition, TopicID: m.id.Topic}}
	}
	s.count[dir]++
	ctx.Send(dir.pid, spawn)
}

// emptiest is the directory with the fewest replicas, preferring those that work.
func (s *storage) emptiest() *dirHandle {
	best := s.dirs[0]
	for _, d := range s.dirs[1:] {
		broken, bestBroken := d.offline.Load() != nil, best.offline.Load() != nil
		if bestBroken && !broken || broken == bestBroken && s.count[d] < s.count[best] {
			best = d
		}
	}
	return best
}

// setAsideStrays moves away partitions that the metadata does not place here: their
// topic was deleted or they were moved to other nodes while this one was down, or
// they are of another cluster.
// Their data stays, for an operator to decide.
func (s *storage) setAsideStrays(im *messages.Image) {
	for id, f := range s.found {
		p := im.Partition(id)
		if s.env.Replica(id) != nil || p != nil && slices.Contains(p.Replicas, s.env.Self) {
			continue
		}
		delete(s.found, id)
		to, err := f.dir.dir.SetAside(f.at)
		if err != nil {
			s.log.Error().Err(err).Str("folder", f.at.Dir).
				Msg("partition that is not this node's cannot be set aside")
			continue
		}
		f.dir.removed(messages.TopicPartition{Topic: f.at.Topic, Partition: f.at.Partition})
		s.log.Warn().Str("folder", f.at.Dir).Str("now", to).Str("topic_id", f.at.TopicID.String()).
			Bool("topic_known", p != nil).Msg("partition that is not this node's is set aside; " +
			"delete the folder if its data is not wanted")
	}
}

func (s *storage) describe() []messages.LogDir {
	out := make([]messages.LogDir, len(s.dirs))
	index := map[string]int{}
	for i, d := range s.dirs {
		out[i].Path = fullPath(d.dir.Path)
		index[d.dir.Path] = i
		if err := d.offline.Load(); err != nil {
			out[i].Err = *err
			continue
		}
		var err error
		if out[i].TotalBytes, out[i].UsableBytes, err = d.dir.Usage(); err != nil {
			out[i].Err = fmt.Errorf("%w: %w", messages.ErrStorage, err)
		}
	}
	s.env.EachReplica(func(r *Replica) {
		if f, ok := s.found[r.id.PartitionID]; ok {
			i := index[f.dir.dir.Path]
			out[i].Replicas = append(out[i].Replicas,
				messages.ReplicaSize{Topic: r.topic, Partition: r.id.Partition, Bytes: r.Size()})
		}
	})
	return out
}

// fullPath names a directory so that it can be found from anywhere, as Kafka does:
// who asks is seldom in the folder that the node was started in.
func fullPath(dir string) string {
	full, err := filepath.Abs(dir)
	if err != nil { // the working directory is gone
		return dir
	}
	return full
}

func (s *storage) drain(ctx actor.Context, m *DrainStorage) {
	s.drained = m.Done
	s.left = len(s.dirs)
	self, root := ctx.Self(), s.env.Root
	for _, d := range s.dirs {
		ctx.Send(d.pid, &drain{done: func(err error) { root.Send(self, dirDrained{err}) }})
	}
}

func (s *storage) dirDrained(ctx actor.Context, err error) {
	s.errs = append(s.errs, err)
	if s.left--; s.left == 0 {
		s.drained(errors.Join(s.errs...))
		ctx.Stop(ctx.Self())
	}
}

// retentionInterval is log.retention.check.interval.ms.
func (e *Env) retentionInterval() time.Duration {
	return milliseconds(max(1, e.number("log.retention.check.interval.ms")))
}
