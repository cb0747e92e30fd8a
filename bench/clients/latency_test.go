//go:build linux

package clients

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/troupelog/troupe/bench/figures"
)

func TestRecordsAreDueByTheRateAndNotByWhatWentBefore(t *testing.T) {
	p := Pace{Rate: 2000, While: time.Second, Skip: 250 * time.Millisecond}
	if n := p.records(); n != 2000 {
		t.Errorf("%d records in a second", n)
	}
	for i, want := range map[int]time.Duration{
		0: 0, 1: 500 * time.Microsecond, 3: 1500 * time.Microsecond, 2000: time.Second,
	} {
		if got := p.due(i); got != want {
			t.Errorf("record %d is due after %s, expected %s", i, got, want)
		}
	}
	if first := p.first(); first != 500 {
		t.Errorf("the first record that counts is %d, expected 500", first)
	}
	if first := (Pace{Rate: 10, While: time.Second, Skip: time.Hour}).first(); first != 10 {
		t.Errorf("of 10 records %d are skipped", first)
	}
}

func TestASenderThatWasHeldUpSendsAllThatIsDueAndSaysWhenItWas(t *testing.T) {
	p := Pace{Rate: 1e6, While: 300 * time.Microsecond}
	// The sender begins when all of it is due for long.
	began := time.Now().Add(-time.Hour)
	var dues []time.Duration
	err := p.run(t.Context(), began, func(i int, due time.Duration) error {
		if i != len(dues) {
			t.Errorf("record %d was sent in the place of %d", i, len(dues))
		}
		dues = append(dues, due)
		return nil
	})
	if err != nil || len(dues) != 300 {
		t.Fatalf("%d records were sent: %v", len(dues), err)
	}
	if last := dues[299]; last != 299*time.Microsecond {
		t.Errorf("the last record was due after %s", last)
	}
}

func TestNothingIsSentBeforeItIsDue(t *testing.T) {
	p := Pace{Rate: 2000, While: 10 * time.Millisecond}
	began := time.Now()
	err := p.run(t.Context(), began, func(i int, due time.Duration) error {
		if now := time.Since(began); now < due {
			t.Errorf("record %d was sent after %s and is due after %s", i, now, due)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPaceEndsWithItsContextAndWithAnError(t *testing.T) {
	p := Pace{Rate: 1e4, While: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	err := p.run(ctx, time.Now(), func(i int, _ time.Duration) error {
		if i == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after its context ended: %v", err)
	}
	broken := errors.New("broken")
	err = p.run(t.Context(), time.Now(), func(int, time.Duration) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("after an error: %v", err)
	}
}

// value is one that was due then.
func value(number uint64, due time.Duration) []byte {
	v := make([]byte, valueHead)
	binary.BigEndian.PutUint64(v, number)
	binary.BigEndian.PutUint64(v[8:], uint64(due))
	return v
}

func TestALatencyCountsFromWhenTheRecordWasDue(t *testing.T) {
	p := Pace{Rate: 100, While: 50 * time.Millisecond, Skip: 20 * time.Millisecond}
	seen := newLatencies(p)
	for i := range uint64(5) {
		due := p.due(int(i))
		// Each takes a millisecond more than the one before.
		ended := due + time.Duration(i+1)*time.Millisecond
		if err := seen.note(value(i, due), ended); err != nil {
			t.Fatal(err)
		}
	}
	if err := seen.note(value(warmNumber, 0), time.Hour); err != nil {
		t.Errorf("a record to warm up: %v", err)
	}
	var r figures.Result
	seen.fill(&r)
	// Records 0 and 1 are skipped.
	if r.P50 != 4*time.Millisecond || r.P99 != 5*time.Millisecond || r.Max != r.P99 {
		t.Errorf("p50 %s, p99 %s, max %s", r.P50, r.P99, r.Max)
	}
	if r.Rate != 100 || seen.left != 0 {
		t.Errorf("rate %f, %d records left", r.Rate, seen.left)
	}
}

func TestARecordThatComesTwiceOrFromElsewhereIsAnError(t *testing.T) {
	seen := newLatencies(Pace{Rate: 100, While: 50 * time.Millisecond})
	if err := seen.note(value(1, 0), 1); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string][]byte{
		"twice": value(1, 0), "never sent": value(5, 0), "too short": {1},
	} {
		if err := seen.note(v, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
