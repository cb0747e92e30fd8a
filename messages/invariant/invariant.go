// Package invariant stops the running goroutine when our own code is wrong.
//
// It is for mistakes of ours, never for bad input: a malformed frame or a full
// disk is an error, a high watermark above the log end is a bug. A violated
// invariant panics with the text "BUG: ..."; inside an actor its supervisor
// restarts that actor alone. Any package may call it.
package invariant

import "fmt"

// Violation is the value That panics with.
type Violation string

func (v Violation) Error() string { return string(v) }

// That panics with a Violation when ok is false. The arguments are formatted
// only then, so a passing check costs a branch.
func That(ok bool, format string, args ...any) {
	if !ok {
		panic(Violation("BUG: " + fmt.Sprintf(format, args...)))
	}
}
