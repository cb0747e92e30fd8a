package door

import (
	"errors"
	"testing"

	"github.com/troupelog/troupe/messages"
)

func TestAQuestionOnAClosedConnectionIsRefused(t *testing.T) {
	asks := &TxnAsks{}
	asks.Close()
	var got error
	asks.Ask(TxnKey{}, TxnQuestion{Reply: func(err error) { got = err }})
	if !errors.Is(TxnClient{VerifyOnly: true}.Refusal(got), messages.ErrNotEnoughReplicas) {
		t.Errorf("told %v", got)
	}
}

// The one before it panicked, which ended the connection.
func TestAQuestionThatIsNeverAskedIsRefusedWithItsConnection(t *testing.T) {
	asks, got := &TxnAsks{}, errors.New("no reply")
	asks.waiting = map[TxnKey][]TxnQuestion{{}: nil}
	asks.Ask(TxnKey{}, TxnQuestion{Reply: func(err error) { got = err }})
	asks.Close()
	if !errors.Is(got, ErrClosed) {
		t.Errorf("told %v", got)
	}
}
