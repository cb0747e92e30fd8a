package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors/alarm"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// topicIdle is how long a topic actor lives after its last message: it has no
// state that the metadata does not have.
const topicIdle = time.Minute

// ensureTopic asks a topic actor to create its topic with the defaults unless it
// exists. reply must not block.
type ensureTopic struct{ reply func(error) }

type (
	topicEnsured struct{ err error }
	topicIdled   struct{ seen int }
	// topicChanged tells that this node's image has another state of the topic.
	topicChanged struct{}
	// endpointGone tells that the connection to an actor system broke.
	endpointGone struct{ address string }
)

// topic stands for one topic as a whole. It is where things happen once per
// topic that many connections ask for at the same time: a thousand producers
// that start together on a new topic make one creation, not a thousand. And it
// tells the programs of the SDK that subscribed to it where its partitions are led,
// as this node's image says.
type topic struct {
	env     *Env
	name    string
	waiting []func(error) // for the creation in flight; bounded by the connections
	giveUp  func()        // of the creation in flight; nil: there was none yet
	seen    int           // messages so far, to tell idleness
	subs    subscribers
	alarm   alarm.Alarm
}

// NewTopic returns how to make the actor of a topic.
func NewTopic(env *Env, name string) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		return &topic{env: env, name: name, subs: newSubscribers(env, name)}
	}, env.Props(KindTopic)...)
}

func (t *topic) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *ensureTopic:
		t.seen++
		t.ensure(ctx, m)
	case topicEnsured:
		t.ensured(ctx, m.err)
	case topicIdled:
		if m.seen == t.seen && len(t.waiting) == 0 && t.subs.none() {
			ctx.Poison(ctx.Self())
		}
	case *wire.ClientRequest:
		t.seen++
		t.subscribe(ctx, m)
	case topicChanged:
		t.changed(ctx)
	case endpointGone:
		t.subs.dropAddress(m.address)
		t.idleIfNone(ctx)
	case *actor.Terminated: // a subscriber in this process
		t.subs.drop(subscriberKey(m.Who))
		t.idleIfNone(ctx)
	case alarm.Ring:
		t.alarm.Rang(m)
		t.expire(ctx)
	case *actor.Restarting, *actor.Stopping:
		t.alarm.Stop()
		if t.giveUp != nil {
			t.giveUp()
		}
		t.subs.close()
		t.answer(messages.ErrUnavailable)
	}
}

func (t *topic) ensure(ctx actor.Context, m *ensureTopic) {
	if t.env.Client.Image().Topic(t.name) != nil {
		m.reply(nil)
		t.idleLater(ctx)
		return
	}
	t.waiting = append(t.waiting, m.reply)
	if len(t.waiting) > 1 {
		return
	}
	self, root, client, name := ctx.Self(), t.env.Root, t.env.Client, t.name
	deadline, cancel := context.WithTimeout(context.Background(), adminTimeout)
	t.giveUp = cancel
	// The call waits for the controller and for replicas to open, so it has a
	// goroutine of its own, which its deadline ends, or the end of this actor.
	t.env.asking.Go(func() {
		defer cancel()
		root.Send(self, topicEnsured{client.createDefault(deadline, name)})
	})
}

func (t *topic) ensured(ctx actor.Context, err error) {
	t.answer(err)
	t.idleLater(ctx)
}

func (t *topic) answer(err error) {
	for _, reply := range t.waiting {
		reply(err)
	}
	t.waiting = nil
}

// subscribe begins, renews or ends a subscription.
func (t *topic) subscribe(ctx actor.Context, m *wire.ClientRequest) {
	now := time.Now()
	err := t.subs.subscribe(ctx, now, m.GetSubscribe())
	if sender := ctx.Sender(); sender != nil {
		resp := &wire.ClientResponse{RequestId: m.GetRequestId()}
		if err != nil {
			resp.Error = wire.FromError(err)
		}
		ctx.Send(sender, resp)
	}
	if !t.subs.none() { // it may ring too early for those who renew, but not too late
		t.alarm.Set(t.env.Root, ctx.Self(), now, now.Add(lease(m.GetSubscribe().GetLeaseMs())))
	}
	t.idleIfNone(ctx)
}

// changed tells the subscribers what is new.
func (t *topic) changed(ctx actor.Context) {
	t.subs.changed()
	t.idleIfNone(ctx)
}

// expire drops those who did not renew.
func (t *topic) expire(ctx actor.Context) {
	now := time.Now()
	t.subs.expire(now)
	t.alarm.Set(t.env.Root, ctx.Self(), now, t.subs.expiry())
	t.idleIfNone(ctx)
}

func (t *topic) idleIfNone(ctx actor.Context) {
	if t.subs.none() {
		t.idleLater(ctx)
	}
}

func (t *topic) idleLater(ctx actor.Context) {
	self, root, seen := ctx.Self(), t.env.Root, t.seen
	time.AfterFunc(topicIdle, func() { root.Send(self, topicIdled{seen}) })
}
