package bulk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

var aFetch = data.ReplicaFetch{
	Partition: messages.PartitionID{
		Topic: messages.TopicID{0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, Partition: 3},
	FollowerEpoch: 77, LeaderEpoch: 5, Offset: 1 << 40, LastEpoch: messages.NoEpoch,
	LogStart: 12, MaxBytes: 1 << 20,
}

// The bytes are the contract with nodes of other versions: docs/format/bulk.md. A
// change here needs a new version of the protocol.
func TestFramesAreAsDocumented(t *testing.T) {
	hello := hello{min: 1, max: 2, purpose: toFetch, node: 7, incarnation: "i-1", cluster: "c"}
	welcome := welcome{version: 1, status: statusCluster, node: 2, incarnation: "i", text: "no"}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"hello", hello.encode(),
			"54525042 000f 0001 0002 01 00000007 03692d31 0163"},
		{"welcome", welcome.encode(),
			"54525042 000c 0001 02 00000002 0169 026e6f"},
		{"ping", appendEmpty(nil, typePing), "00000001 02"},
		{"pong", appendEmpty(nil, typePong), "00000001 04"},
		{"fetch", appendFetch(nil, 9, &aFetch),
			"00000045 01 0000000000000009 a00102030405060708090a0b0c0d0e0f 00000003 " +
				"000000000000004d 00000005 0000010000000000 ffffffff 000000000000000c " +
				"0000000000100000"},
		{"records", appendFetched(nil, 9, &data.ReplicaFetched{LeaderEpoch: 5,
			HighWatermark: 10, LogStart: 1, LogEnd: 11}, 258),
			"0000013e 03 0000000000000009 0000 00000005 000000000000000a 0000000000000001 " +
				"000000000000000b 00 00000000 0000000000000000 00000102 00000000"},
		{"diverging", appendFetched(nil, 1, &data.ReplicaFetched{LeaderEpoch: 5,
			HighWatermark: messages.NoOffset, Diverging: &data.EpochEnd{Epoch: 4, End: 99}}, 0),
			"0000003c 03 0000000000000001 0000 00000005 ffffffffffffffff 0000000000000000 " +
				"0000000000000000 01 00000004 0000000000000063 00000000 00000000"},
		{"error", appendFetched(nil, 1, &data.ReplicaFetched{Err: messages.ErrUnavailable}, 0),
			fmt.Sprintf("00000053 03 0000000000000001 %s 00000000 0000000000000000 "+
				"0000000000000000 0000000000000000 00 00000000 0000000000000000 00000000 "+
				"00000017 %x", codeOf(messages.ErrUnavailable), "temporarily unavailable")},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, c.got, want)
		}
	}
}

// codeOf returns an error's code as it stands in messages/wire: that table has a
// golden test of its own.
func codeOf(err error) string {
	b := appendFetched(nil, 0, &data.ReplicaFetched{Err: err}, 0)
	return hex.EncodeToString(b[13:15])
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	b := appendFetch(nil, math.MaxUint64, &aFetch)
	var q data.ReplicaFetch
	size, kind, err := frameSize(b)
	if err != nil || size != fetchFields || kind != typeFetch {
		t.Fatal(size, kind, err)
	}
	if id, err := parseFetch(b[frameHead:], &q); err != nil || id != math.MaxUint64 || q != aFetch {
		t.Fatalf("fetch %d is %+v, %v", id, q, err)
	}
	for _, f := range []data.ReplicaFetched{
		{},
		{LeaderEpoch: 1, HighWatermark: 2, LogStart: 3, LogEnd: 4},
		{LeaderEpoch: messages.NoEpoch, HighWatermark: messages.NoOffset,
			Diverging: &data.EpochEnd{Epoch: messages.NoEpoch, End: 0}},
	} {
		b := appendFetched(nil, 5, &f, 0)
		got, err := parseFetched(b[frameHead:], len(b)-frameHead, 0)
		//nolint:govet // deepequalerrors: these answers have no errors in them
		if err != nil || got.id != 5 || !reflect.DeepEqual(got.ReplicaFetched, f) {
			t.Errorf("%+v came back as %+v, %v", f, got, err)
		}
	}
}

