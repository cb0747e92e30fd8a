package cli

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// stateDead is the state of a group that does not exist, as brokers before Kafka
// 4.0 tell it.
const stateDead = "Dead"

// groupState is a group with its members and offsets.
type groupState struct {
	Group        string        `json:"group"`
	Type         string        `json:"type"`
	State        string        `json:"state"`
	ProtocolType string        `json:"protocolType"`
	Assignor     string        `json:"assignor"`
	Coordinator  int32         `json:"coordinator"`
	Epoch        *int32        `json:"epoch,omitempty"` // of consumer groups
	Lag          int64         `json:"lag"`             // of all partitions whose lag is known
	Members      []groupMember `json:"members"`
	Offsets      []groupOffset `json:"offsets"`
}

// groupMember is a member of a group.
type groupMember struct {
	MemberID   string               `json:"memberId"`
	InstanceID string               `json:"instanceId,omitempty"`
	ClientID   string               `json:"clientId"`
	Host       string               `json:"host"`
	Epoch      *int32               `json:"epoch,omitempty"`
	Assigned   []assignedPartitions `json:"assigned"`
}

// assignedPartitions are partitions of a topic, ascending.
type assignedPartitions struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
}

// groupOffset is where a group is in a partition. Pointers are nil when nobody
// could say: nothing was committed, or the partition has no leader.
type groupOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed *int64 `json:"committed"`
	End       *int64 `json:"end"`
	// Lag is how many offsets there are to read; from the start if nothing was
	// committed.
	Lag      *int64 `json:"lag"`
	Metadata string `json:"metadata,omitempty"`
	MemberID string `json:"memberId,omitempty"` // that reads the partition
	ClientID string `json:"clientId,omitempty"`
}

// groupStates gathers everything about groups, in the order of names.
func groupStates(ctx context.Context, adm *kadm.Client, names []string) ([]groupState, error) {
	out, err := describedGroups(ctx, adm, names)
	if err != nil {
		return nil, err
	}
	committed := adm.FetchManyOffsets(ctx, names...)
	var topics []string
	for i := range out {
		f := committed[out[i].Group]
		if f.Err != nil {
			return nil, groupError(out[i].Group, f.Err, "")
		}
		for topic := range f.Fetched {
			topics = append(topics, topic)
		}
		for _, m := range out[i].Members {
			for _, a := range m.Assigned {
				topics = append(topics, a.Topic)
			}
		}
	}
	// A broker that leaves out the names of topics must not spoil the others'.
	topics = slices.DeleteFunc(topics, func(topic string) bool { return topic == "" })
	slices.Sort(topics)
	var starts, ends kadm.ListedOffsets
	if topics = slices.Compact(topics); len(topics) > 0 {
		// Partial answers are shown as far as they go, as in "topic describe".
		starts, _ = adm.ListStartOffsets(ctx, topics...)
		ends, _ = adm.ListEndOffsets(ctx, topics...)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	for i := range out {
		out[i].place(committed[out[i].Group].Fetched, starts, ends)
	}
	return out, nil
}

// describedGroups returns groups without their offsets. Those of the newer type
// are asked for first: as a classic group they do not exist.
func describedGroups(ctx context.Context, adm *kadm.Client, names []string) ([]groupState, error) {
	var newer kadm.DescribedConsumerGroups
	var older kadm.DescribedGroups
	err := awaitCoordinator(ctx, adm, func() (err error) {
		newer, err = adm.DescribeConsumerGroups(ctx, names...)
		var rest []string
		for _, name := range names {
			if d, ok := newer[name]; !ok || d.Err != nil {
				rest = append(rest, name)
			}
		}
		if older = nil; len(rest) == 0 || err != nil && ctx.Err() != nil {
			return err
		}
		older, err = adm.DescribeGroups(ctx, rest...)
		for _, d := range older {
			err = firstError(err, d.Err)
		}
		return err
	})
	out := make([]groupState, 0, len(names))
	for _, name := range names {
		if d, ok := newer[name]; ok && d.Err == nil {
			out = append(out, ofConsumerGroup(&d))
			continue
		}
		d, ok := older[name]
		switch {
		case !ok:
			return nil, groupError(name, firstError(err, errNoAnswer), "")
		case d.Err != nil:
			return nil, groupError(name, d.Err, d.ErrMessage)
		case d.State == stateDead:
			return nil, noGroup(name, kerr.GroupIDNotFound)
		}
		out = append(out, ofClassicGroup(&d))
	}
	return out, nil
}

// awaitCoordinator repeats f while the coordinator is being placed or is loading,
// which it is for a moment after the first group of a cluster and after a failover,
// and while its node refuses connections: another one takes over when the cluster has
// seen that, if there is another one.
func awaitCoordinator(ctx context.Context, adm *kadm.Client, f func() error) error {
	for {
		err := f()
		if !isUnplaced(err) && (!isRefused(err) || !answers(ctx, adm)) {
			return err
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return err
		}
	}
}

// isUnplaced reports whether a broker says that the coordinator is not there yet.
func isUnplaced(err error) bool {
	return errors.Is(err, kerr.CoordinatorNotAvailable) ||
		errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator)
}

