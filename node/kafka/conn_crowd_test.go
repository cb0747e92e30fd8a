package kafka

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/testkit"
)

// anyRequest makes a request of a client that does everything on one connection.
func anyRequest(t *testing.T, r *rand.Rand, large []byte) kmsg.Request {
	batches := map[int32][]byte{}
	for range 1 + r.IntN(4) {
		batches[r.Int32N(4)] = batchOf(t, "a", "b")
	}
	switch r.IntN(8) {
	case 0:
		return anyAPIVersions()
	case 1, 2:
		req := fetchFrom(12, time.Duration(r.IntN(5))*time.Millisecond, r.Int32N(5))
		req.Topics[0].Partitions[0].FetchOffset = r.Int64N(2)
		req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 10<<20, 10<<20
		return req
	case 3:
		return produceTo(9, 0, batches)
	case 4:
		return produceTo(9, 1, map[int32][]byte{0: large})
	default:
		return produceTo(9, int16(-1+2*r.IntN(2)), batches)
	}
}

// Several clients do all at once what connections treat specially: partitions that the
// reader runs, answers that others send, answers that do not fit, full pipelines.
func TestWhateverClientsDoAtOnceTheirAnswersComeInOrder(t *testing.T) {
	const clients, each = 6, 60
	f := lending(5)
	large := largeBatch(t, 300<<10)
	last := f.replica("t", 4)
	last.lends = false
	last.config.MaxMessageBytes = 10 << 20
	stored := f.store(t, 4, largeBatch(t, 3<<20))
	file, at := onDisk(t, stored, false)
	last.extents = split(file, at, stored)
	s := serveFake(t, f, Config{MaxInFlight: 5, QueuedMaxBytes: 4 << 20})
	var all sync.WaitGroup
	for i := range uint64(clients) {
		r := rand.New(rand.NewPCG(3, i))
		w := dial(t, s)
		reqs := make([]kmsg.Request, each)
		for i := range reqs {
			reqs[i] = anyRequest(t, r, large)
		}
		all.Go(func() {
			for i, req := range reqs {
				if _, err := w.Write(frame(int32(i), req)); err != nil {
					t.Error(err)
					return
				}
			}
		})
		all.Go(func() {
			for i, req := range reqs {
				if p, ok := req.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
					continue
				}
				if got, _, err := w.tryResponse(); err != nil || got != int32(i) {
					t.Errorf("answer %d instead of %d (%s): %v", got, i, fmt.Sprintf("%T", req), err)
					return
				}
			}
		})
	}
	all.Wait()
	testkit.Eventually(t, "all memory is given back", func() bool {
		return s.Stats().QueuedBytes == 0
	})
	for i := range int32(5) {
		if n := f.replica("t", i).views.Load(); n != 0 {
			t.Errorf("%d views of partition %d are not released", n, i)
		}
	}
}
