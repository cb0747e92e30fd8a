package cluster

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/registry"
)

// memberEnv makes the test binary a member of a cluster instead: two members in
// one process would share what Proto.Actor's remote keeps in globals.
const memberEnv = "CLUSTER_TEST_MEMBER"

// memberConfig is what a member process is started with.
type memberConfig struct {
	Cluster string
	Consul  string
	Node    messages.NodeID
	TTL     time.Duration
	// Directory is the data the member has; "": nobody knows.
	Directory string
	// PEM of a certificate, its own authority, and its key; nil: no TLS.
	Cert, Key []byte
}

// tls returns what both ends of a connection between members use.
func (c *memberConfig) tls() (*tls.Config, error) {
	if c.Cert == nil {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.Cert)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}, err
}

// note is a line that a member process writes: an event, or the answer to the
// command with that id.
type note struct {
	ID    int    // of the command; 0: an event
	Event string // "ready", "joined", "left", "lapse", "suspect", "elected"
	At    int64  // Unix nanoseconds
	Text  string
	Node  messages.NodeID
	// Answer to "view".
	Members    []Member
	Controller messages.NodeID
}

// command is a line that a member process reads.
type command struct {
	ID   int
	Name string // "view", "call", "burst", "pin", "stop"
	Kind string
	Key  string
	Node messages.NodeID
}

// member is a member process.
type member struct {
	cfg    memberConfig
	out    sync.Mutex
	pins   sync.Map // identity -> node, of kind "pinned"
	joined *Joined
	store  *registry.Consul
	end    *Candidate
}

func runMember(text string) {
	m := &member{}
	if err := json.Unmarshal([]byte(text), &m.cfg); err != nil {
		panic(err)
	}
	if err := m.run(); err != nil {
		fmt.Fprintln(os.Stderr, "member:", err)
		os.Exit(1)
	}
}

func (m *member) write(n note) {
	n.At = time.Now().UnixNano()
	b, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	m.out.Lock()
	defer m.out.Unlock()
	_, _ = os.Stdout.Write(append(b, '\n'))
}

func (m *member) run() error {
	bulk, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go answerProbes(bulk)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	m.store, err = registry.OpenConsul(registry.ConsulConfig{API: registry.ConsulAPI(m.cfg.Consul),
		Cluster: m.cfg.Cluster, Log: log, Service: func() string { return m.joined.Service() }})
	if err != nil {
		return err
	}
	secured, err := m.cfg.tls()
	if err != nil {
		return err
	}
	lookup := NewLookup(m.cfg.Node, actor.RestartingSupervisorStrategy(), m.kinds()...)
	quiet := slog.New(slog.DiscardHandler)
	m.joined, err = Open(NewSystem(quiet), lookup, JoinConfig{
		Cluster: m.cfg.Cluster, Consul: registry.ConsulAPI(m.cfg.Consul), Log: log,
		Bind: "127.0.0.1:0", Bulk: bulk.Addr().String(), TTL: m.cfg.TTL, Refresh: m.cfg.TTL / 3,
		Directory: m.cfg.Directory,
		ServerTLS: secured, ClientTLS: secured,
		OnLapse: func(i string) { m.write(note{Event: "lapse", Text: i, Node: m.cfg.Node}) },
		OnSuspect: func(n messages.NodeID) {
			m.write(note{Event: "suspect", Node: n})
			if m.end != nil {
				m.end.Suspect(n)
			}
		},
		OnMembers: func(joined, left []Member) {
			for _, l := range left {
				m.write(note{Event: "left", Node: l.Node, Text: l.Incarnation})
			}
			for _, j := range joined {
				m.write(note{Event: "joined", Node: j.Node, Text: j.Incarnation})
			}
		},
	})
	if err != nil {
		return err
	}
	if err := m.joined.Join(context.Background()); err != nil {
		return err
	}
	m.end = StartCandidate(lookup, CandidateConfig{Lock: m.store, Dead: isDead, Log: log,
		Elected: func() {
			m.write(note{Event: "elected", Node: m.cfg.Node})
			lookup.Ensure("controller", []string{"controller"})
		}})
	m.write(note{Event: "ready", Node: m.cfg.Node, Text: m.joined.Incarnation()})
	return m.obey()
}

