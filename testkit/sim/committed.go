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
)

// watched is what was promised to a group.
type watched struct {
	Job
	owners    map[ownership]string
	committed map[int32]messages.Offset // of the input, as its members were told
	final     map[int32]messages.Offset // in a World at rest
}

// ownership is a partition in a generation, or in a member epoch.
type ownership struct {
	epoch     int32
	partition int32
}

// watch begins to check what a group is promised.
func (t *truth) watch(k Job) {
	if k.Out != "" {
		topic := t.w.meta().Topic(k.Out)
		for i := range topic.Partitions {
			if p := t.of(topic, int32(i)); !p.outputs {
				p.outputs = true
				t.follow(p)
			}
		}
	}
	if t.groups[k.Group] == nil {
		t.groups[k.Group] = &watched{Job: k, owners: map[ownership]string{},
			committed: map[int32]messages.Offset{}, final: map[int32]messages.Offset{}}
		t.groupOrder = append(t.groupOrder, t.groups[k.Group])
	}
}

// owned checks that nobody else owns the partitions in the same generation.
func (t *truth) owned(group string, epoch int32, partitions []int32, member string) {
	for _, p := range partitions {
		k := ownership{epoch, p}
		owners := t.groups[group].owners
		if other, ok := owners[k]; ok && other != member {
			t.w.t.Fatalf("group %s: %s and %s own partition %d in generation %d",
				group, other, member, p, epoch)
		}
		owners[k] = member
	}
}

// told notes that a member heard that its position is committed.
func (g *watched) told(partition int32, next messages.Offset) {
	g.committed[partition] = max(g.committed[partition], next)
}

// errStale is how a worker of a World takes the word of a coordinator that was replaced
// before it was asked. Such a one may say less than is committed, as in Kafka: nobody
// makes sure for a reader that he asks the right one. A client that finds it by old
// metadata and believes it works on records twice (seed 1605 showed how).
var errStale = errors.New("the coordinator was replaced before")

// fetchOffset asks a group's coordinator for its position in a partition of the input,
// and checks that it is not below what was committed before; m may be nil.
func (w *World) fetchOffset(c *client, at *node, g *watched, partition int32, m *member,
	done func(messages.Offset, error),
) {
	before := g.committed[partition]
	home := w.home(coord.Group, g.Group)
	epoch := w.meta().Topic(home.Topic).Partitions[home.Partition].LeaderEpoch
	type answer struct {
		group.Fetched
		epoch messages.LeaderEpoch
	}
	q := group.FetchOffsets{Stable: g.Out != "", MemberEpoch: group.NoGeneration,
		Partitions: []messages.TopicPartition{{Topic: g.In, Partition: partition}}}
	if m != nil && g.Protocol == group.Consumer {
		q.MemberID, q.MemberEpoch = m.id, m.epoch
	}
	call(c, at, requestTimeout, func(reply func(answer)) {
		q.Reply = func(f group.Fetched) { reply(answer{f, at.coord.body.Epoch(coord.Group, g.Group)}) }
		at.coord.body.Group(g.Group, &q)
	}, func(a answer, err error) {
		if err = errors.Join(err, a.Err); err == nil {
			err = a.Offsets[0].Err
		}
		if err != nil {
			done(messages.NoOffset, err)
			return
		}
		o := a.Offsets[0].Offset.Offset
		w.note("client %s: group %s is at %d in partition %d, says node %d under %d",
			c.name, g.Group, o, partition, at.id, a.epoch)
		if a.epoch < epoch {
			done(messages.NoOffset, errStale)
			return
		}
		if max(0, o) < before {
			w.t.Fatalf("group %s: partition %d is committed at %d, members were told %d",
				g.Group, partition, o, before)
		}
		done(o, nil)
	})
}

// begin makes the truth of a transaction.
func (t *truth) begin(k *worker, in int32, offsets []messages.Offset) *transaction {
	tx := &transaction{k: k, token: uint64(len(t.txns)), in: in, offsets: offsets}
	t.txns = append(t.txns, tx)
	return tx
}

