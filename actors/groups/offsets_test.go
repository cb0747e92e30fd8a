package groups

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

var t0 = messages.TopicPartition{Topic: "t", Partition: 0}

func TestWhoMayCommit(t *testing.T) {
	const none, others = "no group", "a group without members"
	for _, tt := range []struct {
		name       string
		state      string
		id         string
		instance   string
		generation int32
		epochs     bool
		want       error
		txn        error // of a TxnOffsetCommit, which does not look at rebalances
	}{
		{"nobody makes a simple group", none, "", "", -1, false, nil, nil},
		{"a member of a group that is not known", none, "a", "", 3, false,
			group.ErrIllegalGeneration, group.ErrIllegalGeneration},
		{"... to a client of v9", none, "a", "", 3, true, group.ErrGroupNotFound,
			group.ErrIllegalGeneration},
		{"nobody in an empty group", others, "", "", -1, false, nil, nil},
		{"a member in an empty group", others, "a", "", 1, false, group.ErrUnknownMember,
			group.ErrUnknownMember},
		{"nobody in a stable group", "Stable", "", "", -1, false, group.ErrUnknownMember, nil},
		{"a stranger", "Stable", "x", "", 2, false, group.ErrUnknownMember, group.ErrUnknownMember},
		{"a member", "Stable", "a", "", 2, false, nil, nil},
		{"a wrong generation", "Stable", "a", "", 1, false, group.ErrIllegalGeneration,
			group.ErrIllegalGeneration},
		{"a member without a generation", "Stable", "a", "", -1, false, group.ErrIllegalGeneration,
			group.ErrIllegalGeneration},
		{"an unknown instance", "Stable", "a", "i", 2, false, group.ErrUnknownMember,
			group.ErrUnknownMember},
		{"another's instance", "Stable", "a", "s", 2, false, group.ErrFencedInstance,
			group.ErrFencedInstance},
		{"before the assignment is known", "CompletingRebalance", "a", "", 3, false,
			group.ErrRebalanceInProgress, nil},
		{"before the member joins again", "PreparingRebalance", "a", "", 2, false, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := inState(t, tt.state)
			b := &box[group.Committed]{}
			w.do(&group.Commit{MemberID: tt.id, InstanceID: tt.instance, Generation: tt.generation,
				Epochs: tt.epochs, Offsets: []group.Offset{at("t", 0, 5)}, Reply: b.put})
			wantErr(t, b.one(t).Err, tt.want)
			want := messages.NoOffset
			if tt.want == nil {
				want = 5
			}
			if got := w.offset("t", 0); got != want {
				t.Errorf("offset %d, want %d", got, want)
			}
			w = inState(t, tt.state)
			b = &box[group.Committed]{}
			w.do(&group.TxnCommit{Producer: 1, MemberID: tt.id, InstanceID: tt.instance,
				Generation: tt.generation, Offsets: []group.Offset{at("t", 0, 5)}, Reply: b.put})
			wantErr(t, b.one(t).Err, tt.txn)
		})
	}
}

// inState is a group of a, and the static s of instance s, that has come there.
func inState(t *testing.T, state string) *world {
	w := newWorld(t)
	if state == "no group" {
		return w
	}
	w.join("s0", static("s"))
	w.sync("s0", 1, nil)
	a := w.join("a")
	w.join("s", static("s"))
	g := a.one(t).Generation
	w.sync("a", g, nil)
	w.sync("s", g, nil)
	switch state {
	case "a group without members":
		w.leave(group.Leaving{MemberID: "a"}, group.Leaving{MemberID: "s"})
		w.wantState(group.Empty)
		return w
	case "CompletingRebalance":
		w.join("", as("s"), static("s"))
		w.join("", as("a"))
	case "PreparingRebalance":
		w.join("", as("s"), static("s"))
	}
	w.wantState(group.State(state))
	return w
}

