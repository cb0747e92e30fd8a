package registry

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func consulBench(t *testing.T) *bench {
	cfg := consulConfig(testkit.SharedConsul(t))
	s := openConsul(t, cfg)
	b := &bench{t: t, store: s}
	b.reopen = func() Store {
		b.check(s.Close())
		s = openConsul(t, cfg)
		return s
	}
	return b
}

// consulConfig is that of a cluster no other test has.
func consulConfig(addr string) ConsulConfig {
	return ConsulConfig{API: ConsulAPI(addr), Cluster: "c" + uuid.NewString()}
}

func openConsul(t *testing.T, cfg ConsulConfig) *Consul {
	t.Helper()
	s, err := OpenConsul(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// pair is two stores of one cluster.
func pair(t *testing.T, cfg ConsulConfig) (*bench, *bench) {
	return &bench{t: t, store: openConsul(t, cfg)}, &bench{t: t, store: openConsul(t, cfg)}
}

func TestOfTwoNodesThatCampaignOneWins(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	a, b := pair(t, cfg)
	results := make(chan error, 2)
	for i, s := range []Store{a.store, b.store} {
		go func() {
			l, err := s.Campaign(background, messages.NodeID(i+1))
			if err == nil {
				_, err = s.Commit(background, l, []Op{put("winner", fmt.Sprint(i+1))})
			}
			results <- err
		}()
	}
	first, second := <-results, <-results
	if (first == nil) == (second == nil) {
		t.Errorf("the campaigns ended with %v and %v", first, second)
	}
	a.expect(errors.Join(first, second), ErrHeld)
	h, err := b.store.Holder(background)
	a.check(err)
	a.expectContents(fmt.Sprintf("1 winner=%d@1", h.Node))
}

func TestAControllerThatClosedIsFollowedAtOnce(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	a, b := pair(t, cfg)
	old := a.campaign(1)
	a.check(a.store.Close())
	if l := b.campaign(2); l.Epoch != old.Epoch+1 {
		t.Errorf("epoch %d follows %d", l.Epoch, old.Epoch)
	}
}

func TestAnEarlierLifeOfTheNodeDoesNotStandInItsWay(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	a, b := pair(t, cfg) // the first is not closed, as after a kill
	old := a.campaign(1)
	b.commit(b.campaign(1), put("a", "x"))
	_, err := a.store.Commit(background, old, []Op{put("a", "y")})
	a.expect(err, messages.ErrFencedController)
}

func TestTheControllershipEndsWithTheServiceOfItsNode(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	client, err := api.NewClient(cfg.API)
	if err != nil {
		t.Fatal(err)
	}
	id := "service-" + cfg.Cluster
	register := &api.AgentServiceRegistration{ID: id, Name: id,
		Check: &api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing}}
	if err := client.Agent().ServiceRegister(register); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Agent().ServiceDeregister(id) })
	other := &bench{t: t, store: openConsul(t, cfg)}
	cfg.Service = func() string { return id }
	b := &bench{t: t, store: openConsul(t, cfg)}
	l := b.campaign(1)
	b.commit(l, put("a", "x"))
	_, err = other.store.Campaign(background, 2)
	b.expect(err, ErrHeld)

	if err := client.Agent().UpdateTTL("service:"+id, "", api.HealthCritical); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "nobody is controller", func() bool {
		h, err := other.store.Holder(background)
		return err == nil && h == Holder{Node: messages.NoNode, Epoch: l.Epoch}
	})
	_, err = b.store.Commit(background, l, []Op{put("a", "y")})
	b.expect(err, messages.ErrFencedController)
	other.commit(other.campaign(2), put("a", "z"))
	b.expectContents("2 a=z@2")
}

