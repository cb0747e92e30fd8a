package testkit

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOwnersFindsWhatNoGroupMayDo(t *testing.T) {
	orders := func(partitions ...int32) map[string][]int32 {
		return map[string][]int32{"orders": partitions}
	}
	for _, tt := range []struct {
		name  string
		story func(o *Owners)
		want  string // part of the complaint, "" for none
	}{
		{"each has its own", func(o *Owners) {
			o.Assigned("amy", 1, orders(0, 1))
			o.Assigned("bob", 1, orders(2))
		}, ""},
		{"a partition is given back and then to another", func(o *Owners) {
			o.Assigned("amy", 1, orders(0, 1))
			o.Revoked("amy", orders(1))
			o.Assigned("bob", 2, orders(1))
		}, ""},
		{"two own a partition in one generation", func(o *Owners) {
			o.Assigned("amy", 1, orders(0))
			o.Revoked("amy", orders(0))
			o.Assigned("bob", 1, orders(0))
		}, "shared"},
		{"a partition is given away while another still owns it", func(o *Owners) {
			o.Assigned("amy", 1, orders(0))
			o.Assigned("bob", 2, orders(0))
		}, "two owners"},
		{"it is given back too late", func(o *Owners) {
			o.Assigned("amy", 1, orders(0))
			o.Assigned("bob", 2, orders(0))
			o.Revoked("amy", orders(0))
		}, "two owners"},
		{"one that was dropped finds out later", func(o *Owners) {
			o.Assigned("amy", 1, orders(0))
			o.Assigned("bob", 2, orders(0))
			o.Lost("amy", orders(0))
		}, ""},
		{"one that was dropped takes a partition from one that was not", func(o *Owners) {
			o.Assigned("bob", 1, orders(0))
			o.Assigned("amy", 2, orders(0))
			o.Lost("amy", orders(0))
		}, "two owners"},
		{"a dead one owns nothing", func(o *Owners) {
			o.Assigned("amy", 1, orders(0))
			o.Died("amy")
			o.Assigned("bob", 2, orders(0))
		}, ""},
		{"even a dead one shares no generation", func(o *Owners) {
			o.Assigned("amy", 1, orders(0))
			o.Died("amy")
			o.Assigned("bob", 1, orders(0))
		}, "shared"},
		{"a static member comes back into its generation", func(o *Owners) {
			o.Assigned("amy", 1, orders(0))
			o.Died("amy")
			o.Assigned("amy", 1, orders(0))
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := NewOwners()
			tt.story(o)
			err := o.Check()
			if tt.want == "" && err != nil || tt.want != "" && err == nil ||
				err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestOwnersKnowsWhatMoved(t *testing.T) {
	o := NewOwners()
	o.Assigned("amy", 1, map[string][]int32{"orders": {0, 1, 2}})
	since := o.LastEvent().Add(time.Nanosecond)
	o.Revoked("amy", map[string][]int32{"orders": {2}})
	o.Assigned("bob", 2, map[string][]int32{"orders": {2}})
	o.Lost("amy", map[string][]int32{"orders": {1}})
	if got := o.Untouched("orders", since); !slices.Equal(got, []int32{0}) {
		t.Errorf("untouched are %v", got)
	}
	if got := o.Holders("orders", 2); !slices.Equal(got, []string{"bob"}) {
		t.Errorf("partition 2 is held by %v", got)
	}
	if got := o.Shares(); got["amy"] != 1 || got["bob"] != 1 || o.Losses() != 1 {
		t.Errorf("shares %v, %d losses", got, o.Losses())
	}
}
