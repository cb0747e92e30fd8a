package producers

import "github.com/troupelog/troupe/messages"

// LastBatch is the newest that a partition knows of a producer.
type LastBatch struct {
	Offset messages.Offset // of the last record of its last batch; NoOffset: a marker came last
	Epoch  messages.ProducerEpoch
}

// LastBatches says of every producer what a compaction must leave of it, so that
// the log can tell its next sequence: its last batch, or without one the marker of
// its epoch.
func (s *State) LastBatches() map[messages.ProducerID]LastBatch {
	last := make(map[messages.ProducerID]LastBatch, len(s.producers))
	for id, p := range s.producers { // any order: it fills a map
		b := LastBatch{Offset: messages.NoOffset, Epoch: p.epoch}
		if p.used > 0 {
			b.Offset = p.window[p.used-1].lastOffset
		}
		last[id] = b
	}
	return last
}
