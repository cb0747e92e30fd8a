package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
)

// Job says what the workers of a group do.
type Job struct {
	Group    string
	Protocol group.Type
	In       string // the topic they read
	// Out is the topic that they write to, in transactions that also commit what they
	// read; "": they only commit.
	Out string
	V2  bool // transactions with an epoch of their own (KIP-890 part 2)
}

// worker is a member of a group that reads the partitions it is given, a few records
// at a time, and commits how far it has come. With transactions this is
// consume-transform-produce: for each record that is read one is written, exactly
// once, whoever dies meanwhile.
type worker struct {
	client
	group    string
	protocol group.Type
	in, out  string
	v2       bool
	// replaced: another process has its transactional id, so it does not come back
	// when it is fenced.
	replaced, done bool

	found    map[coord.Kind]*node
	m        *member
	position map[int32]messages.Offset // of the input; missing: to be fetched

	// Of a transactional worker: the producer's state.
	pid   messages.ProducerID
	epoch messages.ProducerEpoch
	next  map[int32]messages.Sequence // of the output's partitions
	txn   *transaction                // the one that is open; nil: none
}

// txnTimeout is how long a transaction may be open.
const txnTimeout = 15 * time.Second

// Work starts a worker of a group. Its name is its transactional id.
func (w *World) Work(name string, k Job) *worker {
	c := &worker{client: client{w: w, name: name, late: k.V2}, group: k.Group, protocol: k.Protocol,
		in: k.In, out: k.Out, v2: k.V2}
	w.workers = append(w.workers, c)
	w.truth.watch(k)
	c.start()
	return c
}

// start is the beginning of a process.
func (k *worker) start() {
	if k.w.stopped {
		k.done = true
		return
	}
	k.found = map[coord.Kind]*node{}
	k.m = &member{k: k}
	k.position = map[int32]messages.Offset{}
	k.txn, k.next = nil, map[int32]messages.Sequence{}
	if k.out == "" {
		k.goOn()
		return
	}
	k.init()
}

// die ends the process; another one is there after a while, under the same
// transactional id.
func (k *worker) die(why error) {
	if k.done {
		return
	}
	k.w.note("worker %s dies: %v", k.name, why)
	k.life++
	k.paused, k.frozen = false, nil
	if k.replaced || k.w.stopped {
		k.done = true
		return
	}
	k.do(k.w.between(0, 3*time.Second), k.start)
}

// replace starts another process under the same transactional id, while this one
// believes that it goes on.
func (k *worker) replace() {
	k.w.note("worker %s is replaced", k.name)
	k.replaced = true
	k.w.Work(k.name, Job{Group: k.group, Protocol: k.protocol, In: k.in, Out: k.out, V2: k.v2})
}

// coordinator is whom the worker takes for a coordinator, until it is told otherwise.
func (k *worker) coordinator(kind coord.Kind, key string) *node {
	if k.found[kind] == nil {
		k.found[kind] = k.w.coordinatorOf(kind, key)
	}
	return k.found[kind]
}

// goOn is what the worker does between two pieces of work.
func (k *worker) goOn() {
	switch {
	case k.w.stopped:
		if k.m.id != "" {
			k.m.leave()
		}
		k.life++
		k.done = true
	case !k.m.settled:
		k.m.settle(func() { k.do(k.w.between(10*time.Millisecond, 300*time.Millisecond), k.goOn) })
	case len(k.m.owned) == 0:
		k.do(k.w.between(100*time.Millisecond, time.Second), k.goOn)
	default:
		k.read(k.m.owned[k.w.rng.IntN(len(k.m.owned))])
	}
}

// rest goes on after a while.
func (k *worker) rest() { k.do(k.w.between(time.Millisecond, 700*time.Millisecond), k.goOn) }

// readMost is how many records make a piece of work.
const readMost = 5

// read reads what follows in a partition and works on it.
func (k *worker) read(partition int32) {
	from, known := k.position[partition]
	if !known {
		k.fetchOffset(partition)
		return
	}
	id := messages.PartitionID{Topic: k.w.meta().Topic(k.in).ID, Partition: partition}
	r := k.w.guess(id)
	if r == nil {
		k.rest()
		return
	}
	type chunk struct {
		offsets []messages.Offset
		res     data.ReadResult
	}
	call(&k.client, r.n, requestTimeout, func(reply func(chunk)) {
		c := chunk{res: r.body.Face.Read(data.Read{From: from, MaxBytes: 2000, MinOne: true,
			Isolation: data.ReadCommitted, CurrentEpoch: messages.NoEpoch,
			LastEpoch: messages.NoEpoch})}
		c.offsets = k.w.offsets(c.res, from)
		reply(c)
	}, func(c chunk, err error) {
		if err == nil && errors.Is(c.res.Err, messages.ErrOffsetOutOfRange) && from < c.res.LogStart {
			k.position[partition] = c.res.LogStart // records were deleted
		}
		if err != nil || c.res.Err != nil || len(c.offsets) == 0 {
			k.rest()
			return
		}
		n := 1 + k.w.rng.IntN(min(readMost, len(c.offsets)))
		k.process(partition, c.offsets[:n])
	})
}

