package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/vfs"
)

const (
	// boltMapBytes is mapped (not read, not allocated) from the start. A file
	// that outgrows its mapping is mapped anew, which waits for readers; the
	// metadata of a thousand partitions takes a few hundred KiB.
	boltMapBytes = 4 << 20
	// boltLockWait is how long to wait for another process to let go of the
	// file. The data directory is locked before, so nobody should hold it.
	boltLockWait = time.Millisecond
	boltPerm     = 0o640
)

// Bolt is a Store in one bbolt file, for a cluster of one node.
//
// The file is locked by the process that has it open, so controllerships need
// no session: the holder is whoever campaigned last since OpenBolt. Epoch,
// version and records change in one transaction, which is where a Lease is
// checked.
type Bolt struct {
	path    string
	holding *holding
	closed  chan struct{}

	mu      sync.Mutex // one call at a time; guards the fields below
	db      *bbolt.DB  // nil after Close
	file    *os.File   // the one db uses and closes
	damaged error      // set once: the file was found corrupt, every call returns this
}

var _ Store = (*Bolt)(nil)

// fileOpener is what bbolt needs from a file system; vfs.OS has it.
type fileOpener interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
}

// OpenBolt opens the metadata file at name, or creates it; its folder must
// exist. The file system must be the operating system's (vfs.OS).
//
// It fails with vfs.ErrLocked if another process has the file open, with
// ErrNewerFormat, with ErrCorrupt for a damaged or foreign file, and with the
// errors of the file system. Each names the file and what to do about it. A file
// that does not open is left as it was.
func OpenBolt(fsys vfs.FS, name string) (*Bolt, error) {
	opener, ok := fsys.(fileOpener)
	if !ok {
		return nil, fmt.Errorf("open %s: bbolt needs files of the operating system, not of %T; "+
			"use registry.NewMemory", name, fsys)
	}
	fresh, err := examine(fsys, name)
	if err != nil {
		return nil, err
	}
	b := &Bolt{path: name, closed: make(chan struct{})}
	epoch, err := b.open(opener)
	if err != nil {
		return nil, b.explain(err)
	}
	if fresh { // or a power cut could take the file with all that is in it
		if err := fsys.SyncDir(path.Dir(name)); err != nil {
			_ = b.release(false)
			return nil, fmt.Errorf("open metadata file %s: %w", name, err)
		}
	}
	b.holding = newHolding(epoch)
	return b, nil
}

func (b *Bolt) open(opener fileOpener) (epoch messages.ControllerEpoch, err error) {
	err = guard(func() (err error) {
		b.db, err = bbolt.Open(b.path, boltPerm, &bbolt.Options{
			Timeout:         boltLockWait,
			FreelistType:    bbolt.FreelistMapType,
			InitialMmapSize: boltMapBytes,
			NoStatistics:    true,
			OpenFile: func(name string, flag int, perm os.FileMode) (file *os.File, err error) {
				b.file, err = opener.OpenFile(name, flag, perm)
				return b.file, err
			},
		})
		return err
	})
	if hasCrashed(err) {
		_ = b.release(true)
	}
	if err != nil {
		return 0, err
	}
	err = guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) (err error) {
			epoch, err = checkFormat(tx)
			return err
		})
	})
	if err != nil {
		_ = b.release(hasCrashed(err))
		return 0, err
	}
	return epoch, nil
}

// release closes the database. After a panic inside bbolt that could wait for
// ever for a lock the panic left held, so then only the file goes: unlocked by
// hand, because the mapping, a few MiB of addresses that stay until the process
// ends, would keep the lock alive.
func (b *Bolt) release(crashed bool) error {
	db := b.db
	b.db = nil
	if !crashed {
		return db.Close()
	}
	if b.file == nil {
		return nil
	}
	_ = syscall.Flock(int(b.file.Fd()), syscall.LOCK_UN)
	return b.file.Close()
}

func hasCrashed(err error) bool {
	var crash *crashError
	return errors.As(err, &crash)
}

