package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/troupelog/troupe/messages"
)

// Bounds of how long an admin request may hold up its connection.
const (
	// adminWaitDefault is used when a request names no timeout; Kafka's own
	// admin requests default to it.
	adminWaitDefault = 15 * time.Second
	// adminWaitMax caps what a request may ask for: a client that gave up long
	// ago must not keep a connection's queue waiting.
	adminWaitMax = 5 * time.Minute
)

// waitFor bounds ctx by the timeout a request carries, in milliseconds. Zero
// and less means adminWaitDefault: Kafka lets such requests expire before they
// do anything, which helps nobody.
func waitFor(ctx context.Context, timeoutMs int32) (context.Context, context.CancelFunc) {
	wait := time.Duration(timeoutMs) * time.Millisecond
	if wait <= 0 {
		wait = adminWaitDefault
	}
	return context.WithTimeout(ctx, min(wait, adminWaitMax))
}

// errorMessageMax bounds an error message in bytes. Messages quote what clients
// sent, and strings of versions that are not flexible end at 32767.
const errorMessageMax = 1000

// errorMessage is the text that goes with errorCode(err), nil for none. The
// text of an error that is nobody's fault but ours stays inside the node.
func errorMessage(err error) *string {
	if err == nil {
		return nil
	}
	text := err.Error()
	if errorCode(err) == codeUnknownServerError {
		text = "the node failed unexpectedly while it served the request; see its log"
	}
	if len(text) > errorMessageMax {
		text = strings.ToValidUTF8(text[:errorMessageMax], "") + "..."
	}
	return &text
}

// controlPathBusy reports whether err says that the controller cannot be asked
// right now, rather than that it refused.
func controlPathBusy(err error) bool {
	for _, busy := range []error{
		messages.ErrUnavailable, messages.ErrOverloaded, messages.ErrRequestTimedOut,
		messages.ErrNotController, messages.ErrFencedController,
		context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, busy) {
			return true
		}
	}
	return false
}

// topicNameMax is the longest legal topic name: a partition's folder is the
// name, a dash and up to five digits, and file systems stop at 255 bytes.
const topicNameMax = 249

// checkTopicName returns an ErrInvalidTopic that says which of Kafka's rules
// the name breaks. Collisions of '.' and '_' are the controller's to find.
func checkTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name is empty", messages.ErrInvalidTopic)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q is reserved", messages.ErrInvalidTopic, name)
	case len(name) > topicNameMax:
		return fmt.Errorf("%w: a name of %d characters, %d are allowed",
			messages.ErrInvalidTopic, len(name), topicNameMax)
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("%w: %q may have only letters, digits, '.', '_' and '-'",
				messages.ErrInvalidTopic, name)
		}
	}
	return nil
}

// internalName reports whether the topic of that name, existing or not, is one
// the cluster keeps for itself.
func internalName(name string) bool { return (&messages.Topic{Name: name}).Internal() }

// repeated returns the keys that occur more than once.
func repeated[K comparable](keys []K) map[K]bool {
	count := make(map[K]int, len(keys))
	for _, k := range keys {
		count[k]++
	}
	twice := map[K]bool{}
	for k, n := range count {
		if n > 1 {
			twice[k] = true
		}
	}
	return twice
}

// perTopic returns the outcome of topic i. Its own error says more than one that
// failed them all: the wait for the metadata may time out after the controller
// refused a topic.
func perTopic(results []messages.TopicResult, err error, i int) (messages.TopicResult, error) {
	switch {
	case i < len(results) && results[i].Err != nil:
		return results[i], results[i].Err
	case err != nil:
		return messages.TopicResult{}, err
	case i >= len(results):
		return messages.TopicResult{}, fmt.Errorf("controller answered only %d topics", len(results))
	}
	return results[i], nil
}

// perItem is perTopic for operations that have nothing to tell but an error.
func perItem(errs []error, err error, i int) error {
	switch {
	case i < len(errs) && errs[i] != nil:
		return errs[i]
	case err == nil && i >= len(errs):
		return fmt.Errorf("controller answered only %d items", len(errs))
	}
	return err
}

// controllerErrorCode is errorCode for what the controller decides. That there is
// none at the moment is NOT_CONTROLLER: clients look for it and ask again.
func controllerErrorCode(err error) int16 {
	if errors.Is(err, messages.ErrUnavailable) {
		return codeNotController
	}
	return errorCode(err)
}

// topicErrorCode is controllerErrorCode for the APIs that change topics. Clients
// learnt THROTTLING_QUOTA_EXCEEDED late (KIP-599); older ones retry a timeout.
func topicErrorCode(err error, knowsThrottling bool) int16 {
	if code := controllerErrorCode(err); code != codeThrottlingQuotaExceeded || knowsThrottling {
		return code
	}
	return codeRequestTimedOut
}
