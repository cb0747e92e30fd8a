package bulk

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

const benchBytes = 256 << 20 // of the file that is replicated

// childHandler returns what the child serves: with an argument, records of a file
// of that name, else nothing.
func childHandler() Handler {
	if len(os.Args) < 3 {
		return &leader{}
	}
	f, err := os.Open(os.Args[2])
	if err != nil {
		panic(err)
	}
	file := diskFile{f, false}
	return fetchFunc(func(q *data.ReplicaFetch, reply func(*data.ReplicaFetched)) {
		reply(&data.ReplicaFetched{View: messages.View{Bytes: q.MaxBytes, Extents: []messages.Extent{
			{File: file, Pos: int64(q.Offset), Len: q.MaxBytes}}}})
	})
}

// serveRaw writes one buffer over and over to whoever connects: the least that
// moving bytes between two processes can cost.
func serveRaw(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			b := make([]byte, 1<<20)
			for {
				if _, err := nc.Write(b); err != nil {
					_ = nc.Close()
					return
				}
			}
		}()
	}
}

// rawRate returns how many bytes per second a bare TCP connection brings.
func rawRate(b *testing.B, addr string, d time.Duration) float64 {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	buf := make([]byte, 256<<10)
	began, n := time.Now(), 0
	for time.Since(began) < d {
		k, err := nc.Read(buf)
		if err != nil {
			b.Fatal(err)
		}
		n += k
	}
	return float64(n) / time.Since(began).Seconds()
}

// Replication from another process, beside a bare TCP copy from the same process
// in the same seconds: "of-raw" is the ratio.
//
//	go test -run '^$' -bench Replication ./cluster/bulk
func BenchmarkReplication(b *testing.B) {
	log := newLog(b, benchBytes)
	out, _ := child(b, log.file.Name())
	addr, raw, _ := strings.Cut(out, " ")
	for _, size := range []int{64 << 10, 1 << 20} {
		for _, partitions := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%dKiB/%dpartitions", size>>10, partitions), func(b *testing.B) {
				p := follow(b, PoolConfig{}, defaultLimits, addr)
				answers := make(chan *data.ReplicaFetched, partitions)
				next := 0
				ask := func(i int) {
					at := next % (benchBytes - size)
					next += size
					p.Fetch(leaderNode, fetchOf(int32(i), at, size),
						func(f *data.ReplicaFetched) { answers <- f })
				}
				before := rawRate(b, raw, 300*time.Millisecond)
				for i := range partitions {
					ask(i)
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				began, n := time.Now(), 0
				for b.Loop() {
					f := <-answers
					if f.Err != nil || len(f.Records) != size {
						b.Fatalf("%d bytes, %v", len(f.Records), f.Err)
					}
					f.Release()
					ask(n)
					n++
				}
				rate := float64(n*size) / time.Since(began).Seconds()
				after := rawRate(b, raw, 300*time.Millisecond)
				b.ReportMetric(2*rate/(before+after), "of-raw")
				for range partitions {
					(<-answers).Release()
				}
			})
		}
	}
}
