package producers

import (
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// LastBatches says of every producer what a compaction must leave of it, so that
// the log can tell its next sequence: its last batch, or without one the marker of
// its epoch.
func (s *State) LastBatches() map[messages.ProducerID]data.LastBatch {
	last := make(map[messages.ProducerID]data.LastBatch, len(s.producers))
	for id, p := range s.producers { // any order: it fills a map
		b := data.LastBatch{Offset: messages.NoOffset, Epoch: p.epoch}
		if p.used > 0 {
			b.Offset = p.window[p.used-1].lastOffset
		}
		last[id] = b
	}
	return last
}