func TestErrorsKeepTheirMeaningAndText(t *testing.T) {
	long := strings.Repeat("ä", maxErrorText)
	for _, c := range []struct {
		err  error
		text string
	}{
		{messages.ErrNotLeader, "not leader for partition"},
		{fmt.Errorf("orders-0: %w", messages.ErrFencedLeaderEpoch), "orders-0: leader epoch is fenced"},
		{errors.New("something else"), "something else"},
		{fmt.Errorf("%s%w", "x"+long, messages.ErrStorage), "x" + long[:maxErrorText-2]},
	} {
		b := appendFetched(nil, 1, &data.ReplicaFetched{Err: c.err}, 0)
		fields := b[frameHead : frameHead+fetchedFields]
		f, err := parseFetched(fields, len(b)-frameHead, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.fail(b[frameHead+fetchedFields:])
		if f.Err == nil || f.Err.Error() != c.text {
			t.Errorf("%v came back as %v", c.err, f.Err)
		}
		if cause := errors.Unwrap(f.Err); cause != nil && !errors.Is(c.err, cause) {
			t.Errorf("%v means %v on the other side", c.err, cause)
		}
	}
}

func TestImpossibleFramesAreRefused(t *testing.T) {
	edit := func(b []byte, at int, with ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], with)
		return b
	}
	fetch := appendFetch(nil, 1, &aFetch)[frameHead:]
	minus := []byte{0xff}
	var q data.ReplicaFetch
	for name, b := range map[string][]byte{
		"short":              fetch[:fetchFields-1],
		"long":               append(bytes.Clone(fetch), 0),
		"negative partition": edit(fetch, 24, minus...),
		"negative offset":    edit(fetch, 40, minus...),
		"negative log start": edit(fetch, 52, minus...),
		"negative max bytes": edit(fetch, 60, minus...),
	} {
		if _, err := parseFetch(b, &q); !errors.Is(err, errMalformed) {
			t.Errorf("fetch, %s: %v", name, err)
		}
	}
	answer := appendFetched(nil, 1, &data.ReplicaFetched{}, 100)[frameHead:]
	for name, c := range map[string]struct {
		b    []byte
		size int
	}{
		"short":                {answer[:fetchedFields-1], fetchedFields + 100},
		"another size":         {answer, fetchedFields + 101},
		"unknown flag":         {edit(answer, 38, 2), fetchedFields + 100},
		"records above bound":  {edit(answer, 51, 0, 0, 0x10, 0), fetchedFields + 0x1000},
		"huge records":         {edit(answer, 51, 0xff, 0xff, 0xff, 0xff), fetchedFields + 100},
		"text above bound":     {edit(answer, 55, 0, 0, 0x10, 0), fetchedFields + 100 + 0x1000},
		"text without a cause": {edit(answer, 55, 0, 0, 0, 1), fetchedFields + 101},
	} {
		if _, err := parseFetched(c.b, c.size, 1000); !errors.Is(err, errMalformed) {
			t.Errorf("answer, %s: %v", name, err)
		}
	}
	for _, head := range []string{"\x00\x00\x00\x00\x01", "\x80\x00\x00\x00\x01"} {
		if _, _, err := frameSize([]byte(head)); !errors.Is(err, errMalformed) {
			t.Errorf("head %x: %v", head, err)
		}
	}
}

func TestHandshakesIgnoreWhatLaterVersionsAdd(t *testing.T) {
	h := hello{min: 1, max: 9, purpose: toFetch, node: 3, incarnation: "i", cluster: "c"}
	if got, err := parseHello(append(h.encode()[helloHead:], "more"...)); err != nil || got != h {
		t.Fatalf("%+v, %v", got, err)
	}
	w := welcome{version: 1, status: statusOK, node: 3, incarnation: "i", text: "t"}
	got, err := parseWelcome(append(w.encode()[helloHead:], "more"...))
	if err != nil || got != w {
		t.Fatalf("%+v, %v", got, err)
	}
}

// bytesConn is a peer that says what it was made of, and takes anything.
type bytesConn struct {
	net.Conn
	r io.Reader
}

