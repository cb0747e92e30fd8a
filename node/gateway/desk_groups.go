package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

// findCoordinator makes the internal topic if there is none, and waits for it.
func (d *desk) findCoordinator(ctx context.Context, w *wire.ClientFindCoordinator,
) *wire.ClientResponse {
	kind := coord.Group
	if w.GetTransaction() {
		kind = coord.Txn
	}
	if w.GetKey() == "" {
		return failed(fmt.Errorf("%w: the id of the %s is empty", messages.ErrInvalidRequest, kind))
	}
	n, err := door.FindCoordinator(ctx, d.cluster, d.coordinators, kind, w.GetKey())
	if err != nil {
		return failed(coordinatorError(err))
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_Coordinator{
		Coordinator: &wire.ClientCoordinator{NodeId: int32(n.ID)}}}
}

// groupHeartbeat is all that a member says. Its topics are known by their ids.
func (d *desk) groupHeartbeat(ctx context.Context, w who, wb *wire.ClientGroupHeartbeat,
) *wire.ClientResponse {
	id, beat, err := wire.ToConsumerHeartbeat(wb)
	if err != nil {
		return failed(invalid(err))
	}
	if text := door.HeartbeatFault(id, beat, true); text != "" {
		return failed(fmt.Errorf("%w: %s", messages.ErrInvalidRequest, text))
	}
	// The group keeps the list, and to a client in this process it may belong to the program.
	beat.Topics = slices.Clone(beat.Topics)
	image := d.cluster.Image()
	beat.ClientID, beat.ClientHost = w.clientID, door.ClientHost(w.host)
	for i := range beat.Owned {
		o := &beat.Owned[i]
		o.Name, o.Partitions = "", slices.Sorted(slices.Values(o.Partitions))
		if t := image.TopicByID(o.Topic); t != nil {
			o.Name = t.Name
		}
	}
	got := door.Await(ctx, d.askGroup, id,
		func(reply func(group.ConsumerHeartbeated)) coord.Request {
			b := *beat
			b.Reply = reply
			return &b
		})
	if got.Err != nil {
		return failed(coordinatorError(got.Err))
	}
	got.Assigned = named(d.cluster.Image(), got.Assigned)
	return &wire.ClientResponse{Result: &wire.ClientResponse_GroupHeartbeated{
		GroupHeartbeated: wire.FromConsumerHeartbeated(&got)}}
}

// named returns partitions with the names of their topics. What was deleted meanwhile
// has none and is left out.
func named(image *messages.Image, assigned []group.TopicPartitions) []group.TopicPartitions {
	var out []group.TopicPartitions
	for _, tp := range assigned {
		if t := image.TopicByID(tp.Topic); t != nil {
			tp.Name = t.Name
			out = append(out, tp)
		}
	}
	return out
}

// commitOffsets stores positions. Those of partitions that do not exist fail, the
// others are committed.
func (d *desk) commitOffsets(ctx context.Context, w *wire.ClientCommitOffsets,
) *wire.ClientResponse {
	id, commit, err := wire.ToCommit(w)
	if err != nil {
		return failed(invalid(err))
	}
	plan := d.planCommit(commit.Offsets)
	if len(plan.offsets) == 0 {
		return errorList(plan.errs)
	}
	commit.Offsets = plan.offsets
	return plan.answer(door.Await(ctx, d.askGroup, id,
		func(reply func(group.Committed)) coord.Request {
			c := *commit
			c.Reply = reply
			return &c
		}))
}

// commitPlan is what is to be committed of a request.
type commitPlan struct {
	errs    []error // of all positions
	offsets []group.Offset
	at      []int // where the error of each of offsets belongs
}

func (d *desk) planCommit(offsets []group.Offset) commitPlan {
	image := d.cluster.Image()
	p := commitPlan{errs: make([]error, len(offsets))}
	for i, o := range offsets {
		t, err := partitionOf(image, o.Topic, o.TopicID, o.Partition)
		if err == nil && o.Offset < 0 {
			err = fmt.Errorf("%w: offset %d of %s-%d", messages.ErrInvalidRequest, o.Offset, t.Name,
				o.Partition)
		}
		if err != nil {
			p.errs[i] = err
			continue
		}
		o.TopicID, o.Topic = t.ID, t.Name
		p.offsets, p.at = append(p.offsets, o), append(p.at, i)
	}
	return p
}

func (p *commitPlan) answer(done group.Committed) *wire.ClientResponse {
	if done.Err != nil {
		return failed(coordinatorError(done.Err))
	}
	for i, at := range p.at {
		p.errs[at] = coordinatorError(door.ErrorAt(nil, done.Errs, i))
	}
	return errorList(p.errs)
}

