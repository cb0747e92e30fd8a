package coordinator

import (
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
)

// gap is a log in which all that can be read was compacted away.
type gap struct {
	Partition
	hw, end messages.Offset
}

func (g *gap) Read(data.Read) data.ReadResult { return data.ReadResult{HighWatermark: g.hw} }
func (g *gap) Offsets() data.Offsets {
	return data.Offsets{HighWatermark: g.hw, LogEnd: g.end, Epoch: 1}
}

// There is nothing below the high watermark, and something above it: waiting for more
// than was read would be over at once, again and again.
func TestAReplayWaitsForMoreThanTheHighWatermark(t *testing.T) {
	log := &gap{hw: 6, end: 9}
	s := newShard(&Coordinators{}, shardKey{coord.Group, 0}, 1)
	l := &loading{s: s, log: log, r: newReplayer(sums{}), end: 9}
	if p, err := l.step(); p != loadWaits || err != nil || l.visible != 6 {
		t.Errorf("it goes on with %v until more than %d is visible (%v), want it to wait for more than 6",
			p, l.visible, err)
	}
	log.hw = 9
	if p, err := l.step(); p != loadDone || err != nil {
		t.Errorf("it goes on with %v (%v), and everything can be seen", p, err)
	}
}