// ended notes that a producer was told how its transaction ended.
func (t *truth) ended(tx *transaction, commit bool) {
	tx.ended = &commit
	t.checkTxn(tx)
}

// checkTxn: consumers see all of a transaction or none, as its producer was told.
func (t *truth) checkTxn(tx *transaction) {
	var wrong string
	switch {
	case tx.shown && tx.skipped:
		wrong = "consumers see some of it and skip some"
	case tx.shown && !tx.asked:
		wrong = "consumers see it, and nobody asked to commit it"
	case tx.shown && tx.ended != nil && !*tx.ended:
		wrong = "consumers see it, and it was aborted"
	case tx.skipped && tx.ended != nil && *tx.ended:
		wrong = "consumers skip it, and it was committed"
	default:
		return
	}
	t.w.t.Fatalf("transaction %d of %s (partition %d, offsets %v): %s",
		tx.token, tx.k.name, tx.in, tx.offsets, wrong)
}

// output is what a record of a transaction says.
type output struct {
	tx      *transaction
	in      int32
	offset  messages.Offset // of the input
	visible bool
}

// committedRead is a read_committed consumer's fetch of a partition, from an offset on.
// It yields what it got, also what it has to skip.
func (t *truth) committedRead(p *partition, r *replica, at messages.Offset,
	yield func(output),
) {
	for {
		res := r.body.Face.Read(data.Read{From: at, MaxBytes: 1 << 20, MinOne: true,
			Isolation: data.ReadCommitted, CurrentEpoch: messages.NoEpoch,
			LastEpoch: messages.NoEpoch})
		if res.Err != nil || res.View.Bytes == 0 {
			res.View.Release()
			return
		}
		b, err := res.View.AppendTo(nil)
		res.View.Release()
		if err != nil {
			return
		}
		aborted := newSkipping(res.Aborted)
		for len(b) > 0 {
			batch, rest, err := record.Parse(b)
			if err != nil {
				t.w.t.Fatalf("a consumer got a bad batch at %d: %v", at, err)
			}
			if batch.LastOffset() >= res.LastStable {
				t.w.t.Fatalf("%s-%d: a consumer sees offset %d, the last stable offset is %d",
					p.topic, p.id.Partition, batch.LastOffset(), res.LastStable)
			}
			// As in Kafka, a process does not know which of the markers that it finds in its
			// log are not safe yet.
			if batch.NextOffset() > p.shown && res.HighWatermark >= r.found {
				p.shown, p.shownHW = batch.NextOffset(), max(p.shownHW, res.HighWatermark)
			}
			skip := aborted.skips(t, &batch)
			if !batch.Control() {
				for _, v := range t.values(batch) {
					yield(output{tx: t.txns[binary.BigEndian.Uint64(v)],
						in:     int32(binary.BigEndian.Uint32(v[8:])),
						offset: messages.Offset(binary.BigEndian.Uint64(v[12:])), visible: !skip})
				}
			}
			b, at = rest, batch.NextOffset()
		}
	}
}

// skipping leaves aborted transactions out, as consumers do.
type skipping struct {
	left   []data.AbortedTxn // by their first offset
	active map[messages.ProducerID]bool
}

func newSkipping(aborted []data.AbortedTxn) *skipping {
	s := &skipping{left: slices.Clone(aborted), active: map[messages.ProducerID]bool{}}
	slices.SortFunc(s.left,
		func(a, b data.AbortedTxn) int { return int(a.FirstOffset - b.FirstOffset) })
	return s
}

// skips takes in the next batch and reports whether it was aborted.
func (s *skipping) skips(t *truth, b *record.Batch) bool {
	for len(s.left) > 0 && s.left[0].FirstOffset <= b.LastOffset() {
		s.active[s.left[0].Producer] = true
		s.left = s.left[1:]
	}
	if b.Control() {
		m, ok, err := record.ParseMarker(b)
		if err != nil || !ok {
			t.w.t.Fatalf("a consumer got a bad marker at %d: %v", b.BaseOffset, err)
		}
		if !m.Commit {
			delete(s.active, b.ProducerID)
		}
	}
	return b.Transactional() && s.active[b.ProducerID]
}

