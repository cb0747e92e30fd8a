// Package registry stores the cluster's metadata: topics, configurations,
// assignments, leaders, in-sync replicas, producer id blocks.
//
// A Store is small records under slash-separated keys, one lock that makes a
// node controller, and transactions that only the newest controller can commit.
// It knows nothing of what the records mean. The controller is its only user:
// every other node learns metadata from the controller.
//
// Bolt keeps the records in a file, for a cluster of one node. Memory keeps them
// on the heap, for simulations. The interface asks for no more than a key-value
// service with sessions, check-and-set and small transactions can do, so that a
// cluster can use one.
package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/troupelog/troupe/messages"
)

// Limits of one Commit, the same in every Store. They are those of a Consul KV
// transaction (64 operations, values of 512 KiB) less the two operations that
// check the lock and the version.
const (
	OpsMax   = 62        // operations of one Commit
	ValueMax = 512 << 10 // bytes of one value
	KeyMax   = 512       // bytes of one key
)

var (
	// ErrHeld means that another live node is controller; see HeldError.
	ErrHeld = errors.New("another node is controller")
	// ErrTooLarge means that a Commit exceeds OpsMax, ValueMax or KeyMax.
	ErrTooLarge = errors.New("too large for the metadata store")
	// ErrBadKey means that a key is not slash-separated words, or comes twice.
	ErrBadKey = errors.New("bad metadata key")
	// ErrNewerFormat means that a newer version of Troupe wrote the file.
	ErrNewerFormat = errors.New("written by a newer version of Troupe")
	// ErrCorrupt means that the file is damaged, or is not a metadata file.
	ErrCorrupt = errors.New("metadata file is corrupt")
	// ErrClosed means that the Store was closed.
	ErrClosed = errors.New("metadata store is closed")
)

// Store is the metadata of one cluster. Its methods are safe for concurrent use.
//
// All of them fail with ErrClosed after Close, and with the context's error when
// it ended before the call began. An error of the disk or the network leaves the
// outcome of a Commit or Campaign open: Read again before going on.
type Store interface {
	// Campaign makes node the controller, with an epoch higher than all before,
	// which fences every earlier Lease, also one of the same node. It fails with
	// a *HeldError while another live node is controller.
	Campaign(ctx context.Context, node messages.NodeID) (Lease, error)
	// Holder returns who is controller now. Nobody is between the end of one
	// controller's session and the next Campaign.
	Holder(ctx context.Context) (Holder, error)
	// Watch calls f with the holder now, and again after each change, until ctx
	// ends, whose error it returns. Changes in quick succession may be seen as
	// one. f must not call Close.
	Watch(ctx context.Context, f func(Holder)) error
	// Read returns all entries, sorted by key, as of one version. They belong
	// to the caller.
	Read(ctx context.Context) (Contents, error)
	// Commit applies ops all or none, durably, and returns the version after
	// them: one more than before. It fails with messages.ErrFencedController
	// unless lease is the newest controllership, with ErrTooLarge naming the
	// key, and with ErrBadKey. No ops at all is a way to check the lease; that
	// counts as a version too.
	Commit(ctx context.Context, lease Lease, ops []Op) (messages.MetadataVersion, error)
	// Close ends the session, and with it the controllership of its node. A
	// second call does nothing.
	Close() error
}

// Lease is a controllership. The zero Lease is none; only Campaign makes one.
type Lease struct {
	Node  messages.NodeID
	Epoch messages.ControllerEpoch

	token any // what the Store that issued it needs to prove it
}

// Holder says who is controller. Node is NoNode when nobody is; Epoch is that of
// the latest controllership all the same, 0 before the first.
type Holder struct {
	Node  messages.NodeID
	Epoch messages.ControllerEpoch
}

// Contents is everything in a Store at one version.
type Contents struct {
	Version messages.MetadataVersion // 0 before the first Commit
	Entries []Entry                  // sorted by Key, byte by byte
}

// Entry is one record. Revision grows with every change of the record and of no
// other; it tells changed from unchanged, nothing else.
type Entry struct {
	Key      string
	Value    []byte
	Revision int64
}

// Op sets a record, or deletes it when Value is nil. Deleting a record that does
// not exist does nothing. The empty, non-nil Value is a record like any other.
type Op struct {
	Key   string
	Value []byte
}

// HeldError is ErrHeld with the controller that stands in the way.
type HeldError struct {
	Holder Holder
}

// Error implements error.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%v: node %d, controller epoch %d", ErrHeld, e.Holder.Node, e.Holder.Epoch)
}

// Is makes errors.Is find ErrHeld.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// checkOps enforces the limits of a Commit.
func checkOps(ops []Op) error {
	if len(ops) > OpsMax {
		return fmt.Errorf("%d operations from key %q on, at most %d fit in one commit: %w",
			len(ops), ops[0].Key, OpsMax, ErrTooLarge)
	}
	seen := make(map[string]bool, len(ops))
	for _, op := range ops {
		if err := checkKey(op.Key); err != nil {
			return err
		}
		if seen[op.Key] {
			return fmt.Errorf("key %q comes twice in one commit: %w", op.Key, ErrBadKey)
		}
		seen[op.Key] = true
		if len(op.Value) > ValueMax {
			return fmt.Errorf("value of %d bytes under key %q, at most %d are allowed: %w",
				len(op.Value), op.Key, ValueMax, ErrTooLarge)
		}
	}
	return nil
}

// checkKey accepts one or more words of printable ASCII joined by single
// slashes: what every store can take as a key and an operator can type.
func checkKey(key string) error {
	if len(key) > KeyMax {
		return fmt.Errorf("key %q... of %d bytes, at most %d are allowed: %w",
			key[:32], len(key), KeyMax, ErrTooLarge)
	}
	for word := range strings.SplitSeq(key, "/") {
		if word == "" {
			return fmt.Errorf("%q has an empty word: %w", key, ErrBadKey)
		}
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("%q is not printable ASCII: %w", key, ErrBadKey)
		}
	}
	return nil
}

// fenced says why a lease no longer counts.
func fenced(lease Lease, now Holder) error {
	return fmt.Errorf("node %d commits under controller epoch %d, the newest is %d of node %d: %w",
		lease.Node, lease.Epoch, now.Epoch, now.Node, messages.ErrFencedController)
}
