package actors

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/quota"
)

// unbounded is a rate that nobody reaches: the settings' default.
const unbounded = 1 << 60

// rate reads a setting of replication throttles; 0 means no bound.
func (e *Env) rate(name string) int64 {
	if n := e.number(name); n < unbounded {
		return n
	}
	return 0
}

// sharedQuota is what the leaders of a node may send together to followers that
// are throttled. The replicas' goroutines share it.
type sharedQuota struct {
	mu     sync.Mutex
	bucket quota.Bucket
}

// reserve takes n bytes, or says how long to wait before asking again.
func (q *sharedQuota) reserve(now time.Time, rate int64, n int) (wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bucket.Set(now, rate)
	if q.bucket.Reserve(now, n) {
		return 0
	}
	return q.bucket.Wait(now)
}

func (q *sharedQuota) settle(reserved, used int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bucket.Settle(reserved, used)
}

// names reports whether a list of partition:node pairs, or a star, names a replica.
func names(list []string, partition int32, node messages.NodeID) bool {
	return len(list) > 0 &&
		(list[0] == "*" || slices.Contains(list, fmt.Sprintf("%d:%d", partition, node)))
}

// sendsThrottled reports whether what this leader sends to a follower counts
// against leader.replication.throttled.rate: as in Kafka what catches up does, and
// what is in sync does not.
func (r *replica) sendsThrottled(follower messages.NodeID) bool {
	return names(r.settings.LeaderThrottled, r.face.id.Partition, r.env.Self) &&
		!r.leader.InSync(follower)
}

// fetchesThrottled is the same of a follower.
func (r *replica) fetchesThrottled() bool {
	return names(r.settings.FollowerThrottled, r.face.id.Partition, r.env.Self) &&
		!slices.Contains(r.partition.ISR, r.env.Self)
}
