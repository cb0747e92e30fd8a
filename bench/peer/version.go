//go:build linux

package peer

import (
	"context"
	"fmt"
	"os/exec"
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
