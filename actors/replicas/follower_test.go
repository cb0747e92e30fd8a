package replicas

import (
	"errors"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// epochLog is a log of which only the epochs of its records matter.
type epochLog struct {
	start  messages.Offset
	epochs []messages.LeaderEpoch // of the records from start on
}

func (l epochLog) Start() messages.Offset { return l.start }
func (l epochLog) End() messages.Offset   { return l.start + messages.Offset(len(l.epochs)) }

func (l epochLog) EpochAt(o messages.Offset) messages.LeaderEpoch { return l.epochs[o-l.start] }

func (l epochLog) EpochEnd(asked messages.LeaderEpoch) data.EpochEnd {
	out := data.EpochEnd{Epoch: messages.NoEpoch, End: messages.NoOffset}
	for i, e := range l.epochs {
		if e <= asked {
			out = data.EpochEnd{Epoch: e, End: l.start + messages.Offset(i) + 1}
		} else if out.Epoch == messages.NoEpoch {
			return data.EpochEnd{Epoch: asked, End: l.start}
		}
	}
	if len(l.epochs) > 0 && asked > slices.Max(l.epochs) {
		return data.EpochEnd{Epoch: messages.NoEpoch, End: messages.NoOffset}
	}
	return out
}

func (l epochLog) cut(to messages.Offset) epochLog {
	return epochLog{l.start, l.epochs[:to-l.start]}
}

func ofEpochs(epochs ...messages.LeaderEpoch) epochLog { return epochLog{0, epochs} }

func following(epoch messages.LeaderEpoch) *Follower {
	return NewFollower(2, &messages.Partition{Leader: 1, LeaderEpoch: epoch}, 0)
}

// answer is what a leader with that log answers, as the leader's face does.
func answer(
	leader epochLog, epoch messages.LeaderEpoch, q *data.ReplicaFetch,
) *data.ReplicaFetched {
	r := &data.ReplicaFetched{LeaderEpoch: epoch, LogStart: leader.Start(), LogEnd: leader.End()}
	if q.LastEpoch != messages.NoEpoch {
		ours := leader.EpochEnd(q.LastEpoch)
		if ours.Epoch == messages.NoEpoch {
			r.Err = messages.ErrOffsetOutOfRange
			return r
		}
		if Diverges(q.Offset, q.LastEpoch, ours) {
			r.Diverging = &ours
			return r
		}
	}
	r.Err = CheckFetchOffset(q.Offset, leader.Start(), leader.End())
	return r
}

// Whatever two logs of different histories look like, the follower ends up with
// a prefix of the leader's after finitely many requests, and drops no record that
// the leader has.
func TestAFollowerAgreesWithItsLeader(t *testing.T) {
	for _, tt := range []struct {
		name           string
		leader, before epochLog
		want           epochLog
	}{
		{"nothing to do", ofEpochs(0, 0, 1), ofEpochs(0, 0), ofEpochs(0, 0)},
		{"an empty log", ofEpochs(0, 0, 1), ofEpochs(), ofEpochs()},
		{"a tail that the leader never had", ofEpochs(0, 0, 2), ofEpochs(0, 0, 0, 0), ofEpochs(0, 0)},
		{"an epoch the leader does not know", ofEpochs(0, 0, 2), ofEpochs(0, 0, 1, 1), ofEpochs(0, 0)},
		{"histories that cross twice", ofEpochs(0, 0, 2, 2, 4), ofEpochs(0, 0, 0, 1, 3, 3),
			ofEpochs(0, 0)},
		{"no epoch in common", ofEpochs(5, 5), ofEpochs(3, 3, 3), epochLog{}},
		{"a leader that lost everything", ofEpochs(), ofEpochs(1, 1), epochLog{}},
		{"a log that ends before the leader's begins", epochLog{7, []messages.LeaderEpoch{4}},
			ofEpochs(1, 1), epochLog{start: 7}},
		{"a log that ends where the leader's begins", epochLog{2, []messages.LeaderEpoch{4}},
			ofEpochs(1, 1), ofEpochs(1, 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, log := following(9), tt.before
			for range 10 {
				q := f.Next(messages.PartitionID{}, 1, log, 1<<20)
				step := f.Answered(q, answer(tt.leader, 9, q), log)
				switch step.Kind {
				case Append:
					if !slices.Equal(log.epochs, tt.want.epochs) || log.start != tt.want.start {
						t.Fatalf("ends up with %v, want %v", log, tt.want)
					}
					return
				case Truncate:
					if step.To >= log.End() {
						t.Fatalf("truncation of %v to %d changes nothing", log, step.To)
					}
					log = log.cut(step.To)
				case Restart:
					log = epochLog{start: step.To}
				case Retry:
					t.Fatalf("retries: %v", step.Err)
				}
			}
			t.Fatalf("no end; the log is %v", log)
		})
	}
}

func TestAnswersThatChangeNothing(t *testing.T) {
	log := ofEpochs(1, 1)
	f := following(3)
	q := f.Next(messages.PartitionID{}, 1, log, 1<<20)
	for name, r := range map[string]*data.ReplicaFetched{
		"the leader moved":            {Err: messages.ErrNotLeader, LeaderEpoch: 3},
		"the follower's epoch is old": {Err: messages.ErrFencedLeaderEpoch, LeaderEpoch: 4},
		"the connection broke":        {Err: messages.ErrUnavailable},
		"an answer of another epoch":  {LeaderEpoch: 4},
	} {
		if step := f.Answered(q, r, log); step.Kind != Retry || step.Err == nil {
			t.Errorf("%s: %+v", name, step)
		}
	}
}

func TestAFollowerTakesOnlyWhatFollowsItsLog(t *testing.T) {
	f, log := following(3), ofEpochs(1, 1)
	batch := func(base messages.Offset, epoch messages.LeaderEpoch) []byte {
		b := record.NewBuilder(record.Compression{})
		b.Append(1, nil, []byte("v"))
		built, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		built.Stamp(base, epoch)
		return built.Bytes
	}
	flipped := batch(2, 3)
	flipped[len(flipped)-1] ^= 1
	for _, tt := range []struct {
		name    string
		records []byte
		want    int
		corrupt bool
	}{
		{"nothing", nil, 0, false},
		{"what comes next", slices.Concat(batch(2, 3), batch(3, 3)), 2, false},
		{"a gap that compaction left", batch(5, 3), 1, false},
		{"what it has already", batch(1, 3), 0, true},
		{"a batch of an epoch to come", batch(2, 4), 0, true},
		{"a flipped bit", flipped, 0, true},
		{"half a batch", batch(2, 3)[:40], 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := f.Accept(log, tt.records, nil)
			if len(got) != tt.want || (err != nil) != tt.corrupt {
				t.Errorf("%d batches, error %v", len(got), err)
			}
		})
	}
	if _, err := f.Accept(log, batch(1, 3), nil); !errors.Is(err, messages.ErrCorruptBatch) {
		t.Errorf("a batch out of place: %v", err)
	}
}

