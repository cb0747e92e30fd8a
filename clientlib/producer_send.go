package clientlib

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/outgoing"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// payload is a batch: being filled, or on its way. It is filled under the lock of its
// partition, and belongs to the loop once it is closed.
type payload struct {
	out     outgoing.Batch[*payload]
	part    *partition
	builder *record.Builder
	packed  []byte // memory of the compressed batch
	waits   []waiting
	room    int // taken for its records
	born    time.Time

	headers []record.RecordHeader // of one record while it is encoded
	names   []byte                // of those

	batch record.Batch
	base  int64 // offset of the first record
	flush []*flusher
}

// waiting is a record whose callback is to be called.
type waiting struct {
	r    *Record
	done func(*Record, error)
}

// keeps is how many payloads a producer keeps to use again: as many as fit in its buffer.
// The garbage collector would empty a sync.Pool just when there is much to send.
func keeps(cfg *ProducerConfig) int {
	return min(max(cfg.BufferBytes/cfg.BatchBytes, 1), 1024)
}

// trim gives the memory back that is kept.
func (p *Producer) trim() {
	for {
		select {
		case <-p.payloads:
		default:
			return
		}
	}
}

// newPayload begins a batch.
func (p *Producer) newPayload(part *partition, at time.Time) *payload {
	var pl *payload
	select {
	case pl = <-p.payloads:
	default:
		pl = &payload{builder: &record.Builder{}}
	}
	pl.builder.Reset(p.cfg.Compression.codec())
	if p.mode == outgoing.Transactional {
		pl.builder.Transactional()
	}
	pl.part, pl.born, pl.base = part, at, int64(messages.NoOffset)
	pl.out = outgoing.Batch[*payload]{Of: pl, Expires: at.Add(p.cfg.DeliveryTimeout)}
	return pl
}

// recycle gives the memory back, if nobody can have it any more: what was sent twice, or
// was not answered, may lie in a queue yet.
func (p *Producer) recycle(pl *payload) {
	if pl.out.Err != nil || pl.out.Tries != 1 || p.cfg.Acks == AcksNone {
		return
	}
	clear(pl.waits)
	clear(pl.headers)
	*pl = payload{builder: pl.builder, packed: pl.packed, waits: pl.waits[:0],
		flush: pl.flush[:0], headers: pl.headers[:0], names: pl.names[:0]}
	select {
	case p.payloads <- pl:
	default:
	}
}

// pack makes the bytes of the batch.
func (pl *payload) pack() error {
	b, err := pl.builder.Seal(pl.packed)
	if err == nil && b.Codec() != record.None {
		pl.packed = b.Bytes
	}
	pl.batch = b
	return err
}

// stamp writes who sends the batch, under which number. What was sent once already may
// still be read by somebody, and is copied.
func (pl *payload) stamp() {
	o, h := &pl.out, &pl.batch.Header
	if o.Tries > 1 {
		pl.batch.Bytes = append([]byte(nil), pl.batch.Bytes...)
		if h.ProducerID == o.ID && h.ProducerEpoch == o.Epoch && h.BaseSequence == o.Base {
			return
		}
	}
	pl.batch.SetProducer(o.ID, o.Epoch, o.Base)
}

// add encodes a record with its headers and those that all have. The caller has the lock
// of the partition.
func (pl *payload) add(at messages.Timestamp, r *Record, all []Header) {
	pl.headers, pl.names = pl.headers[:0], pl.names[:0]
	for _, list := range [...][]Header{all, r.Headers} {
		for _, h := range list {
			from := len(pl.names)
			pl.names = append(pl.names, h.Key...)
			pl.headers = append(pl.headers, record.RecordHeader{
				Key: pl.names[from:len(pl.names):len(pl.names)], Value: h.Value})
		}
	}
	pl.builder.Append(at, r.Key, r.Value, pl.headers...)
}

// sizeOf is the size of a record that stands first in its batch.
func (p *Producer) sizeOf(r *Record) int {
	headers := p.headersSize
	for _, h := range r.Headers {
		headers += record.HeaderSizeOf(len(h.Key), h.Value)
	}
	return record.SizeOf(r.Key, r.Value, len(p.cfg.Headers)+len(r.Headers), headers)
}

