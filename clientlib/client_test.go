package clientlib

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
)

// opened is something that was made of a client.
type opened struct {
	client *Client
	err    error
	closes int
	mu     sync.Mutex
}

func (o *opened) Close(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closes++
	o.client.forget(o)
	return o.err
}

func TestCloseEndsWhatWasMadeOfAClientBeforeItsConnections(t *testing.T) {
	var one, two, gone *opened
	failed, linkFailed := errors.New("not flushed"), errors.New("no goodbye")
	stops := 0
	c := newClient(Config{}, nil, func(context.Context) error {
		if one.closes != 1 || two.closes != 1 {
			t.Error("the connections end before those who need them")
		}
		stops++
		return linkFailed
	})
	one, two, gone = &opened{client: c}, &opened{client: c, err: failed}, &opened{client: c}
	for _, o := range []*opened{one, two, gone} {
		if err := c.register(o); err != nil {
			t.Fatal(err)
		}
	}
	c.forget(gone)
	err := c.Close(t.Context())
	if !errors.Is(err, failed) || !errors.Is(err, linkFailed) {
		t.Errorf("Close returned %v", err)
	}
	if gone.closes != 0 {
		t.Error("what was closed before was closed again")
	}
	background := context.Background()
	for what, make := range map[string]func() error{
		"anything":   func() error { return c.register(one) },
		"a producer": func() error { _, err := c.NewProducer(background, ProducerConfig{}); return err },
		"a consumer": func() error {
			_, err := c.NewConsumer(background, ConsumerConfig{Group: "g", Topics: []string{"t"}})
			return err
		},
		"a list of nodes": func() error { _, err := c.Admin().Nodes(background); return err },
	} {
		if err := make(); !errors.Is(err, ErrClosed) || errors.Is(err, ErrUnavailable) {
			t.Errorf("%s of a closed client: %v", what, err)
		}
	}
	if err := c.Close(t.Context()); err != nil || stops != 1 {
		t.Errorf("the second Close returned %v and stopped %d times", err, stops)
	}
}

// notStarted is a node in this process that does not run, or not one at all.
type notStarted struct{ actors any }

func (n notStarted) Actors() any { return n.actors }

func TestDialRefusesSettingsThatCannotBe(t *testing.T) {
	for name, cfg := range map[string]Config{
		"nothing":        {},
		"two ways":       {Nodes: []string{"127.0.0.1:1"}, Consul: "127.0.0.1:2"},
		"no address":     {Nodes: []string{"127.0.0.1"}},
		"less than 0":    {Nodes: []string{"127.0.0.1:1"}, DialTimeout: -1},
		"not started":    {Embedded: notStarted{}},
		"something else": {Embedded: notStarted{5}},
	} {
		if _, err := Dial(t.Context(), cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDialSaysHowLongItTriedAndWhatANodeNeeds(t *testing.T) {
	_, err := Dial(t.Context(), Config{Nodes: []string{"127.0.0.1:1"},
		DialTimeout: time.Second})
	if !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	for part, want := range map[string]bool{"within 1s": true, "--actor-addr": true,
		"127.0.0.1:1": true, "deadline": false} {
		if strings.Contains(err.Error(), part) != want {
			t.Errorf("%q in %q: %v", part, err, !want)
		}
	}
}

func TestErrClosedIsToldFromAnUnavailableCluster(t *testing.T) {
	if errors.Is(ErrClosed, messages.ErrUnavailable) {
		t.Error("a closed client looks like a cluster that may come back")
	}
}