func TestACommitKeepsItsMemberAlive(t *testing.T) {
	w := newWorld(t)
	generation := w.stable("a")
	for range 5 {
		w.advance(9 * time.Second)
		if c := w.commit("a", generation, at("t", 0, 1)); c.Err != nil {
			t.Fatal(c.Err)
		}
	}
}

func TestOffsetsComeBackAsTheyWereCommitted(t *testing.T) {
	w := newWorld(t)
	o := at("t", 3, 77)
	o.Epoch, o.Metadata, o.TopicID = 4, "where I was", idExample
	w.commitSimple(o, at("t", 0, 5))
	o.CommitMs = timestamp(w.now)
	for _, loaded := range []bool{false, true} {
		if loaded {
			w.failOver()
		}
		got := w.fetch(false, messages.TopicPartition{Topic: "t", Partition: 3},
			messages.TopicPartition{Topic: "u", Partition: 9}, t0)
		none := at("u", 9, messages.NoOffset)
		if got[0].Offset != o || got[1].Offset != none || got[1].Err != nil ||
			got[2].Offset.Offset != 5 {
			t.Fatalf("%+v", got)
		}
		if all := w.fetch(false); len(all) != 2 || all[0].Partition != 0 || all[1].Offset != o {
			t.Fatalf("all: %+v", all)
		}
	}
}

func TestNothingIsFetchedFromAnUnknownGroup(t *testing.T) {
	w := newWorld(t)
	if got := w.fetch(true, t0); got[0].Err != nil || got[0].Offset != at("t", 0, -1) {
		t.Fatalf("%+v", got)
	}
	if got := w.fetch(true); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	b := &box[group.Fetched]{}
	w.do(&group.FetchOffsets{Partitions: []messages.TopicPartition{}, Reply: b.put})
	if f := b.one(t); f.Err != nil || len(f.Offsets) != 0 {
		t.Fatalf("%+v", f)
	}
}

func TestMetadataThatIsTooLongFailsItsPartitionAlone(t *testing.T) {
	w := newWorld(t)
	long := at("t", 0, 1)
	long.Metadata = strings.Repeat("x", 4097)
	just := at("t", 1, 1)
	just.Metadata = strings.Repeat("x", 4096)
	for _, txn := range []bool{false, true} {
		var c group.Committed
		if txn {
			c = w.txnCommit(1, long, just)
		} else {
			c = w.commit("", -1, long, just)
		}
		wantErr(t, c.Err, nil)
		wantErr(t, c.Errs[0], group.ErrMetadataTooLarge)
		wantErr(t, c.Errs[1], nil)
	}
	if w.offset("t", 0) != -1 || w.offset("t", 1) != 1 {
		t.Fatal("the wrong one was committed")
	}
	records := len(w.log)
	c := w.commit("", -1, long)
	wantErr(t, c.Errs[0], group.ErrMetadataTooLarge)
	wantErr(t, w.txnCommit(1, long).Errs[0], group.ErrMetadataTooLarge)
	unnamed := at(strings.Repeat("x", 40000), 0, 1)
	wantErr(t, w.commit("", -1, unnamed).Errs[0], messages.ErrInvalidTopic)
	if len(w.log) != records {
		t.Fatal("a record was written")
	}
	w.cfg.OffsetMetadataMaxBytes = 100000 // no record can hold that
	long.Metadata = strings.Repeat("x", 50000)
	wantErr(t, w.commit("", -1, long).Errs[0], group.ErrMetadataTooLarge)
}

