package clientlib

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
)

// answering returns an Admin whose every question gets this answer.
func answering(resp *wire.ClientResponse) (*Admin, *adminCluster) {
	c := &adminCluster{answer: func(string, *wire.ClientRequest) (*wire.ClientResponse, error) {
		return resp, nil
	}}
	return &Admin{c, stays}, c
}

// Answers.

func topicResults(errs ...error) *wire.ClientResponse {
	results := &wire.TopicResults{}
	for _, err := range errs {
		results.Topics = append(results.Topics, &wire.TopicResult{Error: wire.FromError(err)})
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_Topics{Topics: results}}
}

func errorList(errs ...error) *wire.ClientResponse {
	return &wire.ClientResponse{Result: &wire.ClientResponse_Errors{Errors: wire.FromErrors(errs)}}
}

func refusal(err error) *wire.ClientResponse {
	return &wire.ClientResponse{Error: wire.FromError(err)}
}

// checkError wants nil for no targets, else an error that is all of them and names it.
func checkError(t *testing.T, err error, name string, targets ...error) {
	t.Helper()
	if len(targets) == 0 && err != nil {
		t.Errorf("got error %v, want none", err)
	}
	for _, target := range targets {
		if !errors.Is(err, target) || err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("got error %v, want one that says %q and is %v", err, name, target)
		}
	}
}

func TestWhatChangesTheClusterSaysSoInItsRequest(t *testing.T) {
	ctx := t.Context()
	cases := []struct {
		name string
		do   func(a *Admin) error
		resp *wire.ClientResponse
		to   string
		want *wire.ClientRequest
	}{
		{"create", func(a *Admin) error {
			return a.CreateTopics(ctx, TopicSpec{Name: "a"}, TopicSpec{Name: "b", Partitions: 6,
				Replicas: 3, Config: map[string]string{"retention.ms": "1000"}})
		}, topicResults(nil, nil), "any", &wire.ClientRequest{Command: &wire.ClientRequest_CreateTopics{
			CreateTopics: &wire.CreateTopics{Topics: []*wire.CreateTopic{
				{Name: "a", Partitions: -1, ReplicationFactor: -1},
				{Name: "b", Partitions: 6, ReplicationFactor: 3,
					Configs: []*wire.ConfigEntry{{Name: "retention.ms", Value: "1000"}}}}}}}},
		{"delete", func(a *Admin) error { return a.DeleteTopics(ctx, "a", "b") },
			topicResults(nil, nil), "any", &wire.ClientRequest{Command: &wire.ClientRequest_DeleteTopics{
				DeleteTopics: &wire.DeleteTopics{Topics: []*wire.TopicRef{{Name: "a"}, {Name: "b"}}}}}},
		{"grow", func(a *Admin) error { return a.AddPartitions(ctx, "a", 12) },
			topicResults(nil), "any", &wire.ClientRequest{Command: &wire.ClientRequest_CreatePartitions{
				CreatePartitions: &wire.CreatePartitions{
					Topics: []*wire.TopicGrowth{{Name: "a", Count: 12}}}}}},
		{"set", func(a *Admin) error {
			return a.SetTopicConfig(ctx, "a", map[string]string{"retention.ms": "5", "segment.bytes": "9"})
		}, errorList(nil), "any", alterRequest("a",
			&wire.ConfigChange{Name: "retention.ms", Op: wire.ConfigOp_CONFIG_OP_SET, Value: "5"},
			&wire.ConfigChange{Name: "segment.bytes", Op: wire.ConfigOp_CONFIG_OP_SET, Value: "9"})},
		{"reset", func(a *Admin) error { return a.ResetTopicConfig(ctx, "a", "retention.ms") },
			errorList(nil), "any", alterRequest("a",
				&wire.ConfigChange{Name: "retention.ms", Op: wire.ConfigOp_CONFIG_OP_DELETE})},
		{"delete a group", func(a *Admin) error { return a.DeleteGroups(ctx, "g") },
			&wire.ClientResponse{}, "group g", &wire.ClientRequest{
				Command: &wire.ClientRequest_DeleteGroup{DeleteGroup: &wire.ClientDeleteGroup{Group: "g"}}}},
		{"set offsets", func(a *Admin) error {
			return a.SetOffsets(ctx, "g", map[Partition]int64{{"b", 1}: 8, {"a", 0}: 7})
		}, errorList(nil, nil), "group g", &wire.ClientRequest{
			Command: &wire.ClientRequest_CommitOffsets{CommitOffsets: &wire.ClientCommitOffsets{
				Group: "g", MemberEpoch: -1, Positions: []*wire.ClientPosition{
					{Topic: "a", Offset: 7, LeaderEpoch: -1},
					{Topic: "b", Partition: 1, Offset: 8, LeaderEpoch: -1}}}}}},
		{"delete offsets", func(a *Admin) error {
			return a.DeleteOffsets(ctx, "g", Partition{"b", 2}, Partition{"a", 0}, Partition{"b", 1},
				Partition{"b", 2})
		}, errorList(nil, nil, nil), "group g", &wire.ClientRequest{
			Command: &wire.ClientRequest_DeleteOffsets{DeleteOffsets: &wire.ClientDeleteOffsets{
				Group: "g", Partitions: []*wire.PartitionNames{
					{Topic: "a", Partitions: []int32{0}},
					{Topic: "b", Partitions: []int32{1, 2}}}}}}},
		{"delete records", func(a *Admin) error {
			return a.DeleteRecords(ctx, map[Partition]int64{{"a", 3}: -1})
		}, &wire.ClientResponse{}, "leader a-3", &wire.ClientRequest{
			Command: &wire.ClientRequest_DeleteRecords{DeleteRecords: &wire.ClientDeleteRecords{
				Topic: "a", Partition: 3, Before: -1}}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, cluster := answering(c.resp)
			checkError(t, c.do(a), "")
			if len(cluster.reqs) != 1 || cluster.asked[0] != c.to ||
				!proto.Equal(cluster.reqs[0], c.want) {
				t.Errorf("asked %v for %v, want %s for %v", cluster.asked, cluster.reqs, c.to, c.want)
			}
		})
	}
}

