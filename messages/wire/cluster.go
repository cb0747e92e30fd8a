package wire

import (
	"fmt"

	"github.com/troupelog/troupe/messages"
)

// FromRegistration returns the command that takes a node into the cluster.
func FromRegistration(r *messages.Registration) *RegisterNode {
	w := &RegisterNode{Node: FromNode(r.Node), Unclean: r.Unclean}
	for _, id := range r.Lost {
		w.Lost = append(w.Lost, fromPartitionID(id))
	}
	return w
}

// ToRegistration reads what FromRegistration wrote.
func ToRegistration(w *RegisterNode) (*messages.Registration, error) {
	n, err := ToNode(w.GetNode())
	if err != nil {
		return nil, err
	}
	r := &messages.Registration{Node: n, Unclean: w.GetUnclean()}
	for _, ref := range w.GetLost() {
		id, err := toPartitionID(ref)
		if err != nil {
			return nil, fmt.Errorf("lost replicas: %w", err)
		}
		r.Lost = append(r.Lost, id)
	}
	return r, nil
}

// FromHeartbeat returns the wire form of a heartbeat.
func FromHeartbeat(h *messages.Heartbeat) *Heartbeat {
	return &Heartbeat{NodeId: int32(h.Node), Epoch: int64(h.Epoch), Version: int64(h.Version),
		Incarnation: h.Incarnation, Leave: h.Leave}
}

// ToHeartbeat reads what FromHeartbeat wrote.
func ToHeartbeat(w *Heartbeat) *messages.Heartbeat {
	return &messages.Heartbeat{
		Node: messages.NodeID(w.GetNodeId()), Epoch: messages.NodeEpoch(w.GetEpoch()),
		Version:     messages.MetadataVersion(w.GetVersion()),
		Incarnation: w.GetIncarnation(), Leave: w.GetLeave(),
	}
}

// FromHeartbeatReply returns the answer to a heartbeat.
func FromHeartbeatReply(r *messages.HeartbeatReply) *HeartbeatReply {
	w := &HeartbeatReply{MayStop: r.MayStop}
	if r.Update != nil {
		w.Update = FromDelta(r.Update)
	}
	return w
}

