package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/consul/api"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
)

const (
	// watchWait is how long a watch may be parked. One that was told an index
	// from before a restart of the server hears nothing until it is over.
	watchWait = 10 * time.Second
	// watchGrace is how much later than that an answer may come before the
	// agent counts as hung.
	watchGrace = 5 * time.Second
	retryMin   = 100 * time.Millisecond
	retryMax   = 2 * time.Second
	// forgetAfter is when Consul deletes the service of a dead node, the least
	// that it allows. Until then it is listed as critical.
	forgetAfter  = time.Minute
	leaveTimeout = 2 * time.Second
	// settleSlack is added to the time that all members are given to report
	// again after Consul was in trouble.
	settleSlack = 2 * time.Second
)

// Keys of a service's metadata in Consul.
const (
	metaNode        = "troupe-node"
	metaIncarnation = "troupe-incarnation"
	metaBulk        = "troupe-bulk"
	metaDirectory   = "troupe-directory"
)

// listed is a member under an id for Proto.Actor, which takes nobody back whose
// id has left once. So each return gets a new id, which nobody else needs to know.
type listed struct {
	Member
	id string
}

// membership keeps this node registered with Consul and follows who else is.
//
// Consul is believed when it says that a member does not report. It is not
// believed when it may just have lost something: after an error, an index that
// fell, or a list in which this node itself is missing, nobody is removed until
// all have had the time to report again.
type membership struct {
	client *api.Client
	cfg    JoinConfig
	name   string // of the service
	system string // id of the actor system
	show   func(members []listed, joined, left []Member)
	kick   chan struct{} // wakes the heartbeat
	grace  time.Duration // see settleSlack
	pulse  pulse         // of the heartbeat's goroutine

	mu         sync.Mutex
	self       Member
	lives      int    // incarnations of this process so far
	registered string // service id that Consul was told last; "" before
	seenSelf   bool   // that service has been in a list
	trustFrom  time.Time
	members    []listed // by node id; self included
	joins      int      // for unique ids of listed
}

func newMembership(client *api.Client, cfg JoinConfig, self messages.NodeID,
	system *actor.ActorSystem, show func([]listed, []Member, []Member)) *membership {
	m := &membership{client: client, cfg: cfg, name: "troupe-" + cfg.Cluster, system: system.ID,
		show: show, kick: make(chan struct{}, 1), grace: cfg.TTL + 2*cfg.Refresh + settleSlack,
		self: Member{Node: self, Address: system.Address(), Bulk: cfg.Bulk}}
	m.nextLife()
	return m
}

// nextLife makes self a new incarnation; the caller holds mu or is the maker.
func (m *membership) nextLife() {
	m.lives++
	m.self.Incarnation = m.system + "." + strconv.Itoa(m.lives)
	m.seenSelf = false
}

func (m *membership) me() Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self
}

// serviceID is unique for each incarnation of each node of each cluster.
func (m *membership) serviceID(of Member) string {
	return fmt.Sprintf("%s-%d-%s", m.name, of.Node, of.Incarnation)
}

func (m *membership) service() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.registered
}

// join registers the node and reads the list, which the watch follows from then on.
func (m *membership) join(ctx context.Context) error {
	entries, _, err := m.list(ctx, 0, 0)
	if err != nil {
		return err
	}
	if err := m.unique(entries); err != nil {
		return err
	}
	m.pulse = pulse{ttl: m.cfg.TTL}
	m.pulse.tried(time.Now(), true)
	if err := m.register(ctx); err != nil {
		return err
	}
	m.apply(nil)
	if entries, _, err = m.list(ctx, 0, 0); err != nil {
		return err
	}
	m.apply(entries)
	return nil
}

// unique refuses the id of a member that lives with other data. Once registered,
// this node would stand in its place: others would fetch here, and ask here for the
// controller. An earlier life of this node has directories in common with it.
func (m *membership) unique(entries []*api.ServiceEntry) error {
	me := m.me()
	for _, e := range entries {
		other, err := readMember(e)
		if err != nil || other.Node != me.Node || e.Checks.AggregatedStatus() != api.HealthPassing {
			continue
		}
		theirs := e.Service.Meta[metaDirectory]
		if theirs != "" && m.cfg.Directory != "" &&
			!messages.SharesData(theirs, m.cfg.Directory) {
			return fmt.Errorf("node %d is alive at %s with other data: stop it, or give this "+
				"node an id of its own: %w", me.Node, other.Address, messages.ErrDuplicateNode)
		}
	}
	return nil
}