func alterRequest(topic string, changes ...*wire.ConfigChange) *wire.ClientRequest {
	return &wire.ClientRequest{Command: &wire.ClientRequest_AlterConfigs{
		AlterConfigs: &wire.AlterConfigs{
			Resources: []*wire.ResourceChange{{
				Type: wire.ConfigResourceType_CONFIG_RESOURCE_TYPE_TOPIC, Name: topic, Changes: changes}}}}}
}

func TestErrorsOfTheAdministrationNameTheThingAndCanBeTold(t *testing.T) {
	ctx := t.Context()
	cases := []struct {
		name    string
		do      func(a *Admin) error
		resp    *wire.ClientResponse
		says    string
		targets []error
	}{
		{"two of three topics", func(a *Admin) error {
			return a.CreateTopics(ctx, TopicSpec{Name: "one"}, TopicSpec{Name: "two"}, TopicSpec{Name: "??"})
		}, topicResults(nil, messages.ErrTopicAlreadyExists, messages.ErrInvalidTopic), "topic \"two\": ",
			[]error{ErrTopicExists, ErrInvalidTopic}},
		{"a topic that is not there", func(a *Admin) error { return a.DeleteTopics(ctx, "gone") },
			topicResults(messages.ErrUnknownTopicOrPartition), "gone", []error{ErrUnknownTopic}},
		{"a text that has the name is left alone", func(a *Admin) error {
			return a.DeleteTopics(ctx, "gone")
		}, topicResults(wire.ToError(&wire.Error{Code: 3, Message: `no "gone" here`})), `no "gone" here`,
			[]error{ErrUnknownTopic}},
		{"fewer partitions", func(a *Admin) error { return a.AddPartitions(ctx, "few", 1) },
			topicResults(messages.ErrInvalidPartitions), "few", []error{ErrInvalidRequest}},
		{"a setting", func(a *Admin) error {
			return a.SetTopicConfig(ctx, "orders", map[string]string{"retention.ms": "soon"})
		}, errorList(messages.ErrInvalidConfig), "orders", []error{ErrInvalidConfig}},
		{"a group that is not there", func(a *Admin) error { return a.DeleteGroups(ctx, "ghosts") },
			refusal(group.ErrGroupNotFound), "ghosts", []error{ErrGroupNotFound}},
		{"a group with members", func(a *Admin) error { return a.DeleteGroups(ctx, "busy") },
			refusal(group.ErrNonEmptyGroup), "busy", []error{ErrGroupNotEmpty}},
		{"committing for members", func(a *Admin) error {
			return a.SetOffsets(ctx, "busy", map[Partition]int64{{"t", 1}: 5})
		}, errorList(group.ErrUnknownMember), "t-1", []error{ErrGroupNotEmpty}},
		{"committing for members, as a whole", func(a *Admin) error {
			return a.SetOffsets(ctx, "busy", map[Partition]int64{{"t", 1}: 5})
		}, refusal(group.ErrStaleMemberEpoch), "busy", []error{ErrGroupNotEmpty}},
		{"forgetting what members read", func(a *Admin) error {
			return a.DeleteOffsets(ctx, "busy", Partition{"t", 1})
		}, errorList(group.ErrSubscribed), "t-1", []error{ErrGroupNotEmpty}},
		{"records of a partition that is not there", func(a *Admin) error {
			return a.DeleteRecords(ctx, map[Partition]int64{{"t", 99}: 5})
		}, refusal(messages.ErrUnknownTopicOrPartition), "t-99", []error{ErrUnknownTopic}},
		{"more records than there are", func(a *Admin) error {
			return a.DeleteRecords(ctx, map[Partition]int64{{"t", 1}: 5})
		}, refusal(messages.ErrOffsetOutOfRange), "t-1", []error{ErrInvalidRequest}},
		{"settings of no topic", func(a *Admin) error {
			_, err := a.TopicConfig(ctx, "gone")
			return err
		}, refusal(messages.ErrUnknownTopicOrPartition), "gone", []error{ErrUnknownTopic}},
		{"an answer about nothing", func(a *Admin) error { return a.DeleteTopics(ctx, "t") },
			topicResults(), "0 results", []error{ErrUnavailable}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, _ := answering(c.resp)
			checkError(t, c.do(a), c.says, c.targets...)
		})
	}
}

