package actors

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
)

// adminTimeout bounds an administrative call whose caller sets no bound.
const adminTimeout = 30 * time.Second

// retryFirst and retryLimit space the attempts of a call whose actor has no home
// at the moment.
const (
	retryFirst = 5 * time.Millisecond
	retryLimit = 250 * time.Millisecond
)

// Client is the typed way to the actors, for everything on this node that is no
// actor: it hides identities, messages, retries and deadlines. It also holds
// what the node's agent publishes: the metadata image.
//
// Any goroutine may call its methods.
type Client struct {
	env   *Env
	image atomic.Pointer[messages.Image]

	mu      sync.Mutex
	applied messages.MetadataVersion
	waiters map[chan struct{}]messages.MetadataVersion

	ids     sync.Mutex // guards the block of producer ids
	nextID  messages.ProducerID
	idsLeft int
}

// NewClient returns the client of a node; env.Client is set to it.
func NewClient(env *Env) *Client {
	c := &Client{env: env, waiters: map[chan struct{}]messages.MetadataVersion{}}
	c.image.Store(messages.NewImage())
	env.Client = c
	return c
}

// Image returns the newest metadata of this node.
func (c *Client) Image() *messages.Image { return c.image.Load() }

// Self is this node's id.
func (c *Client) Self() messages.NodeID { return c.env.Self }

func (c *Client) setImage(im *messages.Image) { c.image.Store(im) }

// setApplied announces that a metadata version is in effect on this node.
func (c *Client) setApplied(v messages.MetadataVersion) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applied = max(c.applied, v)
	for ch, want := range c.waiters {
		if want <= c.applied {
			close(ch)
			delete(c.waiters, ch)
		}
	}
}

// AwaitVersion waits until a metadata version is in effect on this node: its
// image shows it and the replicas it assigns here are open. Version 1 waits for
// the first metadata of all.
func (c *Client) AwaitVersion(ctx context.Context, v messages.MetadataVersion) error {
	c.mu.Lock()
	if c.applied >= v {
		c.mu.Unlock()
		return nil
	}
	ch := make(chan struct{})
	c.waiters[ch] = v
	c.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.waiters, ch)
		c.mu.Unlock()
		return fmt.Errorf("waiting for metadata version %d: %w", v, messages.ErrRequestTimedOut)
	}
}

// Replica returns the local replica that leads a partition.
func (c *Client) Replica(t *messages.Topic, index int32) (*Replica, error) {
	if index < 0 || int(index) >= len(t.Partitions) {
		return nil, fmt.Errorf("%s-%d: %w", t.Name, index, messages.ErrUnknownTopicOrPartition)
	}
	r := c.env.Replica(messages.PartitionID{Topic: t.ID, Partition: index})
	if r == nil {
		return nil, fmt.Errorf("%s-%d: %w", t.Name, index, messages.ErrNotLeader)
	}
	if r.leads.Load() == nil {
		return nil, r.notLeading()
	}
	return r, nil
}