// answerProbes says that this process lives: a paused one accepts connections too.
func answerProbes(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte{1})
		_ = conn.Close()
	}
}

func isDead(ctx context.Context, m Member) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.Bulk)
	if err != nil {
		return true
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	_, err = conn.Read(make([]byte, 1))
	return err != nil
}

func (m *member) obey() error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var c command
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			return err
		}
		switch c.Name {
		case "view":
			v := m.joined.Lookup.View()
			m.write(note{ID: c.ID, Members: v.Members, Controller: v.Controller})
		case "call":
			go func() { m.write(note{ID: c.ID, Text: m.call(c.Kind, c.Key)}) }()
		case "burst":
			go func() { m.write(note{ID: c.ID, Text: m.burst(c.Kind, c.Key)}) }()
		case "pin":
			m.pins.Store(c.Key, c.Node)
			m.write(note{ID: c.ID})
		case "stop":
			m.end.Stop()
			err := m.store.Close()
			m.joined.Stop()
			m.write(note{ID: c.ID})
			return err
		}
	}
	return errors.Join(io.ErrUnexpectedEOF, in.Err()) // the test is gone
}

func (m *member) kinds() []Kind {
	return []Kind{
		{Name: "spread", Props: m.echo,
			Owner: func(v *View, identity string) messages.NodeID { return v.Rendezvous(identity) }},
		{Name: "pinned", Props: m.echo, Owner: func(_ *View, identity string) messages.NodeID {
			if n, ok := m.pins.Load(identity); ok {
				return n.(messages.NodeID)
			}
			return messages.NoNode
		}},
		{Name: "controller", Props: m.controller,
			Owner: func(v *View, _ string) messages.NodeID { return v.Controller }},
	}
}

// echo says on which node it lives.
func (m *member) echo(string) *actor.Props {
	return actor.PropsFromFunc(func(ctx actor.Context) {
		if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
			ctx.Respond(wrapperspb.String(strconv.Itoa(int(m.cfg.Node))))
		}
	})
}

// controller commits what it is sent and answers with node and version.
func (m *member) controller(string) *actor.Props {
	var lease registry.Lease
	return actor.PropsFromFunc(func(ctx actor.Context) {
		one, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		var err error
		switch msg := ctx.Message().(type) {
		case *actor.Started:
			lease, err = m.store.Campaign(one, m.cfg.Node)
		case *wrapperspb.StringValue:
			var v messages.MetadataVersion
			v, err = m.store.Commit(one, lease, []registry.Op{{Key: "k", Value: []byte(msg.Value)}})
			if err == nil {
				ctx.Respond(wrapperspb.String(fmt.Sprintf("%d@%d", m.cfg.Node, v)))
			}
		}
		if err != nil { // another controller, another actor
			fmt.Fprintln(os.Stderr, "controller:", err)
			ctx.Stop(ctx.Self())
		}
	})
}

// burst asks an actor many times at once, each time with the largest message that
// may be sent, and returns how many answers came.
func (m *member) burst(kind, identity string) string {
	pid := m.joined.Resolve(kind, identity)
	if pid == nil {
		return "no actor"
	}
	const messages, overhead = 2 * transport.Batch, 1 << 10
	large := wrapperspb.String(strings.Repeat("x", transport.MessageMax-overhead))
	futures := make([]actor.Future, messages)
	for i := range futures {
		futures[i] = m.joined.System.Root.RequestFuture(pid, large, time.Minute)
	}
	answers := 0
	for _, f := range futures {
		if _, err := f.Result(); err == nil {
			answers++
		}
	}
	return fmt.Sprintf("%d of %d", answers, messages)
}

// call asks an actor something once; "" when it does not answer in time.
func (m *member) call(kind, identity string) string {
	pid := m.joined.Resolve(kind, identity)
	if pid == nil {
		return ""
	}
	answer, err := m.joined.System.Root.RequestFuture(pid, wrapperspb.String(identity),
		time.Second).Result()
	if s, ok := answer.(*wrapperspb.StringValue); ok && err == nil {
		return s.Value
	}
	m.joined.Lookup.Forget(kind, identity) // as every caller does that gets no answer
	return ""
}
