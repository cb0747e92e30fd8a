package commitlog

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// epochFile is the name of the file that holds the epochs, in Kafka's format.
const epochFile = "leader-epoch-checkpoint"

// EpochStart says that the records from Start on were written under Epoch, up
// to the start of the next one.
type EpochStart struct {
	Epoch messages.LeaderEpoch
	Start messages.Offset
}

// epochList is the history of a partition's leader epochs: both fields grow
// from entry to entry. It is immutable: methods return new lists.
type epochList []EpochStart

// latest returns the newest epoch, NoEpoch when there is none.
func (l epochList) latest() messages.LeaderEpoch {
	if len(l) == 0 {
		return messages.NoEpoch
	}
	return l[len(l)-1].Epoch
}

// assign begins an epoch. Entries it contradicts go: those that begin at or
// behind its start (they never had a record) and those of later epochs.
func (l epochList) assign(e EpochStart) epochList {
	keep := len(l)
	for keep > 0 && (l[keep-1].Epoch >= e.Epoch || l[keep-1].Start >= e.Start) {
		keep--
	}
	return append(l[:keep:keep], e)
}

// truncateEnd forgets the epochs that begin at or behind end.
func (l epochList) truncateEnd(end messages.Offset) epochList {
	i := sort.Search(len(l), func(i int) bool { return l[i].Start >= end })
	return l[:i:i]
}

// truncateStart forgets the epochs that end at or below start. The one that
// holds start, or ends the list, then begins there.
func (l epochList) truncateStart(start messages.Offset) epochList {
	i := sort.Search(len(l), func(i int) bool { return l[i].Start > start })
	if i == 0 || (i == 1 && l[0].Start == start) {
		return l
	}
	rest := append(epochList(nil), l[i-1:]...)
	rest[0].Start = start
	return rest
}

// at returns the epoch of the record at offset, NoEpoch if it is before all.
func (l epochList) at(offset messages.Offset) messages.LeaderEpoch {
	i := sort.Search(len(l), func(i int) bool { return l[i].Start > offset })
	if i == 0 {
		return messages.NoEpoch
	}
	return l[i-1].Epoch
}

// end answers OffsetForLeaderEpoch (KIP-101): the largest epoch known that is
// not above the asked one, and the first offset after it. For the latest epoch
// that is the log end; below the first known epoch it is where that begins; for
// an epoch above the latest, or none, both are unknown (-1).
func (l epochList) end(asked messages.LeaderEpoch, logEnd messages.Offset) data.EpochEnd {
	unknown := data.EpochEnd{Epoch: messages.NoEpoch, End: messages.NoOffset}
	if asked == messages.NoEpoch || len(l) == 0 || asked > l.latest() {
		return unknown
	}
	if asked == l.latest() {
		return data.EpochEnd{Epoch: asked, End: logEnd}
	}
	i := sort.Search(len(l), func(i int) bool { return l[i].Epoch > asked })
	if i == 0 {
		return data.EpochEnd{Epoch: asked, End: l[0].Start}
	}
	return data.EpochEnd{Epoch: l[i-1].Epoch, End: l[i].Start}
}

// encode returns the content of the epoch file: a version, the number of
// entries, and one line each.
func (l epochList) encode() []byte {
	b := fmt.Appendf(nil, "0\n%d\n", len(l))
	for _, e := range l {
		b = fmt.Appendf(b, "%d %d\n", e.Epoch, e.Start)
	}
	return b
}

// decodeEpochs reads what encode wrote.
func decodeEpochs(b []byte) (epochList, error) {
	lines, err := checkpointLines(b)
	if err != nil {
		return nil, err
	}
	l := make(epochList, 0, len(lines))
	last := EpochStart{Epoch: -1, Start: -1}
	for _, line := range lines {
		epoch, start, ok := strings.Cut(line, " ")
		e, err1 := strconv.ParseInt(epoch, 10, 32)
		s, err2 := strconv.ParseInt(start, 10, 64)
		next := EpochStart{messages.LeaderEpoch(e), messages.Offset(s)}
		if !ok || err1 != nil || err2 != nil || next.Epoch <= last.Epoch || next.Start <= last.Start {
			return nil, fmt.Errorf("line %q is not the start of a later epoch", line)
		}
		l = append(l, next)
		last = next
	}
	return l, nil
}