// register tells Consul of the current incarnation, and then that the one before
// is gone.
func (m *membership) register(ctx context.Context) error {
	me := m.me()
	host, port, err := transport.SplitPort(me.Address)
	if err != nil {
		return err
	}
	id := m.serviceID(me)
	ctx, cancel := context.WithTimeout(ctx, m.cfg.TTL)
	defer cancel()
	err = m.client.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
		ID: id, Name: m.name, Address: host, Port: port,
		Meta: map[string]string{metaNode: strconv.Itoa(int(me.Node)),
			metaIncarnation: me.Incarnation, metaBulk: me.Bulk,
			metaDirectory: m.cfg.Directory},
		Check: &api.AgentServiceCheck{TTL: m.cfg.TTL.String(), Status: api.HealthPassing,
			DeregisterCriticalServiceAfter: forgetAfter.String()},
	}, api.ServiceRegisterOpts{}.WithContext(ctx))
	if err != nil {
		return m.explain("register the node", err)
	}
	m.mu.Lock()
	before := m.registered
	m.registered = id
	m.mu.Unlock()
	if before != "" && before != id {
		m.deregister(ctx, before)
	}
	return nil
}

func (m *membership) deregister(ctx context.Context, id string) {
	err := m.client.Agent().ServiceDeregisterOpts(id, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		m.cfg.Log.Warn("an old registration is left to expire in Consul",
			slog.String("service", id), slog.Any("error", err))
	}
}

func (m *membership) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if id := m.service(); id != "" {
		m.deregister(ctx, id)
	}
}

// heartbeat tells Consul at intervals that this node lives, until ctx ends.
func (m *membership) heartbeat(ctx context.Context) {
	tick := time.NewTicker(m.cfg.Refresh)
	defer tick.Stop()
	troubled := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.kick:
		case <-tick.C:
		}
		began := time.Now()
		if m.pulse.missed(began, true) {
			m.lapse(began)
		}
		err := m.beat(ctx)
		ended := time.Now()
		if m.pulse.missed(ended, err == nil) {
			m.lapse(ended)
		} else {
			m.pulse.tried(began, err == nil)
		}
		if err != nil && ctx.Err() == nil {
			m.distrust()
			if !troubled {
				m.cfg.Log.Warn("Consul does not take signs of life", slog.Any("error", err))
			}
		}
		if err == nil && troubled {
			m.cfg.Log.Info("Consul takes signs of life again")
		}
		troubled = err != nil
	}
}

// pulse tells a node that was paused, and so given up by the others, from one
// that could not reach Consul: then the others have not heard of anybody's death
// either, and if they have, the controller will say so.
type pulse struct {
	ttl    time.Duration
	heard  time.Time // when the last sign of life that Consul took was begun
	last   time.Time // when the last one was begun, taken or not
	failed bool      // some were not taken since heard
}

// missed reports whether the node was paused for too long, as seen at now. taken
// says whether nothing is known against Consul having taken the sign of life now.
func (p *pulse) missed(now time.Time, taken bool) bool {
	return now.Sub(p.last) > p.ttl || taken && !p.failed && now.Sub(p.heard) > p.ttl
}

// tried notes a sign of life that was begun at a time.
func (p *pulse) tried(began time.Time, taken bool) {
	p.last, p.failed = began, p.failed || !taken
	if taken {
		p.heard, p.failed = began, false
	}
}

// lapse makes the node a new incarnation.
func (m *membership) lapse(now time.Time) {
	silence := now.Sub(m.pulse.heard)
	m.pulse.tried(now, true) // a new life begins
	incarnation := m.renew()
	m.distrust()
	m.cfg.Log.Warn("node was paused and is a new incarnation now",
		slog.Duration("silence", silence), slog.String("incarnation", incarnation))
	m.cfg.OnLapse(incarnation)
}

// renew begins a new incarnation; the next heartbeat tells Consul.
func (m *membership) renew() string {
	m.mu.Lock()
	m.nextLife()
	incarnation := m.self.Incarnation
	m.mu.Unlock()
	select {
	case m.kick <- struct{}{}:
	default:
	}
	return incarnation
}

// beat gives a sign of life, or registers if Consul does not know the node, or
// not as what it is.
func (m *membership) beat(ctx context.Context) error {
	// A hung agent must not make two attempts lie further apart than the TTL.
	ctx, cancel := context.WithTimeout(ctx, (m.cfg.TTL-m.cfg.Refresh)/2)
	defer cancel()
	id := m.serviceID(m.me())
	if id != m.service() {
		return m.register(ctx)
	}
	err := m.client.Agent().UpdateTTLOpts("service:"+id, "", api.HealthPassing,
		(&api.QueryOptions{}).WithContext(ctx))
	var status api.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		m.distrust()
		m.cfg.Log.Warn("Consul has lost the node and is told again", slog.String("service", id))
		return m.register(ctx)
	}
	if err != nil {
		return m.explain("renew the registration", err)
	}
	return nil
}

