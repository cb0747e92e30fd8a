package control

import (
	"fmt"
	"math"
	"time"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/wire"
)

// EncodeCommand returns the wire form of a command. The sender waits that long
// for the answer, whose request id will be id.
func EncodeCommand(id uint64, c Command, wait time.Duration) *wire.ControllerRequest {
	w := &wire.ControllerRequest{RequestId: id,
		TimeoutMs: uint32(min(max(wait.Milliseconds(), 0), math.MaxUint32))}
	switch c := c.(type) {
	case *CreateTopics:
		w.ValidateOnly = c.ValidateOnly
		w.Command = &wire.ControllerRequest_CreateTopics{
			CreateTopics: wire.FromCreateTopics(c.Topics, c.IDs)}
	case *DeleteTopics:
		w.Command = &wire.ControllerRequest_DeleteTopics{
			DeleteTopics: wire.FromDeleteTopics(c.Topics)}
	case *CreatePartitions:
		w.ValidateOnly = c.ValidateOnly
		w.Command = &wire.ControllerRequest_CreatePartitions{
			CreatePartitions: wire.FromCreatePartitions(c.Topics)}
	case *AlterConfigs:
		w.ValidateOnly = c.ValidateOnly
		w.Command = &wire.ControllerRequest_AlterConfigs{AlterConfigs: wire.FromAlterConfigs(c.Reqs)}
	case *AllocateProducerIDs:
		w.Command = &wire.ControllerRequest_AllocateProducerIds{
			AllocateProducerIds: &wire.AllocateProducerIds{NodeId: int32(c.Node)}}
	default:
		encodeClusterCommand(w, c)
	}
	return w
}

// encodeClusterCommand is EncodeCommand for what clusters of one do not need.
func encodeClusterCommand(w *wire.ControllerRequest, c Command) {
	switch c := c.(type) {
	case *Register:
		w.Command = &wire.ControllerRequest_RegisterNode{
			RegisterNode: wire.FromRegistration(&c.Registration)}
	case *Heartbeat:
		w.Command = &wire.ControllerRequest_Heartbeat{Heartbeat: wire.FromHeartbeat(&c.Heartbeat)}
	case *Suspect:
		w.Command = &wire.ControllerRequest_Suspicion{Suspicion: wire.FromSuspicion(&c.Suspicion)}
	case *AlterPartitions:
		w.Command = &wire.ControllerRequest_AlterPartitions{
			AlterPartitions: wire.FromAlterPartitions(c.Node, c.Epoch, c.Proposals)}
	case *ElectLeaders:
		w.Command = &wire.ControllerRequest_ElectLeaders{
			ElectLeaders: wire.FromElectLeaders(c.Type, c.Partitions)}
	case *Reassign:
		w.Command = &wire.ControllerRequest_Reassign{Reassign: wire.FromReassign(c.Reqs)}
	case *Unregister:
		w.Command = &wire.ControllerRequest_UnregisterNode{
			UnregisterNode: &wire.UnregisterNode{NodeId: int32(c.Node)}}
	default:
		invariant.That(false, "command %T has no wire form", c)
	}
}

// DecodeCommand reads what EncodeCommand wrote. It fails with
// wire.ErrUnsupported on a command this version does not know, and with
// wire.ErrMalformed on one that breaks the rules of its type.
func DecodeCommand(w *wire.ControllerRequest) (Command, error) {
	var err error
	switch q := w.GetCommand().(type) {
	case *wire.ControllerRequest_CreateTopics:
		c := &CreateTopics{ValidateOnly: w.GetValidateOnly()}
		c.Topics, c.IDs, err = wire.ToCreateTopics(q.CreateTopics)
		return c, err
	case *wire.ControllerRequest_DeleteTopics:
		c := &DeleteTopics{}
		c.Topics, err = wire.ToDeleteTopics(q.DeleteTopics)
		return c, err
	case *wire.ControllerRequest_CreatePartitions:
		c := &CreatePartitions{ValidateOnly: w.GetValidateOnly()}
		c.Topics, err = wire.ToCreatePartitions(q.CreatePartitions)
		return c, err
	case *wire.ControllerRequest_AlterConfigs:
		c := &AlterConfigs{ValidateOnly: w.GetValidateOnly()}
		c.Reqs, err = wire.ToAlterConfigs(q.AlterConfigs)
		return c, err
	case *wire.ControllerRequest_AllocateProducerIds:
		return &AllocateProducerIDs{messages.NodeID(q.AllocateProducerIds.GetNodeId())}, nil
	}
	return decodeClusterCommand(w)
}

