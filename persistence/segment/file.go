package segment

import (
	"errors"
	"io/fs"

	"github.com/troupelog/troupe/persistence/vfs"
)

// WriteFile makes a file have the given content; sync makes the content (not
// the folder's entry) durable. A crash may leave it half written, so the file
// must be one whose reader can tell: use it for what can be rebuilt.
func WriteFile(fsys vfs.FS, name string, content []byte, sync bool) error {
	f, err := fsys.Create(name)
	if errors.Is(err, fs.ErrExist) {
		if f, err = fsys.OpenWrite(name); err == nil {
			if err = f.Truncate(0); err != nil {
				_ = f.Close()
			}
		}
	}
	if err != nil {
		return ioError("create", name, 0, err)
	}
	if len(content) > 0 {
		_, err = f.WriteAt(content, 0)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		// Half a file is worse than none: its reader would have to find out.
		_ = fsys.Remove(name)
		return ioError("write", name, 0, err)
	}
	return nil
}

// ReplaceFile gives a file new content atomically and durably: after a crash it
// has the old content or the new.
func ReplaceFile(fsys vfs.FS, name string, content []byte) error {
	return ioError("replace", name, 0, vfs.WriteFileAtomic(fsys, name, content))
}
