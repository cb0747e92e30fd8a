package wire

import (
	"errors"
	"testing"

	"github.com/troupelog/troupe/messages"
)

// Who asks tells "all is well" from "no partition was answered" by a nil list.
func TestOneOutcomeForAllArrivesAsSuch(t *testing.T) {
	for _, want := range []error{nil, messages.ErrInvalidTxnState} {
		errs, err := ToOutcome(FromOutcome(1, want, nil))
		if errs != nil || !errors.Is(err, want) {
			t.Errorf("%v for all arrived as %v, %v", want, errs, err)
		}
	}
	errs, err := ToOutcome(FromOutcome(1, nil, []error{nil, messages.ErrInvalidTxnState}))
	if err != nil || len(errs) != 2 || errs[0] != nil ||
		!errors.Is(errs[1], messages.ErrInvalidTxnState) {
		t.Errorf("two outcomes arrived as %v, %v", errs, err)
	}
}
