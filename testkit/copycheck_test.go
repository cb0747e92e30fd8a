package testkit

import (
	"strings"
	"testing"
)

func TestCopyCheckFindsWhatIsNotExactlyOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		output []string
		want   string // the kind of complaint, "" for none
	}{
		{"all, in order", []string{"0:0", "1:0", "0:1", "1:1"}, ""},
		{"partitions in any order", []string{"1:0", "1:1", "0:0", "0:1"}, ""},
		{"one is missing", []string{"0:0", "1:0", "0:1"}, "lost"},
		{"one is doubled", []string{"0:0", "1:0", "0:0", "0:1", "1:1"}, "twice"},
		{"two are swapped", []string{"0:1", "0:0", "1:0", "1:1"}, "reordered"},
		{"one was never sent", []string{"0:0", "1:0", "0:1", "1:1", "1:2"}, "invented"},
		{"there is no such partition", []string{"0:0", "1:0", "0:1", "1:1", "2:0"}, "invented"},
	} {
		c := NewCopyCheck(2)
		for range 2 {
			c.Sent(0)
			c.Sent(1)
		}
		for _, name := range tt.output {
			c.Read(CopyMark + name)
		}
		err := c.Check()
		if tt.want == "" && err != nil || tt.want != "" && err == nil ||
			err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if _, _, doubled := c.Counts(); (doubled > 0) != (tt.want == "twice") {
			t.Errorf("%s: %d doubled", tt.name, doubled)
		}
		if (c.Missing() > 0) != (tt.want == "lost") {
			t.Errorf("%s: %d missing", tt.name, c.Missing())
		}
	}
	c := NewCopyCheck(1)
	c.Read("something else")
	if err := c.Check(); err == nil {
		t.Error("a record that is no copy was not found")
	}
}
