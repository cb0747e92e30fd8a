package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/testkit"
)

func TestTheSDKSaysThatAPortIsKafkas(t *testing.T) {
	node := testkit.StartNode(t)
	began := time.Now()
	_, err := clientlib.Dial(t.Context(), clientlib.Config{Nodes: []string{node.Kafka}})
	if !errors.Is(err, clientlib.ErrUnavailable) || !strings.Contains(err.Error(), "actor.listener") {
		t.Errorf("dialling the Kafka listener: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("that took %v", took)
	}
}

func TestTheSDKFindsANodeAgainThatWasRestarted(t *testing.T) {
	node := testkit.StartNode(t, testkit.Args("--actor-addr", "127.0.0.1:0"), testkit.KeepActorAddr())
	client, err := clientlib.Dial(t.Context(), clientlib.Config{Nodes: []string{node.Actor}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	admin := client.Admin()
	if err := admin.CreateTopics(t.Context(), clientlib.TopicSpec{Name: "orders"}); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(){node.Kill, node.Stop} {
		end()
		node.Restart()
		if topics, err := admin.Topics(t.Context()); err != nil || len(topics) != 1 {
			t.Errorf("after a restart there are the topics %v, %v", topics, err)
		}
	}
}
