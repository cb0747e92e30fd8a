package cursor

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func earliest() Start { return Start{ByTime: true, Value: Earliest} }

func ask(t *testing.T, c *Cursor) Ask {
	t.Helper()
	a, _, ok := c.Ask(noon)
	if !ok {
		t.Fatal("there is nothing to ask")
	}
	return a
}

func TestACommittedOffsetIsWhereReadingBegins(t *testing.T) {
	c := New(earliest())
	if _, at, ok := c.Ask(noon); ok || !at.IsZero() || !c.Uncommitted() {
		t.Fatal("it asks before it knows the committed offset")
	}
	c.Committed(7, 3)
	if a := ask(t, c); a.Search || a.Offset != 7 || a.Epoch != 3 {
		t.Errorf("asks %+v", a)
	}
	if _, _, ok := c.ToCommit(); ok {
		t.Error("what is committed is to be committed again")
	}
	c = New(Start{ByTime: true, Value: 77})
	c.Committed(-1, -1)
	a := ask(t, c)
	if !a.Search || a.Time != 77 {
		t.Errorf("asks %+v", a)
	}
	c.Found(a.Turn, -1) // no record is that late
	if a = ask(t, c); !a.Search || a.Time != Latest {
		t.Errorf("asks %+v", a)
	}
	c.Found(a.Turn, 12)
	if a = ask(t, c); a.Search || a.Offset != 12 || a.Epoch != -1 {
		t.Errorf("asks %+v", a)
	}
	if offset, _, ok := c.ToCommit(); !ok || offset != 12 {
		t.Error("where reading began is not committed")
	}
}

func TestASeekWinsOverACommittedOffset(t *testing.T) {
	c := New(earliest())
	if !c.Seek(Start{Value: 5}) {
		t.Error("an offset is to be searched")
	}
	c.Committed(9, 0)
	if a := ask(t, c); a.Offset != 5 {
		t.Errorf("asks %+v", a)
	}
}

func TestAnswersToEarlierQuestionsDoNotCount(t *testing.T) {
	c := New(earliest())
	c.Seek(Start{Value: 5})
	late := ask(t, c)
	c.Interrupt()
	now := ask(t, c)
	for _, turn := range []uint32{late.Turn, now.Turn + 1} {
		if o := c.Fetched(turn, Fetched{Next: 9}); o != Late {
			t.Errorf("outcome %v", o)
		}
		if o := c.Refused(turn, messages.ErrOffsetOutOfRange, noon); o != Late {
			t.Errorf("outcome %v", o)
		}
	}
	if o := c.Fetched(now.Turn, Fetched{Next: 6, Epoch: 2}); o != Kept {
		t.Errorf("outcome %v", o)
	}
	if o := c.Fetched(now.Turn, Fetched{Next: 7}); o != Late {
		t.Errorf("the same answer twice: %v", o)
	}
	if a := ask(t, c); a.Offset != 6 || a.Epoch != 2 {
		t.Errorf("asks %+v", a)
	}
}

func TestAnOffsetOutOfRangeIsLookedForWhereReadingStarts(t *testing.T) {
	for _, c := range []struct {
		start Start
		time  int64
	}{
		{earliest(), Earliest},
		{Start{ByTime: true, Value: Latest}, Latest},
		{Start{Value: 99}, Earliest},
		{Start{ByTime: true, Value: 1234}, 1234},
	} {
		cur := New(c.start)
		cur.Committed(50, 1)
		a := ask(t, cur)
		if o := cur.Refused(a.Turn, messages.ErrOffsetOutOfRange, noon); o != Moved {
			t.Fatalf("outcome %v", o)
		}
		if a = ask(t, cur); !a.Search || a.Time != c.time {
			t.Errorf("%+v: asks %+v", c.start, a)
		}
		cur.Found(a.Turn, 80)
		if cur.Position() != 80 {
			t.Errorf("position %d", cur.Position())
		}
		// And if that is gone, too, it does not go round and round without a break.
		a = ask(t, cur)
		cur.Refused(a.Turn, messages.ErrOffsetOutOfRange, noon)
		if _, at, ok := cur.Ask(noon); ok || !at.After(noon) {
			t.Error("it asks at once for the second time")
		}
	}
}

func TestFailuresAreFollowedByLongerAndLongerBreaks(t *testing.T) {
	c := New(earliest())
	c.Seek(Start{Value: 5})
	now, last := noon, time.Duration(0)
	for i := range 20 {
		a, _, ok := c.Ask(now)
		if !ok {
			t.Fatal("there is nothing to ask")
		}
		err, want := messages.ErrNotLeader, Again
		if i%2 == 1 {
			err, want = messages.ErrCorruptBatch, Broken
		}
		if o := c.Refused(a.Turn, err, now); o != want {
			t.Fatalf("outcome %v", o)
		}
		_, at, _ := c.Ask(now)
		wait := at.Sub(now)
		if wait < last || wait < backoffMin || wait > backoffMax {
			t.Fatalf("wait %v after %v", wait, last)
		}
		now, last = at, wait
	}
	if last != backoffMax {
		t.Errorf("the last wait is %v", last)
	}
	c.Interrupt() // there is another leader
	if _, _, ok := c.Ask(now.Add(-time.Hour)); !ok {
		t.Error("it waits for a leader that is gone")
	}
}

