package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/testkit"
)

var protocols = []testkit.Protocol{testkit.Eager, testkit.Cooperative, testkit.ServerSide}

func TestMembersJoinLeaveAndDieAndNeverShareAPartition(t *testing.T) {
	node := testkit.StartNode(t, testkit.FastGroups())
	for i, protocol := range protocols {
		t.Run(string(protocol), func(t *testing.T) {
			g := startGroup(t, node, fmt.Sprint("shared-", i), 12)
			g.Join("amy", protocol.Options()...)
			g.AwaitBalanced()
			bob := g.Join("bob", protocol.Options()...)
			g.AwaitBalanced()
			cyd := g.Join("cyd", protocol.Options()...)
			g.AwaitBalanced()
			g.AwaitConsumed()
			if losses := g.Losses(); losses > 0 {
				t.Errorf("%d partitions were lost while nobody had died", losses)
			}
			bob.Leave()
			g.AwaitBalanced()
			g.AwaitConsumed()
			began := time.Now()
			cyd.Die()
			took := g.AwaitBalanced().Sub(began)
			if took < testkit.GroupSession/2 || took > 3*testkit.GroupSession {
				t.Errorf("a member died, and %v later its partitions were another's; "+
					"its session was %v", took, testkit.GroupSession)
			}
			g.Finish()
		})
	}
}

// Many come at once, as after a deployment.
func TestMembersThatJoinAtOnceFormOneGroup(t *testing.T) {
	node := testkit.StartNode(t, testkit.FastGroups())
	for i, protocol := range protocols {
		t.Run(string(protocol), func(t *testing.T) {
			g := startGroup(t, node, fmt.Sprint("crowd-", i), 16)
			for m := range 8 {
				g.Join(fmt.Sprint("member-", m), protocol.Options()...)
			}
			g.AwaitBalanced()
			g.Finish()
		})
	}
}

// A static member that is restarted within its session finds its partitions where
// it left them, and the others do not notice.
func TestAStaticMemberComesBackWithoutARebalance(t *testing.T) {
	node := testkit.StartNode(t, testkit.FastGroups())
	for i, protocol := range protocols {
		t.Run(string(protocol), func(t *testing.T) {
			g := startGroup(t, node, fmt.Sprint("static-", i), 6)
			join := func(name string) *testkit.Member {
				return g.Join(name, slices.Concat(protocol.Options(), []kgo.Opt{kgo.InstanceID(name),
					kgo.SessionTimeout(20 * time.Second)})...)
			}
			join("amy")
			bob := join("bob")
			g.AwaitBalanced()
			g.AwaitConsumed()
			before := held(g, "bob")
			generation, id := bob.Generation(), bob.ID()
			began := time.Now()
			bob.Leave()
			if protocol == testkit.ServerSide {
				goAway(t, node, g.ID, "bob", id)
			}
			bob = join("bob")
			g.AwaitBalanced()
			if after := held(g, "bob"); !slices.Equal(before, after) {
				t.Errorf("the member owned %v and has come back to %v", before, after)
			}
			if now := bob.Generation(); now != generation {
				t.Errorf("generation %d became %d", generation, now)
			}
			if bob.ID() == id {
				t.Errorf("the restarted member still is %s", id)
			}
			if untouched := g.Untouched(g.Topic, began); !slices.Equal(untouched, held(g, "amy")) {
				t.Errorf("the other member kept %v of %v", untouched, held(g, "amy"))
			}
			g.Finish()
		})
	}
}