// partitionOf returns the topic of a partition that exists. With an id that topic is
// meant, whatever has its name now.
func partitionOf(image *messages.Image, topic string, id messages.TopicID, index int32,
) (*messages.Topic, error) {
	t := image.Topic(topic)
	switch {
	case !id.IsZero() && (t == nil || t.ID != id):
		return nil, fmt.Errorf("topic %q of id %s: %w", topic, id, messages.ErrUnknownTopicID)
	case t == nil || index < 0 || int(index) >= len(t.Partitions):
		return nil, fmt.Errorf("%q-%d: %w", topic, index, messages.ErrUnknownTopicOrPartition)
	}
	return t, nil
}

// fetchOffsets answers every partition asked for; one without a commit, and one of a
// group that does not exist, has offset -1.
func (d *desk) fetchOffsets(ctx context.Context, w *wire.ClientFetchOffsets) *wire.ClientResponse {
	id, fetch := wire.ToFetchOffsets(w)
	all := fetch.Partitions == nil
	var got group.Fetched
	if all || len(fetch.Partitions) > 0 {
		got = door.Await(ctx, d.askGroup, id, func(reply func(group.Fetched)) coord.Request {
			f := *fetch
			f.Reply = reply
			return &f
		})
	}
	switch {
	case got.Err != nil:
		return failed(coordinatorError(got.Err))
	case !all && len(got.Offsets) != len(fetch.Partitions):
		return failed(fmt.Errorf("coordinator answered %d of %d offsets", len(got.Offsets),
			len(fetch.Partitions)))
	}
	image := d.cluster.Image()
	offsets := slices.Clone(got.Offsets)
	for i := range offsets {
		o := &offsets[i]
		o.Err = coordinatorError(o.Err)
		if t := image.Topic(o.Topic); t != nil {
			o.TopicID = t.ID
		}
	}
	if all {
		slices.SortStableFunc(offsets, func(a, b group.FetchedOffset) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_FetchedOffsets{
		FetchedOffsets: wire.FromFetched(offsets)}}
}

// listGroups answers what this node coordinates. While a part of it is being loaded the
// answer has those that are known, and messages.ErrCoordinatorLoading.
func (d *desk) listGroups(ctx context.Context) *wire.ClientResponse {
	listed, err := d.coordinators.Groups(ctx)
	if err != nil && !isAny(err, messages.ErrCoordinatorLoading) {
		return failed(coordinatorError(err))
	}
	listed = slices.DeleteFunc(slices.Clone(listed), func(l group.Listed) bool {
		return l.State == group.Dead
	})
	resp := &wire.ClientResponse{Result: &wire.ClientResponse_Groups{Groups: wire.FromListed(listed)}}
	if err != nil {
		resp.Error = wire.FromError(err)
	}
	return resp
}

// describeGroup describes groups of both types. A dead one does not exist.
func (d *desk) describeGroup(ctx context.Context, w *wire.ClientDescribeGroup,
) *wire.ClientResponse {
	id := w.GetGroup()
	got := door.Await(ctx, d.askGroup, id, func(reply func(group.Description)) coord.Request {
		return &group.Describe{Reply: reply}
	})
	if got.Err == nil && got.State == group.Dead {
		got.Err = fmt.Errorf("group %q: %w", id, group.ErrGroupNotFound)
	}
	if got.Err != nil {
		return failed(coordinatorError(got.Err))
	}
	got.GroupID = id
	image := d.cluster.Image()
	got.Members = slices.Clone(got.Members)
	for i := range got.Members {
		got.Members[i].Assigned = named(image, got.Members[i].Assigned)
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_Group{Group: wire.FromDescription(&got)}}
}

func (d *desk) deleteGroup(ctx context.Context, w *wire.ClientDeleteGroup) *wire.ClientResponse {
	err := door.Await(ctx, d.askGroup, w.GetGroup(), func(reply func(error)) coord.Request {
		return &group.Delete{Reply: reply}
	})
	if err != nil {
		return failed(coordinatorError(err))
	}
	return &wire.ClientResponse{}
}

// deleteOffsets forgets positions. A partition that does not exist, and one that a
// member reads, keeps its position.
func (d *desk) deleteOffsets(ctx context.Context, w *wire.ClientDeleteOffsets,
) *wire.ClientResponse {
	id, partitions := wire.ToDeleteOffsets(w)
	image := d.cluster.Image()
	plan := commitPlan{errs: make([]error, len(partitions))}
	var asked []messages.TopicPartition
	for i, tp := range partitions {
		_, err := partitionOf(image, tp.Topic, messages.TopicID{}, tp.Partition)
		if plan.errs[i] = err; err == nil {
			asked, plan.at = append(asked, tp), append(plan.at, i)
		}
	}
	if len(asked) == 0 {
		return errorList(plan.errs)
	}
	return plan.answer(door.Await(ctx, d.askGroup, id,
		func(reply func(group.Committed)) coord.Request {
			return &group.DeleteOffsets{Partitions: asked, Reply: reply}
		}))
}