// call sends a command to the actor of an identity and waits for its reply,
// trying again while the actor has no home or is not ready. The command must be
// safe to repeat after messages.ErrNotController: nothing was done then.
func call[R any](ctx context.Context, c *Client, kind, identity string,
	command func(reply func(R)) any, unready func(R) bool) (r R, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	for pause := retryFirst; ; pause = min(2*pause, retryLimit) {
		if pid := c.env.IDs.Resolve(kind, identity); pid != nil {
			replies := make(chan R, 1)
			c.env.Root.Send(pid, command(func(r R) { replies <- r }))
			select {
			case r = <-replies:
				if !unready(r) {
					return r, nil
				}
			case <-ctx.Done():
				return r, fmt.Errorf("%s did not answer: %w", kind, messages.ErrRequestTimedOut)
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return r, fmt.Errorf("%s is not available: %w", kind, messages.ErrUnavailable)
		}
	}
}

// admin runs a command on the controller and waits until this node shows its outcome.
func (c *Client) admin(
	ctx context.Context,
	command func(reply func(adminResult)) any,
) (adminResult, error) {
	r, err := call(ctx, c, KindController, KindController, command,
		func(r adminResult) bool { return errors.Is(r.err, messages.ErrNotController) })
	if err != nil {
		return r, err
	}
	if r.err != nil {
		return r, r.err
	}
	return r, c.AwaitVersion(ctx, r.version)
}

// CreateTopics creates topics and returns when they can be used through this node.
func (c *Client) CreateTopics(ctx context.Context, reqs []messages.CreateTopic, validateOnly bool) (
	[]messages.TopicResult, error) {
	ids := make([]messages.TopicID, len(reqs))
	for i := range ids {
		ids[i] = newTopicID()
	}
	r, err := c.admin(ctx, func(reply func(adminResult)) any {
		return &createTopics{topics: reqs, ids: ids, validateOnly: validateOnly, reply: reply}
	})
	return r.topics, err
}

// newTopicID draws a random version 4 UUID. Ids that begin with '-' in their
// text form are drawn again: command-line tools take them for options.
func newTopicID() messages.TopicID {
	for {
		var id messages.TopicID
		_, _ = rand.Read(id[:]) // never fails (crypto/rand)
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id.String()[0] != '-' {
			return id
		}
	}
}

// AutoCreate makes a topic with the defaults, or finds it made by another caller.
func (c *Client) AutoCreate(ctx context.Context, name string) error {
	if err := topics.CheckName(name); err != nil {
		return err
	}
	failed, err := call(ctx, c, KindTopic, name,
		func(reply func(error)) any { return &ensureTopic{reply} },
		func(err error) bool { return errors.Is(err, messages.ErrUnavailable) })
	if err != nil {
		return err
	}
	return failed
}

// DeleteTopics deletes topics and their data.
func (c *Client) DeleteTopics(
	ctx context.Context,
	refs []messages.TopicRef,
) ([]messages.TopicResult, error) {
	r, err := c.admin(ctx, func(reply func(adminResult)) any {
		return &deleteTopics{topics: refs, reply: reply}
	})
	return r.topics, err
}

// CreatePartitions grows topics.
func (c *Client) CreatePartitions(
	ctx context.Context,
	reqs []messages.CreatePartitions,
	validateOnly bool,
) (
	[]messages.TopicResult, error) {
	r, err := c.admin(ctx, func(reply func(adminResult)) any {
		return &createPartitions{topics: reqs, validateOnly: validateOnly, reply: reply}
	})
	return r.topics, err
}

// AlterConfigs changes configurations; the errors stand in the order of the requests.
func (c *Client) AlterConfigs(
	ctx context.Context,
	reqs []messages.AlterConfigs,
	validateOnly bool,
) ([]error, error) {
	r, err := c.admin(ctx, func(reply func(adminResult)) any {
		return &alterConfigs{reqs: reqs, validateOnly: validateOnly, reply: reply}
	})
	return r.errs, err
}

// idBlock is the controller's answer to reserveProducerIDs.
type idBlock struct {
	first messages.ProducerID
	err   error
}

// NewProducerID hands out an id that was never handed out before, from a block
// that this node reserved durably.
func (c *Client) NewProducerID(ctx context.Context) (messages.ProducerID, error) {
	c.ids.Lock()
	defer c.ids.Unlock()
	if c.idsLeft == 0 {
		b, err := call(ctx, c, KindController, KindController, func(reply func(idBlock)) any {
			return &reserveProducerIDs{
				reply: func(first messages.ProducerID, err error) { reply(idBlock{first, err}) },
			}
		}, func(b idBlock) bool { return errors.Is(b.err, messages.ErrNotController) })
		if err != nil {
			return 0, err
		}
		if b.err != nil {
			return 0, b.err
		}
		c.nextID, c.idsLeft = b.first, topics.ProducerIDBlock
	}
	id := c.nextID
	c.nextID++
	c.idsLeft--
	return id, nil
}

// LogDirs describes this node's data directories.
func (c *Client) LogDirs(ctx context.Context) ([]messages.LogDir, error) {
	pid := c.env.storage.Load()
	if pid == nil {
		return nil, fmt.Errorf("storage: %w", messages.ErrUnavailable)
	}
	replies := make(chan []messages.LogDir, 1)
	c.env.Root.Send(pid, &describeDirs{func(d []messages.LogDir) { replies <- d }})
	select {
	case dirs := <-replies:
		return dirs, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("storage did not answer: %w", messages.ErrRequestTimedOut)
	}
}

// PlaceReplica has this node's storage spawn the replica of an identity under a
// name. The placement of virtual actors calls it; done may come from any goroutine.
func (c *Client) PlaceReplica(identity, name string, done func(*actor.PID, error)) {
	id, err := messages.ParseReplicaIdentity(identity)
	pid := c.env.storage.Load()
	if err == nil && pid == nil {
		err = fmt.Errorf("storage: %w", messages.ErrUnavailable)
	}
	if err != nil {
		done(nil, err)
		return
	}
	c.env.Root.Send(pid, &placeReplica{id: id, name: name, done: done})
}
