package kafka

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// testConn is the connection the requests of ask come in on. Its address is not
// the one the node has in the image.
var testConn = connInfo{
	Remote: "192.0.2.9:40000", AdvertisedHost: "listener.example", AdvertisedPort: 19092,
}

// ask takes a request over the wire encoding to its handler, and the response
// back, as a connection does.
func ask[R kmsg.Response](t *testing.T, f *fakeCluster, req kmsg.Request, version int16) R {
	t.Helper()
	return askCtx[R](t.Context(), t, f, req, version)
}

func askCtx[R kmsg.Response](ctx context.Context, t *testing.T, f *fakeCluster, req kmsg.Request,
	version int16,
) R {
	t.Helper()
	req.SetVersion(version)
	decoded := kmsg.RequestForKey(req.Key())
	decoded.SetVersion(version)
	if err := decoded.ReadFrom(req.AppendTo(nil)); err != nil {
		t.Fatalf("decode request: %v", err)
	}
	s := &Server{partitions: f, cluster: f, coordinators: f.coords, settings: f,
		apis: newAPITable(), serving: context.Background()}
	row := s.apis.find(req.Key())
	resp := row.serve(s, ctx, &call{req: decoded, version: version, conn: testConn})
	if resp == nil {
		t.Fatalf("%s v%d: the handler closed the connection", row.name, version)
	}
	if resp.GetVersion() != version {
		t.Fatalf("%s v%d: answered in version %d", row.name, version, resp.GetVersion())
	}
	received := req.ResponseKind()
	received.SetVersion(version)
	if err := received.ReadFrom(resp.AppendTo(nil)); err != nil {
		t.Fatalf("%s v%d: decode response: %v", row.name, version, err)
	}
	return received.(R)
}

// eachVersion runs test for every version of an API that is served.
func eachVersion(t *testing.T, key int16, test func(t *testing.T, version int16)) {
	t.Helper()
	table := newAPITable()
	row := table.find(key)
	for v := row.accepts; v <= row.max; v++ {
		t.Run(fmt.Sprintf("v%d", v), func(t *testing.T) { test(t, v) })
	}
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// hasText checks that an error comes with a message.
func hasText(t *testing.T, what string, got *string) {
	t.Helper()
	if got == nil || *got == "" {
		t.Errorf("%s has no error message", what)
	}
}

func ptr[T any](v T) *T { return &v }

// addNodes makes nodes 2 and 3 live beside the fake's own.
func (f *fakeCluster) addNodes() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apply(&messages.Delta{Nodes: []messages.Node{
		{ID: fakeNode, Host: "127.0.0.1", Port: 9092, Rack: "r1"},
		{ID: 2, Host: "two.example", Port: 9093, Rack: "r2"},
		{ID: 3, Host: "three.example", Port: 9094},
	}})
}

// fence makes a node dead.
func (f *fakeCluster) fence(id messages.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	nodes := slices.Clone(f.image.Nodes)
	for i := range nodes {
		nodes[i].Fenced = nodes[i].Fenced || nodes[i].ID == id
	}
	f.apply(&messages.Delta{Nodes: nodes})
}

// configureNodes sets what is set at run time for nodes.
func (f *fakeCluster) configureNodes(all map[messages.NodeID]messages.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apply(&messages.Delta{NodeConfigs: all})
}

// failControl makes every control operation answer err.
func (f *fakeCluster) failControl(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}
