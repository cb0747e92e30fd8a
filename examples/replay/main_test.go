package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/troupelog/troupe/examples/internal/exampletest"
)

func TestReplayReadsTheLastHoursAgain(t *testing.T) {
	ctx, cfg := exampletest.Node(t)
	for range 2 { // it can be run again
		var out exampletest.Output
		// The hour may change while the example runs; one of two times is right then.
		before := wanted(time.Now())
		if err := run(ctx, cfg, &out); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		if got := out.String(); got != before && got != wanted(time.Now()) {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
	}
}

func wanted(now time.Time) string {
	now = now.Truncate(time.Hour)
	since := func(ago int) string {
		return now.Add(-time.Duration(ago) * time.Hour).UTC().Format(time.DateTime)
	}
	return fmt.Sprintf("dashboard: 24 readings since %s\nanalyst: 6 readings since %s\n"+
		"dashboard, again: 6 readings since %s\n", since(24), since(6), since(6))
}
