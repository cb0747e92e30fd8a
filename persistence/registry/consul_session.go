package registry

import (
	"context"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// lockDelay is how long a lock stays closed after it was taken from a
	// session. Late writes of the old holder are refused anyway, so it is as
	// short as can be; 0 would mean 15 s.
	lockDelay = time.Millisecond
	// sessionTTL is that of a session without a service, the least there is.
	sessionTTL   = "10s"
	sessionRenew = 3 * time.Second
)

// session is a session of ours in Consul.
type session struct {
	id      string
	service string // whose check it depends on; "": it has a TTL and is renewed
	stop    context.CancelFunc
}

// drop ends the renewal. The session itself stays.
func (s *session) drop() { s.stop() }

// ensureSession makes sure that there is a session of the service this node is
// registered as now; the caller holds c.mu.
func (c *Consul) ensureSession(ctx context.Context) error {
	service := c.cfg.Service()
	if s := c.session; s != nil {
		entry, _, err := c.client.Session().Info(s.id, consistent(ctx))
		if err != nil {
			return c.explain("look up the session", err)
		}
		if entry != nil && s.service == service {
			return nil
		}
		if entry != nil {
			if err := c.destroy(ctx, s.id); err != nil {
				return err
			}
		}
		s.drop()
		c.session = nil
	}
	entry := &api.SessionEntry{Name: c.prefix + "controller", LockDelay: lockDelay,
		Behavior: api.SessionBehaviorRelease}
	if service == "" {
		entry.TTL = sessionTTL
	} else {
		entry.ServiceChecks = []api.ServiceCheck{{ID: "service:" + service}}
	}
	id, _, err := c.client.Session().Create(entry, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return c.explain("create a session", err)
	}
	renewing, stop := context.WithCancel(context.Background())
	c.session = &session{id: id, service: service, stop: stop}
	if service == "" {
		c.owned.Go(func() { c.renew(renewing, id) })
	}
	return nil
}

// renew keeps a session with a TTL alive until ctx ends or the session has.
func (c *Consul) renew(ctx context.Context, id string) {
	tick := time.NewTicker(sessionRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		one, cancel := context.WithTimeout(ctx, sessionRenew)
		entry, _, err := c.client.Session().Renew(id, (&api.WriteOptions{}).WithContext(one))
		cancel()
		if err == nil && entry == nil {
			return
		}
	}
}

// destroy ends a session and frees its lock. One that is gone already is fine.
func (c *Consul) destroy(ctx context.Context, id string) error {
	_, err := c.client.Session().Destroy(id, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return c.explain("end a session", err)
	}
	return nil
}
