package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
)

// Op is a kind of operation, or a set of kinds joined with |.
type Op uint32

// The kinds of operations of FS, File and Mapping.
const (
	OpOpen Op = 1 << iota
	OpOpenWrite
	OpCreate
	OpRemove
	OpRemoveAll
	OpRename
	OpMkdirAll
	OpReadDir
	OpStat
	OpSyncDir
	OpLock
	OpUsage
	OpClose
	OpSize
	OpRead
	OpWrite
	OpWritev
	OpAllocate
	OpTruncate
	OpSync
	OpWriteBehind
	OpMap
	OpPopulate
	OpUnmap
	OpControl

	// OpAny is every kind.
	OpAny Op = 1<<iota - 1
	// OpChanging is every kind that changes the disk or makes changes durable:
	// what the order of operations after a crash depends on.
	OpChanging = OpCreate | OpRemove | OpRemoveAll | OpRename | OpMkdirAll | OpSyncDir |
		OpWrite | OpWritev | OpAllocate | OpTruncate | OpSync
)

var opNames = [...]string{
	"open", "openwrite", "create", "remove", "removeall", "rename", "mkdirall", "readdir", "stat",
	"syncdir", "lock", "usage", "close", "size", "read", "write", "writev", "allocate", "truncate",
	"sync", "writebehind", "map", "populate", "unmap", "control",
}

// String returns the name of a single kind.
func (op Op) String() string {
	for i, name := range opNames {
		if op == 1<<i {
			return name
		}
	}
	return fmt.Sprintf("Op(%#x)", uint32(op))
}

// Call is one operation about to happen.
type Call struct {
	Op   Op
	Name string // of the file or folder
	To   string // the new name of a rename
	Off  int64  // of a read, write, write-behind or populate
	Len  int64  // bytes of those; the size of an allocate, truncate or map
}

// String returns the call as it is recorded: "write a.log 0+512",
// "allocate a.log 65536", "rename a to b".
func (c Call) String() string {
	switch c.Op {
	case OpRename:
		return fmt.Sprintf("%v %s to %s", c.Op, c.Name, c.To)
	case OpRead, OpWrite, OpWritev, OpWriteBehind, OpPopulate:
		return fmt.Sprintf("%v %s %d+%d", c.Op, c.Name, c.Off, c.Len)
	case OpAllocate, OpTruncate, OpMap:
		return fmt.Sprintf("%v %s %d", c.Op, c.Name, c.Len)
	default:
		return fmt.Sprintf("%v %s", c.Op, c.Name)
	}
}

// Rule says which calls meet which fault.
type Rule struct {
	// Ops are the kinds of calls the rule is about; 0 means OpAny.
	Ops Op
	// Path is a pattern of path.Match, of the whole name if it has a slash and
	// of its last element otherwise; "" matches every name.
	Path string
	// Nth lets only the nth matching call meet the fault, counted from 1; 0
	// means every one.
	Nth int
	// Chance is the probability of the fault at each matching call; 0 means 1.
	Chance float64
	// Times ends the rule after that many faults; 0 means never.
	Times int

	// Hook, if set, runs before the call, which waits for it. It may use the
	// file system; no lock is held.
	Hook func(Call)
	// Err, if set, is returned, wrapped as an FS wraps it. The call does not
	// happen, unless Happens says so.
	Err error
	// Happens makes a call that fails with Err take effect all the same: the
	// answer of the disk was lost, not the question.
	Happens bool
	// Short, for a write, is how many bytes are written before it fails with
	// Err, or with ErrNoSpace if Err is not set. 0 means the write is not short.
	Short int64
	// Flip inverts one bit, drawn from the seed, of what is read or written.
	// Bytes seen through a Mapping are as they were written.
	Flip bool
}

// Injected is a rule at work.
type Injected struct {
	faulty  *Faulty
	rule    Rule
	matched int // guarded by faulty.mu, like the rest
	fired   int
	removed bool
}

// Fired returns how many calls met the fault.
func (i *Injected) Fired() int {
	i.faulty.mu.Lock()
	defer i.faulty.mu.Unlock()
	return i.fired
}

// Matched returns how many calls the rule was about, whether they met the fault
// or not: run once with Chance tiny or Nth huge to learn how far Nth can go.
func (i *Injected) Matched() int {
	i.faulty.mu.Lock()
	defer i.faulty.mu.Unlock()
	return i.matched
}

// Remove ends the rule.
func (i *Injected) Remove() {
	i.faulty.mu.Lock()
	defer i.faulty.mu.Unlock()
	i.removed = true
}

// recordMax bounds a recording, in calls: a test that does more than that has a
// loop that does not end.
const recordMax = 1 << 20

// Faulty wraps a file system, injects faults and records what is done. It is
// safe for concurrent use; rules may come and go while it is used.
type Faulty struct {
	inner FS

	mu       sync.Mutex
	rand     *rand.Rand
	rules    []*Injected
	record   Op // the kinds being recorded
	recorded []string
}

var _ FS = (*Faulty)(nil)

// NewFaulty wraps a file system. The seed decides about Chance and Flip.
func NewFaulty(inner FS, seed uint64) *Faulty {
	return &Faulty{inner: inner, rand: rand.New(rand.NewPCG(seed, 0))}
}

// Inject puts a rule to work. When several rules with an effect meet a call, the
// oldest decides; the hooks of all run.
func (f *Faulty) Inject(r Rule) *Injected {
	if r.Ops == 0 {
		r.Ops = OpAny
	}
	i := &Injected{faulty: f, rule: r}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, i)
	return i
}

// Record starts a new recording of calls of the given kinds.
func (f *Faulty) Record(ops Op) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record, f.recorded = ops, nil
}