// offsets are those of the records of a read, from one on. The input has no
// transactions in it.
func (w *World) offsets(res data.ReadResult, from messages.Offset) (all []messages.Offset) {
	b, err := res.View.AppendTo(nil)
	res.View.Release()
	if err != nil {
		return nil
	}
	for len(b) > 0 {
		batch, rest, err := record.Parse(b)
		if err != nil {
			w.t.Fatalf("a consumer got a bad batch: %v", err)
		}
		for o := max(from, batch.BaseOffset); o <= batch.LastOffset(); o++ {
			all = append(all, o)
		}
		b = rest
	}
	return all
}

// fetchOffset asks how far the group has come in a partition.
func (k *worker) fetchOffset(partition int32) {
	k.w.fetchOffset(&k.client, k.coordinator(coord.Group, k.group), k.watched(), partition, k.m,
		func(at messages.Offset, err error) {
			if err != nil {
				if !errors.Is(err, group.ErrUnstableOffset) {
					delete(k.found, coord.Group)
				}
				k.rest()
				return
			}
			k.position[partition] = max(0, at)
			k.goOn()
		})
}

func (k *worker) watched() *watched { return k.w.truth.groups[k.group] }

// process works on records of a partition.
func (k *worker) process(partition int32, offsets []messages.Offset) {
	if k.out != "" {
		k.begin(partition, offsets)
		return
	}
	next := offsets[len(offsets)-1] + 1
	o := []group.Offset{{Topic: k.in, Partition: partition, Offset: next, Epoch: messages.NoEpoch,
		CommitMs: messages.NoTimestamp, ExpireMs: messages.NoTimestamp}}
	groupCall(k, requestTimeout, func(reply func(group.Committed)) coord.Request {
		return &group.Commit{MemberID: k.m.id, Generation: k.m.epoch, Epochs: true, Offsets: o,
			Reply: reply}
	}, func(a group.Committed, err error) {
		if err = errors.Join(append(a.Errs, a.Err, err)...); err != nil {
			delete(k.position, partition) // it may have been committed
			delete(k.found, coord.Group)
			k.rest()
			return
		}
		k.w.note("worker %s (%s): %d is committed in partition %d", k.name, k.m.id, next, partition)
		k.watched().told(partition, next)
		k.position[partition] = next
		k.rest()
	})
}

// verdict says what an error means to a producer.
type verdict int8

const (
	retry verdict = iota
	abort
	fatal
)

func judge(err error) verdict {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(txn.ErrProducerFenced, messages.ErrInvalidProducerEpoch, txn.ErrInvalidMapping):
		return fatal
	case is(messages.ErrInvalidTxnState, txn.ErrAbortable, messages.ErrOutOfOrderSequence,
		group.ErrIllegalGeneration, group.ErrUnknownMember, group.ErrFencedMemberEpoch,
		group.ErrGroupNotFound):
		return abort
	}
	return retry
}

// patienceOfProducer bounds how long a producer tries one step.
const patienceOfProducer = 20 * time.Second

// try carries out one step of a transaction: ask is called until its answer says more
// than "ask again". then follows on success, else failed with what to do.
func (k *worker) try(
	what string, ask func(done func(error)), then func(), failed func(error, verdict),
) {
	until := k.w.now.Add(patienceOfProducer)
	var once func()
	once = func() {
		ask(func(err error) {
			v := judge(err)
			switch {
			case err == nil:
				then()
			case v == retry && k.w.now.Before(until):
				if !errors.Is(err, txn.ErrConcurrent) && !errors.Is(err, group.ErrStaleMemberEpoch) {
					delete(k.found, coord.Group)
					delete(k.found, coord.Txn)
				}
				k.do(k.w.between(time.Millisecond, 200*time.Millisecond), once)
			default:
				k.w.note("worker %s: %s: %v", k.name, what, err)
				failed(err, max(v, abort))
			}
		})
	}
	once()
}

// init gets a producer id and an epoch that fences whoever had the id before.
func (k *worker) init() {
	k.try("init", func(done func(error)) {
		txnCall(k, func(reply func(txn.Initialized)) coord.Request {
			return &txn.Init{TimeoutMs: int32(txnTimeout.Milliseconds()),
				Producer: messages.NoProducerID, Epoch: -1, Reply: reply}
		}, func(a txn.Initialized, err error) {
			if err = errors.Join(err, a.Err); err == nil {
				k.pid, k.epoch = a.Producer, a.Epoch
				k.next = map[int32]messages.Sequence{}
			}
			done(err)
		})
	}, k.goOn, func(err error, _ verdict) { k.die(fmt.Errorf("init: %w", err)) })
}

// txnCall asks the transaction's coordinator.
func txnCall[A any](k *worker, build func(reply func(A)) coord.Request, done func(A, error)) {
	at := k.coordinator(coord.Txn, k.name)
	var answer func(A)
	r := build(func(a A) { answer(a) })
	call(&k.client, at, requestTimeout, func(reply func(A)) {
		answer = reply
		at.coord.body.Txn(k.name, r)
	}, done)
}
