//go:build linux

package clients

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestAShelfGivesBackWhatItWasGiven(t *testing.T) {
	s := newShelf[int]()
	if _, ok := s.take(); ok {
		t.Fatal("a new shelf gave something")
	}
	for i := range 2 * shelfBatch {
		s.give(i)
	}
	var got []int
	for {
		i, ok := s.take()
		if !ok {
			break
		}
		got = append(got, i)
	}
	slices.Sort(got)
	if len(got) != 2*shelfBatch || got[0] != 0 || got[len(got)-1] != len(got)-1 {
		t.Errorf("%d records came back", len(got))
	}
}

func TestTheFailureOfOneActivityEndsTheOther(t *testing.T) {
	broken := errors.New("broken")
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	fail := func(context.Context) error { return broken }
	if err := both(t.Context(), wait, fail); !errors.Is(err, broken) {
		t.Errorf("the second failed: %v", err)
	}
	if err := both(t.Context(), fail, wait); !errors.Is(err, broken) {
		t.Errorf("the first failed: %v", err)
	}
	ok := func(context.Context) error { return nil }
	if err := both(t.Context(), ok, ok); err != nil {
		t.Errorf("both succeeded: %v", err)
	}
}

func TestValuesHaveTheirSize(t *testing.T) {
	l := Load{Shape: Shape{RecordBytes: 100}}
	values := l.values()
	if len(values) != valueCount {
		t.Fatalf("%d values", len(values))
	}
	for i, v := range values {
		if len(v) != 100 {
			t.Fatalf("value %d has %d bytes", i, len(v))
		}
	}
}