func TestAServiceThatIsGoneIsNotHeldOnTo(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	client, err := api.NewClient(cfg.API)
	if err != nil {
		t.Fatal(err)
	}
	var service atomic.Pointer[string]
	register := func(id string) {
		r := &api.AgentServiceRegistration{ID: id, Name: id,
			Check: &api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing}}
		if err := client.Agent().ServiceRegister(r); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Agent().ServiceDeregister(id) })
		service.Store(&id)
	}
	register(cfg.Cluster + "-1")
	cfg.Service = func() string { return *service.Load() }
	b := &bench{t: t, store: openConsul(t, cfg)}
	first := b.campaign(1)
	register(cfg.Cluster + "-2") // the node has a new incarnation
	second := b.campaign(1)
	if err := client.Agent().ServiceDeregister(cfg.Cluster + "-1"); err != nil {
		t.Fatal(err)
	}
	_, err = b.store.Commit(background, first, nil)
	b.expect(err, messages.ErrFencedController)
	b.commit(second, put("a", "x"))
}

func TestADeposedControllerIsFencedAndFollowedAtOnce(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	a, b := pair(t, cfg)
	l := a.campaign(1)
	now := Holder{Node: 1, Epoch: l.Epoch}
	store := b.store.(*Consul)
	for _, stale := range []Holder{{Node: 1, Epoch: l.Epoch - 1}, {Node: 3, Epoch: l.Epoch}} {
		b.check(store.Depose(background, stale))
	}
	a.commit(l, put("a", "x")) // those were not the controller
	b.check(store.Depose(background, now))
	b.check(store.Depose(background, now))
	_, err := a.store.Commit(background, l, []Op{put("a", "y")})
	a.expect(err, messages.ErrFencedController)
	began := time.Now()
	won := b.campaign(2)
	if took := time.Since(began); took > time.Second {
		t.Errorf("the lock of a deposed controller was free after %v", took)
	}
	b.check(store.Depose(background, now)) // late, and not about this controller
	b.commit(won, put("a", "z"))
	b.expectContents("2 a=z@2")
}

// failing makes requests fail after Consul has carried them out.
type failing struct {
	on   atomic.Bool
	next http.RoundTripper
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := f.next.RoundTrip(r)
	if f.on.Load() && err == nil {
		_ = resp.Body.Close()
		return nil, errors.New("connection lost")
	}
	return resp, err
}

func TestACommitWithoutAnAnswerIsNotCountedTwice(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	net := &failing{next: http.DefaultTransport}
	cfg.API.HttpClient = &http.Client{Transport: net}
	b := &bench{t: t, store: openConsul(t, cfg)}
	l := b.campaign(1)
	b.commit(l, put("a", "x"))
	net.on.Store(true)
	_, err := b.store.Commit(background, l, []Op{put("b", "y")})
	if err == nil || errors.Is(err, messages.ErrFencedController) {
		t.Errorf("a commit without an answer returned %v", err)
	}
	net.on.Store(false)
	b.expectContents("2 a=x@1 b=y@2")
	if v := b.commit(l, put("c", "z")); v != 3 {
		t.Errorf("the next commit is version %d", v)
	}
	b.expectContents("3 a=x@1 b=y@2 c=z@3")
}

func TestACommitWithoutAnAnswerDoesNotSurviveAnotherController(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	other := openConsul(t, cfg)
	net := &failing{next: http.DefaultTransport}
	cfg.API.HttpClient = &http.Client{Transport: net}
	b := &bench{t: t, store: openConsul(t, cfg)}
	l := b.campaign(1)
	net.on.Store(true)
	_, err := b.store.Commit(background, l, []Op{put("b", "y")})
	if err == nil {
		t.Error("a commit without an answer succeeded")
	}
	net.on.Store(false)
	b.check(other.Depose(background, Holder{Node: 1, Epoch: l.Epoch}))
	_, err = other.Campaign(background, 2)
	b.check(err)
	_, err = b.store.Commit(background, l, []Op{put("c", "z")})
	b.expect(err, messages.ErrFencedController)
}

