package node

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/persistence/datadir"
	"github.com/troupelog/troupe/persistence/registry"
)

// clusterIDs are the ids that any file and any tool can hold as they are.
var clusterIDs = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// openDirs opens and locks the data directories, and checks that they belong to
// this node and to each other.
func (n *Node) openDirs(ctx context.Context) error {
	id, _ := n.cfg.Int("node.id")
	want := datadir.Meta{ClusterID: n.cfg.Value("cluster.id"), Node: messages.NodeID(id)}
	named := want.ClusterID != ""
	if !named {
		want.ClusterID = randomID()
	}
	directory := randomID() // of the first, if it is new
	if n.member != nil {
		var err error
		if want, err = n.member.identity(ctx, n, want, directory); err != nil {
			return err
		}
		named = true
	}
	if named && !clusterIDs.MatchString(want.ClusterID) {
		return fmt.Errorf("cluster.id cannot be %q: it must be 1 to 64 letters, digits, dots, "+
			"_ and -: %w", want.ClusterID, messages.ErrInvalidConfig)
	}
	for _, name := range n.cfg.List("log.dirs") {
		d, err := datadir.Open(n.fs, path.Clean(name), func() datadir.Meta {
			m := want
			m.DirectoryID, directory = directory, randomID()
			return m
		})
		if err != nil {
			return err
		}
		n.dirs = append(n.dirs, d)
		if d.Meta.Node != want.Node {
			return &datadir.Error{Dir: d.Path,
				Wrong:  fmt.Sprintf("it belongs to node %d and this is node %d", d.Meta.Node, want.Node),
				Remedy: fmt.Sprintf("set node.id=%d, or give another directory with --data-dir", d.Meta.Node)}
		}
		if named && d.Meta.ClusterID != want.ClusterID {
			return &datadir.Error{Dir: d.Path,
				Wrong: fmt.Sprintf("it belongs to cluster %s and cluster.id is %s",
					d.Meta.ClusterID, want.ClusterID),
				Remedy: "leave cluster.id out, name the right cluster, or give another directory with " +
					"--data-dir"}
		}
		// The first directory says which cluster this is; new ones join it.
		if len(n.dirs) == 1 {
			want.ClusterID = d.Meta.ClusterID
		}
		if d.Meta.ClusterID != want.ClusterID {
			return &datadir.Error{Dir: d.Path,
				Wrong: fmt.Sprintf("it belongs to cluster %s and %s to cluster %s",
					d.Meta.ClusterID, n.dirs[0].Path, want.ClusterID),
				Remedy: "take the directory of the other cluster out of log.dirs"}
		}
	}
	if len(n.dirs) == 0 {
		return fmt.Errorf(
			"log.dirs names no data directory; set it, or use --data-dir: %w",
			messages.ErrInvalidConfig,
		)
	}
	return nil
}

// openRegistry opens the metadata store of a node on its own, and reads it once,
// so that a damaged one stops the start instead of being retried for ever.
func (n *Node) openRegistry(ctx context.Context) error {
	if n.member != nil {
		return n.member.checkRegistry(ctx, n)
	}
	first := n.dirs[0]
	file := path.Join(first.Path, datadir.RegistryFile)
	if _, err := n.fs.Stat(file); errors.Is(err, fs.ErrNotExist) {
		for _, d := range n.dirs {
			if len(d.Partitions) > 0 {
				return &datadir.Error{Dir: first.Path,
					Wrong: fmt.Sprintf("%s is missing but %s holds %d partitions",
						datadir.RegistryFile, d.Path, len(d.Partitions)),
					Remedy: "restore the file from a backup; without it nobody knows whose records these are"}
			}
		}
	}
	store, err := registry.OpenBolt(n.fs, file)
	if err != nil {
		return err
	}
	n.store = store
	stored, err := store.Read(ctx)
	if err != nil {
		return err
	}
	entries := make([]wire.Entry, len(stored.Entries))
	for i, e := range stored.Entries {
		entries[i] = wire.Entry{Key: e.Key, Value: e.Value}
	}
	contents, err := wire.Decode(entries)
	if err != nil {
		return fmt.Errorf("%s: %w; restore the file from a backup", file, err)
	}
	if contents.ClusterID != "" && contents.ClusterID != first.Meta.ClusterID {
		return &datadir.Error{Dir: first.Path,
			Wrong: fmt.Sprintf("%s is of cluster %s and the directory of cluster %s",
				datadir.RegistryFile, contents.ClusterID, first.Meta.ClusterID),
			Remedy: "put back the file that belongs here"}
	}
	return nil
}

// randomID returns 16 random bytes as Kafka writes its ids. Like Kafka's, they
// do not begin with '-', which command lines would take for an option.
func randomID() string {
	for {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		if s := base64.RawURLEncoding.EncodeToString(b[:]); s[0] != '-' {
			return s
		}
	}
}
