package control

import (
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
)

// step is a metadata version and the replicas it waits for.
type step struct {
	version messages.MetadataVersion
	waiting map[messages.PartitionID]struct{}
	until   time.Time
}

// apply takes over metadata. It reports whether d follows what there is.
func (a *Agent) apply(now time.Time, d *messages.Delta, patience time.Duration) bool {
	old := a.image
	if old == nil {
		old = messages.NewImage()
	}
	next, ok := old.Apply(d)
	if !ok {
		return false
	}
	a.image = next
	a.out.Image(next)
	self := next.Node(a.self())
	if self == nil || self.Fenced || self.Epoch != a.epoch {
		a.fence(now, "the metadata says so")
	}
	if d.Snapshot {
		a.retireUnknown()
		a.out.Strays(next) // before anything starts: a folder may be of an earlier life of a topic
	}
	waiting := a.assign(old, d)
	if !d.Snapshot && d.NodeConfigs != nil {
		a.tellAll()
	}
	a.steps = append(a.steps, step{version: d.To, waiting: waiting, until: now.Add(patience)})
	a.settle()
	return true
}

// assign makes the replicas of this node follow d, and returns those that have
// yet to open.
func (a *Agent) assign(
	old *messages.Image, d *messages.Delta,
) map[messages.PartitionID]struct{} {
	waiting := map[messages.PartitionID]struct{}{}
	var start, gone []messages.PartitionID
	for _, t := range d.Topics {
		before := old.TopicByID(t.ID)
		for i := range t.Partitions {
			id := messages.PartitionID{Topic: t.ID, Partition: int32(i)}
			a.out.Moved(messages.TopicPartition{Topic: t.Name, Partition: int32(i)})
			switch runs := a.out.Runs(id); {
			case slices.Contains(t.Partitions[i].Replicas, a.self()):
				if runs {
					a.tell(id, t)
					continue
				}
				start = append(start, id)
				waiting[id] = struct{}{}
			case runs, before != nil && i < len(before.Partitions) &&
				slices.Contains(before.Partitions[i].Replicas, a.self()):
				// The controller took this replica away: it is not merely absent.
				gone = append(gone, id)
			}
		}
	}
	for _, id := range d.Removed {
		gone = append(gone, a.removed(old.TopicByID(id))...)
	}
	if len(start) > 0 {
		a.out.Start(start)
	}
	if len(gone) > 0 {
		a.out.Delete(gone)
	}
	return waiting
}

// removed returns the replicas of a deleted topic. Only an explicit deletion comes
// here: metadata that is merely absent never deletes data.
func (a *Agent) removed(t *messages.Topic) []messages.PartitionID {
	if t == nil {
		return nil
	}
	a.out.Dropped(t.Name)
	var ids []messages.PartitionID
	for i := range t.Partitions {
		if slices.Contains(t.Partitions[i].Replicas, a.self()) {
			ids = append(ids, messages.PartitionID{Topic: t.ID, Partition: int32(i)})
		}
	}
	return ids
}

// retireUnknown ends the replicas of which a snapshot knows nothing: their topic
// was deleted behind a gap. Their data is set aside by a later start.
func (a *Agent) retireUnknown() {
	var unknown []messages.PartitionID
	for _, id := range a.out.Replicas() {
		if a.image.Partition(id) == nil {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) > 0 {
		a.log.Warn().Int("replicas", len(unknown)).
			Msg("topics were deleted while this node did not hear of it; their data stays")
		a.out.Retire(unknown)
	}
}

// tell tells a replica how its partition stands. On a fenced node nothing leads.
//
// docs/flows/replication.md: leader 4.
func (a *Agent) tell(id messages.PartitionID, t *messages.Topic) {
	p := t.Partitions[id.Partition]
	if p.Leader == a.self() && !a.registered() {
		p.Leader = messages.NoNode
	}
	a.out.Assign(id, t, p)
}

func (a *Agent) tellAll() {
	for _, id := range a.out.Replicas() {
		if a.image.Partition(id) != nil {
			a.tell(id, a.image.TopicByID(id.Topic))
		}
	}
}

// Opened says that a replica has opened its log, or failed to for good.
func (a *Agent) Opened(id messages.PartitionID) {
	for i := range a.steps {
		delete(a.steps[i].waiting, id)
	}
	if !a.registered() && a.image != nil && a.image.Partition(id) != nil {
		a.tell(id, a.image.TopicByID(id.Topic))
	}
	a.settle()
}

func (a *Agent) patienceEnds(now time.Time) {
	for i := range a.steps {
		if s := &a.steps[i]; len(s.waiting) > 0 && !now.Before(s.until) {
			a.log.Warn().Int("replicas", len(s.waiting)).Int64("version", int64(s.version)).
				Msg("replicas are still opening")
			clear(s.waiting)
		}
	}
	a.settle()
}

// settle announces the versions that are in effect on this node, in order.
func (a *Agent) settle() {
	for len(a.steps) > 0 && len(a.steps[0].waiting) == 0 {
		a.out.Applied(a.steps[0].version)
		a.steps = a.steps[1:]
	}
}
