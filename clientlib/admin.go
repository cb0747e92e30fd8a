package clientlib

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// Admin looks after topics, groups and their offsets. Client.Admin returns it; it holds
// nothing of its own and need not be closed.
//
// What can be asked for several things at once is tried for each of them: the error joins
// those that failed, each with its name. A request that a dying node may have carried out
// is sent again, so that a topic may exist, or be gone, by the very call that says so.
type Admin struct {
	cluster cluster
	over    func() error // of the client
}

// Admin returns what looks after topics, groups and offsets. It ends with the client.
func (c *Client) Admin() *Admin { return &Admin{c.link, c.over} }

// TopicSpec describes a topic to make.
type TopicSpec struct {
	Name string
	// Partitions and Replicas of each; 0: the cluster's default.
	Partitions, Replicas int
	// Config are settings that differ from the cluster's, by Kafka's names:
	// retention.ms, cleanup.policy.
	Config map[string]string
}

// TopicInfo is a topic as it stands.
type TopicInfo struct {
	Name       string
	ID         string          // another one if a topic of that name is made anew
	Partitions []PartitionInfo // by number
}

// PartitionInfo is a partition as it stands. Nodes are numbered as NodeInfo.ID.
type PartitionInfo struct {
	Leader   int   // -1: nobody
	Replicas []int // the first leads if it can
	InSync   []int // those that have all that is acknowledged
}

// TopicSetting is a setting in force.
type TopicSetting struct {
	Value string
	// Set: for this topic. Else the cluster's applies.
	Set bool
}

// NodeInfo is a live node.
type NodeInfo struct {
	ID int
	// Address is where programs like this one reach it, "" if only those of its own process
	// do; Kafka where Kafka's clients reach it. HOST:PORT.
	Address, Kafka string
	Rack           string // "": none
}

// CreateTopics makes topics. They can be used when it returns. ErrTopicExists,
// ErrInvalidTopic, ErrInvalidConfig and ErrInvalidRequest tell what is wrong with one.
func (a *Admin) CreateTopics(ctx context.Context, topics ...TopicSpec) error {
	if len(topics) == 0 {
		return nil
	}
	create := &wire.CreateTopics{}
	names := make([]string, len(topics))
	for i, t := range topics {
		partitions, err := count("partitions", t.Name, t.Partitions)
		if err != nil {
			return err
		}
		replicas, err := count("replicas", t.Name, t.Replicas)
		if err != nil {
			return err
		}
		names[i] = t.Name
		create.Topics = append(create.Topics, &wire.CreateTopic{
			Name: t.Name, Partitions: partitions, ReplicationFactor: replicas,
			Configs: wire.FromConfig(t.Config),
		})
	}
	return a.changeTopics(ctx, names, &wire.ClientRequest{
		Command: &wire.ClientRequest_CreateTopics{CreateTopics: create}})
}

// DeleteTopics deletes topics and all their records. ErrUnknownTopic: there is none.
func (a *Admin) DeleteTopics(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	remove := &wire.DeleteTopics{}
	for _, name := range names {
		if name == "" { // would be looked for by an id
			return fmt.Errorf("topic without a name: %w", ErrInvalidTopic)
		}
		remove.Topics = append(remove.Topics, &wire.TopicRef{Name: name})
	}
	return a.changeTopics(ctx, names, &wire.ClientRequest{
		Command: &wire.ClientRequest_DeleteTopics{DeleteTopics: remove}})
}

// AddPartitions grows a topic to so many partitions in all. Keys of records that come
// later may be in other partitions than before. ErrInvalidRequest: it has as many already.
func (a *Admin) AddPartitions(ctx context.Context, topic string, total int) error {
	partitions, err := count("partitions", topic, total)
	if err != nil {
		return err
	}
	grow := &wire.CreatePartitions{Topics: []*wire.TopicGrowth{{Name: topic, Count: partitions}}}
	return a.changeTopics(ctx, []string{topic}, &wire.ClientRequest{
		Command: &wire.ClientRequest_CreatePartitions{CreatePartitions: grow}})
}

// count checks a number of partitions or replicas; 0 becomes -1, the default.
func count(what, topic string, n int) (int32, error) {
	if n < 0 || n > maxCount {
		return 0, fmt.Errorf("topic %q: %d %s: %w", topic, n, what, ErrInvalidRequest)
	}
	if n == 0 {
		return -1, nil
	}
	return int32(n), nil
}

// maxCount is how many partitions can be asked for: Kafka's numbers of 4 bytes. How many
// there may be is the cluster's to say.
const maxCount = 1<<31 - 1

// changeTopics asks for something whose result is one TopicResult for each topic.
func (a *Admin) changeTopics(ctx context.Context, names []string, req *wire.ClientRequest) error {
	resp, err := a.cluster.AskAny(ctx, req)
	if err != nil {
		return about("topic", strings.Join(names, ", "), err)
	}
	results := resp.GetTopics().GetTopics()
	if len(results) != len(names) {
		return incomplete(len(results), len(names))
	}
	var errs []error
	for i, r := range results {
		errs = append(errs, about("topic", names[i], refused(wire.ToError(r.GetError()))))
	}
	return errors.Join(errs...)
}

// refused makes ErrInvalidRequest of what the cluster has finer words for.
func refused(err error) error {
	for _, finer := range []error{messages.ErrInvalidPartitions, messages.ErrInvalidReplicationFactor,
		messages.ErrInvalidReplicaAssignment, messages.ErrPolicyViolation,
		messages.ErrTopicDeletionDisabled, messages.ErrOffsetOutOfRange} {
		if errors.Is(err, finer) {
			return fmt.Errorf("%w: %w", err, ErrInvalidRequest)
		}
	}
	return err
}

