//go:build linux

package peer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// versionOf returns the first line that a command prints.
func versionOf(ctx context.Context, command ...string) (string, error) {
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}

// script runs a script of tools, which builds or fetches something and prints where it
// is on its last line.
func script(ctx context.Context, args ...string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/troupelog/troupe").Output()
	if err != nil {
		return "", fmt.Errorf("finding tools/%s: %w", args[0], err)
	}
	path := filepath.Join(strings.TrimSpace(string(root)), "tools", args[0])
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Stderr = os.Stderr // says what takes so long
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("tools/%s: %w", strings.Join(args, " "), err)
	}
	lines := strings.Fields(string(out))
	if len(lines) == 0 {
		return "", fmt.Errorf("tools/%s printed no path", strings.Join(args, " "))
	}
	return lines[len(lines)-1], nil
}
