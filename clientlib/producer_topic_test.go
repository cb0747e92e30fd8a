package clientlib

import (
	"errors"
	"strconv"
	"testing"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/testkit"
)

func TestATopicThatIsDeletedFailsItsRecords(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	w.lead("orders", 0, messages.NoNode)
	p := w.producer(ProducerConfig{Topic: "orders"})
	f := p.Go(soon(t), text("", "x"))
	w.change("orders", func(r *link.Route) { r.Gone, r.Partitions = true, nil })
	if err := f.Wait(soon(t)); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("on its way: %v", err)
	}
	w.create("orders", 1)
	testkit.Eventually(t, "the new topic is found", func() bool {
		return p.Produce(soon(t), text("", "y")) == nil
	})
	if got := w.stored("orders", 0); len(got) != 1 || got[0].value != "y" {
		t.Errorf("%+v", got)
	}
}

func TestATopicThatWasOnlySaidToBeGoneLosesNothing(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	p := w.producer(ProducerConfig{Topic: "orders"})
	for i := range 3 {
		testkit.Eventually(t, "the record is written", func() bool {
			return p.Produce(soon(t), text("", strconv.Itoa(i))) == nil
		})
		leaders := w.topics["orders"].route.Partitions
		w.change("orders", func(r *link.Route) { r.Gone, r.Partitions = true, nil })
		w.change("orders", func(r *link.Route) { r.Gone, r.Partitions = false, leaders })
	}
	if got := w.stored("orders", 0); len(got) != 3 {
		t.Errorf("3 records were acknowledged, and there are %+v", got)
	}
}

func keyed(key int, value string) *Record {
	return &Record{Key: []byte(strconv.Itoa(key)), Value: []byte(value)}
}

func TestATopicThatIsMadeAnewIsAnotherOne(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 4)
	p := w.producer(ProducerConfig{Topic: "orders"})
	for i := range 20 {
		if err := p.Produce(soon(t), keyed(i, "x")); err != nil {
			t.Fatal(err)
		}
	}
	w.change("orders", func(r *link.Route) { r.Partitions[0].Node = messages.NoNode })
	stuck := p.Go(soon(t), keyed(0, "y"))
	topic := w.topics["orders"]
	w.mu.Lock()
	topic.logs = []*worldLog{{state: producers.New()}}
	w.mu.Unlock()
	w.change("orders", func(r *link.Route) {
		r.ID, r.Partitions = messages.TopicID{2}, []link.Leader{{Node: 1}}
	})
	for i := range 20 {
		if err := p.Produce(soon(t), keyed(i, "z")); err != nil &&
			!errors.Is(err, ErrUnknownTopic) {
			t.Fatal(err)
		}
	}
	if err := stuck.Wait(soon(t)); err != nil && !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("on its way when the topic was made anew: %v", err)
	}
	if got := w.stored("orders", 0); len(got) < 19 {
		t.Errorf("%+v", got)
	}
}
