package groups

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/primitive"
)

// commit decides an OffsetCommit. Several of them make one write.
func (g *Group) commit(now time.Time, r *group.Commit) {
	by := &committer{memberID: r.MemberID, instanceID: r.InstanceID, generation: r.Generation,
		epochs: r.Epochs}
	if err := g.mayCommit(now, by); err != nil {
		r.Refuse(err)
		return
	}
	kept, errs := g.acceptable(now, r.Offsets)
	if len(kept) == 0 {
		r.Reply(group.Committed{Errs: errs})
		return
	}
	records := g.offsetRecords(kept)
	done := func(_ time.Time, err error) {
		if err == nil {
			g.offsets.apply(messages.NoProducerID, kept)
		}
		r.Reply(outcome(err, errs))
	}
	if g.next != nil && g.next.commits {
		g.next.write.Records = append(g.next.write.Records, records...)
		g.next.done = append(g.next.done, done)
		return
	}
	g.write(records, done)
	g.next.commits = true
}

// txnCommit decides a TxnOffsetCommit.
func (g *Group) txnCommit(now time.Time, r *group.TxnCommit) {
	by := &committer{memberID: r.MemberID, instanceID: r.InstanceID, generation: r.Generation,
		txn: true}
	if err := g.mayCommit(now, by); err != nil {
		r.Refuse(err)
		return
	}
	kept, errs := g.acceptable(now, r.Offsets)
	if len(kept) == 0 {
		r.Reply(group.Committed{Errs: errs})
		return
	}
	w := coord.Write{Records: g.offsetRecords(kept), Producer: r.Producer, Epoch: r.Epoch,
		TransactionalID: r.TransactionalID}
	g.decide(w, func(_ time.Time, err error) {
		if err == nil {
			g.offsets.apply(r.Producer, kept)
		}
		r.Reply(outcome(err, errs))
	})
}

func outcome(err error, errs []error) group.Committed {
	if err != nil {
		return group.Committed{Err: err}
	}
	return group.Committed{Errs: errs}
}

// mayCommit says whether by may commit offsets. A committer that is no member may
// make a group of its own.
func (g *Group) mayCommit(now time.Time, by *committer) error {
	// Kafka has always let clients without a group commit, but not in transactions.
	if g.id == "" && by.txn || len(g.id) > primitive.MaxText {
		return fmt.Errorf("group id of %d bytes: %w", len(g.id), group.ErrInvalidGroupID)
	}
	if g.exists() {
		return g.members.mayCommit(now, by)
	}
	switch {
	case by.generation < 0:
		return nil
	case by.epochs:
		return fmt.Errorf("group %q: %w", g.id, group.ErrGroupNotFound)
	}
	return fmt.Errorf("group %q is not known, generation %d: %w", g.id, by.generation,
		group.ErrIllegalGeneration)
}

// acceptable returns the offsets that can be committed, complete, and the errors
// of all in their order; nil: there is no error.
func (g *Group) acceptable(now time.Time, asked []group.Offset) ([]group.Offset, []error) {
	cfg := g.cfg()
	kept := make([]group.Offset, 0, len(asked))
	var errs []error
	for i, o := range asked {
		if err := g.checkOffset(&cfg, &o); err != nil {
			if errs == nil {
				errs = make([]error, len(asked))
			}
			errs[i] = err
			continue
		}
		if o.CommitMs == messages.NoTimestamp {
			o.CommitMs = timestamp(now)
		}
		if o.TopicID.IsZero() {
			o.TopicID = cfg.topicID(o.Topic)
		}
		kept = append(kept, o)
	}
	return kept, errs
}

func (g *Group) checkOffset(cfg *Config, o *group.Offset) error {
	if len(o.Metadata) > min(cfg.OffsetMetadataMaxBytes, primitive.MaxText) {
		return fmt.Errorf("%s-%d: %d bytes of metadata, %d are allowed: %w", o.Topic, o.Partition,
			len(o.Metadata), cfg.OffsetMetadataMaxBytes, group.ErrMetadataTooLarge)
	}
	if len(o.Topic) > primitive.MaxText {
		return fmt.Errorf("topic of %d bytes: %w", len(o.Topic), messages.ErrInvalidTopic)
	}
	return nil
}

// topicID looks a topic up; zero: it is not known.
func (c *Config) topicID(name string) messages.TopicID {
	if c.Image == nil {
		return messages.TopicID{}
	}
	if t := c.Image().Topic(name); t != nil {
		return t.ID
	}
	return messages.TopicID{}
}

func (g *Group) offsetRecords(list []group.Offset) []coord.Record {
	records := make([]coord.Record, len(list))
	for i := range list {
		records[i] = offsetRecord(g.id, &list[i])
	}
	return records
}
