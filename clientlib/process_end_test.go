package clientlib

import (
	"context"
	"testing"
	"testing/synctest"
)

// tardySource hands out one more batch after it was interrupted: it had begun to.
type tardySource struct {
	*fedSource
	late []*Record
}

func (s *tardySource) next(ctx context.Context) ([]*Record, error) {
	records, err := s.fedSource.next(ctx)
	if ctx.Err() != nil && s.late != nil {
		records, err, s.late = s.late, nil, nil
		synctest.Wait() // Process has wound down as far as it can without them
	}
	return records, err
}

func TestRecordsThatComeWhileProcessEndsAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tardySource{fedSource: newFedSource(orders(0, 0, "a")),
			late: append(orders(0, 1, "a"), orders(1, 7, "a")...)}
		run := startProcess(t, s, ConsumerConfig{}, one(
			func(context.Context, *Record) error { return nil }))
		synctest.Wait()
		if err := run.stop(); err != nil {
			t.Error(err)
		}
		if s.mark(0) != 1 || s.mark(1) != 0 {
			t.Errorf("marks are %v", s.marks)
		}
		for at, want := range map[Partition]int64{{"orders", 0}: 1, {"orders", 1}: 7} {
			if got, ok := s.rewound[at]; !ok || got != want {
				t.Errorf("%v is read again from %d, %v, want %d", at, got, ok, want)
			}
		}
	})
}
