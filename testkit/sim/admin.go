package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/messages"
)

// adminID marks answers that are no agent's.
const adminID = 1 << 40

// ask has any node carry a command to the controller, until an answer tells how it
// ended or the attempts are used up; done may be nil.
func (w *World) ask(c control.Command, attempts int, done func(*control.Answer)) {
	again := func() {
		if attempts > 1 {
			w.after(200*time.Millisecond, func() { w.ask(c, attempts-1, done) })
		} else if done != nil {
			done(&control.Answer{Err: messages.ErrUnavailable})
		}
	}
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if !n.alive() {
		again()
		return
	}
	n.call(adminID, c, func(a *control.Answer) {
		switch {
		case errors.Is(a.Err, messages.ErrNotController), errors.Is(a.Err, messages.ErrUnavailable),
			errors.Is(a.Err, messages.ErrFencedController):
			again()
		case done != nil:
			done(a)
		}
	})
}

// command carries out a command and returns when it is answered.
func (w *World) command(c control.Command) *control.Answer {
	w.t.Helper()
	var answer *control.Answer
	w.ask(c, 1000, func(a *control.Answer) { answer = a })
	w.RunUntil(fmt.Sprintf("%T is answered", c), func() bool { return answer != nil })
	if err := errors.Join(append(answer.Errs, answer.Err)...); err != nil {
		w.t.Fatalf("%T: %v", c, err)
	}
	return answer
}

// Topic says how a topic is made.
type Topic struct {
	Partitions int32
	Replicas   int16
	MinInSync  int
	Configs    messages.Config
}

func (w *World) createTopic(name string, t Topic) *control.CreateTopics {
	w.ids++
	var id messages.TopicID
	binary.BigEndian.PutUint64(id[8:], w.ids)
	cfg := messages.Config{"min.insync.replicas": fmt.Sprint(t.MinInSync)}
	for k, v := range t.Configs {
		cfg[k] = v
	}
	return &control.CreateTopics{IDs: []messages.TopicID{id}, Topics: []messages.CreateTopic{{
		Name: name, Partitions: t.Partitions, ReplicationFactor: t.Replicas, Configs: cfg}}}
}

// CreateTopic makes a topic and returns when its leaders lead.
func (w *World) CreateTopic(name string, t Topic) {
	w.t.Helper()
	a := w.command(w.createTopic(name, t))
	if err := a.Topics[0].Err; err != nil {
		w.t.Fatalf("creating %s: %v", name, err)
	}
	w.RunUntil(name+" has its leaders", func() bool { return w.led(name) })
}

// DeleteTopic deletes a topic.
func (w *World) DeleteTopic(name string) {
	w.t.Helper()
	w.deleted[name] = true
	a := w.command(&control.DeleteTopics{Topics: []messages.TopicRef{{Name: name}}})
	if err := a.Topics[0].Err; err != nil {
		w.t.Fatalf("deleting %s: %v", name, err)
	}
}

// DeleteRecords asks whoever leads a partition to drop what is before an offset,
// and reports whether anybody could be asked. It does not wait.
func (w *World) DeleteRecords(id messages.PartitionID, before messages.Offset) bool {
	r := w.guess(id)
	if r == nil {
		return false
	}
	w.note("records of %d before %d are deleted", id.Partition, before)
	p := w.truth.parts[id]
	p.dropped = max(p.dropped, before)
	r.send(actors.DeleteRecords(before, func(messages.Offset, error) {}))
	return true
}

// Drain has a node emptied, or ends that.
func (w *World) Drain(id messages.NodeID, on bool) {
	w.t.Helper()
	w.command(drain(id, on))
}

// drain is the command that has a node emptied, or ends that.
func drain(id messages.NodeID, on bool) *control.AlterConfigs {
	return set(messages.ConfigResource{Type: messages.ConfigBroker, Name: fmt.Sprint(id)},
		"node.drain", fmt.Sprint(on))
}

func set(r messages.ConfigResource, key, value string) *control.AlterConfigs {
	return &control.AlterConfigs{Reqs: []messages.AlterConfigs{{Resource: r,
		Changes: []messages.ConfigChange{{Op: messages.ConfigSet, Key: key, Value: value}}}}}
}

// minInSync is the command that sets a topic's min.insync.replicas.
func minInSync(topic string, n int) *control.AlterConfigs {
	return set(messages.ConfigResource{Type: messages.ConfigTopic, Name: topic},
		"min.insync.replicas", fmt.Sprint(n))
}

// led reports whether every partition of a topic has a leader that leads.
func (w *World) led(name string) bool {
	t := w.meta().Topic(name)
	if t == nil {
		return false
	}
	for i := range t.Partitions {
		if _, b := w.leading(name, int32(i)); b == nil {
			return false
		}
	}
	return true
}

// Controller is the node that holds the controller's lock and runs an active
// controller, NoNode while there is none.
func (w *World) Controller() messages.NodeID {
	h := w.service.holder().Node
	if h == messages.NoNode {
		return h
	}
	if n := w.node(h); !n.alive() || n.controller == nil || !n.controller.Active() {
		return messages.NoNode
	}
	return h
}