func decodeClusterCommand(w *wire.ControllerRequest) (Command, error) {
	var err error
	switch q := w.GetCommand().(type) {
	case *wire.ControllerRequest_RegisterNode:
		r, err := wire.ToRegistration(q.RegisterNode)
		if err != nil {
			return nil, err
		}
		return &Register{*r}, nil
	case *wire.ControllerRequest_Heartbeat:
		return &Heartbeat{*wire.ToHeartbeat(q.Heartbeat)}, nil
	case *wire.ControllerRequest_Suspicion:
		return &Suspect{*wire.ToSuspicion(q.Suspicion)}, nil
	case *wire.ControllerRequest_AlterPartitions:
		c := &AlterPartitions{Node: messages.NodeID(q.AlterPartitions.GetNodeId()),
			Epoch: messages.NodeEpoch(q.AlterPartitions.GetEpoch())}
		c.Proposals, err = wire.ToAlterPartitions(q.AlterPartitions)
		return c, err
	case *wire.ControllerRequest_ElectLeaders:
		c := &ElectLeaders{}
		c.Type, c.Partitions, err = wire.ToElectLeaders(q.ElectLeaders)
		return c, err
	case *wire.ControllerRequest_Reassign:
		c := &Reassign{}
		c.Reqs, err = wire.ToReassign(q.Reassign)
		return c, err
	case *wire.ControllerRequest_UnregisterNode:
		return &Unregister{messages.NodeID(q.UnregisterNode.GetNodeId())}, nil
	}
	return nil, fmt.Errorf("the controller is of an older version: %w", wire.ErrUnsupported)
}

// EncodeAnswer returns the wire form of the answer to the request of that id.
func EncodeAnswer(id uint64, a *Answer) *wire.ControllerResponse {
	w := &wire.ControllerResponse{RequestId: id, Version: int64(a.Version)}
	switch {
	case a.Err != nil:
		w.Error = wire.FromError(a.Err)
	case a.Topics != nil:
		w.Result = &wire.ControllerResponse_Topics{Topics: wire.FromTopicResults(a.Topics)}
	case a.Errs != nil:
		w.Result = &wire.ControllerResponse_Errors{Errors: wire.FromErrors(a.Errs)}
	case a.Snapshot != nil:
		w.Result = &wire.ControllerResponse_Metadata{Metadata: wire.FromDelta(a.Snapshot)}
	case a.Heartbeat != nil:
		w.Result = &wire.ControllerResponse_Heartbeat{
			Heartbeat: wire.FromHeartbeatReply(a.Heartbeat)}
	case a.Partitions != nil:
		w.Result = &wire.ControllerResponse_Partitions{
			Partitions: wire.FromPartitionResults(a.Partitions)}
	case a.FirstID != messages.NoProducerID:
		w.Result = &wire.ControllerResponse_ProducerIds{ProducerIds: &wire.ProducerIdBlock{
			FirstId: int64(a.FirstID), Count: topics.ProducerIDBlock}}
	}
	return w
}

// DecodeAnswer reads what EncodeAnswer wrote. An answer that cannot be read is
// one with an error.
func DecodeAnswer(w *wire.ControllerResponse) *Answer {
	a := &Answer{Version: messages.MetadataVersion(w.GetVersion()), FirstID: messages.NoProducerID,
		Err: wire.ToError(w.GetError())}
	var err error
	switch r := w.GetResult().(type) {
	case *wire.ControllerResponse_Topics:
		a.Topics, err = wire.ToTopicResults(r.Topics)
	case *wire.ControllerResponse_Errors:
		a.Errs = wire.ToErrors(r.Errors)
	case *wire.ControllerResponse_Metadata:
		a.Snapshot, err = wire.ToDelta(r.Metadata)
	case *wire.ControllerResponse_Heartbeat:
		a.Heartbeat, err = wire.ToHeartbeatReply(r.Heartbeat)
	case *wire.ControllerResponse_Partitions:
		a.Partitions, err = wire.ToPartitionResults(r.Partitions)
	case *wire.ControllerResponse_ProducerIds:
		a.FirstID = messages.ProducerID(r.ProducerIds.GetFirstId())
	}
	if err != nil {
		a.Err = fmt.Errorf("the controller's answer: %w", err)
	}
	return a
}
