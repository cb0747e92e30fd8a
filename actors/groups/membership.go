package groups

import (
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

// membership is the protocol by which the members of a group share partitions. A
// Group has one at a time, and everything that is not about offsets goes to it. It
// makes things durable with Group.write, one write for each call at most.
type membership interface {
	kind() group.Type
	// handle decides a request of this protocol; ok is false for one of another,
	// which is not answered then.
	handle(now time.Time, r coord.Request) (ok bool)
	tick(now time.Time)
	due() time.Time
	// mayCommit says whether by may commit offsets, and keeps that member alive.
	mayCommit(now time.Time, by *committer) error
	mayFetch(memberID string, memberEpoch int32) error
	mayDeleteOffsets() error
	// subscribed reports whether a member may be reading the topic: its offsets
	// are neither deleted nor forgotten.
	subscribed(topic string) bool
	// retention says from when on the offsets age.
	retention() retention
	// vacant reports that there is no member: the group may be deleted.
	vacant() bool
	// exists reports whether there is anything to remember or to wait for.
	exists() bool
	describe(d *group.Description)
	// tombstones forget all records of the protocol that are in the partition.
	tombstones() []coord.Record
	replay(k Key, r coord.Replayed) error
	loaded(now time.Time)
	// unheard gives members that were silent their full session from now on.
	unheard(now time.Time)
	// stop answers everything that waits.
	stop(err error)
}

// committer is who commits offsets.
type committer struct {
	memberID   string
	instanceID string
	generation int32
	epochs     bool // see group.Commit
	txn        bool
}

// retention says how the age of committed offsets is counted.
type retention struct {
	expires bool // false: nothing expires now
	// since is when the group lost its last member; NoTimestamp: each offset
	// counts from its commit.
	since messages.Timestamp
}
