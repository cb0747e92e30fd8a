package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
)

// transaction is one transaction of a worker as the truth knows it.
type transaction struct {
	k       *worker
	token   uint64
	in      int32             // partition of the input
	offsets []messages.Offset // of the input that it works on
	outs    []int32           // partitions of the output, each gets all of the records
	records int               // written, counted over all partitions

	// asked: its commit was asked for. ended: what the coordinator said it came to;
	// nil: nobody was told.
	asked bool
	ended *bool
	// shown and skipped: a read_committed consumer saw a record of it, or left one out.
	shown, skipped bool
	added          bool // the coordinator was asked to take something in
	unsure         bool // nobody can say what of it was appended
}

// begin works on records of the input in one transaction.
func (k *worker) begin(partition int32, offsets []messages.Offset) {
	t := k.w.truth.begin(k, partition, offsets)
	k.txn = t
	for i := range k.w.meta().Topic(k.out).Partitions {
		if k.w.rng.IntN(2) == 0 || i == 0 {
			t.outs = append(t.outs, int32(i))
		}
	}
	t.records = len(t.outs) * len(offsets)
	if k.v2 {
		k.write(0)
		return
	}
	var tps []messages.TopicPartition
	for _, i := range t.outs {
		tps = append(tps, messages.TopicPartition{Topic: k.out, Partition: i})
	}
	k.add(tps, func() { k.write(0) })
}

// add is AddPartitionsToTxn and AddOffsetsToTxn.
func (k *worker) add(tps []messages.TopicPartition, then func()) {
	k.txn.added = true
	k.try("add", func(done func(error)) {
		txnCall(k, func(reply func(txn.Added)) coord.Request {
			return &txn.Add{Producer: k.pid, Epoch: k.epoch, Partitions: tps, Reply: reply}
		}, func(a txn.Added, err error) { done(errors.Join(append(a.Errs, a.Err, err)...)) })
	}, then, k.failed)
}

// write writes the records to the i-th partition of the transaction and goes on with
// the next.
func (k *worker) write(i int) {
	t := k.txn
	if i == len(t.outs) {
		k.commitOffsets()
		return
	}
	t.added = true
	partition, batch := t.outs[i], k.batch(t.outs[i])
	k.try("write", func(done func(error)) {
		id := messages.PartitionID{Topic: k.w.meta().Topic(k.out).ID, Partition: partition}
		r := k.w.guess(id)
		var at *node
		if r != nil {
			at = r.n
		}
		verify := k.verify(at, partition)
		call(&k.client, at, requestTimeout, func(reply func(error)) {
			r.body.Face.Append(&data.Append{Batch: copyOf(batch), Acks: data.AcksAll,
				FreshEpoch: k.v2, Verify: verify,
				Done: func(res data.AppendResult) { reply(res.Err) }})
		}, func(answer, err error) {
			if err = errors.Join(answer, err); err != nil {
				t.unsure = true
			}
			done(err)
		})
	}, func() {
		t.unsure = false
		k.next[partition] += messages.Sequence(len(t.offsets))
		k.write(i + 1)
	}, k.failed)
}

// verify is what the listener has a leader ask before a transaction begins there.
func (k *worker) verify(at *node, partition int32) func(reply func(error)) {
	pid, epoch := k.pid, k.epoch
	return func(reply func(error)) {
		at.coord.body.AddToTxn(k.name, &txn.Add{Producer: pid, Epoch: epoch, VerifyOnly: !k.v2,
			Partitions: []messages.TopicPartition{{Topic: k.out, Partition: partition}},
			Reply:      func(a txn.Added) { reply(errors.Join(append(a.Errs, a.Err)...)) }})
	}
}

// outputOf is a record of a transaction: for one record of the input.
func outputOf(token uint64, in int32, at messages.Offset) []byte {
	b := binary.BigEndian.AppendUint64(nil, token)
	b = binary.BigEndian.AppendUint32(b, uint32(in))
	return binary.BigEndian.AppendUint64(b, uint64(at))
}

func (k *worker) batch(partition int32) record.Batch {
	b := record.NewBuilder(record.Compression{})
	b.Producer(k.pid, k.epoch, k.next[partition]).Transactional()
	for _, o := range k.txn.offsets {
		b.Append(messages.Timestamp(k.w.now.UnixMilli()), nil, outputOf(k.txn.token, k.txn.in, o))
	}
	built, err := b.Build()
	if err != nil {
		k.w.t.Fatalf("building a batch: %v", err)
	}
	return built
}

