package bulk

import (
	"bufio"
	"io"
	"net"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/testkit"
)

// narrow makes the write buffers of accepted connections as small as they can be, so
// that frames soon are taken in part.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(1)
	}
	return nc, err
}

// The leader's replies are all made by one goroutine, while the follower reads
// nothing: some are sent at once, one in part, and the writer has the others.
func TestSmallAnswersArriveWholeWhenTheFollowerIsSlowToRead(t *testing.T) {
	const fetches, size = 2000, 3000
	log := newLog(t, 1<<20)
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, defaultLimits, narrow{on})
	nc := stranger(t, on.Addr().String())
	var b []byte
	for i := range uint64(fetches) {
		b = appendFetch(b, i, fetchOf(int32(i), int(i), size))
	}
	if _, err := nc.Write(b); err != nil {
		t.Fatal(err)
	}
	for _, p := range h.take(t, fetches) {
		v := log.inFile(0, 0)
		at := int(p.q.Offset)
		v.Extents, v.Bytes = []messages.Extent{{Mem: log.content[at : at+size]}}, size
		p.reply(&data.ReplicaFetched{View: v})
	}
	r := bufio.NewReader(nc)
	records := make([]byte, size)
	for seen := map[uint64]bool{}; len(seen) < fetches; {
		f := readAnswer(t, r)
		if seen[f.id] || f.records != size {
			t.Fatalf("answer %d (again: %v) of %d bytes", f.id, seen[f.id], f.records)
		}
		seen[f.id] = true
		if _, err := io.ReadFull(r, records); err != nil {
			t.Fatal(err)
		}
		equal(t, records, log.content[f.id:f.id+size])
	}
	testkit.Eventually(t, "the views are released", func() bool { return log.open.Load() == 0 })
}

// readAnswer reads an answer up to its records.
func readAnswer(t *testing.T, r io.Reader) fetched {
	t.Helper()
	var head [frameHead]byte
	var fields [fetchedFields]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, fields[:]); err != nil {
		t.Fatal(err)
	}
	size, kind, err := frameSize(head[:])
	if err != nil || kind != typeFetched {
		t.Fatalf("frame of type %d, error %v", kind, err)
	}
	f, err := parseFetched(fields[:], size, DefaultMaxRecords)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The leader's node reads nothing while many partitions ask, more than its socket
// has room for; then it must read each fetch once.
func TestFetchesArriveWholeWhenTheLeaderIsSlowToRead(t *testing.T) {
	const fetches = 60_000
	on := listen(t)
	read, seen := make(chan struct{}), make(chan map[uint64]int, 1)
	go func() {
		defer close(seen)
		nc, err := on.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		w := welcome{version: 1, status: statusOK, node: leaderNode}
		if _, err := readHello(nc); err != nil {
			return
		}
		if _, err := nc.Write(w.encode()); err == nil {
			<-read
			seen <- fetchesIn(nc, fetches)
		}
	}()
	l := defaultLimits
	l.silent = 1 << 20 // nobody answers pings
	p := follow(t, PoolConfig{}, l, on.Addr().String())
	ask := func(i int) {
		p.Fetch(leaderNode, fetchOf(int32(i), i, 0), func(*data.ReplicaFetched) {})
	}
	ask(0)
	peer := p.peer(leaderNode)
	testkit.Eventually(t, "the pool is connected", func() bool {
		peer.mu.Lock()
		defer peer.mu.Unlock()
		return peer.link != nil && peer.link.nc.(*net.TCPConn).SetWriteBuffer(1) == nil
	})
	for i := range fetches - 1 {
		ask(i + 1)
	}
	peer.mu.Lock()
	waiting := len(peer.queue)
	peer.mu.Unlock()
	if waiting == 0 {
		t.Fatal("the socket had room for all")
	}
	close(read)
	got := <-seen
	if len(got) != fetches {
		t.Fatalf("%d of %d fetches arrived", len(got), fetches)
	}
	for id, n := range got {
		if n != 1 {
			t.Fatalf("fetch %d arrived %d times", id, n)
		}
	}
}

// fetchesIn reads so many fetches that each ask from the offset that is the
// partition's number, and counts them by id. It returns early after anything else.
func fetchesIn(from io.Reader, n int) map[uint64]int {
	seen := map[uint64]int{}
	r := bufio.NewReader(from)
	frame := make([]byte, frameHead+fetchFields)
	for range n {
		for frame[4] = typePing; frame[4] == typePing; {
			if _, err := io.ReadFull(r, frame[:frameHead]); err != nil {
				return seen
			}
		}
		if _, err := io.ReadFull(r, frame[frameHead:]); err != nil {
			return seen
		}
		var q data.ReplicaFetch
		id, err := parseFetch(frame[frameHead:], &q)
		if err != nil || int(q.Offset) != int(q.Partition.Partition) {
			return seen
		}
		seen[id]++
	}
	return seen
}
