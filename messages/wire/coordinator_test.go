package wire

import (
	"errors"
	"reflect"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
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

func TestAddsAndMarkersCrossAsTheyAre(t *testing.T) {
	partitions := []messages.TopicPartition{{Topic: "b", Partition: 2}, {Topic: "b", Partition: 0},
		{Topic: "a", Partition: 7}, {Topic: "b", Partition: 1}}
	add := &txn.Add{Producer: 1 << 40, Epoch: 32767, Partitions: partitions, VerifyOnly: true}
	if id, got := ToAdd(crossed(t, FromAdd("tx", add))); id != "tx" || !reflect.DeepEqual(got, add) {
		t.Errorf("%q, %+v arrived, want %+v", id, got, add)
	}
	markers := &txn.Markers{Producer: 7, Epoch: 3, CoordinatorEpoch: 9, Commit: true, Raised: true,
		Partitions: partitions}
	if got := ToMarkers(crossed(t, FromMarkers(markers))); !reflect.DeepEqual(got, markers) {
		t.Errorf("%+v arrived, want %+v", got, markers)
	}
}
