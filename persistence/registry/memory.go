package registry

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/troupelog/troupe/messages"
)

// Memory is a Store on the heap, for simulations of a whole cluster: all
// sessions made by Connect share its records and its lock, as the nodes of a
// cluster share a key-value service.
type Memory struct {
	shared *memory
	once   sync.Once
	closed chan struct{}
}

var _ Store = (*Memory)(nil)

// memory is what the sessions of a Memory share.
type memory struct {
	holding *holding

	mu      sync.Mutex
	version messages.MetadataVersion
	entries map[string]Entry
	session *Memory // of the controller; nil: nobody is
}

// NewMemory returns a session with an empty store.
func NewMemory() *Memory {
	shared := &memory{holding: newHolding(0), entries: map[string]Entry{}}
	return shared.connect()
}

func (s *memory) connect() *Memory { return &Memory{shared: s, closed: make(chan struct{})} }

// Connect returns another session with the same store: that of another node, or
// of the next run of this one. It works after Close too.
func (m *Memory) Connect() *Memory { return m.shared.connect() }

// Campaign implements Store.
func (m *Memory) Campaign(ctx context.Context, node messages.NodeID) (Lease, error) {
	s := m.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := usable(ctx, m.closed); err != nil {
		return Lease{}, err
	}
	now, _ := s.holding.get()
	if s.session != nil && now.Node != node {
		return Lease{}, &HeldError{Holder: now}
	}
	now = Holder{Node: node, Epoch: now.Epoch + 1}
	s.session = m
	s.holding.set(now)
	return Lease{Node: node, Epoch: now.Epoch, token: m}, nil
}

// Expire ends the controllership of whoever has it, as a lost session does. Its
// Lease is fenced at once.
func (m *Memory) Expire() {
	s := m.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resign()
}

// resign leaves the store without a controller; the caller holds s.mu.
func (s *memory) resign() {
	now, _ := s.holding.get()
	s.session = nil
	s.holding.set(Holder{Node: messages.NoNode, Epoch: now.Epoch})
}

// Holder implements Store.
func (m *Memory) Holder(ctx context.Context) (Holder, error) {
	if err := usable(ctx, m.closed); err != nil {
		return Holder{Node: messages.NoNode}, err
	}
	now, _ := m.shared.holding.get()
	return now, nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, f func(Holder)) error {
	return m.shared.holding.watch(ctx, m.closed, f)
}

// Read implements Store.
func (m *Memory) Read(ctx context.Context) (Contents, error) {
	s := m.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := usable(ctx, m.closed); err != nil {
		return Contents{}, err
	}
	c := Contents{Version: s.version}
	for _, key := range slices.Sorted(maps.Keys(s.entries)) {
		e := s.entries[key]
		e.Value = bytes.Clone(e.Value)
		c.Entries = append(c.Entries, e)
	}
	return c, nil
}

// Commit implements Store.
func (m *Memory) Commit(
	ctx context.Context, lease Lease, ops []Op,
) (messages.MetadataVersion, error) {
	s := m.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := usable(ctx, m.closed); err != nil {
		return 0, err
	}
	if err := checkOps(ops); err != nil {
		return 0, err
	}
	now, _ := s.holding.get()
	if s.session == nil || lease.token != s.session || lease.Epoch != now.Epoch {
		return 0, fenced(lease, now)
	}
	s.version++
	for _, op := range ops {
		if op.Value == nil {
			delete(s.entries, op.Key)
			continue
		}
		value := append([]byte{}, op.Value...)
		s.entries[op.Key] = Entry{Key: op.Key, Value: value, Revision: int64(s.version)}
	}
	return s.version, nil
}

// Close implements Store. The records stay for other sessions.
func (m *Memory) Close() error {
	m.once.Do(func() {
		s := m.shared
		s.mu.Lock()
		defer s.mu.Unlock()
		close(m.closed)
		if s.session == m {
			s.resign()
		}
	})
	return nil
}