func TestWhatCannotBeAskedForIsRefusedWithoutAsking(t *testing.T) {
	ctx := t.Context()
	cases := map[string]struct {
		do     func(a *Admin) error
		says   string
		target error
	}{
		"partitions": {func(a *Admin) error {
			return a.CreateTopics(ctx, TopicSpec{Name: "t", Partitions: -1})
		}, `"t"`, ErrInvalidRequest},
		"replicas": {func(a *Admin) error {
			return a.CreateTopics(ctx, TopicSpec{Name: "t", Replicas: 1 << 40})
		}, `"t"`, ErrInvalidRequest},
		"a topic without a name": {func(a *Admin) error {
			return a.DeleteTopics(ctx, "")
		}, "", ErrInvalidTopic},
		"a group without an id": {func(a *Admin) error {
			return a.DeleteGroups(ctx, "")
		}, "", ErrInvalidRequest},
		"an offset": {func(a *Admin) error {
			return a.SetOffsets(ctx, "g", map[Partition]int64{{"t", 0}: -1})
		}, "t-0", ErrInvalidRequest},
		"a node that nobody knows": {func(a *Admin) error {
			_, err := a.Groups(ctx)
			return err
		}, "", ErrUnavailable},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a, cluster := answering(nil)
			checkError(t, c.do(a), c.says, c.target)
			if len(cluster.asked) > 0 {
				t.Errorf("asked %v", cluster.asked)
			}
		})
	}
}

func TestNothingToDoAsksNobody(t *testing.T) {
	ctx := t.Context()
	a, cluster := answering(nil)
	checkError(t, errors.Join(a.CreateTopics(ctx), a.DeleteTopics(ctx), a.DeleteGroups(ctx),
		a.SetTopicConfig(ctx, "t", nil), a.ResetTopicConfig(ctx, "t"), a.SetOffsets(ctx, "g", nil),
		a.DeleteOffsets(ctx, "g"), a.DeleteRecords(ctx, nil)), "")
	if len(cluster.asked) > 0 {
		t.Errorf("asked %v", cluster.asked)
	}
}

func topicOf(name string, partitions ...messages.Partition) *wire.ClientTopic {
	return &wire.ClientTopic{Topic: wire.FromTopic(&messages.Topic{
		ID: messages.TopicID{1}, Name: name, Partitions: partitions})}
}