// Campaign implements Store. It fails only while another node id has campaigned
// since OpenBolt.
func (b *Bolt) Campaign(ctx context.Context, node messages.NodeID) (Lease, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(ctx); err != nil {
		return Lease{}, err
	}
	now, _ := b.holding.get()
	if now.Node != messages.NoNode && now.Node != node {
		return Lease{}, &HeldError{Holder: now}
	}
	var epoch messages.ControllerEpoch
	err := b.update(func(tx *bbolt.Tx) (err error) {
		epoch, err = nextEpoch(tx)
		return err
	})
	if err != nil {
		return Lease{}, err
	}
	b.holding.set(Holder{Node: node, Epoch: epoch})
	return Lease{Node: node, Epoch: epoch, token: b}, nil
}

// Holder implements Store.
func (b *Bolt) Holder(ctx context.Context) (Holder, error) {
	if err := usable(ctx, b.closed); err != nil {
		return Holder{Node: messages.NoNode}, err
	}
	now, _ := b.holding.get()
	return now, nil
}

// Watch implements Store.
func (b *Bolt) Watch(ctx context.Context, f func(Holder)) error {
	return b.holding.watch(ctx, b.closed, f)
}

// Read implements Store. A record that does not match its checksum is ErrCorrupt.
func (b *Bolt) Read(ctx context.Context) (Contents, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(ctx); err != nil {
		return Contents{}, err
	}
	var c Contents
	err := guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) (err error) {
			c, err = readAll(tx)
			return err
		})
	})
	if err != nil {
		return Contents{}, b.failed(err)
	}
	return c, nil
}

// Commit implements Store.
func (b *Bolt) Commit(
	ctx context.Context, lease Lease, ops []Op,
) (messages.MetadataVersion, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(ctx); err != nil {
		return 0, err
	}
	if err := checkOps(ops); err != nil {
		return 0, err
	}
	var version messages.MetadataVersion
	err := b.update(func(tx *bbolt.Tx) (err error) {
		stored, err := readEpoch(tx)
		if err != nil {
			return err
		}
		now, _ := b.holding.get()
		if lease.token != b || lease.Epoch != stored {
			return fenced(lease, Holder{Node: now.Node, Epoch: stored})
		}
		version, err = apply(tx, ops)
		return err
	})
	return version, err
}

// Close implements Store.
func (b *Bolt) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db == nil {
		return nil
	}
	close(b.closed)
	err := b.release(hasCrashed(b.damaged))
	if err != nil {
		return fmt.Errorf("close metadata file %s: %w", b.path, err)
	}
	return nil
}

func (b *Bolt) usable(ctx context.Context) error {
	if err := usable(ctx, b.closed); err != nil {
		return err
	}
	return b.damaged
}

func (b *Bolt) update(f func(*bbolt.Tx) error) error {
	err := guard(func() error { return b.db.Update(f) })
	if err != nil {
		return b.failed(err)
	}
	return nil
}

// failed explains an error and, when the file is damaged, makes it the answer to
// every later call: going on could spread the damage.
func (b *Bolt) failed(err error) error {
	if errors.Is(err, messages.ErrFencedController) {
		return err
	}
	err = b.explain(err)
	if errors.Is(err, ErrCorrupt) {
		b.damaged = err
	}
	return err
}

// explain names the file and the remedy.
func (b *Bolt) explain(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("metadata file %s: %w: stop the other process, "+
			"or choose another data directory", b.path, vfs.ErrLocked)
	case errors.Is(err, ErrNewerFormat):
		return fmt.Errorf("metadata file %s: %w: start the newer version", b.path, err)
	case isDamage(err):
		return corrupt(b.path, err)
	}
	return fmt.Errorf("metadata file %s: %w", b.path, err)
}

// corrupt reports a damaged file.
func corrupt(name string, err error) error {
	if !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("metadata file %s: %w: restore it from a copy, "+
		"or move it away to start with empty metadata", name, err)
}

// isDamage tells a damaged file from a failing disk or a full one.
func isDamage(err error) bool {
	return hasCrashed(err) || errors.Is(err, ErrCorrupt) ||
		errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrVersionMismatch) ||
		errors.Is(err, berrors.ErrChecksum)
}
