package coordinator

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors/alarm"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
)

// memberIdle is how long a member with nothing to remember stays: the next
// request for it often follows.
const memberIdle = time.Second

// member is one group or transactional id of a shard.
type member struct {
	shard   *shard
	id      string
	life    int // of the shard, in which it was made
	pid     *actor.PID
	machine coord.Machine
}

// homed is a machine whose outbox has to know its member.
type homed interface{ live(m *member) }

// written tells how an append ended.
type written struct {
	w   *coord.Write
	err error
}

// memberActor runs the machine of a member.
type memberActor struct {
	*member
	root    *actor.RootContext
	host    *Host
	alarm   alarm.Alarm
	empty   time.Time // since when there is nothing to remember; zero: there is
	asked   bool      // the shard to let it end
	leaving bool
}

func (a *memberActor) Receive(ctx actor.Context) {
	now := time.Now()
	defer a.rescue(ctx, now)
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.root = a.shard.c.cfg.Root
		a.host = NewHost(a.machine, a)
		a.host.Begin(now)
	case coord.Request:
		a.host.Handle(now, m)
	case written:
		a.written(now, m)
	case alarm.Ring:
		a.alarm.Rang(m)
		a.host.Tick(now)
		a.retire(now)
	case retired:
		a.retired(ctx)
	case leave:
		a.host.Stop(now, messages.ErrNotCoordinator)
		a.leaving = true
		ctx.Poison(ctx.Self())
	case *actor.Stopping: // maybe with the shard that failed, without having been told
		a.host.Stop(now, messages.ErrNotCoordinator)
		a.alarm.Stop()
		return
	default:
		return
	}
	if !a.leaving {
		a.alarm.Set(a.root, ctx.Self(), now, a.due(now))
	}
}

// due is when the member has something to do.
func (a *memberActor) due(now time.Time) time.Time {
	if !a.host.Empty() {
		a.empty = time.Time{}
		return a.host.Due()
	}
	if a.empty.IsZero() {
		a.empty = now
	}
	return a.empty.Add(a.shard.c.idle)
}

// retire asks the shard to let the member end when there has been nothing to
// remember for a while.
func (a *memberActor) retire(now time.Time) {
	if a.host.Empty() && !a.empty.IsZero() && now.Sub(a.empty) >= a.shard.c.idle && !a.asked {
		a.asked = true
		a.root.Send(a.shard.pid, retire{a.member})
	}
}

// retired ends the member: no request can reach it any more. If one did before,
// it stays.
func (a *memberActor) retired(ctx actor.Context) {
	a.asked, a.empty = false, time.Time{}
	if a.host.Empty() {
		a.leaving = true
		ctx.Poison(ctx.Self())
		return
	}
	a.root.Send(a.shard.pid, kept{a.member})
}

// Append implements Outbox.
func (a *memberActor) Append(w *coord.Write) {
	root, self := a.root, a.pid
	written := func(err error) { root.Send(self, written{w, err}) }
	ap, err := a.shard.appendOf(w, a.id, time.Now(), written)
	if err != nil {
		written(err)
		return
	}
	if w.Producer != messages.NoProducerID {
		ap.Verify = a.shard.verify(w)
	}
	log, err := a.shard.leading()
	if err != nil {
		written(err)
		return
	}
	log.Append(ap)
}

// appendOf makes the append of a member's write. done is called as the Done of the
// append is.
func (s *shard) appendOf(w *coord.Write, id string, now time.Time, done func(error)) (
	*data.Append, error) {
	batch, err := record.OfKeyValues(w.Records, w.Producer, w.Epoch,
		messages.Timestamp(now.UnixMilli()))
	if err != nil {
		return nil, err
	}
	return &data.Append{Batch: batch, Acks: data.AcksAll, Fenced: true, Epoch: s.epoch,
		Done: func(r data.AppendResult) {
			// It is in the log, and a marker behind it has not been answered yet.
			if r.Err == nil && w.Producer != messages.NoProducerID {
				s.ends.begun(w.Producer, id)
			}
			done(r.Err)
		}}, nil
}

// verify returns how the leader of the shard's partition makes sure that it is part
// of the transaction that a write begins there: else nobody would end it. The
// goroutine ends with the question, which has a deadline.
func (s *shard) verify(w *coord.Write) func(reply func(error)) {
	return func(reply func(error)) {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), verifyWait)
			defer cancel()
			reply(verdictOf(s.c.AddToTxn(ctx, w.TransactionalID, s.question(w))))
		}()
	}
}