// readCommitted has a read_committed consumer look at a partition.
func (t *truth) readCommitted(p *partition, r *replica) {
	at := max(0, p.shown-readAgain)
	if log := r.body.Log(); log != nil {
		at = max(at, log.Start())
	}
	t.committedRead(p, r, at, func(out output) {
		out.tx.shown = out.tx.shown || out.visible
		out.tx.skipped = out.tx.skipped || !out.visible
		t.checkTxn(out.tx)
	})
}

// follow has a read_committed consumer poll a partition for as long as there are
// workers.
func (t *truth) follow(p *partition) {
	t.w.after(t.w.between(5*time.Millisecond, 150*time.Millisecond), func() {
		if t.w.stopped {
			return
		}
		if r := t.w.guess(p.id); r != nil && r.n.alive() {
			t.readCommitted(p, r)
		}
		t.follow(p)
	})
}

// fetchAll asks how far all groups have come.
func (w *World) fetchAll() {
	c := &client{w: w, name: "checker"}
	for _, g := range w.truth.groupOrder {
		for i := range w.meta().Topic(g.In).Partitions {
			partition := int32(i)
			var fetch func()
			fetch = func() {
				w.fetchOffset(c, w.coordinatorOf(coord.Group, g.Group), g, partition, nil,
					func(o messages.Offset, err error) {
						if err != nil {
							w.after(w.between(0, ttlLook), fetch)
							return
						}
						g.final[partition] = o
					})
			}
			fetch()
			w.RunUntil("the offset of "+g.Group+" is fetched", func() bool {
				_, ok := g.final[partition]
				return ok
			})
		}
	}
}

// verifyTxns checks, in a World at rest, that of every transaction all is there or
// none, and that every record of the input that a group has passed has led to one of
// the output, and no other.
func (w *World) verifyTxns() {
	w.t.Helper()
	type once struct {
		group  string
		out    int32
		in     int32
		offset messages.Offset
	}
	written, records := map[once]*transaction{}, map[*transaction]int{}
	for _, p := range w.truth.order {
		if !p.outputs {
			continue
		}
		leader := w.node(w.meta().Partition(p.id).Leader).replicas[p.id]
		w.truth.committedRead(p, leader, leader.body.Log().Start(), func(out output) {
			if !out.visible {
				return
			}
			k := once{out.tx.k.group, p.id.Partition, out.in, out.offset}
			if before := written[k]; before != nil {
				w.t.Fatalf("%+v was written by transaction %d and by %d", k, before.token, out.tx.token)
			}
			written[k] = out.tx
			records[out.tx]++
		})
	}
	for _, tx := range w.truth.txns {
		n := records[tx]
		tx.shown, tx.skipped = tx.shown || n > 0, tx.skipped || n == 0
		if n > 0 && n < tx.records {
			w.t.Fatalf("of %d records of transaction %d consumers see %d", tx.records, tx.token, n)
		}
		w.truth.checkTxn(tx)
	}
	for _, g := range w.truth.groupOrder {
		for i := range w.meta().Topic(g.In).Partitions {
			partition := int32(i)
			dropped := w.truth.of(w.meta().Topic(g.In), partition).dropped
			for o := dropped; g.Out != "" && o < g.final[partition]; o++ {
				if written[once{g.Group, 0, partition, o}] == nil {
					w.t.Fatalf("group %s is at %d in partition %d, and nothing was written for offset %d",
						g.Group, g.final[partition], partition, o)
				}
			}
		}
	}
	for k, tx := range written {
		if end := w.truth.groups[k.group].final[k.in]; k.offset >= end {
			w.t.Fatalf("%+v was written by transaction %d, and the group is at %d", k, tx.token, end)
		}
	}
}

// Committed is how many transactions producers were told are committed.
func (w *World) Committed() (n int) {
	for _, tx := range w.truth.txns {
		if tx.ended != nil && *tx.ended {
			n++
		}
	}
	return n
}

var errKilled = fmt.Errorf("it was killed")
