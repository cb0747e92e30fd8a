// Package alarm calls an actor at a time that its state machine names: one timer
// for an actor, however often that time changes.
//
// Only the shells in package actors and below use it.
package alarm

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Alarm calls one actor. The zero value is not set. It belongs to the goroutine
// that runs the actor.
type Alarm struct {
	timer  *time.Timer
	at     time.Time // zero: it is not set
	number int
}

// Ring is an alarm going off, a message to its actor, which hands it to Rang.
type Ring struct{ number int }

// Set has a Ring come at that time, or earlier if it is set to earlier. The zero
// time sets nothing.
func (a *Alarm) Set(root *actor.RootContext, self *actor.PID, now, at time.Time) {
	if at.IsZero() || !a.at.IsZero() && !at.Before(a.at) {
		return
	}
	a.Stop()
	a.at = at
	a.number++
	n := a.number
	a.timer = time.AfterFunc(at.Sub(now), func() { root.Send(self, Ring{n}) })
}

// Rang takes note of a Ring; one of a time that was changed means nothing.
func (a *Alarm) Rang(m Ring) {
	if m.number == a.number {
		a.at = time.Time{}
	}
}

// Stop ends the timer.
func (a *Alarm) Stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