// copyOf is for a leader, who stamps what it is given.
func copyOf(b record.Batch) record.Batch {
	b.Bytes = append([]byte{}, b.Bytes...)
	return b
}

// commitOffsets makes the position in the input a part of the transaction.
func (k *worker) commitOffsets() {
	if k.v2 {
		k.txnCommit()
		return
	}
	k.add([]messages.TopicPartition{k.w.home(coord.Group, k.group)}, k.txnCommit)
}

func (k *worker) txnCommit() {
	t := k.txn
	o := []group.Offset{{Topic: k.in, Partition: t.in, Offset: t.next(), Epoch: messages.NoEpoch,
		CommitMs: messages.NoTimestamp, ExpireMs: messages.NoTimestamp}}
	q := group.TxnCommit{TransactionalID: k.name, Producer: k.pid, Epoch: k.epoch,
		MemberID: k.m.id, Generation: k.m.epoch, Offsets: o}
	k.try("commit offsets", func(done func(error)) {
		at := k.coordinator(coord.Group, k.group)
		q := q
		if k.protocol == group.Consumer {
			q.Generation = k.m.epoch // it rises while the member owns what it owned
			if !slices.Contains(k.m.owned, t.in) {
				done(fmt.Errorf("partition %d was lost: %w", t.in, group.ErrUnknownMember))
				return
			}
		}
		call(&k.client, at, requestTimeout, func(reply func(group.Committed)) {
			q.Reply = reply
			if !k.v2 {
				at.coord.body.Group(k.group, &q)
				return
			}
			at.coord.body.AddToTxn(k.name, &txn.Add{Producer: q.Producer, Epoch: q.Epoch,
				Partitions: []messages.TopicPartition{k.w.home(coord.Group, k.group)},
				Reply: func(a txn.Added) {
					if err := errors.Join(append(a.Errs, a.Err)...); err != nil {
						reply(group.Committed{Err: err})
						return
					}
					at.coord.body.Group(k.group, &q)
				}})
		}, func(a group.Committed, err error) { done(errors.Join(append(a.Errs, a.Err, err)...)) })
	}, func() { k.end(k.w.rng.IntN(8) > 0) }, k.failed)
}

// next is the position after the transaction.
func (t *transaction) next() messages.Offset { return t.offsets[len(t.offsets)-1] + 1 }

// failed gives a transaction up.
func (k *worker) failed(err error, v verdict) {
	switch {
	case v == fatal:
		k.die(err)
	case !k.v2 && k.txn.unsure: // the sequences are not known any more
		k.die(err)
	default:
		k.end(false)
	}
}

// end commits or aborts, until it is known how the transaction ended.
func (k *worker) end(commit bool) {
	t := k.txn
	t.asked = t.asked || commit
	what := "abort"
	if commit {
		what = "commit"
	}
	q := txn.End{Producer: k.pid, Epoch: k.epoch, Commit: commit, V2: k.v2}
	k.try(what, func(done func(error)) {
		txnCall(k, func(reply func(txn.Ended)) coord.Request {
			q := q
			q.Reply = reply
			return &q
		}, func(a txn.Ended, err error) {
			if err = errors.Join(err, a.Err); err == nil && k.v2 {
				k.pid, k.epoch = a.Producer, a.Epoch
				k.next = map[int32]messages.Sequence{}
			}
			done(err)
		})
	}, func() {
		k.ended(commit)
	}, func(err error, _ verdict) { k.die(err) })
}

func (k *worker) ended(commit bool) {
	t := k.txn
	k.txn = nil
	k.w.truth.ended(t, commit)
	k.w.note("worker %s (%s): transaction %d, partition %d at %v, has ended, commit: %v",
		k.name, k.m.id, t.token, t.in, t.offsets, commit)
	if commit {
		k.position[t.in] = t.next()
		k.watched().told(t.in, t.next())
	}
	if k.w.rng.IntN(4) == 0 { // it asks how far it is, as after a seek
		delete(k.position, t.in)
		k.goOn()
		return
	}
	k.do(k.w.between(time.Millisecond, 700*time.Millisecond), k.goOn)
}
