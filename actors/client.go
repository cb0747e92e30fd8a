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

	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
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

	inFlight    func() *calls // made at the first call
	incarnation atomic.Pointer[string]

	ids     sync.Mutex // guards the block of producer ids
	nextID  messages.ProducerID
	idsLeft int
}

// NewClient returns the client of a node; env.Client is set to it.
func NewClient(env *Env) *Client {
	c := &Client{env: env, waiters: map[chan struct{}]messages.MetadataVersion{}}
	c.image.Store(messages.NewImage())
	c.inFlight = sync.OnceValue(func() *calls {
		made, err := newCalls(env)
		invariant.That(err == nil, "a second client in one actor system: %v", err)
		return made
	})
	env.Client = c
	return c
}

// Image returns the newest metadata of this node.
func (c *Client) Image() *messages.Image { return c.image.Load() }

// Self is this node's id.
func (c *Client) Self() messages.NodeID { return c.env.Self }

// Incarnation is the life under which this node is registered, or registers; ""
// before it tried.
func (c *Client) Incarnation() string {
	if life := c.incarnation.Load(); life != nil {
		return *life
	}
	return ""
}

func (c *Client) calls() *calls { return c.inFlight() }

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

// admin runs a command on the controller and waits until this node shows its outcome.
func (c *Client) admin(ctx context.Context, m control.Command) (*control.Answer, error) {
	a, err := c.command(ctx, m)
	if err != nil {
		return &control.Answer{}, err
	}
	return a, c.AwaitVersion(ctx, a.Version)
}

// CreateTopics creates topics and returns when they can be used through this node.
func (c *Client) CreateTopics(ctx context.Context, reqs []messages.CreateTopic, validateOnly bool) (
	[]messages.TopicResult, error) {
	ids := make([]messages.TopicID, len(reqs))
	for i := range ids {
		ids[i] = newTopicID()
	}
	a, err := c.admin(ctx,
		&control.CreateTopics{Topics: reqs, IDs: ids, ValidateOnly: validateOnly})
	return a.Topics, err
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
	if err := messages.CheckTopicName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	pid := c.env.IDs.Resolve(KindTopic, name)
	if pid == nil || pid.Address != c.env.Root.ActorSystem().Address() {
		return c.createDefault(ctx, name)
	}
	replies := make(chan error, 2) // of both attempts, if the first is only slow
	for attempt := range 2 {
		c.env.Root.Send(pid, &ensureTopic{func(err error) { replies <- err }})
		select {
		case err := <-replies:
			if !errors.Is(err, messages.ErrUnavailable) {
				return err
			}
			return c.createDefault(ctx, name)
		case <-ctx.Done():
			return fmt.Errorf("topic %s is not there yet: %w", name, messages.ErrRequestTimedOut)
		case <-time.After(topicPatience):
		}
		// What reaches an actor that is about to end is lost without a word.
		c.env.IDs.Forget(KindTopic, name)
		if pid = c.env.IDs.Resolve(KindTopic, name); pid == nil || attempt == 1 {
			break
		}
	}
	return c.createDefault(ctx, name)
}

// topicPatience is how long a topic's actor may take to answer before it is
// asked again, or left out.
const topicPatience = 2 * time.Second

// createDefault makes a topic with the defaults unless it exists.
func (c *Client) createDefault(ctx context.Context, name string) error {
	results, err := c.CreateTopics(ctx,
		[]messages.CreateTopic{{Name: name, Partitions: -1, ReplicationFactor: -1}}, false)
	if err == nil {
		err = results[0].Err
	}
	if errors.Is(err, messages.ErrTopicAlreadyExists) {
		return nil
	}
	return err
}

// DeleteTopics deletes topics and their data.
func (c *Client) DeleteTopics(
	ctx context.Context, refs []messages.TopicRef,
) ([]messages.TopicResult, error) {
	a, err := c.admin(ctx, &control.DeleteTopics{Topics: refs})
	return a.Topics, err
}

// CreatePartitions grows topics.
func (c *Client) CreatePartitions(
	ctx context.Context, reqs []messages.CreatePartitions, validateOnly bool,
) ([]messages.TopicResult, error) {
	a, err := c.admin(ctx, &control.CreatePartitions{Topics: reqs, ValidateOnly: validateOnly})
	return a.Topics, err
}

// AlterConfigs changes configurations; the errors stand in the order of the requests.
func (c *Client) AlterConfigs(
	ctx context.Context, reqs []messages.AlterConfigs, validateOnly bool,
) ([]error, error) {
	a, err := c.admin(ctx, &control.AlterConfigs{Reqs: reqs, ValidateOnly: validateOnly})
	return a.Errs, err
}

// ElectLeaders elects leaders; the errors stand in the order of the partitions.
func (c *Client) ElectLeaders(
	ctx context.Context, t messages.ElectionType, partitions []messages.PartitionID,
) ([]error, error) {
	a, err := c.admin(ctx, &control.ElectLeaders{Type: t, Partitions: partitions})
	return a.Errs, err
}

// Reassign places replicas, or takes that back. It returns when the reassignments
// have begun; the errors stand in the order of the requests.
func (c *Client) Reassign(ctx context.Context, reqs []messages.Reassign) ([]error, error) {
	a, err := c.admin(ctx, &control.Reassign{Reqs: reqs})
	return a.Errs, err
}

// Unregister forgets a node that is gone for good and has no replicas.
func (c *Client) Unregister(ctx context.Context, n messages.NodeID) error {
	_, err := c.admin(ctx, &control.Unregister{Node: n})
	return err
}

// Suspect reports that a node may be dead: a connection to it broke.
func (c *Client) Suspect(n messages.NodeID) { c.env.tellNode(suspected{n}) }

// Lapsed reports that the membership lost this node for a while. The node fences
// itself and registers again.
func (c *Client) Lapsed() { c.env.tellNode(lapsed{c.env.pauses.count.Load()}) }

// Leave has the leaderships of this node moved away before it stops. It reports
// whether they were when it returns, which is when ctx ends at the latest.
func (c *Client) Leave(ctx context.Context) (moved bool) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(adminTimeout)
	}
	done := make(chan bool, 1)
	c.env.tellNode(&leaveCluster{deadline, func(moved bool) { done <- moved }})
	select {
	case moved = <-done:
	case <-ctx.Done():
	}
	return moved
}

// NewProducerID hands out an id that was never handed out before, from a block
// that this node reserved durably.
func (c *Client) NewProducerID(ctx context.Context) (messages.ProducerID, error) {
	c.ids.Lock()
	defer c.ids.Unlock()
	if c.idsLeft == 0 {
		a, err := c.command(ctx, &control.AllocateProducerIDs{Node: c.env.Self})
		if err != nil {
			return 0, err
		}
		c.nextID, c.idsLeft = a.FirstID, topics.ProducerIDBlock
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