func TestValuesThatDoNotFitInATransactionAreStoredAllTheSame(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	b := &bench{t: t, store: openConsul(t, cfg)}
	l := b.campaign(1)
	many := make([]Op, OpsMax)
	for i := range many {
		many[i] = Op{Key: fmt.Sprintf("k/%02d", i), Value: bytes.Repeat([]byte{byte(i)}, 40<<10)}
	}
	b.commit(l, many...)
	expectValues(b, many, 1)
	blobs := func() int {
		names, _, err := b.store.(*Consul).client.KV().Keys("troupe/"+cfg.Cluster+"/blobs/", "", nil)
		b.check(err)
		return len(names)
	}
	if blobs() == 0 {
		t.Fatal("it did fit in a transaction, so this tests nothing")
	}
	many[61] = Op{Key: "k/61", Value: make([]byte, ValueMax)}
	b.commit(l, many...)
	expectValues(b, many, 2)
	for i := range many {
		many[i].Value = []byte("small")
	}
	b.commit(l, many...)
	expectValues(b, many, 3)
	if n := blobs(); n != 0 {
		t.Errorf("%d large values are left, all were replaced", n)
	}
	b.commit(l, Op{Key: "large", Value: make([]byte, ValueMax)})
	orphan := &api.KVPair{Key: "troupe/" + cfg.Cluster + "/blobs/" + uuid.NewString()}
	_, err := b.store.(*Consul).client.KV().Put(orphan, nil)
	b.check(err)
	l = b.campaign(1)
	if n := blobs(); n != 1 {
		t.Errorf("after a campaign there are %d large values, one is in use", n)
	}
	b.commit(l, Op{Key: "large"})
	if n := blobs(); n != 0 {
		t.Errorf("%d large values are left after the deletion", n)
	}
	expectValues(b, many, 3)
}

func expectValues(b *bench, ops []Op, revision int64) {
	b.t.Helper()
	c, err := b.store.Read(background)
	b.check(err)
	if len(c.Entries) != len(ops) {
		b.t.Fatalf("%d entries, want %d", len(c.Entries), len(ops))
	}
	for i, e := range c.Entries {
		if e.Key != ops[i].Key || !bytes.Equal(e.Value, ops[i].Value) {
			b.t.Errorf("record %d is %s with %d bytes, want %s with %d",
				i, e.Key, len(e.Value), ops[i].Key, len(ops[i].Value))
		}
		if e.Revision != revision {
			b.t.Errorf("the revision of %s is %d, want %d", e.Key, e.Revision, revision)
		}
	}
}

func TestTheMetadataOutlivesConsul(t *testing.T) {
	consul := testkit.StartConsul(t)
	cfg := consulConfig(consul.Addr)
	a, b := pair(t, cfg)
	seen := make(chan Holder, 16)
	ctx, cancel := context.WithCancel(background)
	ended := make(chan error, 1)
	go func() { ended <- b.store.Watch(ctx, func(h Holder) { seen <- h }) }()
	expectHolder(t, seen, Holder{Node: messages.NoNode})
	l := a.campaign(1)
	expectHolder(t, seen, Holder{Node: 1, Epoch: 1})
	a.commit(l, put("a", "x"))

	consul.Kill()
	_, err := a.store.Commit(background, l, []Op{put("a", "lost")})
	if err == nil || errors.Is(err, messages.ErrFencedController) {
		t.Errorf("without Consul a commit returned %v", err)
	}
	consul.Restart()
	b.expectContents("1 a=x@1")
	a.commit(l, put("a", "y")) // the session, and with it the lease, outlived Consul
	b.check(b.store.(*Consul).Depose(background, Holder{Node: 1, Epoch: 1}))
	b.commit(b.campaign(2), put("b", "z"))
	a.expectContents("3 a=y@2 b=z@3")
	for h := range seen { // nobody, then node 2; the first may be missed
		if h == (Holder{Node: 2, Epoch: 2}) {
			break
		}
	}
	cancel()
	b.expect(<-ended, context.Canceled)
}

func expectHolder(t *testing.T, seen <-chan Holder, want Holder) {
	t.Helper()
	if h := <-seen; h != want {
		t.Errorf("the watch saw %+v, want %+v", h, want)
	}
}