func TestALogThatWasCutIsReadFromItsNewEnd(t *testing.T) {
	c := New(earliest())
	c.Committed(10, 1)
	a := ask(t, c)
	c.Fetched(a.Turn, Fetched{Next: 30, Epoch: 1, High: 30})
	c.Given(20, 1, 20)
	c.Handled(15, 1)
	c.CommittedAs(15)
	a = ask(t, c)
	if o := c.Fetched(a.Turn, Fetched{Diverging: true, End: 18, EndEpoch: 1}); o != Moved {
		t.Fatalf("outcome %v", o)
	}
	if a = ask(t, c); a.Offset != 18 || c.Position() != 18 || !c.Open() {
		t.Errorf("asks %+v, position %d", a, c.Position())
	}
	if !c.Handled(17, 1) || c.Handled(20, 1) {
		t.Error("what was cut counts, or what was not does not")
	}
	c.Fetched(a.Turn, Fetched{Diverging: true, End: 12})
	if offset, _, ok := c.ToCommit(); !ok || offset != 12 {
		t.Errorf("to commit %d, %v", offset, ok)
	}
}

func TestMarkersBehindTheLastRecordAreHandledWithIt(t *testing.T) {
	c := New(earliest())
	c.Seek(Start{})
	a := ask(t, c)
	c.Fetched(a.Turn, Fetched{Next: 12, Epoch: 4})
	c.Given(11, 4, 10) // record 9, and a marker
	if !c.Open() || !c.Handled(10, 4) || c.Open() {
		t.Error("the marker is not handled with the record")
	}
	c.Given(12, 4, 0) // one more marker
	if offset, epoch, ok := c.ToCommit(); !ok || offset != 12 || epoch != 4 {
		t.Errorf("to commit %d, %d, %v", offset, epoch, ok)
	}
}

func TestDamagedRecordsAreFetchedAgainAfterABreak(t *testing.T) {
	c := New(earliest())
	c.Seek(Start{})
	a := ask(t, c)
	c.Fetched(a.Turn, Fetched{Next: 12})
	c.Given(5, 0, 5)
	c.Reread(noon)
	if _, at, ok := c.Ask(noon); ok || !at.After(noon) {
		t.Error("they are asked for at once")
	}
	if a, _, _ = c.Ask(noon.Add(time.Second)); a.Offset != 5 {
		t.Errorf("asks %+v", a)
	}
}

func TestLagIsWhatIsBehindTheRecordsThatWereTaken(t *testing.T) {
	c := New(earliest())
	if c.Lag() != 0 || c.Position() != -1 {
		t.Errorf("lag %d, position %d", c.Lag(), c.Position())
	}
	c.Seek(Start{})
	a := ask(t, c)
	c.Fetched(a.Turn, Fetched{Next: 12, High: 40})
	c.Given(12, 0, 12)
	if c.Lag() != 28 {
		t.Errorf("lag %d", c.Lag())
	}
}

// Whatever happens, positions stay in their order, and between two moves they do not
// fall; nothing is committed that was not handled.
func TestPositionsNeverFall(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := New(earliest())
		now := noon
		var a Ask
		var asked bool
		check := func(moved bool, before Cursor) {
			t.Helper()
			ordered := c.handled.offset <= c.given.offset && c.given.offset <= c.fetch.offset
			if c.state == reading && (!ordered || c.committed > c.handled.offset) {
				t.Fatalf("seed %d: %+v", seed, c)
			}
			fell := c.handled.offset < before.handled.offset || c.given.offset < before.given.offset ||
				c.fetch.offset < before.fetch.offset && !moved
			if !moved && before.state == reading && c.state == reading && fell {
				t.Fatalf("seed %d: %+v, before %+v", seed, c, before)
			}
		}
		for range 500 {
			before := *c
			moved := false
			switch r.IntN(10) {
			case 0:
				c.Committed(r.Int64N(100)-1, 0)
			case 1:
				if r.IntN(10) == 0 {
					c.Seek(Start{ByTime: r.IntN(2) == 0, Value: r.Int64N(200)})
					moved = true
				}
			case 2, 3:
				now = now.Add(time.Second)
				if next, _, ok := c.Ask(now); ok {
					a, asked = next, true
				}
			case 4:
				if asked && a.Search {
					c.Found(a.Turn, r.Int64N(200)-1)
					moved = true
				}
			case 5:
				if asked && !a.Search {
					f := Fetched{Next: a.Offset + r.Int64N(20), High: a.Offset + 20}
					if r.IntN(20) == 0 {
						f = Fetched{Diverging: true, End: r.Int64N(a.Offset + 1)}
					}
					moved = c.Fetched(a.Turn, f) == Moved
				}
			case 6:
				if asked && r.IntN(10) == 0 {
					moved = c.Refused(a.Turn, messages.ErrOffsetOutOfRange, now) == Moved
				}
			case 7:
				if n := c.fetch.offset - c.given.offset; c.state == reading && n > 0 {
					next := c.given.offset + 1 + r.Int64N(n)
					c.Given(next, 0, next-r.Int64N(2))
				}
			case 8:
				c.Handled(r.Int64N(300), 0)
			default:
				if offset, _, ok := c.ToCommit(); ok {
					c.CommittedAs(offset - r.Int64N(2))
				}
			}
			check(moved, before)
		}
	}
}
