package door

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

func TestGatherRefusesWhatIsNotAnsweredInTime(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	const n = 2 * gatherMax
	var late []*group.Heartbeat
	got := Gather(ctx, func(key string, r coord.Request) {
		if key == "3" {
			r.(*group.Heartbeat).Reply(nil)
		} else {
			late = append(late, r.(*group.Heartbeat))
		}
		if len(late) == gatherMax {
			cancel(ErrClosed)
		}
	}, n, func(i int, reply func(error)) (string, coord.Request) {
		return fmt.Sprint(i), &group.Heartbeat{Reply: reply}
	})
	for i, err := range got {
		if i == 3 {
			if err != nil {
				t.Errorf("what was answered in time is %v", err)
			}
			continue
		}
		if !errors.Is(err, messages.ErrUnavailable) || !errors.Is(err, ErrClosed) {
			t.Fatalf("answer %d is %v", i, err)
		}
	}
	for _, r := range late {
		r.Reply(nil) // must not block, although nobody waits
	}
}

func TestTopicNamesFollowKafkasRules(t *testing.T) {
	for _, name := range []string{"a", "A-1_b.c", "...", strings.Repeat("x", 249)} {
		if err := CheckTopicName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "a b", "a/b", "a\x00", "é", "a:b", strings.Repeat("x", 250),
	} {
		if !errors.Is(CheckTopicName(name), messages.ErrInvalidTopic) {
			t.Errorf("%q is allowed", name)
		}
	}
}