func TestCommitsThatComeTogetherMakeOneWrite(t *testing.T) {
	w := newWorld(t)
	var boxes [3]box[group.Committed]
	for i := range boxes {
		w.g.Handle(w.now, &group.Commit{Generation: -1, Reply: boxes[i].put,
			Offsets: []group.Offset{at("t", 0, messages.Offset(i)), at("t", int32(i+1), 9)}})
	}
	write := w.g.TakeWrite()
	if len(write.Records) != 6 || !boxes[0].waits() || w.g.TakeWrite() != nil ||
		write.Producer != messages.NoProducerID {
		t.Fatalf("%+v", write)
	}
	if w.offset0() != -1 {
		t.Fatal("an offset shows before it is durable")
	}
	write.Done(w.now, nil)
	for i := range boxes {
		wantErr(t, boxes[i].one(t).Err, nil)
	}
	if w.offset("t", 0) != 2 {
		t.Fatal("the last one does not count")
	}
}

// offset0 looks into the group, which may be asked nothing while it writes.
func (w *world) offset0() messages.Offset {
	if o, ok := w.g.offsets.committed[t0]; ok {
		return o.Offset.Offset
	}
	return messages.NoOffset
}

func TestACommitThatIsNotDurableDoesNotShow(t *testing.T) {
	w := newWorld(t)
	w.commitSimple(at("t", 0, 1))
	w.fail = messages.ErrUnavailable
	wantErr(t, w.commit("", -1, at("t", 0, 2)).Err, messages.ErrUnavailable)
	wantErr(t, w.txnCommit(1, at("t", 0, 3)).Err, messages.ErrUnavailable)
	if w.offset("t", 0) != 1 || len(w.g.PendingProducers()) != 0 {
		t.Fatal("it shows")
	}
}

func TestWhatATransactionCommits(t *testing.T) {
	w := newWorld(t)
	w.commitSimple(at("t", 0, 1))
	write := func() *coord.Write {
		w.g.Handle(w.now, &group.TxnCommit{Producer: 7, Epoch: 2, Generation: -1,
			Offsets: []group.Offset{at("t", 0, 10)}, Reply: func(group.Committed) {}})
		return w.g.TakeWrite()
	}()
	if write.Producer != 7 || write.Epoch != 2 {
		t.Fatalf("%+v", write)
	}
	write.Done(w.now, nil)
	if w.offset("t", 0) != 1 {
		t.Fatal("a pending offset shows")
	}
	got := w.fetch(true, t0, messages.TopicPartition{Topic: "t", Partition: 1})
	wantErr(t, got[0].Err, group.ErrUnstableOffset)
	wantErr(t, got[1].Err, nil)
	w.do(&group.TxnEnded{Producer: 7, Commit: false})
	if w.offset("t", 0) != 1 || len(w.g.PendingProducers()) != 0 {
		t.Fatal("an aborted offset shows")
	}
	w.txnCommit(8, at("t", 0, 20))
	w.endTxn(9, true) // another's
	if w.offset("t", 0) != 1 {
		t.Fatal("the wrong transaction ended")
	}
	w.endTxn(8, true)
	if got := w.fetch(true, t0)[0]; got.Err != nil || got.Offset.Offset != 20 {
		t.Fatalf("%+v", got)
	}
}

func TestTheLaterRecordCountsWhenATransactionEnds(t *testing.T) {
	for _, plainLast := range []bool{true, false} {
		w := newWorld(t)
		if !plainLast {
			w.commitSimple(at("t", 0, 1))
		}
		w.txnCommit(1, at("t", 0, 10))
		if plainLast {
			w.commitSimple(at("t", 0, 1))
		}
		w.endTxn(1, true)
		want := messages.Offset(10)
		if plainLast {
			want = 1
		}
		if got := w.offset("t", 0); got != want {
			t.Errorf("plain commit last: %v: offset %d, want %d", plainLast, got, want)
		}
		w.failOver()
		if got := w.offset("t", 0); got != want {
			t.Errorf("loaded: plain commit last: %v: offset %d, want %d", plainLast, got, want)
		}
	}
}

