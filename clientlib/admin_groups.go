package clientlib

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/primitive"
	"github.com/troupelog/troupe/messages/wire"
)

// GroupInfo is a group as it stands.
type GroupInfo struct {
	ID string
	// Type is "consumer", which members of this package make, or "classic".
	Type string
	// State is Empty, Stable, or another one as Kafka's tools show it.
	State   string
	Members []GroupMember // by id; Groups leaves it nil
}

// GroupMember is a member of a group.
type GroupMember struct {
	ID string
	// InstanceID is that of a static member, else "".
	InstanceID string
	// ClientID is how the program calls itself, Host the address it comes from.
	ClientID, Host string
	Partitions     []Partition // by name and number
}

// Groups lists the groups of the cluster, by id. It asks every node; what those that
// answered have said is returned with the error.
func (a *Admin) Groups(ctx context.Context) ([]GroupInfo, error) {
	nodes, err := a.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	answers := make([][]*wire.ClientGroup, len(nodes))
	err = eachAtOnce(len(nodes), func(i int) error {
		resp, err := a.cluster.Ask(ctx, nodeOf(nodes[i]), &wire.ClientRequest{
			Command: &wire.ClientRequest_ListGroups{ListGroups: &wire.ClientListGroups{}}})
		answers[i] = resp.GetGroups().GetGroups() // also with an error: of what is loaded
		if err != nil {
			return fmt.Errorf("groups of node %d: %w", nodes[i].ID, err)
		}
		return nil
	})
	if errors.Is(ctx.Err(), context.Canceled) {
		err = fmt.Errorf("groups: %w", ctx.Err()) // the nodes are not to blame
	}
	var groups []GroupInfo
	for _, g := range slices.Concat(answers...) {
		groups = append(groups, GroupInfo{ID: g.GetGroup(), Type: g.GetType(), State: g.GetState()})
	}
	slices.SortFunc(groups, func(a, b GroupInfo) int { return strings.Compare(a.ID, b.ID) })
	// A group that moved meanwhile may have been told of twice.
	same := func(a, b GroupInfo) bool { return a.ID == b.ID }
	return slices.CompactFunc(groups, same), err
}

// Group describes a group and its members. ErrGroupNotFound: there is none.
func (a *Admin) Group(ctx context.Context, id string) (GroupInfo, error) {
	resp, err := a.askGroup(ctx, id, &wire.ClientRequest{
		Command: &wire.ClientRequest_DescribeGroup{
			DescribeGroup: &wire.ClientDescribeGroup{Group: id}}})
	if err != nil {
		return GroupInfo{}, err
	}
	g := resp.GetGroup()
	info := GroupInfo{ID: id, Type: g.GetType(), State: g.GetState()}
	for _, m := range g.GetMembers() {
		member := GroupMember{ID: m.GetMemberId(), InstanceID: m.GetInstanceId(),
			ClientID: m.GetClientId(), Host: m.GetHost()}
		for _, ps := range m.GetAssigned() {
			for _, p := range ps.GetPartitions() {
				member.Partitions = append(member.Partitions, Partition{ps.GetTopic(), p})
			}
		}
		if len(m.GetAssignment()) > 0 && g.GetProtocolType() == consumerProtocol {
			assigned, err := classicAssignment(m.GetAssignment())
			if err != nil {
				return info, fmt.Errorf("group %q, member %q: %w", id, m.GetMemberId(), err)
			}
			member.Partitions = append(member.Partitions, assigned...)
		}
		slices.SortFunc(member.Partitions, comparePartitions)
		info.Members = append(info.Members, member)
	}
	slices.SortFunc(info.Members, func(a, b GroupMember) int { return strings.Compare(a.ID, b.ID) })
	return info, nil
}

// DeleteGroups forgets groups and their offsets. ErrGroupNotEmpty: it has members.
// ErrGroupNotFound: there is none.
func (a *Admin) DeleteGroups(ctx context.Context, ids ...string) error {
	return eachAtOnce(len(ids), func(i int) error {
		_, err := a.askGroup(ctx, ids[i], &wire.ClientRequest{
			Command: &wire.ClientRequest_DeleteGroup{
				DeleteGroup: &wire.ClientDeleteGroup{Group: ids[i]}}})
		return err
	})
}

// askGroup asks the coordinator of a group.
func (a *Admin) askGroup(ctx context.Context, id string, req *wire.ClientRequest) (
	*wire.ClientResponse, error) {
	if id == "" {
		return nil, fmt.Errorf("group without an id: %w", ErrInvalidRequest)
	}
	resp, err := a.cluster.AskCoordinator(ctx, coord.Group, id, req)
	return resp, about("group", id, err)
}

// consumerProtocol is the protocol type of classic groups of consumers; others, such as
// those of Kafka Connect, have assignments of their own making.
const consumerProtocol = "consumer"

// classicAssignment reads Kafka's ConsumerProtocolAssignment, of any version: a version,
// topics with their partitions, and what the assignor adds for itself. The bytes come
// from another client, so nothing about them is certain.
func classicAssignment(b []byte) ([]Partition, error) {
	r := primitive.NewReader(b, ErrDecode)
	if version := r.Int16(); version < 0 {
		r.Fail("assignment of version %d", version)
	}
	var partitions []Partition
	for range r.Count(2 + 4) { // a name's length, an array's
		topic := r.Text()
		for range r.Count(4) {
			partitions = append(partitions, Partition{topic, r.Int32()})
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("assignment: %w", err)
	}
	return partitions, nil
}

func comparePartitions(a, b Partition) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return int(a.Index) - int(b.Index)
}

// adminAtOnce is how many questions of one call are under way.
const adminAtOnce = 16

// eachAtOnce calls f for 0 to n-1, some at a time, and waits for all. The errors are in
// their order.
func eachAtOnce(n int, f func(i int) error) error {
	errs := make([]error, n)
	slots := make(chan struct{}, adminAtOnce)
	for i := range n {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			errs[i] = f(i)
		}()
	}
	for range adminAtOnce { // those that still run
		slots <- struct{}{}
	}
	return errors.Join(errs...)
}

func nodeOf(n NodeInfo) messages.NodeID { return messages.NodeID(n.ID) }