// Recorded returns the calls since Record in their order, at most 2^20, each as
// Call.String shows it; " failed" follows where a fault was injected.
func (f *Faulty) Recorded() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.recorded...)
}

// matches reports whether the rule is about a call.
func (r *Rule) matches(c Call) bool {
	if r.Ops&c.Op == 0 {
		return false
	}
	if r.Path == "" {
		return true
	}
	return matchesPath(r.Path, c.Name) || c.To != "" && matchesPath(r.Path, c.To)
}

func matchesPath(pattern, name string) bool {
	if path.Base(pattern) == pattern {
		name = path.Base(name)
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// fires counts a matching call and decides whether it meets the fault.
func (i *Injected) fires(r *rand.Rand) bool {
	i.matched++
	switch {
	case i.rule.Nth > 0 && i.matched != i.rule.Nth:
		return false
	case i.rule.Chance > 0 && r.Float64() >= i.rule.Chance:
		return false
	case i.rule.Times > 0 && i.fired >= i.rule.Times:
		return false
	}
	i.fired++
	return true
}

// fault is what a call meets; the zero value is none.
type fault struct {
	err     error
	happens bool
	short   int64 // below 0: not short
	flip    bool
	bit     uint64 // random, for flip
}

// meet decides what a call meets and runs the hooks.
func (f *Faulty) meet(c Call) fault {
	verdict, hooks := f.decide(c)
	for _, hook := range hooks {
		hook(c)
	}
	return verdict
}

func (f *Faulty) decide(c Call) (verdict fault, hooks []func(Call)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	verdict.short = -1
	decided := false
	for _, i := range f.rules {
		r := &i.rule
		if i.removed || !r.matches(c) || !i.fires(f.rand) {
			continue
		}
		if r.Hook != nil {
			hooks = append(hooks, r.Hook)
		}
		if decided || r.Err == nil && r.Short == 0 && !r.Flip {
			continue
		}
		decided = true
		verdict = verdictOf(r, c, f.rand.Uint64())
	}
	if f.record&c.Op != 0 && len(f.recorded) < recordMax {
		line := c.String()
		if verdict.err != nil {
			line += " failed"
		}
		f.recorded = append(f.recorded, line)
	}
	return verdict, hooks
}

func verdictOf(r *Rule, c Call, bit uint64) fault {
	verdict := fault{err: r.Err, happens: r.Happens, short: -1, flip: r.Flip, bit: bit}
	if r.Short > 0 && c.Op&(OpWrite|OpWritev) != 0 {
		verdict.short = min(r.Short, c.Len)
		if verdict.err == nil {
			verdict.err = ErrNoSpace
		}
	}
	return verdict
}

// do runs one operation without bytes under the rules.
func (f *Faulty) do(c Call, operation func() error) error {
	met := f.meet(c)
	if met.err == nil {
		return operation()
	}
	if met.happens {
		if err := operation(); err != nil {
			return err
		}
	}
	return fail(c.Op.String(), c.Name, met.err)
}

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) { return f.open(OpOpen, name, f.inner.Open) }

// OpenWrite implements FS.
func (f *Faulty) OpenWrite(name string) (File, error) {
	return f.open(OpOpenWrite, name, f.inner.OpenWrite)
}

// Create implements FS.
func (f *Faulty) Create(name string) (File, error) { return f.open(OpCreate, name, f.inner.Create) }

func (f *Faulty) open(op Op, name string, open func(string) (File, error)) (File, error) {
	var file File
	err := f.do(Call{Op: op, Name: name}, func() (err error) {
		file, err = open(name)
		return err
	})
	if err != nil {
		if file != nil { // it happened, but nobody will know
			_ = file.Close()
		}
		return nil, err
	}
	return &faultyFile{faulty: f, inner: file}, nil
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	return f.do(Call{Op: OpRemove, Name: name}, func() error { return f.inner.Remove(name) })
}

// RemoveAll implements FS.
func (f *Faulty) RemoveAll(name string) error {
	return f.do(Call{Op: OpRemoveAll, Name: name}, func() error { return f.inner.RemoveAll(name) })
}

// Rename implements FS. A rule's Path may match either name.
func (f *Faulty) Rename(oldName, newName string) error {
	return f.do(Call{Op: OpRename, Name: oldName, To: newName}, func() error {
		return f.inner.Rename(oldName, newName)
	})
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(name string) error {
	return f.do(Call{Op: OpMkdirAll, Name: name}, func() error { return f.inner.MkdirAll(name) })
}

// ReadDir implements FS.
func (f *Faulty) ReadDir(name string) (entries []fs.DirEntry, err error) {
	err = f.do(Call{Op: OpReadDir, Name: name}, func() (err error) {
		entries, err = f.inner.ReadDir(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (info fs.FileInfo, err error) {
	err = f.do(Call{Op: OpStat, Name: name}, func() (err error) {
		info, err = f.inner.Stat(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return info, nil
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(name string) error {
	return f.do(Call{Op: OpSyncDir, Name: name}, func() error { return f.inner.SyncDir(name) })
}

// Lock implements FS.
func (f *Faulty) Lock(name string) (lock io.Closer, err error) {
	err = f.do(Call{Op: OpLock, Name: name}, func() (err error) {
		lock, err = f.inner.Lock(name)
		return err
	})
	if err != nil {
		if lock != nil {
			_ = lock.Close()
		}
		return nil, err
	}
	return lock, nil
}

// Usage implements FS.
func (f *Faulty) Usage(name string) (total, free int64, err error) {
	err = f.do(Call{Op: OpUsage, Name: name}, func() (err error) {
		total, free, err = f.inner.Usage(name)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	return total, free, nil
}