func TestPendingOffsetsSurviveALoad(t *testing.T) {
	w := newWorld(t)
	w.txnCommit(5, at("t", 0, 10))
	w.txnCommit(3, at("t", 0, 11), at("t", 1, 4))
	w.failOver()
	if p := w.g.PendingProducers(); len(p) != 2 || p[0] != 3 || p[1] != 5 || w.g.Empty() {
		t.Fatalf("pending: %v", p)
	}
	w.endTxn(3, true)
	wantErr(t, w.fetch(true, t0)[0].Err, group.ErrUnstableOffset)
	w.endTxn(5, true)
	if w.offset("t", 0) != 11 || w.offset("t", 1) != 4 { // that of 3 is the later record
		t.Fatalf("%v", w.fetch(false))
	}
}

func TestDeletingOffsets(t *testing.T) {
	del := func(w *world, tps ...messages.TopicPartition) group.Committed {
		b := &box[group.Committed]{}
		w.do(&group.DeleteOffsets{Partitions: tps, Reply: b.put})
		return b.one(t)
	}
	w := newWorld(t)
	wantErr(t, del(w, t0).Err, group.ErrGroupNotFound)

	generation := w.stable("a") // it reads t
	w.commit("a", generation, at("t", 0, 1), at("u", 0, 2))
	w.txnCommit(1, at("u", 1, 3))
	u := func(n int32) messages.TopicPartition {
		return messages.TopicPartition{Topic: "u", Partition: n}
	}
	c := del(w, t0, u(0), u(1), u(2))
	wantErr(t, c.Err, nil)
	wantErr(t, c.Errs[0], group.ErrSubscribed)
	for _, err := range c.Errs[1:] {
		wantErr(t, err, nil)
	}
	if w.offset("t", 0) != 1 || w.offset("u", 0) != -1 || len(w.g.PendingProducers()) != 0 {
		t.Fatal("the wrong ones are gone")
	}
	if remembers(w.rebuilt()) != remembers(w.g) {
		t.Fatal("the tombstones are missing")
	}

	w = newWorld(t)
	opaque := w.join("a", func(r *group.Join) { r.ProtocolType = "connect" }).one(t)
	w.sync("a", opaque.Generation, nil)
	w.commit("a", opaque.Generation, at("t", 0, 1))
	wantErr(t, del(w, t0).Err, group.ErrNonEmptyGroup)

	w = newWorld(t)
	odd := w.join("a", knowing(group.Protocol{Name: "range", Metadata: []byte{1}})).one(t)
	w.sync("a", odd.Generation, nil)
	w.commit("a", odd.Generation, at("t", 0, 1))
	wantErr(t, del(w, t0).Errs[0], group.ErrSubscribed) // who knows what it reads

	w = newWorld(t)
	w.commitSimple(at("t", 0, 1))
	w.fail = messages.ErrUnavailable
	wantErr(t, del(w, t0).Err, messages.ErrUnavailable)
	if w.offset("t", 0) != 1 {
		t.Fatal("it is gone, and not durably")
	}
}

func TestOffsetsOfDeletedTopicsAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.commitSimple(at("t", 0, 1), at("u", 0, 2))
	w.txnCommit(1, at("t", 1, 3))
	w.do(&group.TopicsDeleted{Topics: []string{"t", "v"}})
	w.endTxn(1, true)
	if w.offset("t", 0) != -1 || w.offset("t", 1) != -1 || w.offset("u", 0) != 2 ||
		remembers(w.rebuilt()) != remembers(w.g) {
		t.Fatalf("%v", w.fetch(false))
	}
}

func TestAnOffsetDoesNotCountForATopicThatWasCreatedAgain(t *testing.T) {
	w := newWorld(t)
	image := func(id messages.TopicID) func() *messages.Image {
		im, _ := messages.NewImage().Apply(&messages.Delta{
			To: 1, Topics: []*messages.Topic{{ID: id, Name: "t"}},
		})
		return func() *messages.Image { return im }
	}
	w.cfg.Image = image(idExample)
	w.commitSimple(at("t", 0, 5), at("u", 0, 6)) // the first gets the id that t has
	if got := w.fetch(false, t0)[0]; got.TopicID != idExample || w.offset("u", 0) != 6 {
		t.Fatalf("%+v", got)
	}
	w.cfg.Image = image(messages.TopicID{7})
	if got := w.offset("t", 0); got != -1 {
		t.Fatalf("offset %d of the topic that was deleted", got)
	}
}