// question asks whether the shard's partition is part of the transaction of a write.
func (s *shard) question(w *coord.Write) txn.Add {
	return txn.Add{Producer: w.Producer, Epoch: w.Epoch, VerifyOnly: true,
		Partitions: []messages.TopicPartition{
			{Topic: s.key.kind.Topic(), Partition: s.key.partition}}}
}

// verdictOf is what the leader of the partition is told. It holds the write back for
// a no, which says nothing of the partition itself: see unverifiedError.
func verdictOf(a txn.Added) error {
	if err := errors.Join(append(a.Errs, a.Err)...); err != nil {
		return &unverifiedError{err}
	}
	return nil
}

// unverifiedError is why a write may not be part of its transaction. It was not
// appended then.
type unverifiedError struct{ why error }

func (e *unverifiedError) Error() string { return "the transaction: " + e.why.Error() }
func (e *unverifiedError) Unwrap() error { return e.why }

// told is what the client hears. A transaction coordinator that cannot be asked is no
// reason to look for the group's, so the client asks here again; the others are final.
func (e *unverifiedError) told() error {
	switch is := func(err error) bool { return errors.Is(e.why, err) }; {
	case is(messages.ErrInvalidTxnState):
		return fmt.Errorf("%w: %v", txn.ErrAbortable, e)
	case is(messages.ErrInvalidProducerEpoch), is(txn.ErrAbortable), is(txn.ErrProducerFenced),
		is(txn.ErrInvalidMapping):
		return e
	}
	return fmt.Errorf("%w: %v", messages.ErrCoordinatorLoading, e)
}

// leading returns the replica, if it still leads.
func (s *shard) leading() (Partition, error) {
	t := s.c.cfg.Image().Topic(s.key.kind.Topic())
	if t == nil {
		return nil, fmt.Errorf("%s: %w", s.name(), messages.ErrUnknownTopicOrPartition)
	}
	return s.c.cfg.Leading(t, s.key.partition)
}

// Patience implements Outbox.
func (a *memberActor) Patience() time.Duration { return a.shard.patience() }

// patience is how long requests may wait for a write that does not end.
func (s *shard) patience() time.Duration { return s.c.duration("offsets.commit.timeout.ms") }

func (a *memberActor) written(now time.Time, m written) {
	err, sure := m.err, true
	if err != nil {
		err, sure = refusal(err)
	}
	a.host.Written(now, m.w, err)
	if !sure {
		a.fail(now, err, m.err.Error())
	}
}

// refusal turns what became of an append into what machines are told: ask again,
// or ask elsewhere. sure is false if nobody can say whether the records are in
// the log.
func refusal(err error) (told error, sure bool) {
	var unverified *unverifiedError
	switch {
	case errors.As(err, &unverified):
		return unverified.told(), true
	case errors.Is(err, messages.ErrInvalidProducerEpoch), errors.Is(err, messages.ErrInvalidTxnState):
		return err, true // of the producer whose transaction the write is part of
	case errors.Is(err, messages.ErrNotEnoughReplicas), errors.Is(err, messages.ErrDiskFull),
		errors.Is(err, messages.ErrBatchLargerThanSegment), errors.Is(err, messages.ErrOverloaded):
		return fmt.Errorf("%w: %v", messages.ErrUnavailable, err), true // its own code says less
	}
	return fmt.Errorf("%w: %v", messages.ErrNotCoordinator, err), false
}

// fail has everything replayed: what the machine knows may not be what is in the
// log.
func (a *memberActor) fail(now time.Time, answer error, why string) {
	a.host.Stop(now, answer)
	a.root.Send(a.shard.pid, failed{a.life, why})
}

// rescue answers everybody who waits when a machine panics. The shard replays the
// partition.
func (a *memberActor) rescue(ctx actor.Context, now time.Time) {
	reason := recover()
	if reason == nil {
		return
	}
	a.shard.c.log.Error().Str("kind", a.shard.key.kind.String()).Str("id", a.id).
		Str("message", fmt.Sprintf("%T", ctx.Message())).Str("reason", fmt.Sprint(reason)).
		Bytes("stack", debug.Stack()).Msg("coordinator panicked")
	defer func() { _ = recover() }()
	a.fail(now, messages.ErrUnavailable, fmt.Sprintf("%q panicked: %v", a.id, reason))
}
