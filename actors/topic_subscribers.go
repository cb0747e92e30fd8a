package actors

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/wire"
)

// Bounds of subscriptions to a topic.
const (
	subscribersMax = 10_000
	leaseMin       = 10 * time.Second
	leaseDefault   = time.Minute
	leaseMax       = 10 * time.Minute
)

// subscriber is a client that is told of a topic.
type subscriber struct {
	pid    *actor.PID
	expiry time.Time
}

// subscribers are those of one topic, and what they were told last. It belongs to the
// goroutine of the topic's actor.
type subscribers struct {
	env   *Env
	topic string
	all   map[string]*subscriber // by subscriberKey
	seen  *messages.Topic        // what route was made of
	route *wire.ClientRoute      // as last told; nil: nobody was told anything
	self  *actor.PID             // nil: not listed in env.subscribed
}

func newSubscribers(env *Env, topic string) subscribers {
	return subscribers{env: env, topic: topic, all: map[string]*subscriber{}}
}

func subscriberKey(p *actor.PID) string { return p.Address + "/" + p.Id }

func (s *subscribers) none() bool { return len(s.all) == 0 }

// subscribe begins, renews or ends a subscription. It tells the subscriber the route.
func (s *subscribers) subscribe(ctx actor.Context, now time.Time, q *wire.ClientSubscribe) error {
	pid := actor.NewPID(q.GetSubscriberAddress(), q.GetSubscriber())
	key := subscriberKey(pid)
	switch {
	case q == nil:
		return fmt.Errorf("the actor of a topic knows subscriptions alone: %w", wire.ErrUnsupported)
	case pid.Address == "" || pid.Id == "":
		return fmt.Errorf("a subscription names no subscriber: %w", messages.ErrInvalidRequest)
	case q.GetCancel():
		s.unwatch(ctx, key)
		s.drop(key)
		return nil
	}
	if s.self == nil { // before the image is read: what comes after it is heard of
		s.self = ctx.Self()
		s.env.subscribed.add(s.env, s.topic, s.self)
	}
	if s.refresh(); s.route == nil {
		s.unlistIfNone()
		return fmt.Errorf("topic %q: %w", s.topic, messages.ErrUnknownTopicOrPartition)
	}
	sub := s.all[key]
	if sub == nil && len(s.all) >= subscribersMax {
		return fmt.Errorf("topic %q has %d subscribers: %w", s.topic, subscribersMax,
			messages.ErrOverloaded)
	}
	if sub == nil {
		sub = &subscriber{pid: pid}
		s.all[key] = sub
		if pid.Address == ctx.Self().Address {
			ctx.Watch(pid)
		}
	}
	sub.expiry = now.Add(lease(q.GetLeaseMs()))
	s.tell(sub, s.route)
	return nil
}

func lease(ms uint32) time.Duration {
	if ms == 0 {
		return leaseDefault
	}
	return min(max(time.Duration(ms)*time.Millisecond, leaseMin), leaseMax)
}

func (s *subscribers) unwatch(ctx actor.Context, key string) {
	if sub := s.all[key]; sub != nil && sub.pid.Address == ctx.Self().Address {
		ctx.Unwatch(sub.pid)
	}
}

// drop ends a subscription, if there is one.
func (s *subscribers) drop(key string) {
	delete(s.all, key)
	s.unlistIfNone()
}

// dropAddress ends the subscriptions of a process that the connection broke to, which
// may live all the same.
func (s *subscribers) dropAddress(address string) {
	s.end(func(sub *subscriber) bool { return sub.pid.Address == address })
}

// expire ends the subscriptions that were not renewed.
func (s *subscribers) expire(now time.Time) {
	s.end(func(sub *subscriber) bool { return !now.Before(sub.expiry) })
}

// close ends all subscriptions.
func (s *subscribers) close() { s.end(func(*subscriber) bool { return true }) }

// end ends subscriptions and says so.
func (s *subscribers) end(which func(*subscriber) bool) {
	gone := &wire.ClientRoute{Topic: s.topic, Gone: true}
	for key, sub := range s.all {
		if which(sub) {
			delete(s.all, key)
			s.tell(sub, gone)
		}
	}
	s.unlistIfNone()
}