func TestMetadataThatWentBackInTimeIsRefused(t *testing.T) {
	consul := testkit.StartConsul(t)
	cfg := consulConfig(consul.Addr)
	b := &bench{t: t, store: openConsul(t, cfg)}
	seen := make(chan Holder, 16)
	ctx, cancel := context.WithCancel(background)
	ended := make(chan error, 1)
	l := b.campaign(1)
	b.commit(l, put("a", "x"))
	go func() { ended <- b.store.Watch(ctx, func(h Holder) { seen <- h }) }()
	expectHolder(t, seen, Holder{Node: 1, Epoch: 1})

	consul.Kill()
	consul.Wipe()
	consul.Restart()
	_, err := b.store.Read(background)
	b.expect(err, ErrRegressed)
	_, err = b.store.Holder(background)
	b.expect(err, ErrRegressed)
	_, err = b.store.Campaign(background, 1)
	b.expect(err, ErrRegressed)
	_, err = b.store.Commit(background, l, []Op{put("a", "y")})
	if err == nil {
		t.Error("a commit under a lock that is gone succeeded")
	}
	if !strings.Contains(fmt.Sprint(err), "Consul") && !errors.Is(err, messages.ErrFencedController) {
		t.Errorf("the error does not say where: %v", err)
	}
	cancel()
	b.expect(<-ended, context.Canceled)
	if len(seen) != 0 {
		t.Errorf("the watch believed an empty Consul: %+v", <-seen)
	}
	// A node that starts now cannot know better.
	other := &bench{t: t, store: openConsul(t, cfg)}
	other.expectContents("0")
}

// A snapshot of Consul from within the same controllership is older too.
func TestAnOlderVersionUnderTheSameEpochIsRefused(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	b := &bench{t: t, store: openConsul(t, cfg)}
	l := b.campaign(1)
	kv := b.store.(*Consul).client.KV()
	old, _, err := kv.Get("troupe/"+cfg.Cluster+"/state", nil)
	b.check(err)
	b.commit(l, put("a", "x"))
	_, err = kv.Put(old, nil)
	b.check(err)
	_, err = b.store.Read(background)
	b.expect(err, ErrRegressed)
	_, err = b.store.Campaign(background, 1)
	b.expect(err, ErrRegressed)
	_, err = b.store.Commit(background, l, []Op{put("a", "y")})
	b.expect(err, messages.ErrFencedController)
}

func TestMetadataOfANewerVersionIsRefused(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	b := &bench{t: t, store: openConsul(t, cfg)}
	_, err := b.store.(*Consul).client.KV().Put(&api.KVPair{Key: "troupe/" + cfg.Cluster + "/state",
		Value: []byte(`{"format":2,"version":1,"epoch":1}`)}, nil)
	b.check(err)
	_, err = b.store.Read(background)
	b.expect(err, ErrNewerFormat)
	_, err = b.store.Campaign(background, 1)
	b.expect(err, ErrNewerFormat)
}

