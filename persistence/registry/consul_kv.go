package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"

	"github.com/troupelog/troupe/messages"
)

const (
	// consulFormat is the version of the layout that Consul's comment describes.
	consulFormat = 1
	// txnBytesMax bounds the body of a transaction. Consul takes 512 KiB, values
	// as base64 (txn_max_req_len); values that do not fit are stored beforehand.
	txnBytesMax = 480 << 10
	// opOverhead is more than an operation takes without its key and value.
	opOverhead = 256
	// inBlob in the flags of a record says that its value is the name of a blob.
	inBlob = 1 << 63
)

// state is the record that changes with every Campaign and Commit; checking its
// index in a transaction makes sure that neither happened since.
type state struct {
	Format  int                      `json:"format"`
	Version messages.MetadataVersion `json:"version"`
	Epoch   messages.ControllerEpoch `json:"epoch"`

	index uint64 // ModifyIndex in Consul; 0: there is no such key
}

// lockRecord is what the lock says.
type lockRecord struct {
	Node  messages.NodeID          `json:"node"`
	Epoch messages.ControllerEpoch `json:"epoch"`
}

// lock is the lock key. The Holder stays what it was when nobody has the lock.
type lock struct {
	Holder
	session string // "" when nobody has it
}

func (l lock) holder() Holder {
	if l.session == "" {
		return Holder{Node: messages.NoNode, Epoch: l.Epoch}
	}
	return l.Holder
}

// tenure is what a Lease needs to commit. Guarded by the mutex of its store.
type tenure struct {
	store   *Consul
	session string
	state   state
	// unsure: the outcome of the last Commit is not known, nor is the state.
	unsure bool
	blobs  map[string]string // key of a record -> its blob
}

func (c *Consul) lockKey() string  { return c.prefix + "lock" }
func (c *Consul) stateKey() string { return c.prefix + "state" }
func (c *Consul) dataKey() string  { return c.prefix + "data/" }
func (c *Consul) blobKey() string  { return c.prefix + "blobs/" }

// consistent asks the leader of the Consul servers, after it made sure that it
// still is the leader.
func consistent(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
}

func (c *Consul) readState(ctx context.Context) (state, error) {
	before := c.sighted()
	pair, _, err := c.client.KV().Get(c.stateKey(), consistent(ctx))
	if err != nil {
		return state{}, c.explain("read the metadata version", err)
	}
	return c.decodeState(pair, before)
}

// decodeState reads the state record that was asked for when before had been seen.
func (c *Consul) decodeState(pair *api.KVPair, before sighting) (state, error) {
	st := state{Format: consulFormat}
	if pair != nil {
		if err := json.Unmarshal(pair.Value, &st); err != nil {
			return state{}, c.damaged(pair.Key, err)
		}
		st.index = pair.ModifyIndex
	}
	if st.Format > consulFormat {
		return state{}, fmt.Errorf("metadata under %s in Consul: %w: its format is %d, this version "+
			"knows %d: start the newer version", c.prefix, ErrNewerFormat, st.Format, consulFormat)
	}
	if st.Version < before.version {
		return state{}, c.regressed("version", int64(st.Version), int64(before.version))
	}
	if st.Epoch < before.epoch {
		return state{}, c.regressed("controller epoch", int64(st.Epoch), int64(before.epoch))
	}
	c.saw(sighting{st.Version, st.Epoch})
	return st, nil
}

func (c *Consul) readLock(ctx context.Context) (lock, error) {
	before := c.sighted()
	pair, _, err := c.client.KV().Get(c.lockKey(), consistent(ctx))
	if err != nil {
		return lock{}, c.explain("read the controller lock", err)
	}
	return c.decodeLock(pair, before)
}

func (c *Consul) decodeLock(pair *api.KVPair, before sighting) (lock, error) {
	l := lock{Holder: Holder{Node: messages.NoNode}}
	if pair != nil {
		var r lockRecord
		if err := json.Unmarshal(pair.Value, &r); err != nil {
			return lock{}, c.damaged(pair.Key, err)
		}
		l = lock{Holder: Holder(r), session: pair.Session}
	}
	if l.Epoch < before.epoch {
		return lock{}, c.regressed("controller epoch", int64(l.Epoch), int64(before.epoch))
	}
	c.saw(sighting{epoch: l.Epoch})
	return l, nil
}

// awaitLock returns the lock once it differs from what it was at index, or after
// watchWait; and the index to wait for next.
func (c *Consul) awaitLock(ctx context.Context, index uint64) (lock, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, watchWait+watchGrace)
	defer cancel()
	before := c.sighted()
	q := consistent(ctx)
	q.WaitIndex, q.WaitTime = index, watchWait
	pair, meta, err := c.client.KV().Get(c.lockKey(), q)
	if err != nil {
		return lock{}, 0, c.explain("watch the controller lock", err)
	}
	l, err := c.decodeLock(pair, before)
	if meta.LastIndex < index {
		return l, 0, err // another server, or an older copy of its data
	}
	return l, meta.LastIndex, err
}