// expiry is when the next one ends unless it is renewed; zero: there is none.
func (s *subscribers) expiry() (first time.Time) {
	for _, sub := range s.all {
		if first.IsZero() || sub.expiry.Before(first) {
			first = sub.expiry
		}
	}
	return first
}

// changed tells everybody of a topic that changed, as far as the route did.
func (s *subscribers) changed() {
	before := s.route
	s.refresh()
	switch {
	case s.none() || before == s.route:
	case s.route == nil:
		s.close()
	default:
		for _, sub := range s.all {
			s.tell(sub, s.route)
		}
	}
}

func (s *subscribers) tell(sub *subscriber, r *wire.ClientRoute) {
	s.env.Root.Send(sub.pid, &wire.ClientPush{Event: &wire.ClientPush_Route{Route: r}})
}

func (s *subscribers) unlistIfNone() {
	if s.none() && s.self != nil {
		s.env.subscribed.remove(s.topic, s.self)
		s.self = nil
	}
}

// refresh makes the route what the image says, nil if there is no such topic. It stays
// the same one if nothing in it has changed.
func (s *subscribers) refresh() {
	image := s.env.Client.Image()
	t := image.Topic(s.topic)
	if t == nil {
		s.route, s.seen = nil, nil
		return
	}
	settings := configs.ForTopic(s.env.Settings, t.Configs) // they may be those of the nodes
	if t == s.seen && s.route.MaxMessageBytes == int32(settings.MaxMessageBytes) {
		return
	}
	route := &wire.ClientRoute{
		Topic: t.Name, TopicId: t.ID[:], Version: int64(image.Version),
		MaxMessageBytes: int32(settings.MaxMessageBytes),
		Partitions:      make([]*wire.ClientLeader, len(t.Partitions)),
	}
	leaders := make([]wire.ClientLeader, len(t.Partitions))
	for i := range t.Partitions {
		p := &t.Partitions[i]
		leaders[i].NodeId, leaders[i].LeaderEpoch = int32(p.Leader), int32(p.LeaderEpoch)
		route.Partitions[i] = &leaders[i]
	}
	if s.route == nil || !sameRoute(s.route, route) {
		s.route = route
	}
	s.seen = t
}

func sameRoute(a, b *wire.ClientRoute) bool {
	return string(a.TopicId) == string(b.TopicId) && a.MaxMessageBytes == b.MaxMessageBytes &&
		slices.EqualFunc(a.Partitions, b.Partitions, func(a, b *wire.ClientLeader) bool {
			return a.NodeId == b.NodeId && a.LeaderEpoch == b.LeaderEpoch
		})
}

// subscribed are the topics with subscribers whose actors live on this node, so that they
// hear of changes without asking. Any goroutine may call its methods.
type subscribed struct {
	actors sync.Map // topic -> *actor.PID
	listen sync.Once
}

func (s *subscribed) add(env *Env, topic string, pid *actor.PID) {
	s.listen.Do(func() { // until the actor system ends
		env.Root.ActorSystem().EventStream.Subscribe(func(event any) {
			if e, ok := event.(*remote.EndpointTerminatedEvent); ok {
				s.actors.Range(func(_, pid any) bool {
					env.Root.Send(pid.(*actor.PID), endpointGone{e.Address})
					return true
				})
			}
		})
	})
	s.actors.Store(topic, pid)
}

// remove forgets an actor, unless another one of the topic took its place.
func (s *subscribed) remove(topic string, pid *actor.PID) {
	s.actors.CompareAndDelete(topic, pid)
}

// imageChanged tells the actors of the topics that differ between two images, or of all
// if the settings of nodes do, which topics inherit.
func (s *subscribed) imageChanged(root *actor.RootContext, before, now *messages.Image) {
	all := !maps.EqualFunc(before.NodeConfigs, now.NodeConfigs, maps.Equal[messages.Config])
	s.actors.Range(func(topic, pid any) bool {
		if all || before.Topic(topic.(string)) != now.Topic(topic.(string)) {
			root.Send(pid.(*actor.PID), topicChanged{})
		}
		return true
	})
}