func TestTopicsShowsWhoLeadsAndWhoIsInSync(t *testing.T) {
	p := messages.Partition{Leader: 2,
		Replicas: []messages.NodeID{1, 2, 3}, ISR: []messages.NodeID{2, 3}}
	gone := &wire.ClientTopic{Error: wire.FromError(messages.ErrUnknownTopicOrPartition)}
	want := []PartitionInfo{{Leader: 2, Replicas: []int{1, 2, 3}, InSync: []int{2, 3}}}
	cases := map[string]struct {
		ask   []string
		found []*wire.ClientTopic
		names []string
		err   []error
	}{
		"all but internal ones": {nil,
			[]*wire.ClientTopic{topicOf("__consumer_offsets", p), topicOf("a", p), topicOf("b", p)},
			[]string{"a", "b"}, nil},
		"an internal one by name": {[]string{"__consumer_offsets"},
			[]*wire.ClientTopic{topicOf("__consumer_offsets", p)}, []string{"__consumer_offsets"}, nil},
		"one is not there": {[]string{"b", "gone", "a"},
			[]*wire.ClientTopic{topicOf("b", p), gone, topicOf("a", p)}, []string{"b", "a"},
			[]error{ErrUnknownTopic}},
		"too few answers": {[]string{"a", "b"}, []*wire.ClientTopic{topicOf("a", p)}, nil,
			[]error{ErrUnavailable}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a, _ := answering(&wire.ClientResponse{Result: &wire.ClientResponse_TopicDescriptions{
				TopicDescriptions: &wire.ClientTopics{Topics: c.found}}})
			topics, err := a.Topics(t.Context(), c.ask...)
			checkError(t, err, "", c.err...)
			var names []string
			for _, topic := range topics {
				names = append(names, topic.Name)
				if !reflect.DeepEqual(topic.Partitions, want) || topic.ID == "" {
					t.Errorf("%s is %+v", topic.Name, topic)
				}
			}
			if !slices.Equal(names, c.names) {
				t.Errorf("got %v, want %v", names, c.names)
			}
		})
	}
}

func TestTopicConfigTellsWhatIsSetForTheTopic(t *testing.T) {
	a, _ := answering(&wire.ClientResponse{Result: &wire.ClientResponse_Configs{
		Configs: &wire.ClientConfigs{
			Configs: []*wire.ClientConfig{{Name: "retention.ms", Value: "5"},
				{Name: "segment.bytes", Value: "9", Inherited: true}}}}})
	got, err := a.TopicConfig(t.Context(), "t")
	want := map[string]TopicSetting{"retention.ms": {"5", true}, "segment.bytes": {"9", false}}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestNodesAreListedByNumber(t *testing.T) {
	a := &Admin{&adminCluster{nodes: []link.Node{
		{ID: 2, Address: "b:1", Kafka: "b:2", Rack: "r"}, {ID: 1, Address: "nonhost"}}}, stays}
	got, err := a.Nodes(t.Context())
	want := []NodeInfo{{ID: 1}, {ID: 2, Address: "b:1", Kafka: "b:2", Rack: "r"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Nodes(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestAPartitionThatMovesIsAskedAgainUntilTheContextEnds(t *testing.T) {
	tries := 0
	c := &adminCluster{routes: map[string]*link.Route{"t": {Partitions: make([]link.Leader, 1)}}}
	c.answer = func(string, *wire.ClientRequest) (*wire.ClientResponse, error) {
		if tries++; tries < 3 {
			return offsetAnswer(0, messages.ErrNotLeader), nil
		}
		return offsetAnswer(7, nil), nil
	}
	a := &Admin{c, stays}
	got, err := a.Offsets(t.Context(), "t", Earliest)
	if err != nil || got[Partition{"t", 0}] != 7 {
		t.Errorf("got %v, %v", got, err)
	}
	c.answer = func(string, *wire.ClientRequest) (*wire.ClientResponse, error) {
		return offsetAnswer(0, messages.ErrNotLeader), nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = a.Offsets(ctx, "t", Earliest)
	checkError(t, err, "t-0", context.DeadlineExceeded, messages.ErrNotLeader)
}