func TestDeletingAGroup(t *testing.T) {
	del := func(w *world) error {
		b := &box[error]{}
		w.do(&group.Delete{Reply: b.put})
		return b.one(t)
	}
	w := newWorld(t)
	wantErr(t, del(w), group.ErrGroupNotFound)
	generation := w.stable("a")
	w.commit("a", generation, at("t", 0, 1))
	wantErr(t, del(w), group.ErrNonEmptyGroup)
	w.leave(group.Leaving{MemberID: "a"})
	w.txnCommit(1, at("t", 1, 1), at("t", 0, 4))
	w.fail = messages.ErrUnavailable
	wantErr(t, del(w), messages.ErrUnavailable)
	if w.offset("t", 0) != 1 {
		t.Fatal("it is gone, and not durably")
	}
	w.fail = nil
	wantErr(t, del(w), nil)
	if !w.g.Empty() || !w.rebuilt().Empty() || !w.g.Due().IsZero() {
		t.Fatal("something is left")
	}
	w.endTxn(1, true)
	if !w.g.Empty() {
		t.Fatal("a transaction brought an offset back")
	}
	w.join("p", requireID)
	wantErr(t, del(w), nil) // nothing to write
	wantErr(t, w.join("", as("p")).one(t).Err, group.ErrUnknownMember)
}

func (w *world) wantErrDescribe(want error) {
	w.t.Helper()
	if d := w.describe(); !errors.Is(d.Err, want) || d.State != group.Dead || d.GroupID != groupID {
		w.t.Fatalf("%+v", d)
	}
}

func TestDescribeAndListSayWhatAGroupIs(t *testing.T) {
	listed := func(w *world) (group.Listed, bool) {
		var l group.Listed
		var found bool
		w.do(&group.List{Reply: func(a group.Listed, b bool) { l, found = a, b }})
		return l, found
	}
	w := newWorld(t)
	w.wantErrDescribe(group.ErrGroupNotFound)
	if _, found := listed(w); found {
		t.Fatal("a group that is not there is listed")
	}
	w.commitSimple(at("t", 0, 1))
	if d := w.describe(); d.Err != nil || !d.Simple || d.State != group.Empty || d.ProtocolType != "" {
		t.Fatalf("simple: %+v", d)
	}
	if l, found := listed(w); !found || l != (group.Listed{
		GroupID: groupID, State: group.Empty, Type: group.Classic,
	}) {
		t.Fatalf("simple: %+v", l)
	}
	w.stable("a")
	d := w.describe()
	if d.State != group.Stable || d.Protocol != "range" || d.ProtocolType != "consumer" || d.Simple ||
		d.Type != group.Classic || len(d.Members) != 1 {
		t.Fatalf("stable: %+v", d)
	}
	m := d.Members[0]
	if m.MemberID != "a" || m.ClientID != "client" || m.ClientHost != "/10.0.0.1" ||
		string(m.Metadata) != string(subscribe("t")) || string(m.Assignment) != "of a" {
		t.Fatalf("%+v", m)
	}
	if l, _ := listed(w); l.ProtocolType != "consumer" || l.State != group.Stable {
		t.Fatalf("%+v", l)
	}
	w.join("", as("a"))
	d = w.describe()
	if d.State != group.CompletingRebalance || d.Protocol != "" || d.Members[0].Metadata != nil ||
		d.Members[0].Assignment != nil {
		t.Fatalf("rebalancing: %+v", d)
	}
}
