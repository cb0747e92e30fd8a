package testkit

import (
	"fmt"
	"strings"
	"testing"
)

func at(offset int64) Position { return Position{"orders", 0, offset} }

func TestAHistoryFindsWhatIsWrong(t *testing.T) {
	type step struct {
		value  string
		offset int64
	}
	for _, tt := range []struct {
		name  string
		sent  []string
		acked []step
		read  []step
		want  string // in the error; "" means that all is well
	}{
		{name: "nothing happened"},
		{name: "what was acknowledged was read in order",
			sent: []string{"a", "b"}, acked: []step{{"a", 0}, {"b", 1}},
			read: []step{{"a", 0}, {"b", 1}}},
		{name: "what was not acknowledged may be missing",
			sent: []string{"a", "b", "c"}, acked: []step{{"a", 0}, {"c", 1}},
			read: []step{{"a", 0}, {"c", 1}}},
		{name: "what was not acknowledged may be there",
			sent: []string{"a", "b"}, acked: []step{{"a", 0}}, read: []step{{"a", 0}, {"b", 1}}},
		{name: "an acknowledged record is missing",
			sent: []string{"a", "b"}, acked: []step{{"a", 0}, {"b", 1}}, read: []step{{"a", 0}},
			want: `lost: "b"`},
		{name: "an acknowledged record is somewhere else",
			sent: []string{"a"}, acked: []step{{"a", 0}}, read: []step{{"a", 5}},
			want: `moved: "a"`},
		{name: "a record is there twice",
			sent: []string{"a", "b"}, acked: []step{{"a", 0}}, read: []step{{"a", 0}, {"a", 1}},
			want: `twice: "a"`},
		{name: "two records changed places",
			sent: []string{"a", "b"}, read: []step{{"b", 0}, {"a", 1}}, want: `reordered: "a"`},
		{name: "a record was never sent",
			sent: []string{"a"}, read: []step{{"z", 0}}, want: `invented: "z"`},
		{name: "offsets fall",
			sent: []string{"a", "b"}, read: []step{{"a", 1}, {"b", 0}}, want: "offset 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := NewHistory()
			for _, v := range tt.sent {
				h.Send("orders", 0, v)
			}
			for _, s := range tt.acked {
				h.Ack(s.value, at(s.offset))
			}
			for _, s := range tt.read {
				h.Read(s.value, at(s.offset))
			}
			err := h.Check()
			if tt.want == "" && err != nil {
				t.Errorf("all is well, but Check says %v", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Check says %v, want %q", err, tt.want)
			}
		})
	}
}

func TestARecordOfAnotherPartitionIsInvented(t *testing.T) {
	h := NewHistory()
	h.Send("orders", 0, "a")
	h.Read("a", Position{"orders", 1, 0})
	if err := h.Check(); err == nil || !strings.Contains(err.Error(), "invented") {
		t.Errorf("Check says %v", err)
	}
}

func TestWhatWasSeenMustStay(t *testing.T) {
	for _, tt := range []struct {
		name string
		see  func(h *History)
		want string
	}{
		{"it stays", func(h *History) { h.Seen("a", at(0), 1); h.Seen("a", at(0), 2) }, ""},
		{"it is gone", func(h *History) { h.Seen("b", at(1), 2) }, `vanished: "b"`},
		{"it is elsewhere", func(h *History) { h.Seen("a", at(7), 8) }, `vanished: "a"`},
		{"it was not committed", func(h *History) { h.Seen("a", at(0), 0) }, `uncommitted: "a"`},
		{"something else was there",
			func(h *History) { h.Seen("z", at(0), 1); h.Seen("a", at(0), 1) }, `changed: "a"`},
		{"somebody says so", func(h *History) { h.Wrong("broken %d", 7) }, "broken 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := NewHistory()
			h.Send("orders", 0, "a")
			h.Ack("a", at(0))
			h.Read("a", at(0))
			tt.see(h)
			err := h.Check()
			if tt.want == "" && err != nil {
				t.Errorf("all is well, but Check says %v", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Check says %v, want %q", err, tt.want)
			}
		})
	}
}

func TestLostAndDoubledRecordsAreCounted(t *testing.T) {
	h := NewHistory()
	for i, v := range []string{"a", "b", "c"} {
		h.Send("orders", 0, v)
		h.Ack(v, at(int64(i)))
	}
	h.Read("a", at(0))
	h.Read("a", at(1))
	h.Read("a", at(2))
	if lost, doubled := h.Tally(); lost != 2 || doubled != 1 {
		t.Errorf("%d lost and %d doubled, want 2 and 1", lost, doubled)
	}
}

func TestManyViolationsAreCountedNotListed(t *testing.T) {
	h := NewHistory()
	for i := range 1000 {
		h.Send("orders", 0, fmt.Sprint(i))
		h.Ack(fmt.Sprint(i), at(int64(i)))
	}
	err := h.Check()
	if err == nil || strings.Count(err.Error(), "\n") != violationsMax ||
		!strings.Contains(err.Error(), "and 990 more") {
		t.Errorf("Check says %v", err)
	}
}
