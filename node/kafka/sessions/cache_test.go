package sessions

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var start = time.Unix(1_000_000, 0)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func limits(sessions int) Limits {
	return Limits{Sessions: sessions, Partitions: 100, Total: 1000,
		Stale: 120 * time.Second, Idle: 600 * time.Second}
}

// add asks for room and takes it. It returns what made way, and whether there was room.
func add(c *Cache[int32], id int32, now time.Time, partitions int) ([]int32, bool) {
	evicted, ok := c.Room(now, partitions)
	if ok {
		c.Add(id, id, now, partitions)
	}
	return evicted, ok
}

func TestAFullCacheTakesNoSessionThatIsNotWorthMore(t *testing.T) {
	c := NewCache[int32](limits(2))
	add(c, 1, at(0), 10)
	add(c, 2, at(0), 20)
	for _, partitions := range []int{1, 10, 11, 100} {
		if evicted, ok := add(c, 3, at(100), partitions); ok || evicted != nil {
			t.Errorf("%d partitions pushed %v out, which was young and in use", partitions, evicted)
		}
	}
	if n, parts := c.Len(); n != 2 || parts != 30 {
		t.Errorf("%d sessions with %d partitions", n, parts)
	}
}

func TestASessionThatIsNotUsedMakesWayForAny(t *testing.T) {
	c := NewCache[int32](limits(2))
	add(c, 1, at(0), 10)
	add(c, 2, at(0), 10)
	c.Used(1, at(50), 10)
	if _, ok := add(c, 3, at(120), 1); ok {
		t.Fatal("a session made way that was not used for 120 s, and not longer")
	}
	evicted, ok := add(c, 3, at(121), 1)
	if !ok || !slices.Equal(evicted, []int32{2}) {
		t.Fatalf("%v made way", evicted)
	}
}

func TestTheSmallestOfLongUsedSessionsMakesWayForALarger(t *testing.T) {
	c := NewCache[int32](limits(3))
	add(c, 1, at(0), 10)
	add(c, 2, at(0), 5)
	add(c, 3, at(0), 1)
	c.Used(1, at(130), 10)
	c.Used(2, at(130), 5)
	c.Used(3, at(110), 1) // not in use for 120 s yet when it was used last
	if _, ok := add(c, 4, at(140), 5); ok {
		t.Fatal("one as large made way")
	}
	evicted, ok := add(c, 4, at(140), 6)
	if !ok || !slices.Equal(evicted, []int32{2}) {
		t.Fatalf("%v made way", evicted)
	}
}

func TestSessionsAreBoundedByPartitionsToo(t *testing.T) {
	c := NewCache[int32](Limits{Sessions: 10, Partitions: 100, Total: 150, Stale: time.Minute})
	if _, ok := add(c, 1, at(0), 101); ok {
		t.Error("one session may have 100 partitions")
	}
	add(c, 1, at(0), 100)
	if _, ok := add(c, 2, at(0), 51); ok {
		t.Error("all together may have 150")
	}
	add(c, 2, at(0), 50)
	if c.Used(2, at(1), 51) {
		t.Error("it grew over what all may have")
	}
	if _, ok := c.Find(2); ok {
		t.Error("a session that is too large is kept")
	}
	if c.Used(2, at(1), 1) {
		t.Error("a session that was removed is used")
	}
	if n, parts := c.Len(); n != 1 || parts != 100 {
		t.Errorf("%d sessions with %d partitions", n, parts)
	}
}

func TestACacheOfNoSessionsTakesNone(t *testing.T) {
	c := NewCache[int32](limits(0))
	if _, ok := add(c, 1, at(0), 1); ok {
		t.Error("there was room")
	}
}

func TestIdleSessionsEnd(t *testing.T) {
	c := NewCache[int32](limits(10))
	if gone, next := c.Expire(at(0)); gone != nil || next != 0 {
		t.Fatalf("%v, next in %v", gone, next)
	}
	add(c, 1, at(0), 1)
	add(c, 2, at(0), 1)
	add(c, 3, at(10), 1)
	c.Used(1, at(20), 1)
	if gone, next := c.Expire(at(599)); gone != nil || next != time.Second {
		t.Fatalf("%v, next in %v", gone, next)
	}
	gone, next := c.Expire(at(610))
	if !slices.Equal(gone, []int32{2, 3}) || next != 10*time.Second {
		t.Fatalf("%v, next in %v", gone, next)
	}
	if gone, next := c.Expire(at(620)); !slices.Equal(gone, []int32{1}) || next != 0 {
		t.Fatalf("%v, next in %v", gone, next)
	}
}

func TestAClearedCacheIsEmpty(t *testing.T) {
	c := NewCache[int32](limits(10))
	add(c, 1, at(0), 1)
	add(c, 2, at(0), 1)
	if gone := c.Clear(); !slices.Equal(gone, []int32{1, 2}) {
		t.Fatalf("%v", gone)
	}
	if n, parts := c.Len(); n != 0 || parts != 0 || c.Clear() != nil {
		t.Fatalf("%d sessions with %d partitions", n, parts)
	}
}

// A cache is compared with one that looks through a plain list.
func TestACacheCountsWhatItKeeps(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	l := Limits{Sessions: 8, Partitions: 20, Total: 60,
		Stale: 10 * time.Second, Idle: 30 * time.Second}
	c := NewCache[int32](l)
	kept := map[int32]int{}
	drop := func(ids []int32) {
		for _, id := range ids {
			if _, ok := kept[id]; !ok {
				t.Fatalf("%d was removed twice", id)
			}
			delete(kept, id)
		}
	}
	for i := range int32(20_000) {
		now, id := at(int(i)), r.Int32N(40)+1
		_, had := kept[id]
		switch r.IntN(8) {
		case 0:
			if got, ok := c.Remove(id); ok != had || ok && got != id {
				t.Fatalf("removing %d: %d, %v", id, got, ok)
			}
			delete(kept, id)
		case 1:
			gone, _ := c.Expire(now)
			drop(gone)
		case 2, 3, 4:
			n := r.IntN(25)
			ok := c.Used(id, now, n)
			if ok && !had {
				t.Fatalf("%d was used", id)
			}
			delete(kept, id)
			if ok {
				kept[id] = n
			}
		default:
			if had {
				continue
			}
			n := r.IntN(25)
			evicted, ok := add(c, id, now, n)
			drop(evicted)
			if ok {
				kept[id] = n
			}
		}
		sum := 0
		for id, n := range kept {
			sum += n
			if got, ok := c.Find(id); !ok || got != id {
				t.Fatalf("%d was lost", id)
			}
		}
		if n, parts := c.Len(); n != len(kept) || parts != sum || n > l.Sessions || parts > l.Total {
			t.Fatalf("%d sessions with %d partitions, want %d with %d", n, parts, len(kept), sum)
		}
	}
}