// ToHeartbeatReply reads what FromHeartbeatReply wrote.
func ToHeartbeatReply(w *HeartbeatReply) (*messages.HeartbeatReply, error) {
	r := &messages.HeartbeatReply{MayStop: w.GetMayStop()}
	if w.GetUpdate() != nil {
		var err error
		if r.Update, err = ToDelta(w.GetUpdate()); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// FromSuspicion returns the wire form of a suspicion.
func FromSuspicion(s *messages.Suspicion) *Suspicion {
	return &Suspicion{By: int32(s.By), Suspect: int32(s.Suspect), Epoch: int64(s.Epoch)}
}

// ToSuspicion reads what FromSuspicion wrote.
func ToSuspicion(w *Suspicion) *messages.Suspicion {
	return &messages.Suspicion{By: messages.NodeID(w.GetBy()),
		Suspect: messages.NodeID(w.GetSuspect()), Epoch: messages.NodeEpoch(w.GetEpoch())}
}

// FromAlterPartitions returns the proposals of a leader.
func FromAlterPartitions(node messages.NodeID, epoch messages.NodeEpoch,
	proposals []messages.AlterPartition) *AlterPartitions {
	w := &AlterPartitions{NodeId: int32(node), Epoch: int64(epoch)}
	for _, p := range proposals {
		a := &AlterPartition{Partition: fromPartitionID(p.ID), LeaderEpoch: int32(p.LeaderEpoch),
			PartitionEpoch: int32(p.PartitionEpoch)}
		for _, m := range p.ISR {
			a.Isr = append(a.Isr, &IsrMember{NodeId: int32(m.Node), Epoch: int64(m.Epoch)})
		}
		w.Partitions = append(w.Partitions, a)
	}
	return w
}

// ToAlterPartitions reads the proposals that FromAlterPartitions wrote.
func ToAlterPartitions(w *AlterPartitions) ([]messages.AlterPartition, error) {
	out := make([]messages.AlterPartition, len(w.GetPartitions()))
	for i, a := range w.GetPartitions() {
		id, err := toPartitionID(a.GetPartition())
		if err != nil {
			return nil, err
		}
		out[i] = messages.AlterPartition{ID: id,
			LeaderEpoch:    messages.LeaderEpoch(a.GetLeaderEpoch()),
			PartitionEpoch: messages.PartitionEpoch(a.GetPartitionEpoch())}
		for _, m := range a.GetIsr() {
			out[i].ISR = append(out[i].ISR, messages.ISRMember{
				Node: messages.NodeID(m.GetNodeId()), Epoch: messages.NodeEpoch(m.GetEpoch())})
		}
	}
	return out, nil
}

// FromPartitionResults returns the answers to proposals.
func FromPartitionResults(results []messages.AlterPartitionResult) *PartitionResults {
	w := &PartitionResults{}
	for i := range results {
		r := &PartitionResult{Partition: FromPartition(&results[i].Partition)}
		if results[i].Err != nil {
			r.Error = FromError(results[i].Err)
		}
		w.Partitions = append(w.Partitions, r)
	}
	return w
}

// ToPartitionResults reads what FromPartitionResults wrote.
func ToPartitionResults(w *PartitionResults) ([]messages.AlterPartitionResult, error) {
	out := make([]messages.AlterPartitionResult, len(w.GetPartitions()))
	for i, r := range w.GetPartitions() {
		var err error
		if out[i].Partition, err = ToPartition(r.GetPartition()); err != nil {
			return nil, err
		}
		out[i].Err = ToError(r.GetError())
	}
	return out, nil
}

// FromElectLeaders returns the command that elects leaders.
func FromElectLeaders(t messages.ElectionType, partitions []messages.PartitionID) *ElectLeaders {
	w := &ElectLeaders{Type: ElectionType(t) + ElectionType_ELECTION_TYPE_PREFERRED}
	for _, id := range partitions {
		w.Partitions = append(w.Partitions, fromPartitionID(id))
	}
	return w
}

// ToElectLeaders reads what FromElectLeaders wrote. It fails with ErrMalformed on
// a type of election this version does not know.
func ToElectLeaders(w *ElectLeaders) (messages.ElectionType, []messages.PartitionID, error) {
	t := w.GetType() - ElectionType_ELECTION_TYPE_PREFERRED
	if t < 0 || w.GetType() > ElectionType_ELECTION_TYPE_UNCLEAN {
		return 0, nil, malformed("election of type %d", w.GetType())
	}
	ids := make([]messages.PartitionID, len(w.GetPartitions()))
	for i, ref := range w.GetPartitions() {
		var err error
		if ids[i], err = toPartitionID(ref); err != nil {
			return 0, nil, err
		}
	}
	return messages.ElectionType(t), ids, nil
}

// FromReassign returns the command that places replicas.
func FromReassign(reqs []messages.Reassign) *Reassign {
	w := &Reassign{}
	for _, r := range reqs {
		w.Partitions = append(w.Partitions, &Reassignment{
			Partition: fromPartitionRef(r.ID, r.Topic),
			Cancel:    r.Replicas == nil, Replicas: fromNodeIDs(r.Replicas),
		})
	}
	return w
}

// ToReassign reads what FromReassign wrote.
func ToReassign(w *Reassign) ([]messages.Reassign, error) {
	out := make([]messages.Reassign, len(w.GetPartitions()))
	for i, r := range w.GetPartitions() {
		var err error
		if out[i].ID, out[i].Topic, err = toPartitionRef(r.GetPartition()); err != nil {
			return nil, err
		}
		if !r.GetCancel() {
			out[i].Replicas = rawNodeIDs(r.GetReplicas())
		}
	}
	return out, nil
}

func fromPartitionID(id messages.PartitionID) *PartitionRef { return fromPartitionRef(id, "") }

func fromPartitionRef(id messages.PartitionID, topic string) *PartitionRef {
	return &PartitionRef{TopicId: fromTopicRefID(id.Topic), Partition: id.Partition, Topic: topic}
}

// toPartitionID reads a partition that must be named by its id.
func toPartitionID(w *PartitionRef) (messages.PartitionID, error) {
	id, _, err := toPartitionRef(w)
	if err == nil && id.Topic.IsZero() {
		err = malformed("partition %d of no topic", w.GetPartition())
	}
	return id, err
}

func toPartitionRef(w *PartitionRef) (messages.PartitionID, string, error) {
	id, err := toTopicRefID(w.GetTopicId())
	return messages.PartitionID{Topic: id, Partition: w.GetPartition()}, w.GetTopic(), err
}
