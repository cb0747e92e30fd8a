package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version and commit are set by the linker (-X) in a release; other builds know
// theirs from the Go tool.
var version, commit string

// versionInfo says which binary this is.
type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"` // built from a tree with uncommitted changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// sentence is the build for people; "troupe --version" prints it too.
func (v versionInfo) sentence() string {
	dirty := ""
	if v.Modified {
		dirty = ", modified"
	}
	return fmt.Sprintf("troupe %s (commit %s%s, %s, %s)",
		v.Version, v.Commit, dirty, v.Go, v.Platform)
}

func newVersion(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show which build this is",
		Example: "  troupe version\n  troupe version -o json",
		Args:    none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			build, _ := debug.ReadBuildInfo()
			v := describeBuild(build)
			return g.print(cmd.OutOrStdout(), v, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, v.sentence())
				return err
			})
		},
	}
}

// describeBuild reads what the linker and the Go tool left; build may be nil.
func describeBuild(build *debug.BuildInfo) versionInfo {
	v := versionInfo{
		Version:  version,
		Commit:   commit,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if build != nil {
		if v.Version == "" {
			v.Version = build.Main.Version
		}
		for _, s := range build.Settings {
			switch {
			case s.Key == "vcs.revision" && v.Commit == "":
				v.Commit = s.Value
			case s.Key == "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if v.Version == "" {
		v.Version = "unknown"
	}
	if v.Commit == "" {
		v.Commit = "unknown"
	}
	return v
}

// Build returns the version and commit of this binary, for its metrics.
func Build() (version, commit string) {
	build, _ := debug.ReadBuildInfo()
	v := describeBuild(build)
	return v.Version, v.Commit
}
