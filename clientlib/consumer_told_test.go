package clientlib

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

func TestAPatternLeavesDeadLettersOutUnlessItIsForThem(t *testing.T) {
	topics := map[string]int{"a": 1, "a.dlq": 1, "failed": 1}
	for _, test := range []struct {
		pattern, deadLetter string
		want                []string
	}{
		{".*", "", []string{"a", "failed"}},
		{".*", "failed", []string{"a", "a.dlq"}},
		{".*", NoDeadLetter, []string{"a", "a.dlq", "failed"}},
		{`.*\.dlq`, "", []string{"a.dlq"}},
	} {
		w := newReadWorld(t, topics)
		for topic := range topics {
			w.write(topic, 0, topic)
		}
		var told []string
		c := w.consumer(ConsumerConfig{
			Group: "g", Pattern: test.pattern, DeadLetter: test.deadLetter,
			OnAssigned: func(_ context.Context, ps []Partition) {
				for _, p := range ps {
					told = append(told, p.Topic)
				}
			},
		})
		values := poll(t, c, len(test.want))
		if err := c.Close(within(t)); err != nil {
			t.Error(err)
		}
		slices.Sort(values)
		same(t, values, test.want)
		slices.Sort(told)
		same(t, told, test.want)
	}
}

func TestATopicThatDoesNotExistIsToldOfAndReadOnceItIsMade(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	c, log := w.logged(ConsumerConfig{Group: "g", Topics: []string{"t", "later"}})
	testkit.Eventually(t, "it is told", func() bool {
		text := log()
		return strings.Contains(text, "does not exist (yet)") &&
			strings.Contains(text, "topic=later\n") && !strings.Contains(text, "topic=t\n")
	})
	w.create("later", 1)
	w.write("later", 0, "v")
	same(t, poll(t, c, 1), []string{"v"})
}

func TestAMemberThatHasNothingToReadSaysWhatThatMayComeOf(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	cfg := ConsumerConfig{Group: "g", Topics: []string{"t"}}
	one, logOne := w.logged(cfg)
	two, logTwo := w.logged(cfg)
	testkit.Eventually(t, "both have joined and one has the partition", func() bool {
		return one.member().epoch > 0 && two.member().epoch > 0 &&
			len(one.Assigned())+len(two.Assigned()) == 1
	})
	for _, m := range []struct {
		*Consumer
		log func() string
	}{{one, logOne}, {two, logTwo}} {
		m.tellIfIdle(0)
		if told := strings.Contains(m.log(), "session.timeout"); told != (len(m.Assigned()) == 0) {
			t.Errorf("with the partitions %v the log has %q", m.Assigned(), m.log())
		}
	}
}

// logged makes a consumer that is closed with the test, and returns what it logs.
func (w *readWorld) logged(cfg ConsumerConfig) (c *Consumer, log func() string) {
	w.t.Helper()
	var text strings.Builder
	var mu sync.Mutex
	client := newClient(Config{Logger: slog.New(slog.NewTextHandler(locked{&mu, &text}, nil))}, w,
		func(context.Context) error { return nil })
	c, err := client.NewConsumer(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = client.Close(within(w.t)) })
	return c, func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

// locked is a writer for several goroutines.
type locked struct {
	mu *sync.Mutex
	to io.Writer
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}
