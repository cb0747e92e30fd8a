package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/troupelog/troupe/messages"
)

// consulWait bounds a question to Consul.
const consulWait = 3 * time.Second

// lookOut has the seeker see to it that there is a session for requests to any node.
func (l *Link) lookOut() {
	if l.usable() || l.closed {
		return
	}
	select {
	case l.seek <- struct{}{}:
	default:
	}
}

// seekSessions is the goroutine that keeps a session open with some node, as long as the
// link is. All requests to any node go through it, and all news come from it.
func (l *Link) seekSessions() {
	short := 0 // sessions in a row that did not last
	for failures := 0; l.ctx.Err() == nil; {
		l.mu.Lock()
		usable := l.usable()
		l.mu.Unlock()
		if usable {
			failures = 0
			begun := time.Now()
			select {
			case <-l.seek:
			case <-l.ctx.Done():
			}
			if time.Since(begun) >= soundAfter {
				short = 0
				continue
			}
			short++
			l.pause(backoff(short))
			continue
		}
		if l.round() {
			continue
		}
		failures++
		l.pause(backoff(failures))
	}
}

// round tries one node after the other until one opens a session.
func (l *Link) round() bool {
	var tried []error
	var seen []string
	hopes := false
	tryAll := func(addresses []string) bool {
		for _, address := range addresses {
			if slices.Contains(seen, address) || l.ctx.Err() != nil {
				continue
			}
			seen = append(seen, address)
			err := l.try(address)
			if err == nil && l.ready() {
				return true
			}
			if err != nil {
				tried = append(tried, err)
				hopes = hopes || !errors.Is(err, errSilent)
			}
		}
		return false
	}
	if tryAll(l.candidates()) {
		return true
	}
	if l.cfg.Consul != "" {
		addresses, err := l.cfg.fromConsul(l.ctx)
		if err != nil {
			tried, hopes = append(tried, err), true
		} else if tryAll(addresses) {
			return true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried, l.hopes = tried, hopes
	return false
}

// ready reports whether there is a session that serves.
func (l *Link) ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.usable()
}

// candidates are the nodes as last told, in any order, and then those that were given.
// Nodes that are stopping are not among them.
func (l *Link) candidates() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own := l.net.self(); own != "" && len(l.nodes) == 0 {
		return []string{own}
	}
	var addresses []string
	for _, n := range l.nodes {
		if !slices.ContainsFunc(l.open, func(p *peer) bool { return p.node == n.ID }) {
			addresses = append(addresses, n.Address)
		}
	}
	rand.Shuffle(len(addresses), func(i, j int) {
		addresses[i], addresses[j] = addresses[j], addresses[i]
	})
	if own := l.net.self(); own != "" {
		addresses = append([]string{own}, addresses...)
	}
	for _, seed := range l.cfg.Nodes {
		if p := l.peers[seed]; p == nil || p.state != open {
			addresses = append(addresses, seed)
		}
	}
	return addresses
}

// fromConsul asks Consul which nodes are alive. Nothing is kept of the connection.
func (c *Config) fromConsul(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, consulWait)
	defer cancel()
	settings := api.DefaultConfig()
	settings.Address = c.Consul
	settings.Transport.DisableKeepAlives = true
	client, err := api.NewClient(settings)
	if err != nil {
		return nil, fmt.Errorf("settings for Consul at %s: %w: %w", c.Consul,
			messages.ErrInvalidRequest, err)
	}
	name := "troupe-" + c.Cluster
	entries, _, err := client.Health().Service(name, "", true,
		new(api.QueryOptions).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("nodes from Consul at %s: %w", c.Consul, err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("nodes from Consul at %s: no service %s passes its checks there: "+
			"is the cluster's name (cluster.name) another one?", c.Consul, name)
	}
	addresses := make([]string, len(entries))
	for i, e := range entries {
		addresses[i] = net.JoinHostPort(e.Service.Address, strconv.Itoa(e.Service.Port))
	}
	rand.Shuffle(len(addresses), func(i, j int) {
		addresses[i], addresses[j] = addresses[j], addresses[i]
	})
	return addresses, nil
}
