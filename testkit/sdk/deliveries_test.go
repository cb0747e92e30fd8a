package sdk

import (
	"testing"

	"github.com/troupelog/troupe/clientlib"
)

var orders = clientlib.Partition{Topic: "orders", Index: 1}

// events is a history in short: who does what.
type event struct {
	member, what string
	offset       int64
	key          string
}

func play(d *Deliveries, events []event) {
	for _, e := range events {
		r := &clientlib.Record{
			Topic: "orders", Partition: 1, Offset: e.offset, Key: []byte(e.key)}
		switch e.what {
		case "owns":
			d.Assigned(e.member, []clientlib.Partition{orders})
		case "loses":
			d.Lost(e.member, []clientlib.Partition{orders})
		case "begins":
			d.Begin(e.member, r)
		default:
			d.Begin(e.member, r)()
		}
	}
}

func TestDeliveriesTellWhatIsWrong(t *testing.T) {
	owns := event{"amy", "owns", 0, ""}
	for name, c := range map[string]struct {
		events []event
		ok     bool
		again  Again
	}{
		"in order": {[]event{owns, {"amy", "", 1, "a"}, {"amy", "", 2, "a"}, {"amy", "", 3, "b"}},
			true, Again{}},
		"keys overtake each other": {[]event{owns, {"amy", "", 2, "a"}, {"amy", "", 1, "b"}},
			true, Again{}},
		"backwards": {[]event{owns, {"amy", "", 2, "a"}, {"amy", "", 1, "a"}}, false, Again{}},
		"twice":     {[]event{owns, {"amy", "", 2, "a"}, {"amy", "", 2, "a"}}, false, Again{}},
		"two at once": {[]event{owns, {"amy", "begins", 1, "a"}, {"amy", "begins", 2, "a"}},
			false, Again{}},
		"not assigned": {[]event{{"amy", "", 1, "a"}}, false, Again{}},
		"again after a loss": {[]event{owns, {"amy", "", 1, "a"}, {"amy", "loses", 0, ""},
			{"bob", "owns", 0, ""}, {"bob", "", 1, "a"}}, true, Again{AfterLoss: 1}},
		"again before the loss is noticed": {[]event{owns, {"amy", "", 1, "a"},
			{"bob", "owns", 0, ""}, {"bob", "", 1, "a"}, {"amy", "loses", 0, ""}},
			true, Again{AfterLoss: 1}},
		"again after a revocation": {[]event{owns, {"amy", "", 1, "a"}, {"bob", "owns", 0, ""},
			{"bob", "", 1, "a"}}, true, Again{AfterRevocation: 1}},
		"skipped, and made good": {[]event{owns, {"amy", "", 1, "a"}, {"amy", "", 3, "a"},
			{"bob", "owns", 0, ""}, {"bob", "", 2, "a"}}, false, Again{}},
	} {
		d := NewDeliveries()
		play(d, c.events)
		if err := d.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if got := d.Again(); c.ok && got != c.again {
			t.Errorf("%s: delivered again: %+v", name, got)
		}
	}
}
