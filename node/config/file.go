package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/vfs"
)

// fileMax bounds the settings file, in bytes. Kafka's own is 7 KiB with comments.
const fileMax = 1 << 20

// line is one setting of a file.
type line struct {
	name, value string
	number      int // of its first line, from 1
}

// parsers by the ending of the file's name. A parser returns what it understood
// even if it fails; its errors begin with the number of the line, if they can.
var parsers = map[string]func(text []byte) ([]line, []error){
	".properties": parseProperties,
	".yaml":       parseYAML,
	".yml":        parseYAML,
	".json":       parseYAML, // JSON is YAML
}

// takeFile takes the settings of the file, if there is one.
func (l *loader) takeFile(s Sources) {
	name, from := s.File, "--config"
	if name == "" {
		name, from = environment(s.Environ, envFile), envFile
	}
	if name == "" {
		return
	}
	parse, ok := parsers[strings.ToLower(path.Ext(name))]
	if !ok {
		l.fail(from, "%s is neither a .properties nor a .yaml file; name it so", name)
		return
	}
	fsys := s.FS
	if fsys == nil {
		fsys = vfs.OS{}
	}
	text, err := read(fsys, name)
	if err != nil {
		l.report(fmt.Errorf("%s: %w", from, err))
		return
	}
	lines, errs := parse(text)
	for _, err := range errs {
		l.report(fmt.Errorf("file %s:%w: %w", name, err, messages.ErrInvalidConfig))
	}
	for _, e := range lines {
		l.take(entry{e.name, e.value, fmt.Sprintf("file %s:%d", name, e.number), fromFile})
	}
}

// read returns the text of a settings file without a byte order mark.
func read(fsys vfs.FS, name string) ([]byte, error) {
	info, err := fsys.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no settings file %s: %w", name, err)
	case err != nil:
		return nil, fmt.Errorf("settings file %s: %w", name, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("settings file %s is not a regular file: %w",
			name, messages.ErrInvalidConfig)
	case info.Size() > fileMax:
		return nil, fmt.Errorf("settings file %s has %d bytes, at most %d are read: %w",
			name, info.Size(), fileMax, messages.ErrInvalidConfig)
	}
	text, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("settings file %s: %w", name, err)
	}
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("settings file %s is not UTF-8 text: %w",
			name, messages.ErrInvalidConfig)
	}
	return bytes.TrimPrefix(text, []byte("\uFEFF")), nil
}
