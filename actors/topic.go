package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
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
)

// topic stands for one topic as a whole. It is where things happen once per
// topic that many connections ask for at the same time: a thousand producers
// that start together on a new topic make one creation, not a thousand.
type topic struct {
	env     *Env
	name    string
	waiting []func(error) // for the creation in flight; bounded by the connections
	seen    int           // messages so far, to tell idleness
}

// NewTopic returns how to make the actor of a topic.
func NewTopic(env *Env, name string) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return &topic{env: env, name: name} },
		env.Props(KindTopic)...)
}

func (t *topic) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *ensureTopic:
		t.seen++
		t.ensure(ctx, m)
	case topicEnsured:
		t.ensured(ctx, m.err)
	case topicIdled:
		if m.seen == t.seen && len(t.waiting) == 0 {
			ctx.Poison(ctx.Self())
		}
	case *actor.Restarting, *actor.Stopping:
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
	// The call waits for the controller and for replicas to open, so it has a
	// goroutine of its own, which its deadline ends.
	go func() {
		deadline, cancel := context.WithTimeout(context.Background(), adminTimeout)
		defer cancel()
		root.Send(self, topicEnsured{client.createDefault(deadline, name)})
	}()
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

func (t *topic) idleLater(ctx actor.Context) {
	self, root, seen := ctx.Self(), t.env.Root, t.seen
	time.AfterFunc(topicIdle, func() { root.Send(self, topicIdled{seen}) })
}