// After DeleteRecords the leader's log may begin inside a batch.
func TestAnEmptyLogBeginsWhereTheLeadersBatchDoes(t *testing.T) {
	b := record.NewBuilder(record.Compression{})
	for range 3 {
		b.Append(1, nil, []byte("v"))
	}
	built, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	built.Stamp(4, 1) // 4, 5, 6
	for _, tt := range []struct {
		name    string
		log     epochLog
		records []byte
		want    bool
	}{
		{"inside the batch", epochLog{start: 5}, built.Bytes, true},
		{"at its last record", epochLog{start: 6}, built.Bytes, true},
		{"at its first", epochLog{start: 4}, built.Bytes, false},
		{"behind it", epochLog{start: 7}, built.Bytes, false},
		{"a log that has records", epochLog{4, []messages.LeaderEpoch{1}}, built.Bytes, false},
		{"no records", epochLog{start: 5}, nil, false},
		{"half a batch", epochLog{start: 5}, built.Bytes[:40], false},
	} {
		base, ok := following(3).Begins(tt.log, tt.records)
		if ok != tt.want || ok && base != 4 {
			t.Errorf("%s: %d, %v", tt.name, base, ok)
		}
	}
}

func TestTheFollowersHighWatermark(t *testing.T) {
	f := following(3)
	f.Appended(10, 8)
	if f.HighWatermark() != 8 {
		t.Errorf("%d: a follower knows of no more than it has", f.HighWatermark())
	}
	f.Appended(5, 8)
	if f.HighWatermark() != 8 {
		t.Errorf("%d: a new leader that knows less does not lower it", f.HighWatermark())
	}
	if lost := f.Truncated(0, 8); lost != 0 || f.HighWatermark() != 8 {
		t.Errorf("lost %d, high watermark %d", lost, f.HighWatermark())
	}
	if lost := f.Truncated(0, 6); lost != 2 || f.HighWatermark() != 6 {
		t.Errorf("an unclean election: lost %d, high watermark %d", lost, f.HighWatermark())
	}
}