// watch follows the list of services until ctx ends.
func (m *membership) watch(ctx context.Context) {
	var index uint64
	retry := retryMin
	for ctx.Err() == nil {
		entries, next, err := m.list(ctx, index, m.patience())
		if err != nil {
			if ctx.Err() == nil && retry == retryMin {
				m.cfg.Log.Warn("members cannot be watched", slog.Any("error", err))
			}
			m.distrust()
			index = 0
			pause(ctx, retry)
			retry = min(2*retry, retryMax)
			continue
		}
		if next < index {
			m.distrust()
			next = 0
		}
		index, retry = next, retryMin
		m.apply(entries)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// list returns the services once they differ from what they were at index, or
// after wait.
func (m *membership) list(
	ctx context.Context, index uint64, wait time.Duration,
) ([]*api.ServiceEntry, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+watchGrace)
	defer cancel()
	q := (&api.QueryOptions{WaitIndex: index, WaitTime: wait}).WithContext(ctx)
	entries, meta, err := m.client.Health().Service(m.name, "", false, q)
	if err != nil {
		return nil, 0, m.explain("list the members", err)
	}
	return entries, meta.LastIndex, nil
}

// distrust keeps everybody a member until all have had the time to report again.
func (m *membership) distrust() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trustFrom = time.Now().Add(m.grace)
}

// patience is how long to wait for news: no longer than until Consul is trusted
// again, when what it said before comes into effect.
func (m *membership) patience() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := time.Until(m.trustFrom) + time.Millisecond
	if left <= 0 {
		return watchWait
	}
	return min(left, watchWait)
}

// apply makes a list of services the membership.
func (m *membership) apply(entries []*api.ServiceEntry) {
	m.mu.Lock()
	found, sawSelf := m.read(entries)
	if sawSelf {
		m.seenSelf = true
	} else if m.seenSelf { // it was there: Consul has lost more than a member
		m.trustFrom = time.Now().Add(m.grace)
	}
	if !sawSelf || time.Now().Before(m.trustFrom) {
		for _, old := range m.members {
			if _, ok := found[old.Node]; !ok {
				found[old.Node] = old.Member
			}
		}
	}
	found[m.self.Node] = m.self
	joined, left, changed := m.replace(found)
	members := slices.Clone(m.members)
	m.mu.Unlock()
	if changed {
		m.show(members, joined, left) // only the watch gets here, once it runs
	}
}

// read returns the members that report, by node. Of several incarnations of a
// node the one that registered last counts: the others died a moment ago.
func (m *membership) read(entries []*api.ServiceEntry) (map[messages.NodeID]Member, bool) {
	slices.SortFunc(entries, func(a, b *api.ServiceEntry) int {
		return cmp.Compare(a.Service.CreateIndex, b.Service.CreateIndex)
	})
	found, sawSelf := map[messages.NodeID]Member{}, false
	for _, e := range entries {
		member, err := readMember(e)
		if err != nil {
			m.cfg.Log.Warn("a service in Consul is not a node of a cluster",
				slog.String("service", e.Service.ID), slog.Any("error", err))
			continue
		}
		if e.Checks.AggregatedStatus() != api.HealthPassing {
			continue
		}
		sawSelf = sawSelf || e.Service.ID == m.serviceID(m.self)
		found[member.Node] = member
	}
	return found, sawSelf
}

func readMember(e *api.ServiceEntry) (Member, error) {
	s := e.Service
	node, err := strconv.ParseInt(s.Meta[metaNode], 10, 32)
	if err != nil || node < 0 {
		return Member{}, fmt.Errorf("its %s is %q", metaNode, s.Meta[metaNode])
	}
	address := fmt.Sprintf("%s:%d", s.Address, s.Port)
	if _, _, err := transport.SplitPort(address); err != nil {
		return Member{}, err
	}
	return Member{Node: messages.NodeID(node), Incarnation: s.Meta[metaIncarnation],
		Address: address, Bulk: s.Meta[metaBulk]}, nil
}

// replace makes found the members and returns the difference.
func (m *membership) replace(
	found map[messages.NodeID]Member,
) (joined, left []Member, changed bool) {
	var next []listed
	for _, old := range m.members {
		if now, ok := found[old.Node]; ok && now == old.Member {
			next = append(next, old)
			delete(found, old.Node)
		} else {
			left = append(left, old.Member)
		}
	}
	for _, now := range found {
		m.joins++
		joined = append(joined, now)
		next = append(next, listed{now, fmt.Sprintf("%d.%s#%d", now.Node, now.Incarnation, m.joins)})
	}
	slices.SortFunc(next, func(a, b listed) int { return cmp.Compare(a.Node, b.Node) })
	slices.SortFunc(joined, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	m.members = next
	return joined, left, len(joined)+len(left) > 0
}

// explain says what could not be done and, where it is known, the remedy.
func (m *membership) explain(what string, err error) error {
	var status api.StatusError
	if errors.As(err, &status) && status.Code == http.StatusForbidden {
		return fmt.Errorf("%s: Consul at %s refuses the token: it needs service %q write, "+
			"service_prefix \"troupe-\" read and node_prefix \"\" read; set CONSUL_HTTP_TOKEN: %w",
			what, m.cfg.Consul.Address, m.name, err)
	}
	return fmt.Errorf("%s: Consul at %s: %w", what, m.cfg.Consul.Address, err)
}