// goAway says that a static member of the consumer protocol will be back, as Java's
// consumer does when it is closed. franz-go forgets to name the member's instance,
// and is refused as Kafka refuses it.
func goAway(t *testing.T, n *testkit.Node, group, instance, member string) {
	t.Helper()
	for _, tt := range []struct {
		instance *string
		want     error
	}{{nil, kerr.InvalidRequest}, {&instance, nil}} {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch = group, member, -2
		req.InstanceID = tt.instance
		resp, err := req.RequestWith(patient(t), client(t, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != tt.want {
			t.Fatalf("static member %s goes away: %v, want %v", member, err, tt.want)
		}
	}
}

// A member is silent for so long that the group drops it, and then goes on as if
// nothing had happened: it must not move offsets of partitions that are another's.
func TestWhatASilentMemberCommitsAfterItWasDroppedIsRefused(t *testing.T) {
	node := testkit.StartNode(t, testkit.FastGroups())
	for i, protocol := range protocols {
		t.Run(string(protocol), func(t *testing.T) {
			g := startGroup(t, node, fmt.Sprint("silent-", i), 4)
			g.Join("amy", protocol.Options()...)
			bob := g.Join("bob", protocol.Options()...)
			g.AwaitBalanced()
			g.AwaitConsumed()
			old, generation := bob.ID(), bob.Generation()
			bob.Hush()
			testkit.Eventually(t, "another reads what the silent member read", func() bool {
				return g.Shares()["amy"] == 4
			})
			g.AwaitConsumed()
			err := commitAs(t, node, g, old, generation)
			if err != kerr.UnknownMemberID {
				t.Errorf("the commit of a member that was dropped: %v", err)
			}
			bob.Speak()
			g.AwaitBalanced()
			if g.Losses() == 0 {
				t.Error("the silent member did not find out that it had been dropped")
			}
			g.Finish()
		})
	}
}

// commitAs commits offset 0 of partition 0 as a member, and returns the answer.
func commitAs(
	t *testing.T, n *testkit.Node, g *testkit.Group, member string, generation int32,
) error {
	t.Helper()
	c := client(t, n)
	req := kmsg.NewPtrOffsetCommitRequest()
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = g.Topic, topicID(t, n, g.Topic)
	topic.Partitions = append(topic.Partitions, kmsg.NewOffsetCommitRequestTopicPartition())
	req.Group, req.Topics = g.ID, append(req.Topics, topic)
	req.MemberID, req.Generation = member, generation
	resp, err := req.RequestWith(patient(t), c)
	if err != nil {
		t.Fatal(err)
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// The node is killed under a group that works. Its members go on where they were,
// and no acknowledged commit is forgotten.
func TestAGroupSurvivesKill9OfTheNode(t *testing.T) {
	node := testkit.StartNode(t, testkit.FastGroups())
	for i, protocol := range protocols {
		t.Run(string(protocol), func(t *testing.T) {
			g := startGroup(t, node, fmt.Sprint("killed-", i), 6)
			g.Join("amy", protocol.Options()...)
			bob := g.Join("bob", protocol.Options()...)
			for range 2 {
				g.AwaitBalanced()
				g.AwaitConsumed()
				node.Kill()
				node.Restart()
				g.AwaitConsumed()
			}
			bob.Leave()
			g.AwaitBalanced()
			g.Finish()
		})
	}
}

// What was committed is there after kill -9 just as it was said: offset, epoch and
// text.
func TestCommittedOffsetsAreFoundAsTheyWereWritten(t *testing.T) {
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", 3)
	admin := kadm.NewClient(client(t, node))
	want := kadm.Offsets{}
	want.Add(kadm.Offset{Topic: "orders", Partition: 0, At: 0, LeaderEpoch: 0, Metadata: ""})
	want.Add(kadm.Offset{Topic: "orders", Partition: 2, At: 1 << 40, LeaderEpoch: -1,
		Metadata: "till the end of März"})
	if err := admin.CommitAllOffsets(patient(t), "night", want); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at once", "after kill -9"} {
		got, err := admin.FetchOffsets(patient(t), "night")
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if len(got["orders"]) != 2 {
			t.Errorf("%s there are %v", when, got)
		}
		want.Each(func(o kadm.Offset) {
			g, ok := got.Lookup("orders", o.Partition)
			if o.TopicID = g.TopicID; !ok || g.Err != nil || g.Offset != o {
				t.Errorf("%s: committed %+v, found %+v", when, o, g)
			}
		})
		if when == "at once" {
			node.Kill()
			node.Restart()
			admin = kadm.NewClient(client(t, node))
		}
	}
	never, err := admin.FetchOffsets(patient(t), "never seen")
	if err != nil || len(never) != 0 {
		t.Errorf("a group that was never seen has %v, %v", never, err)
	}
}

// A subscription by pattern finds topics that come to be.
func TestASubscriptionByPatternFindsNewTopics(t *testing.T) {
	node := testkit.StartNode(t, testkit.FastGroups())
	for i, protocol := range protocols {
		t.Run(string(protocol), func(t *testing.T) {
			prefix := fmt.Sprintf("pattern-%d-", i)
			createTopic(t, node, prefix+"one", 2)
			createTopic(t, node, "no-"+prefix+"one", 2)
			consumer := client(t, node, slices.Concat(protocol.Options(), []kgo.Opt{
				kgo.ConsumerGroup(prefix + "readers"), kgo.ConsumeRegex(),
				kgo.ConsumeTopics("^" + prefix + ".*"),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
				kgo.MetadataMaxAge(200 * time.Millisecond),
				kgo.FetchMaxWait(200 * time.Millisecond),
				kgo.MetadataMinAge(50 * time.Millisecond),
			})...)
			for _, topic := range []string{"one", "two"} {
				topic = prefix + topic
				if topic == prefix+"two" {
					createTopic(t, node, topic, 2)
				}
				producer := client(t, node, kgo.DefaultProduceTopic(topic))
				for _, into := range []string{topic, "no-" + prefix + "one"} {
					r := &kgo.Record{Topic: into, Value: []byte(into)}
					if err := producer.ProduceSync(patient(t), r).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
				if got := poll(t, consumer, 1); got[0] != topic {
					t.Errorf("read %q, not a record of %s", got, topic)
				}
			}
		})
	}
}

// poll returns the values of the next count records.
func poll(t *testing.T, c *kgo.Client, count int) (values []string) {
	t.Helper()
	for len(values) < count {
		fetches := c.PollFetches(patient(t))
		if err := fetches.Err0(); err != nil {
			t.Fatalf("after %q: %v", values, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

// startGroup makes a topic and a group of its own.
func startGroup(t *testing.T, n *testkit.Node, name string, partitions int32) *testkit.Group {
	t.Helper()
	createTopic(t, n, name, partitions)
	return testkit.StartGroup(t,
		testkit.GroupSettings{Brokers: []string{n.Kafka}, Topic: name, ID: name + "-readers"})
}

// held returns the partitions of the group's topic that a member owns.
func held(g *testkit.Group, member string) (partitions []int32) {
	for p := range g.Partitions() {
		if slices.Contains(g.Holders(g.Topic, p), member) {
			partitions = append(partitions, p)
		}
	}
	return partitions
}

func topicID(t *testing.T, n *testkit.Node, topic string) kadm.TopicID {
	t.Helper()
	m, err := kadm.NewClient(client(t, n)).Metadata(patient(t), topic)
	if err == nil {
		err = m.Topics.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	return m.Topics[topic].ID
}