// isRefused reports whether nobody listens where a broker should.
func isRefused(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// answers reports whether any broker of the cluster does.
func answers(ctx context.Context, adm *kadm.Client) bool {
	_, err := adm.BrokerMetadata(ctx)
	return err == nil
}

func ofConsumerGroup(d *kadm.DescribedConsumerGroup) groupState {
	s := groupState{Group: d.Group, Type: typeConsumer, State: d.State, ProtocolType: typeConsumer,
		Assignor: d.AssignorName, Coordinator: d.Coordinator.NodeID, Epoch: &d.Epoch,
		Members: []groupMember{}, Offsets: []groupOffset{}}
	for i := range d.Members {
		m := &d.Members[i]
		s.Members = append(s.Members, groupMember{MemberID: m.MemberID, InstanceID: text(m.InstanceID),
			ClientID: m.ClientID, Host: m.ClientHost, Epoch: &m.MemberEpoch,
			Assigned: sortedPartitions(m.Assignment)})
	}
	return s
}

func ofClassicGroup(d *kadm.DescribedGroup) groupState {
	s := groupState{Group: d.Group, Type: typeClassic, State: d.State, ProtocolType: d.ProtocolType,
		Assignor: d.Protocol, Coordinator: d.Coordinator.NodeID,
		Members: []groupMember{}, Offsets: []groupOffset{}}
	for i := range d.Members {
		m := &d.Members[i]
		var assigned kadm.TopicsSet
		if c, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range c.Topics {
				assigned.Add(t.Topic, t.Partitions...)
			}
		}
		s.Members = append(s.Members, groupMember{MemberID: m.MemberID, InstanceID: text(m.InstanceID),
			ClientID: m.ClientID, Host: m.ClientHost, Assigned: sortedPartitions(assigned)})
	}
	return s
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func sortedPartitions(set kadm.TopicsSet) []assignedPartitions {
	out := []assignedPartitions{}
	for _, t := range set.Sorted() {
		out = append(out, assignedPartitions{t.Topic, t.Partitions})
	}
	return out
}

// place fills in where the group is: in the partitions it committed, and in those
// its members read.
func (s *groupState) place(committed kadm.OffsetResponses, starts, ends kadm.ListedOffsets) {
	owners := map[topicPartition]*groupMember{}
	at := map[topicPartition]kadm.OffsetResponse{}
	var places []topicPartition
	for i := range s.Members {
		for _, a := range s.Members[i].Assigned {
			for _, p := range a.Partitions {
				owners[topicPartition{a.Topic, p}] = &s.Members[i]
				places = append(places, topicPartition{a.Topic, p})
			}
		}
	}
	committed.Each(func(o kadm.OffsetResponse) {
		if o.Err == nil && o.At >= 0 {
			at[topicPartition{o.Topic, o.Partition}] = o
			places = append(places, topicPartition{o.Topic, o.Partition})
		}
	})
	slices.SortFunc(places, byPlace)
	for _, tp := range slices.Compact(places) {
		o := groupOffset{Topic: tp.topic, Partition: tp.partition, End: listedAt(ends, tp)}
		from := listedAt(starts, tp)
		if c, ok := at[tp]; ok {
			o.Committed, o.Metadata, from = &c.At, c.Metadata, &c.At
		}
		if o.End != nil && from != nil {
			lag := max(0, *o.End-*from)
			o.Lag = &lag
			s.Lag += lag
		}
		if m := owners[tp]; m != nil {
			o.MemberID, o.ClientID = m.MemberID, m.ClientID
		}
		s.Offsets = append(s.Offsets, o)
	}
}

func byPlace(a, b topicPartition) int {
	return cmp.Or(strings.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
}

// listedAt is a partition's offset in list, or nil.
func listedAt(list kadm.ListedOffsets, tp topicPartition) *int64 {
	o, ok := list.Lookup(tp.topic, tp.partition)
	if !ok || o.Err != nil || o.Offset < 0 {
		return nil
	}
	return &o.Offset
}

// partitionsText is what a member reads, as "orders:0,1 users:2".
func partitionsText(assigned []assignedPartitions) string {
	words := make([]string, len(assigned))
	for i, a := range assigned {
		words[i] = a.Topic + ":" + ids(a.Partitions)
	}
	return orDash(strings.Join(words, " "))
}

// commitError is what a broker's error about committing to a partition means.
func commitError(name string, tp topicPartition, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return &failure{"the cluster has no " + tp.String(), "see \"troupe topic list\"", err}
	}
	return groupError(name, err, "")
}

func numberOf(n int64) string { return strconv.FormatInt(n, 10) }
