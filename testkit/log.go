package testkit

import (
	"bytes"
	"strings"
	"sync"
)

const (
	tailLines   = 60
	logMaxBytes = 16 << 20
)

// LogBuffer keeps what a process or a logger writes, the newest 8 to 16 MiB of it.
// The zero value is empty. It is safe for concurrent use.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write never fails, so that the process is never blocked by its log.
func (l *LogBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len()+len(p) > logMaxBytes {
		l.buf.Next(l.buf.Len() / 2)
	}
	l.buf.Write(p)
	return len(p), nil
}

func (l *LogBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// tail returns the last n lines.
func (l *LogBuffer) tail(n int) string {
	lines := strings.SplitAfter(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
