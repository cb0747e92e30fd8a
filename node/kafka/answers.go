package kafka

import (
	"context"
	"errors"
	"strings"

	"github.com/troupelog/troupe/messages"
)

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

// internalName reports whether the topic of that name, existing or not, is one
// the cluster keeps for itself.
func internalName(name string) bool { return (&messages.Topic{Name: name}).Internal() }

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