func (c *bytesConn) Read(b []byte) (int, error)       { return c.r.Read(b) }
func (c *bytesConn) Write(b []byte) (int, error)      { return len(b), nil }
func (c *bytesConn) Close() error                     { return nil }
func (c *bytesConn) SetWriteDeadline(time.Time) error { return nil }

// Whatever a follower sends, the leader's side takes it or ends the connection,
// and never has more fetches at the handler than it may.
func FuzzFollowerFrames(f *testing.F) {
	fetch := appendFetch(nil, 1, &aFetch)
	f.Add(append(appendEmpty(nil, typePing), fetch...))
	f.Add(append(bytes.Clone(fetch), fetch[:20]...))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := defaultLimits
		l.pending = 3
		parked := 0
		park := func(q *data.ReplicaFetch, _ func(*data.ReplicaFetched)) {
			parked++
			if q.Follower != 4 || q.MaxBytes < 0 || q.Offset < 0 {
				t.Fatalf("the handler was given %+v", q)
			}
		}
		s := &Server{limits: l, handler: fetchFunc(park)}
		c := newFollowerConn(s, 4, 1, &bytesConn{r: bytes.NewReader(b)})
		if err := c.readAll(); err == nil || parked > 3 {
			t.Fatalf("%d fetches, %v", parked, err)
		}
	})
}

// Whatever a leader sends, the follower's side answers a fetch at most once, and
// takes no more memory than it was allowed.
func FuzzLeaderFrames(f *testing.F) {
	const records = 100
	add := func(a data.ReplicaFetched, records string) []byte {
		return append(appendFetched(nil, 1, &a, len(records)), records...)
	}
	f.Add(append(appendEmpty(nil, typePong), add(data.ReplicaFetched{}, "records")...))
	f.Add(add(data.ReplicaFetched{Err: messages.ErrNotLeader}, ""))
	f.Add(append(add(data.ReplicaFetched{}, "x"), add(data.ReplicaFetched{}, "x")...))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pool := &Pool{limits: defaultLimits, config: PoolConfig{ReceiveBytes: 1, MaxRecords: records}}
		p := newPeer(pool, 2)
		answered := 0
		p.pending[1] = &call{id: 1, q: &aFetch, done: func(f *data.ReplicaFetched) {
			answered++
			if len(f.Records) > records {
				t.Fatalf("%d bytes of records", len(f.Records))
			}
			if f.Release != nil {
				f.Release()
			}
		}}
		l := newLink(p, &bytesConn{r: bytes.NewReader(b)})
		if err := l.readAll(); err == nil || answered > 1 {
			t.Fatalf("answered %d times, %v", answered, err)
		}
		if p.budget.inUse() != 0 {
			t.Fatalf("%d bytes are not given back", p.budget.inUse())
		}
	})
}

// Neither side of the handshake can be led astray.
func FuzzHandshake(f *testing.F) {
	h := hello{min: 1, max: 1, purpose: toFetch, node: 7, incarnation: "i-1", cluster: "c"}
	w := welcome{version: 1, node: 2, incarnation: "i", text: "no"}
	f.Add(h.encode())
	f.Add(w.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		me := Identity{Node: 1, Cluster: "c"}
		if fields, err := readHello(&bytesConn{r: bytes.NewReader(b)}); err == nil {
			h, w := me.judge(fields)
			ok := h.cluster == "c" && h.min <= maxVersion && h.max >= minVersion
			if (w.status == statusOK) != (w.version != 0) || w.status == statusOK && !ok {
				t.Fatalf("%+v is answered with %+v", h, w)
			}
			if len(w.encode()) > helloHead+maxHello {
				t.Fatal("the answer is longer than allowed")
			}
		}
		if w, err := me.introduce(&bytesConn{r: bytes.NewReader(b)}, toProbe); err == nil &&
			(w.status != statusOK || w.version != 1) {
			t.Fatalf("%+v was accepted", w)
		}
	})
}

type fetchFunc func(*data.ReplicaFetch, func(*data.ReplicaFetched))

func (f fetchFunc) Fetch(q *data.ReplicaFetch, reply func(*data.ReplicaFetched)) { f(q, reply) }
func (f fetchFunc) Disconnected(messages.NodeID, uint64)                         {}