// sighting is how far the metadata was when it was last looked at.
type sighting struct {
	version messages.MetadataVersion
	epoch   messages.ControllerEpoch
}

// sighted returns the newest that was seen. An answer to what is asked from now
// on must not be older.
func (c *Consul) sighted() sighting {
	c.seenMu.Lock()
	defer c.seenMu.Unlock()
	return c.seen
}

func (c *Consul) saw(s sighting) {
	c.seenMu.Lock()
	defer c.seenMu.Unlock()
	c.seen.version = max(c.seen.version, s.version)
	c.seen.epoch = max(c.seen.epoch, s.epoch)
}

func (c *Consul) regressed(what string, is, was int64) error {
	return fmt.Errorf("metadata under %s in Consul is at %s %d, it was at %d: %w: "+
		"restore Consul from a newer snapshot; nodes go on with what they know",
		c.prefix, what, is, was, ErrRegressed)
}

func (c *Consul) damaged(key string, err error) error {
	return fmt.Errorf("key %s in Consul: %w: %w: restore it from a snapshot of Consul",
		key, ErrCorrupt, err)
}

// Read implements Store.
func (c *Consul) Read(ctx context.Context) (Contents, error) {
	if err := usable(ctx, c.closed); err != nil {
		return Contents{}, err
	}
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	before := c.sighted()
	pairs, _, err := c.client.KV().List(c.prefix, consistent(ctx)) // one state of the store
	if err != nil {
		return Contents{}, c.explain("read the metadata", err)
	}
	var stored *api.KVPair
	blobs := map[string][]byte{}
	for _, p := range pairs {
		if name, ok := strings.CutPrefix(p.Key, c.blobKey()); ok {
			blobs[name] = p.Value
		}
		if p.Key == c.stateKey() {
			stored = p
		}
	}
	st, err := c.decodeState(stored, before)
	if err != nil {
		return Contents{}, err
	}
	out := Contents{Version: st.Version}
	for _, p := range pairs {
		key, ok := strings.CutPrefix(p.Key, c.dataKey())
		if !ok {
			continue
		}
		value := p.Value
		if p.Flags&inBlob != 0 {
			if value, ok = blobs[string(p.Value)]; !ok {
				return Contents{}, c.damaged(p.Key, errors.New("its value is missing"))
			}
		}
		out.Entries = append(out.Entries, Entry{Key: key, Value: append([]byte{}, value...),
			Revision: int64(p.Flags &^ inBlob)})
	}
	slices.SortFunc(out.Entries, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// Commit implements Store.
func (c *Consul) Commit(
	ctx context.Context, lease Lease, ops []Op,
) (messages.MetadataVersion, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := usable(ctx, c.closed); err != nil {
		return 0, err
	}
	if err := checkOps(ops); err != nil {
		return 0, err
	}
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	t, ok := lease.token.(*tenure)
	if !ok || t.store != c || t.state.Epoch != lease.Epoch {
		return 0, c.fenced(ctx, lease)
	}
	if t.unsure {
		st, err := c.readState(ctx)
		if err != nil {
			return 0, err
		}
		if st.Epoch != lease.Epoch {
			return 0, c.fenced(ctx, lease)
		}
		t.state, t.unsure = st, false // nobody else writes under this epoch
	}
	return c.commit(ctx, lease, t, ops)
}

func (c *Consul) commit(
	ctx context.Context, lease Lease, t *tenure, ops []Op,
) (messages.MetadataVersion, error) {
	next := state{Format: consulFormat, Version: t.state.Version + 1, Epoch: t.state.Epoch}
	txn := []*api.KVTxnOp{
		{Verb: api.KVCheckSession, Key: c.lockKey(), Session: t.session},
		{Verb: api.KVCAS, Key: c.stateKey(), Value: encodeJSON(next), Index: t.state.index},
	}
	records, blobs, err := c.records(ctx, ops, next.Version)
	if err != nil {
		return 0, err
	}
	t.unsure = true
	ok, resp, err := c.txn(ctx, append(txn, records...))
	if err != nil {
		return 0, c.explain("commit metadata", err)
	}
	t.unsure = false
	if !ok {
		for _, e := range resp.Errors {
			if e.OpIndex >= 2 {
				return 0, c.explain("commit metadata", errors.New(e.What))
			}
		}
		return 0, c.fenced(ctx, lease)
	}
	next.index = indexOf(resp, c.stateKey())
	t.state = next
	c.saw(sighting{next.Version, next.Epoch})
	c.dropBlobs(ctx, t, ops, blobs)
	return next.Version, nil
}

// fenced says who is controller instead, as far as Consul tells.
func (c *Consul) fenced(ctx context.Context, lease Lease) error {
	held, err := c.readLock(ctx)
	if err != nil {
		held.Holder = Holder{Node: messages.NoNode}
	}
	return fenced(lease, held.holder())
}

// records turns operations into those of a transaction. Values that would make
// it too large are stored as blobs, which nothing refers to until the
// transaction does; blobs are their names by record key.
func (c *Consul) records(
	ctx context.Context, ops []Op, version messages.MetadataVersion,
) (txn []*api.KVTxnOp, blobs map[string]string, err error) {
	size := 2 * opOverhead
	for _, op := range ops {
		o := &api.KVTxnOp{Verb: api.KVSet, Key: c.dataKey() + op.Key, Value: op.Value,
			Flags: uint64(version)}
		if op.Value == nil {
			o = &api.KVTxnOp{Verb: api.KVDelete, Key: c.dataKey() + op.Key}
		}
		size += opOverhead + len(o.Key) + base64.StdEncoding.EncodedLen(len(o.Value))
		txn = append(txn, o)
	}
	bySize := slices.Clone(txn)
	slices.SortFunc(bySize, func(a, b *api.KVTxnOp) int { return len(b.Value) - len(a.Value) })
	blobs = map[string]string{}
	for i := 0; size > txnBytesMax && i < len(bySize); i++ {
		o := bySize[i]
		name := uuid.NewString()
		_, err := c.client.KV().Put(&api.KVPair{Key: c.blobKey() + name, Value: o.Value},
			(&api.WriteOptions{}).WithContext(ctx))
		if err != nil {
			return nil, nil, c.explain("store a large value", err)
		}
		size -= base64.StdEncoding.EncodedLen(len(o.Value)) - 2*len(name)
		o.Value, o.Flags = []byte(name), o.Flags|inBlob
		blobs[strings.TrimPrefix(o.Key, c.dataKey())] = name
	}
	return txn, blobs, nil
}

// dropBlobs notes the blobs of a commit and deletes those it replaced.
func (c *Consul) dropBlobs(ctx context.Context, t *tenure, ops []Op, blobs map[string]string) {
	for _, op := range ops {
		if old := t.blobs[op.Key]; old != "" {
			c.deleteBlob(ctx, old)
			delete(t.blobs, op.Key)
		}
		if name := blobs[op.Key]; name != "" {
			t.blobs[op.Key] = name
		}
	}
}

// deleteBlob is not vital: the next controller sweeps up what is left.
func (c *Consul) deleteBlob(ctx context.Context, name string) {
	_, err := c.client.KV().Delete(c.blobKey()+name, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		c.cfg.Log.Warn("an unused value was left in Consul", slog.Any("error", err))
	}
}

// sweep learns which blobs are in use and deletes the others. Those belong to
// commits that failed, or that will: of controllers before this one.
func (c *Consul) sweep(ctx context.Context, t *tenure) error {
	t.blobs = map[string]string{}
	names, _, err := c.client.KV().Keys(c.blobKey(), "", consistent(ctx))
	if err != nil {
		return c.explain("list large values", err)
	}
	if len(names) == 0 {
		return nil
	}
	pairs, _, err := c.client.KV().List(c.dataKey(), consistent(ctx))
	if err != nil {
		return c.explain("list metadata", err)
	}
	used := map[string]bool{}
	for _, p := range pairs {
		if p.Flags&inBlob != 0 {
			t.blobs[strings.TrimPrefix(p.Key, c.dataKey())] = string(p.Value)
			used[string(p.Value)] = true
		}
	}
	for _, key := range names {
		if name := strings.TrimPrefix(key, c.blobKey()); !used[name] {
			c.deleteBlob(ctx, name)
		}
	}
	return nil
}

// txn carries out a transaction; ok is false when a check of it failed.
func (c *Consul) txn(ctx context.Context, ops []*api.KVTxnOp) (bool, *api.TxnResponse, error) {
	all := make(api.TxnOps, len(ops))
	for i, op := range ops {
		all[i] = &api.TxnOp{KV: op}
	}
	ok, resp, _, err := c.client.Txn().Txn(all, (&api.QueryOptions{}).WithContext(ctx))
	return ok, resp, err
}

func indexOf(resp *api.TxnResponse, key string) uint64 {
	for _, r := range resp.Results {
		if r.KV != nil && r.KV.Key == key {
			return r.KV.ModifyIndex
		}
	}
	return 0
}

func encodeJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("BUG: %T does not encode: %v", v, err))
	}
	return b
}
