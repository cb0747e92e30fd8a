package wire

import (
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// FromConsumerHeartbeat returns the wire form of a heartbeat to a group. What the
// receiver knows of its client, and an assignor, do not cross.
func FromConsumerHeartbeat(id string, b *group.ConsumerHeartbeat) *ClientGroupHeartbeat {
	return &ClientGroupHeartbeat{Group: id, MemberId: b.MemberID, MemberEpoch: b.MemberEpoch,
		InstanceId: b.InstanceID, Rack: b.Rack, RebalanceTimeoutMs: b.RebalanceTimeoutMs,
		Topics: b.Topics, HasTopics: b.HasTopics, Regex: b.Regex,
		Owned: FromTopicPartitions(b.Owned), HasOwned: b.HasOwned}
}

// ToConsumerHeartbeat reads what FromConsumerHeartbeat wrote; Reply is not set. What is
// not said to have changed is nil.
func ToConsumerHeartbeat(w *ClientGroupHeartbeat,
) (id string, b *group.ConsumerHeartbeat, err error) {
	b = &group.ConsumerHeartbeat{MemberID: w.GetMemberId(), MemberEpoch: w.GetMemberEpoch(),
		InstanceID: w.GetInstanceId(), RebalanceTimeoutMs: w.GetRebalanceTimeoutMs(),
		HasTopics: w.GetHasTopics(), HasOwned: w.GetHasOwned()}
	if w != nil {
		b.Rack, b.Regex = w.Rack, w.Regex
	}
	if b.HasTopics {
		b.Topics = w.GetTopics()
	}
	if b.HasOwned {
		b.Owned, err = ToTopicPartitions(w.GetOwned())
	}
	return w.GetGroup(), b, err
}

// FromConsumerHeartbeated returns the wire form of the answer to a heartbeat, but for
// its error.
func FromConsumerHeartbeated(b *group.ConsumerHeartbeated) *ClientGroupHeartbeated {
	return &ClientGroupHeartbeated{MemberEpoch: b.MemberEpoch,
		HeartbeatIntervalMs: b.HeartbeatIntervalMs,
		Assigned:            FromTopicPartitions(b.Assigned), HasAssigned: b.HasAssigned}
}

// ToConsumerHeartbeated reads what FromConsumerHeartbeated wrote. The member knows its id.
func ToConsumerHeartbeated(w *ClientGroupHeartbeated) (group.ConsumerHeartbeated, error) {
	b := group.ConsumerHeartbeated{MemberEpoch: w.GetMemberEpoch(),
		HeartbeatIntervalMs: w.GetHeartbeatIntervalMs(), HasAssigned: w.GetHasAssigned()}
	var err error
	if b.HasAssigned {
		b.Assigned, err = ToTopicPartitions(w.GetAssigned())
	}
	return b, err
}

// FromTopicPartitions returns the wire form of partitions by topic.
func FromTopicPartitions(tps []group.TopicPartitions) []*ClientPartitions {
	var out []*ClientPartitions
	for i := range tps {
		out = append(out, &ClientPartitions{TopicId: fromTopicRefID(tps[i].Topic),
			Topic: tps[i].Name, Partitions: tps[i].Partitions})
	}
	return out
}

// ToTopicPartitions reads what FromTopicPartitions wrote. It fails with ErrMalformed
// on a topic without an id and on negative partitions.
func ToTopicPartitions(ws []*ClientPartitions) ([]group.TopicPartitions, error) {
	var out []group.TopicPartitions
	for _, w := range ws {
		id, err := toTopicID(w.GetTopicId())
		if err == nil && id.IsZero() {
			err = malformed("topic id is zero")
		}
		for _, p := range w.GetPartitions() {
			if p < 0 {
				err = malformed("partition %d", p)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("topic %q: %w", w.GetTopic(), err)
		}
		out = append(out, group.TopicPartitions{Topic: id, Name: w.GetTopic(),
			Partitions: w.GetPartitions()})
	}
	return out, nil
}

// FromOffsets returns the wire form of positions to commit. Times do not cross.
func FromOffsets(offsets []group.Offset) []*ClientPosition {
	var out []*ClientPosition
	for i := range offsets {
		out = append(out, fromOffset(&offsets[i]))
	}
	return out
}

func fromOffset(o *group.Offset) *ClientPosition {
	return &ClientPosition{Topic: o.Topic, TopicId: fromTopicRefID(o.TopicID),
		Partition: o.Partition, Offset: int64(o.Offset), LeaderEpoch: int32(o.Epoch),
		Metadata: o.Metadata}
}

// ToOffsets reads what FromOffsets wrote. It fails with ErrMalformed on an id that is
// none.
func ToOffsets(ws []*ClientPosition) ([]group.Offset, error) {
	var out []group.Offset
	for _, w := range ws {
		o, err := toOffset(w)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

func toOffset(w *ClientPosition) (group.Offset, error) {
	id, err := toTopicRefID(w.GetTopicId())
	if err != nil {
		return group.Offset{}, fmt.Errorf("topic %q: %w", w.GetTopic(), err)
	}
	return group.Offset{TopicID: id, Topic: w.GetTopic(), Partition: w.GetPartition(),
		Offset: messages.Offset(w.GetOffset()), Epoch: messages.LeaderEpoch(w.GetLeaderEpoch()),
		Metadata: w.GetMetadata(), CommitMs: messages.NoTimestamp,
		ExpireMs: messages.NoTimestamp}, nil
}

// FromCommit returns the wire form of a commit.
func FromCommit(id string, c *group.Commit) *ClientCommitOffsets {
	return &ClientCommitOffsets{Group: id, MemberId: c.MemberID, MemberEpoch: c.Generation,
		InstanceId: c.InstanceID, Positions: FromOffsets(c.Offsets)}
}

// ToCommit reads what FromCommit wrote; Reply is not set. Who commits this way knows
// the errors of member epochs.
func ToCommit(w *ClientCommitOffsets) (id string, c *group.Commit, err error) {
	c = &group.Commit{MemberID: w.GetMemberId(), InstanceID: w.GetInstanceId(),
		Generation: w.GetMemberEpoch(), Epochs: true}
	c.Offsets, err = ToOffsets(w.GetPositions())
	return w.GetGroup(), c, err
}

// FromTxnCommit returns the wire form of a commit in a transaction.
func FromTxnCommit(id string, c *group.TxnCommit) *ClientTxnCommitOffsets {
	return &ClientTxnCommitOffsets{TransactionalId: c.TransactionalID,
		ProducerId: int64(c.Producer), ProducerEpoch: int32(c.Epoch), Group: id,
		MemberId: c.MemberID, MemberEpoch: c.Generation, InstanceId: c.InstanceID,
		Positions: FromOffsets(c.Offsets)}
}

// ToTxnCommit reads what FromTxnCommit wrote; Reply is not set.
func ToTxnCommit(w *ClientTxnCommitOffsets) (id string, c *group.TxnCommit, err error) {
	c = &group.TxnCommit{TransactionalID: w.GetTransactionalId(),
		Producer: messages.ProducerID(w.GetProducerId()), MemberID: w.GetMemberId(),
		InstanceID: w.GetInstanceId(), Generation: w.GetMemberEpoch()}
	if c.Epoch, err = toProducerEpoch(w.GetProducerEpoch()); err == nil {
		c.Offsets, err = ToOffsets(w.GetPositions())
	}
	return w.GetGroup(), c, err
}

// FromFetchOffsets returns the wire form of a question for committed offsets.
func FromFetchOffsets(id string, f *group.FetchOffsets) *ClientFetchOffsets {
	return &ClientFetchOffsets{Group: id, Partitions: fromNames(f.Partitions), Stable: f.Stable,
		MemberId: f.MemberID, MemberEpoch: f.MemberEpoch}
}

// ToFetchOffsets reads what FromFetchOffsets wrote; Reply is not set. Partitions is nil
// for all of them, and empty if topics without partitions were named.
func ToFetchOffsets(w *ClientFetchOffsets) (id string, f *group.FetchOffsets) {
	f = &group.FetchOffsets{Stable: w.GetStable(), MemberID: w.GetMemberId(),
		MemberEpoch: w.GetMemberEpoch()}
	if f.MemberID == "" {
		f.MemberEpoch = group.NoGeneration
	}
	if f.Partitions = toNames(w.GetPartitions()); f.Partitions == nil && len(w.GetPartitions()) > 0 {
		f.Partitions = []messages.TopicPartition{}
	}
	return w.GetGroup(), f
}

// FromFetched returns the wire form of committed offsets.
func FromFetched(offsets []group.FetchedOffset) *ClientFetchedOffsets {
	w := &ClientFetchedOffsets{}
	for i := range offsets {
		p := fromOffset(&offsets[i].Offset)
		if offsets[i].Err != nil {
			p.Error = FromError(offsets[i].Err)
		}
		w.Positions = append(w.Positions, p)
	}
	return w
}

// ToFetched reads what FromFetched wrote.
func ToFetched(w *ClientFetchedOffsets) ([]group.FetchedOffset, error) {
	var out []group.FetchedOffset
	for _, p := range w.GetPositions() {
		o, err := toOffset(p)
		if err != nil {
			return nil, err
		}
		out = append(out, group.FetchedOffset{Err: ToError(p.GetError()), Offset: o})
	}
	return out, nil
}

// FromDeleteOffsets returns the wire form of a request to forget offsets.
func FromDeleteOffsets(id string, partitions []messages.TopicPartition) *ClientDeleteOffsets {
	return &ClientDeleteOffsets{Group: id, Partitions: fromNames(partitions)}
}

// ToDeleteOffsets reads what FromDeleteOffsets wrote.
func ToDeleteOffsets(w *ClientDeleteOffsets) (id string, partitions []messages.TopicPartition) {
	return w.GetGroup(), toNames(w.GetPartitions())
}

// FromListed returns the wire form of a listing of groups.
func FromListed(listed []group.Listed) *ClientGroups {
	w := &ClientGroups{}
	for i := range listed {
		l := &listed[i]
		w.Groups = append(w.Groups, &ClientGroup{Group: l.GroupID, Type: string(l.Type),
			State: string(l.State), ProtocolType: l.ProtocolType})
	}
	return w
}

// ToListed reads what FromListed wrote.
func ToListed(w *ClientGroups) []group.Listed {
	var out []group.Listed
	for _, g := range w.GetGroups() {
		out = append(out, group.Listed{GroupID: g.GetGroup(), ProtocolType: g.GetProtocolType(),
			State: group.State(g.GetState()), Type: group.Type(g.GetType())})
	}
	return out
}

// FromDescription returns the wire form of a group, but for its error and what only
// members of its protocol understand.
func FromDescription(d *group.Description) *ClientGroup {
	w := &ClientGroup{Group: d.GroupID, Type: string(d.Type), State: string(d.State),
		ProtocolType: d.ProtocolType, Epoch: d.Epoch, Assignor: d.Assignor}
	if d.Type == group.Classic {
		w.Assignor = d.Protocol
	}
	for i := range d.Members {
		m := &d.Members[i]
		w.Members = append(w.Members, &ClientMember{MemberId: m.MemberID,
			InstanceId: m.InstanceID, ClientId: m.ClientID, Host: m.ClientHost, Epoch: m.Epoch,
			Assigned: FromTopicPartitions(m.Assigned), Assignment: m.Assignment})
	}
	return w
}

// ToDescription reads what FromDescription wrote.
func ToDescription(w *ClientGroup) (group.Description, error) {
	d := group.Description{GroupID: w.GetGroup(), Type: group.Type(w.GetType()),
		State: group.State(w.GetState()), ProtocolType: w.GetProtocolType(),
		Epoch: w.GetEpoch(), Assignor: w.GetAssignor()}
	if d.Type == group.Classic {
		d.Protocol, d.Assignor = d.Assignor, ""
	}
	for _, m := range w.GetMembers() {
		assigned, err := ToTopicPartitions(m.GetAssigned())
		if err != nil {
			return group.Description{}, fmt.Errorf("member %q: %w", m.GetMemberId(), err)
		}
		d.Members = append(d.Members, group.Member{MemberID: m.GetMemberId(),
			InstanceID: m.GetInstanceId(), ClientID: m.GetClientId(), ClientHost: m.GetHost(),
			Epoch: m.GetEpoch(), Assigned: assigned, Assignment: m.GetAssignment()})
	}
	return d, nil
}