// Topics describes topics, in the order of the names; without any, all but the internal
// ones, by name. Those that do not exist are in the error, ErrUnknownTopic, and the others
// are returned with it.
func (a *Admin) Topics(ctx context.Context, names ...string) ([]TopicInfo, error) {
	resp, err := a.cluster.AskAny(ctx, &wire.ClientRequest{
		Command: &wire.ClientRequest_DescribeTopics{
			DescribeTopics: &wire.ClientDescribeTopics{Topics: names}}})
	if err != nil {
		return nil, about("topics", strings.Join(names, ", "), err)
	}
	found := resp.GetTopicDescriptions().GetTopics()
	if len(names) > 0 && len(found) != len(names) {
		return nil, incomplete(len(found), len(names))
	}
	var infos []TopicInfo
	var errs []error
	for i, f := range found {
		err := wire.ToError(f.GetError())
		var t *messages.Topic
		if err == nil {
			t, err = wire.ToTopic(f.GetTopic())
		}
		switch {
		case err != nil && len(names) > 0:
			errs = append(errs, about("topic", names[i], err))
		case err != nil:
			errs = append(errs, about("topic", f.GetTopic().GetName(), err))
		case len(names) > 0 || !t.Internal():
			infos = append(infos, topicInfo(t))
		}
	}
	return infos, errors.Join(errs...)
}

func topicInfo(t *messages.Topic) TopicInfo {
	info := TopicInfo{Name: t.Name, ID: t.ID.String()}
	for _, p := range t.Partitions {
		info.Partitions = append(info.Partitions, PartitionInfo{
			Leader: int(p.Leader), Replicas: nodeNumbers(p.Replicas), InSync: nodeNumbers(p.ISR)})
	}
	return info
}

func nodeNumbers(ids []messages.NodeID) []int {
	numbers := make([]int, len(ids))
	for i, id := range ids {
		numbers[i] = int(id)
	}
	return numbers
}

// TopicConfig returns the settings of a topic that are in force, by Kafka's names.
func (a *Admin) TopicConfig(ctx context.Context, topic string) (map[string]TopicSetting, error) {
	resp, err := a.cluster.AskAny(ctx, &wire.ClientRequest{
		Command: &wire.ClientRequest_DescribeConfigs{
			DescribeConfigs: &wire.ClientDescribeConfigs{Topic: topic}}})
	if err != nil {
		return nil, about("topic", topic, err)
	}
	settings := map[string]TopicSetting{}
	for _, c := range resp.GetConfigs().GetConfigs() {
		settings[c.GetName()] = TopicSetting{Value: c.GetValue(), Set: !c.GetInherited()}
	}
	return settings, nil
}

// SetTopicConfig sets settings of a topic, all or none, and leaves the others as they are.
// ErrInvalidConfig: one does not exist or cannot have the value.
func (a *Admin) SetTopicConfig(ctx context.Context, topic string, config map[string]string) error {
	var changes []*wire.ConfigChange
	for _, e := range wire.FromConfig(config) {
		changes = append(changes, &wire.ConfigChange{
			Name: e.GetName(), Op: wire.ConfigOp_CONFIG_OP_SET, Value: e.GetValue()})
	}
	return a.alterTopic(ctx, topic, changes)
}

// ResetTopicConfig takes settings of a topic back, so that the cluster's apply.
func (a *Admin) ResetTopicConfig(ctx context.Context, topic string, names ...string) error {
	var changes []*wire.ConfigChange
	for _, name := range names {
		changes = append(changes, &wire.ConfigChange{
			Name: name, Op: wire.ConfigOp_CONFIG_OP_DELETE})
	}
	return a.alterTopic(ctx, topic, changes)
}

func (a *Admin) alterTopic(ctx context.Context, topic string, changes []*wire.ConfigChange) error {
	if len(changes) == 0 {
		return nil
	}
	resp, err := a.cluster.AskAny(ctx, &wire.ClientRequest{
		Command: &wire.ClientRequest_AlterConfigs{AlterConfigs: &wire.AlterConfigs{
			Resources: []*wire.ResourceChange{{
				Type: wire.ConfigResourceType_CONFIG_RESOURCE_TYPE_TOPIC,
				Name: topic, Changes: changes}}}}})
	if err != nil {
		return about("topic", topic, err)
	}
	errs := wire.ToErrors(resp.GetErrors())
	if len(errs) != 1 {
		return incomplete(len(errs), 1)
	}
	return about("topic", topic, errs[0])
}

// Nodes returns the live nodes, by number. ErrUnavailable: no node was heard of yet.
func (a *Admin) Nodes(ctx context.Context) ([]NodeInfo, error) {
	if err := a.over(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var nodes []NodeInfo
	for _, n := range a.cluster.Nodes() {
		address := n.Address
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = "" // a name that Proto.Actor has for systems without a network
		}
		nodes = append(nodes, NodeInfo{ID: int(n.ID), Address: address, Kafka: n.Kafka, Rack: n.Rack})
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("no node is known: %w", ErrUnavailable)
	}
	slices.SortFunc(nodes, func(a, b NodeInfo) int { return a.ID - b.ID })
	return nodes, nil
}

// about names what an error is about, unless its text does so already: those of the
// cluster mostly do.
func about(what, name string, err error) error {
	if err == nil || name == "" || strings.Contains(err.Error(), strconv.Quote(name)) {
		return err
	}
	return fmt.Errorf("%s %q: %w", what, name, err)
}

// incomplete is an answer that does not match its question: a node of another version.
func incomplete(got, want int) error {
	return fmt.Errorf("the answer has %d results and not %d: is the node of another version? %w",
		got, want, ErrUnavailable)
}