var errNoRecord = fmt.Errorf("the record is nil: %w", ErrInvalidRequest)

// send puts a record into the batch of its partition.
func (p *Producer) send(ctx context.Context, t *Transaction, r *Record,
	done func(*Record, error)) error {
	if err := p.refusal(t); err != nil {
		return err
	}
	if r == nil {
		return errNoRecord
	}
	if err := ctx.Err(); err != nil { // a loop that sends ends with it, also where nothing waits
		return err
	}
	for _, intercept := range p.cfg.Interceptors {
		intercept(r)
	}
	if r.Topic == "" {
		r.Topic = p.cfg.Topic
	}
	topic, err := p.topic(ctx, r.Topic)
	if err != nil {
		return err
	}
	view := topic.view.Load()
	size := p.sizeOf(r)
	if record.HeaderSize+size > view.most {
		return fmt.Errorf("topic %q: the record has %d bytes, at most %d are possible: %w",
			r.Topic, size, view.most-record.HeaderSize, ErrTooLarge)
	}
	part, anywhere, err := topic.choose(r, view, p.cfg.Partitioner)
	if err != nil {
		return err
	}
	takes := size + record.SizeSlack
	if err := p.room.take(ctx, takes, p.cfg.Refuse, p.open.Done(), p.hurry); err != nil {
		return about("topic", r.Topic, err)
	}
	e := entry{r, done, takes}
	err = p.append(part, t, &e, anywhere)
	if err == errMoved { //nolint:errorlint // it is never wrapped
		err = p.append(topic.anywhere(view), t, &e, false)
	}
	if err != nil {
		p.room.answered(takes)
		p.room.give(takes)
		return about("topic", r.Topic, err)
	}
	return nil
}

// refusal is why a record is not taken at all.
func (p *Producer) refusal(t *Transaction) error {
	if err := p.endErr(); err != nil {
		return err
	}
	if p.mode != outgoing.Transactional {
		return nil
	}
	if t == nil {
		return fmt.Errorf("the producer is transactional: begin a Transaction and send with it: %w",
			ErrInvalidRequest)
	}
	return t.refusal()
}

// entry is a record for which there is room.
type entry struct {
	r     *Record
	done  func(*Record, error)
	takes int // bytes of room
}

// errMoved: records without a key go to another partition by now.
var errMoved = errors.New("moved")

// append encodes a record. A record that may go anywhere does not begin another batch if
// the partition has just got one: it fails with errMoved then.
func (p *Producer) append(part *partition, t *Transaction, e *entry, anywhere bool) error {
	r := e.r
	stamp, at := now(r)
	part.mu.Lock()
	defer part.mu.Unlock()
	// Whoever ends something looks for open batches after that, under this lock.
	if err := p.refusal(t); err != nil {
		return err
	}
	if part.gone != nil {
		return part.gone
	}
	limit := min(p.cfg.BatchBytes, part.topic.view.Load().most)
	if pl := part.open; pl != nil && pl.builder.Size()+e.takes > limit {
		p.closeOpen(part)
		if anywhere && part.topic.sticky.Load() != part.index {
			return errMoved
		}
	}
	pl := part.open
	if pl == nil {
		pl = p.newPayload(part, at)
		part.open = pl
		p.inbox.post(func() { p.loop.opened(part, pl, at) })
	}
	r.Partition = part.index
	pl.add(stamp, r, p.cfg.Headers)
	pl.waits = append(pl.waits, waiting{r, e.done})
	pl.room += e.takes
	if pl.builder.Size() >= limit {
		p.closeOpen(part)
	}
	return nil
}

// closeOpen hands the batch that was filled to the loop. The caller has the lock.
func (p *Producer) closeOpen(part *partition) {
	part.close()
	if len(part.full) == 1 { // else the loop has been told
		p.inbox.post(func() { p.loop.collect(part) })
	}
}

// close puts the batch that is being filled behind those that are full. The caller has
// the lock.
func (part *partition) close() {
	part.full = append(part.full, part.open)
	part.open = nil
	part.topic.turn(part.index)
}

// hurry has all batches sent that are being filled: somebody waits for room.
func (p *Producer) hurry() { p.inbox.post(p.loop.hurry) }
