package registry

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/vfs"
)

// bench is one Store under test.
type bench struct {
	t     *testing.T
	store Store
	// reopen ends the store and returns what the next run of the node opens.
	reopen func() Store
}

var background = context.Background()

func benches(t *testing.T) map[string]func(t *testing.T) *bench {
	t.Helper()
	return map[string]func(t *testing.T) *bench{
		"Memory": memoryBench, "Bolt": boltBench, "Consul": consulBench,
	}
}

func memoryBench(t *testing.T) *bench {
	m := NewMemory()
	b := &bench{t: t, store: m}
	b.reopen = func() Store {
		b.check(m.Close())
		m = m.Connect()
		return m
	}
	return b
}

func boltBench(t *testing.T) *bench {
	name := filepath.Join(t.TempDir(), "metadata.db")
	s := openBolt(t, name)
	b := &bench{t: t, store: s}
	b.reopen = func() Store {
		b.check(s.Close())
		s = openBolt(t, name)
		return s
	}
	return b
}

func openBolt(t *testing.T, name string) *Bolt {
	t.Helper()
	s, err := OpenBolt(vfs.OS{}, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) expect(err, target error) {
	b.t.Helper()
	if !errors.Is(err, target) {
		b.t.Errorf("got error %v, want %v", err, target)
	}
}

func (b *bench) campaign(node messages.NodeID) Lease {
	b.t.Helper()
	l, err := b.store.Campaign(background, node)
	b.check(err)
	return l
}

func (b *bench) commit(l Lease, ops ...Op) messages.MetadataVersion {
	b.t.Helper()
	v, err := b.store.Commit(background, l, ops)
	b.check(err)
	return v
}

// contents describes the store: "2 a=x@1 b=y@2".
func (b *bench) contents() string {
	b.t.Helper()
	c, err := b.store.Read(background)
	b.check(err)
	return describe(c)
}

// describe prints contents as bench.contents does.
func describe(c Contents) string {
	out := fmt.Sprint(c.Version)
	for _, e := range c.Entries {
		out += fmt.Sprintf(" %s=%s@%d", e.Key, e.Value, e.Revision)
	}
	return out
}

func (b *bench) expectContents(want string) {
	b.t.Helper()
	if got := b.contents(); got != want {
		b.t.Errorf("the store holds %q, want %q", got, want)
	}
}

func put(key, value string) Op { return Op{Key: key, Value: []byte(value)} }

func TestAllStoresBehaveAlike(t *testing.T) {
	for kind, make := range benches(t) {
		for _, tt := range []struct {
			name  string
			check func(*bench)
		}{
			{"a new store is empty and nobody is controller", emptyStore},
			{"a commit is read back, sorted by key", readBack},
			{"a value may be empty and a missing key deleted", emptyValue},
			{"a commit that fails changes nothing", failedCommit},
			{"a new controllership fences the one before", fencing},
			{"a controllership that was never given is refused", foreignLease},
			{"another node cannot become controller meanwhile", held},
			{"everything but the controllership survives a restart", restart},
			{"what was read belongs to the reader", readIsACopy},
			{"limits hold and the error names the key", limits},
			{"keys are words joined by slashes", keys},
			{"watch tells the holder now and at each change", watch},
			{"a closed store refuses everything", closed},
			{"an ended context refuses everything", ended},
			{"concurrent commits are counted one by one", concurrent},
		} {
			t.Run(kind+"/"+tt.name, func(t *testing.T) {
				b := make(t)
				tt.check(b)
				b.check(b.store.Close())
			})
		}
	}
}

func emptyStore(b *bench) {
	b.expectContents("0")
	h, err := b.store.Holder(background)
	b.check(err)
	if h != (Holder{Node: messages.NoNode}) {
		b.t.Errorf("the holder is %+v", h)
	}
	_, err = b.store.Commit(background, Lease{}, []Op{put("a", "x")})
	b.expect(err, messages.ErrFencedController)
}

func readBack(b *bench) {
	l := b.campaign(1)
	if l.Node != 1 || l.Epoch != 1 {
		b.t.Errorf("the first lease is %+v", l)
	}
	if v := b.commit(l, put("topics/b", "1"), put("topics/a/0", "2"), put("topics/a", "3")); v != 1 {
		b.t.Errorf("the first version is %d", v)
	}
	b.expectContents("1 topics/a=3@1 topics/a/0=2@1 topics/b=1@1")
	if v := b.commit(l, put("topics/a", "4"), Op{Key: "topics/b"}); v != 2 {
		b.t.Errorf("the second version is %d", v)
	}
	b.expectContents("2 topics/a=4@2 topics/a/0=2@1")
	if v := b.commit(l); v != 3 {
		b.t.Errorf("an empty commit is version %d, want 3", v)
	}
	b.expectContents("3 topics/a=4@2 topics/a/0=2@1")
}

func emptyValue(b *bench) {
	l := b.campaign(1)
	b.commit(l, put("a", ""), Op{Key: "no/such/key"})
	c, err := b.store.Read(background)
	b.check(err)
	if len(c.Entries) != 1 || c.Entries[0].Value == nil || len(c.Entries[0].Value) != 0 {
		b.t.Errorf("the store holds %+v", c.Entries)
	}
}

func failedCommit(b *bench) {
	l := b.campaign(1)
	b.commit(l, put("a", "x"))
	_, err := b.store.Commit(background, l, []Op{put("a", "y"), put("b", "y"), put("", "y")})
	b.expect(err, ErrBadKey)
	b.expectContents("1 a=x@1")
}

func fencing(b *bench) {
	first := b.campaign(1)
	b.commit(first, put("a", "1"))
	second := b.campaign(1)
	if second.Epoch != first.Epoch+1 {
		b.t.Errorf("epoch %d follows %d", second.Epoch, first.Epoch)
	}
	_, err := b.store.Commit(background, first, []Op{put("a", "2")})
	b.expect(err, messages.ErrFencedController)
	if !strings.Contains(fmt.Sprint(err), "epoch 1") || !strings.Contains(fmt.Sprint(err), "is 2") {
		b.t.Errorf("the error does not name both epochs: %v", err)
	}
	b.expectContents("1 a=1@1")
	b.commit(second, put("a", "3"))
	b.expectContents("2 a=3@2")
}

func foreignLease(b *bench) {
	l := b.campaign(1)
	for _, forged := range []Lease{
		{}, {Node: 1, Epoch: l.Epoch}, {Node: 1, Epoch: l.Epoch + 1, token: l.token},
	} {
		_, err := b.store.Commit(background, forged, []Op{put("a", "x")})
		b.expect(err, messages.ErrFencedController)
	}
	b.expectContents("0")
}

func held(b *bench) {
	l := b.campaign(1)
	_, err := b.store.Campaign(background, 2)
	b.expect(err, ErrHeld)
	var heldErr *HeldError
	if !errors.As(err, &heldErr) || heldErr.Holder != (Holder{Node: 1, Epoch: l.Epoch}) {
		b.t.Errorf("the error does not name the holder: %v", err)
	}
	h, err := b.store.Holder(background)
	b.check(err)
	if h != (Holder{Node: 1, Epoch: l.Epoch}) {
		b.t.Errorf("the holder is %+v", h)
	}
	b.commit(l, put("a", "x"))
}

func restart(b *bench) {
	old := b.campaign(1)
	b.commit(old, put("a", "x"))
	b.campaign(1)
	b.store = b.reopen()
	h, err := b.store.Holder(background)
	b.check(err)
	if h != (Holder{Node: messages.NoNode, Epoch: 2}) {
		b.t.Errorf("after a restart the holder is %+v", h)
	}
	b.expectContents("1 a=x@1")
	_, err = b.store.Commit(background, old, []Op{put("a", "y")})
	b.expect(err, messages.ErrFencedController)
	l := b.campaign(7) // the node id may have changed
	if l.Epoch != 3 {
		b.t.Errorf("after a restart the epoch is %d, want 3", l.Epoch)
	}
	if v := b.commit(l, put("b", "y")); v != 2 {
		b.t.Errorf("after a restart the version is %d, want 2", v)
	}
	b.expectContents("2 a=x@1 b=y@2")
}

func readIsACopy(b *bench) {
	l := b.campaign(1)
	value := []byte("x")
	b.commit(l, Op{Key: "a", Value: value})
	value[0] = 'y'
	c, err := b.store.Read(background)
	b.check(err)
	c.Entries[0].Value[0] = 'z'
	b.expectContents("1 a=x@1")
}

func limits(b *bench) {
	l := b.campaign(1)
	ops := make([]Op, OpsMax)
	for i := range ops {
		ops[i] = put(fmt.Sprintf("k/%d", i), "x")
	}
	b.commit(l, ops...)
	b.commit(l, Op{Key: strings.Repeat("k", KeyMax), Value: make([]byte, ValueMax)})
	for _, tt := range []struct {
		ops  []Op
		name string
	}{
		{append(slices.Clone(ops), put("one/more", "x")), "k/0"},
		{[]Op{put("fits", "x"), {Key: "large", Value: make([]byte, ValueMax+1)}}, `"large"`},
		{[]Op{put(strings.Repeat("k", KeyMax+1), "x")}, "kkk"},
	} {
		_, err := b.store.Commit(background, l, tt.ops)
		b.expect(err, ErrTooLarge)
		if !strings.Contains(fmt.Sprint(err), tt.name) {
			b.t.Errorf("the error does not name %s: %v", tt.name, err)
		}
	}
	c, err := b.store.Read(background)
	b.check(err)
	if len(c.Entries) != OpsMax+1 || c.Version != 2 {
		b.t.Errorf("%d entries at version %d", len(c.Entries), c.Version)
	}
}

func keys(b *bench) {
	l := b.campaign(1)
	for _, good := range []string{"a", "topics/My.topic_1-x/0", "a/b/c/d", "..", "a b"[:1]} {
		b.commit(l, put(good, "x"))
	}
	for _, bad := range []string{"", "/", "/a", "a/", "a//b", "a b", "a\n", "ä", "a\x00", "a\x7f"} {
		_, err := b.store.Commit(background, l, []Op{put(bad, "x")})
		b.expect(err, ErrBadKey)
	}
	_, err := b.store.Commit(background, l, []Op{put("twice", "x"), {Key: "twice"}})
	b.expect(err, ErrBadKey)
}

func watch(b *bench) {
	ctx, cancel := context.WithCancel(background)
	seen := make(chan Holder)
	result := make(chan error)
	go func() { result <- b.store.Watch(ctx, func(h Holder) { seen <- h }) }()
	if h := <-seen; h != (Holder{Node: messages.NoNode}) {
		b.t.Errorf("first saw %+v", h)
	}
	for epoch := messages.ControllerEpoch(1); epoch <= 3; epoch++ {
		b.campaign(1)
		if h := <-seen; h != (Holder{Node: 1, Epoch: epoch}) {
			b.t.Errorf("after campaign %d saw %+v", epoch, h)
		}
	}
	cancel()
	b.expect(<-result, context.Canceled)

	go func() { result <- b.store.Watch(background, func(Holder) { seen <- Holder{} }) }()
	<-seen
	b.check(b.store.Close())
	select {
	case <-seen: // the end of the controllership may be seen before that of the store
		b.expect(<-result, ErrClosed)
	case err := <-result:
		b.expect(err, ErrClosed)
	}
}

func closed(b *bench) {
	l := b.campaign(1)
	b.check(b.store.Close())
	b.check(b.store.Close())
	refuses(b, background, l, ErrClosed)
}

func ended(b *bench) {
	l := b.campaign(1)
	ctx, cancel := context.WithCancel(background)
	cancel()
	refuses(b, ctx, l, context.Canceled)
	b.expectContents("0")
}

func refuses(b *bench, ctx context.Context, l Lease, target error) {
	b.t.Helper()
	_, err := b.store.Campaign(ctx, 1)
	b.expect(err, target)
	_, err = b.store.Holder(ctx)
	b.expect(err, target)
	_, err = b.store.Read(ctx)
	b.expect(err, target)
	_, err = b.store.Commit(ctx, l, nil)
	b.expect(err, target)
	b.expect(b.store.Watch(ctx, func(Holder) { b.t.Error("a holder was told") }), target)
}

func concurrent(b *bench) {
	l := b.campaign(1)
	var writers sync.WaitGroup
	versions := make(chan messages.MetadataVersion, 40)
	for w := range 4 {
		writers.Go(func() {
			for i := range 10 {
				v, err := b.store.Commit(background, l, []Op{put(fmt.Sprintf("w%d", w), fmt.Sprint(i))})
				if err != nil {
					b.t.Error(err)
				}
				versions <- v
				if _, err := b.store.Read(background); err != nil {
					b.t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(versions)
	seen := map[messages.MetadataVersion]bool{}
	for v := range versions {
		seen[v] = true
	}
	if len(seen) != 40 || !seen[1] || !seen[40] {
		b.t.Errorf("40 commits made %d versions", len(seen))
	}
}

func TestAnExpiredSessionLetsAnotherNodeWin(t *testing.T) {
	m := NewMemory()
	other := m.Connect()
	b := &bench{t: t, store: m}
	l := b.campaign(1)
	_, err := other.Campaign(background, 2)
	b.expect(err, ErrHeld)
	other.Expire()
	_, err = m.Commit(background, l, []Op{put("a", "x")})
	b.expect(err, messages.ErrFencedController)
	won, err := other.Campaign(background, 2)
	b.check(err)
	if won.Epoch != 2 {
		t.Errorf("the new epoch is %d", won.Epoch)
	}
	_, err = m.Campaign(background, 1)
	b.expect(err, ErrHeld)
	_, err = m.Commit(background, won, nil)
	b.check(err) // a lease is good at every session, as a session id is
	b.check(other.Close())
	h, err := m.Holder(background)
	b.check(err)
	if h != (Holder{Node: messages.NoNode, Epoch: 2}) {
		t.Errorf("after the controller left the holder is %+v", h)
	}
}
