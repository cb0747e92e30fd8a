//go:build clients

package clients

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// process is a Java program that runs beside the test.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *testkit.LogBuffer
	done chan struct{} // closed when it has ended
}

// start runs a class until it ends or the test does; its log is shown if the test
// failed.
func start(t *testing.T, name, class string, args ...string) *process {
	t.Helper()
	line := jvm(class, args...)
	p := &process{name: name, cmd: exec.Command(line[0], line[1:]...),
		log: &testkit.LogBuffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // fails only when it has ended
		<-p.done
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.log)
		}
	})
	return p
}

// kill ends the program at once and without a warning.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	<-p.done
}

// stop asks the program to end and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end", p.name)
	}
}
