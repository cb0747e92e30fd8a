package actors

import (
	"slices"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// depth counts the messages that wait in the mailboxes of one kind of actor.
// What a restart or a stop throws away is counted by nobody, so it may drift
// upward over the life of a process by what was lost.
type depth struct{ waiting atomic.Int64 }

func (d *depth) MailboxStarted()     {}
func (d *depth) MessagePosted(any)   { d.waiting.Add(1) }
func (d *depth) MessageReceived(any) { d.waiting.Add(-1) }
func (d *depth) MailboxEmpty()       {}

// depthKinds are the kinds whose mailboxes are counted.
var depthKinds = []string{KindController, KindNode, KindReplica, KindTopic, "log-dir", "storage",
	repliesName, "coordinators", "shard", "group", "transaction", "gateway", "session"}

// MailboxDepths returns how many messages wait, by kind of actor.
func (e *Env) MailboxDepths() map[string]int64 {
	out := make(map[string]int64, len(depthKinds))
	for _, k := range depthKinds {
		out[k] = e.depths[k].waiting.Load()
	}
	return out
}

// Props are the options all actors of a kind are made with. The kind is one of
// those whose mailboxes are counted. The slice is shared by all of them.
func (e *Env) Props(kind string) []actor.PropsOption { return e.props[kind] }

func (e *Env) propsOf(kind string) []actor.PropsOption {
	return slices.Clip([]actor.PropsOption{
		actor.WithReceiverMiddleware(logPanics(e.Log)),
		actor.WithMailbox(actor.Unbounded(e.depths[kind])),
		actor.WithDispatcher(e.dispatcher),
	})
}