func TestDamagedMetadataIsRefused(t *testing.T) {
	for key, value := range map[string]string{
		"state": "no JSON", "lock": "no JSON", "node-ids/x": "{}", "node-ids/1": "no JSON",
	} {
		t.Run(key, func(t *testing.T) {
			cfg := consulConfig(testkit.SharedConsul(t))
			s := openConsul(t, cfg)
			full := "troupe/" + cfg.Cluster + "/" + key
			_, err := s.client.KV().Put(&api.KVPair{Key: full, Value: []byte(value)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, campaign := s.Campaign(background, 1)
			_, allocate := s.AllocateNode(background, "d", -1)
			if err := errors.Join(campaign, allocate); !errors.Is(err, ErrCorrupt) ||
				!strings.Contains(err.Error(), full) {
				t.Errorf("with %s damaged: %v", full, err)
			}
		})
	}
}

func TestNodeIDsAreGivenOut(t *testing.T) {
	s := openConsul(t, consulConfig(testkit.SharedConsul(t)))
	for _, tt := range []struct {
		name string
		dir  string
		want messages.NodeID
		got  messages.NodeID
	}{
		{"the first is 1", "d1", -1, 1},
		{"the next is 2", "d2", -1, 2},
		{"a directory keeps its id", "d1", -1, 1},
		{"an id of choice", "d7", 7, 7},
		{"an id of choice again", "d7", 7, 7},
		{"and without asking for it", "d7", -1, 7},
		{"gaps are filled", "d3", -1, 3},
		{"id 0 may be chosen", "d0", 0, 0},
		{"a replaced disk takes an id over", "new disk", 2, 2},
		{"and has it from then on", "new disk", -1, 2},
		{"the old disk is a new node", "d2", -1, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.AllocateNode(background, tt.dir, tt.want)
			if err != nil || got != tt.got {
				t.Errorf("AllocateNode(%q, %d) = %d, %v, want %d", tt.dir, tt.want, got, err, tt.got)
			}
		})
	}
	if _, err := s.AllocateNode(background, "", -1); err == nil {
		t.Error("an id was given to nobody")
	}
	if _, err := s.ClusterID(background, ""); err == nil {
		t.Error("an empty id was given to a cluster")
	}
	if id, err := s.ClusterID(background, "c"); err != nil || id != "c" {
		t.Errorf("ClusterID = %q, %v, want what was proposed first", id, err)
	}
}

func TestNodesThatStartTogetherGetDifferentIDs(t *testing.T) {
	cfg := consulConfig(testkit.SharedConsul(t))
	type result struct {
		id  messages.NodeID
		err error
	}
	results := make(chan result)
	const nodes = 8
	for i := range nodes {
		s := openConsul(t, cfg)
		go func() {
			id, err := s.AllocateNode(background, fmt.Sprintf("d%d", i), -1)
			results <- result{id, err}
		}()
	}
	given := map[messages.NodeID]bool{}
	for range nodes {
		r := <-results
		if r.err != nil || given[r.id] || r.id < 1 || r.id > nodes {
			t.Errorf("a node got id %d, %v; given are %v", r.id, r.err, given)
		}
		given[r.id] = true
	}
}

func TestATokenIsPassedOnAndItsAbsenceExplained(t *testing.T) {
	consul := testkit.StartGuardedConsul(t)
	cfg := consulConfig(consul.Addr)
	s := openConsul(t, cfg)
	_, err := s.Campaign(background, 1)
	if err == nil || !strings.Contains(err.Error(), "CONSUL_HTTP_TOKEN") {
		t.Errorf("without a token a campaign returned %v", err)
	}
	t.Setenv(api.HTTPTokenEnvName, consul.Token)
	cfg.API = ConsulAPI(consul.Addr)
	b := &bench{t: t, store: openConsul(t, cfg)}
	testkit.Eventually(t, "the access control is set up", func() bool {
		_, err = b.store.Holder(background)
		return err == nil
	})
	b.commit(b.campaign(1), put("a", "x"))
}

func TestConsulIsReachedWithTLS(t *testing.T) {
	var asked atomic.Pointer[http.Request]
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r)
		http.NotFound(w, r)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(api.HTTPCAFile, file)
	t.Setenv(api.HTTPNamespaceEnvName, "team")
	s := openConsul(t, consulConfig(server.URL))
	if _, err := s.Holder(background); err != nil {
		t.Fatal(err)
	}
	if ns := asked.Load().URL.Query().Get("ns"); ns != "team" {
		t.Errorf("the namespace %q was asked for", ns)
	}
}

func TestClusterNamesThatCannotBeKeysAreRefused(t *testing.T) {
	for _, name := range []string{"", "a/b", "-a", ".", "a b", strings.Repeat("x", 65)} {
		if _, err := OpenConsul(ConsulConfig{API: ConsulAPI(""), Cluster: name}); err == nil {
			t.Errorf("the cluster name %q was accepted", name)
		}
	}
}
