package netio

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

func TestAReceiverReadsIntoTwoPiecesAndTellsWhenItWouldWait(t *testing.T) {
	near, far := connected(t)
	r := NewReceiver(far)
	a, b := make([]byte, 3), make([]byte, 10)
	if n, err := r.Try(a, b); n != 0 || !errors.Is(err, ErrWouldWait) {
		t.Fatalf("read %d bytes of nothing: %v", n, err)
	}
	if _, err := near.Write([]byte("abcdefg")); err != nil {
		t.Fatal(err)
	}
	n, err := r.Wait(a, b)
	if n != 7 || err != nil || string(a)+string(b[:4]) != "abcdefg" {
		t.Fatalf("read %d bytes: %q, %q, %v", n, a, b, err)
	}
	if err := far.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Try(a, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("behind the deadline: %v", err)
	}
	if err := far.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Wait(a, b); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
}

func TestAReceiverOfAConnectionWithoutASocketOnlyWaits(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		_, _ = far.Write([]byte("abc"))
		_ = far.Close()
	}()
	r := NewReceiver(near)
	if _, err := r.Try(make([]byte, 3), nil); !errors.Is(err, ErrWouldWait) {
		t.Errorf("got %v", err)
	}
	b := make([]byte, 3)
	if n, err := r.Wait(b, make([]byte, 9)); n != 3 || err != nil || string(b) != "abc" {
		t.Errorf("got %q, %v", b[:n], err)
	}
}

// What TrySend does not take goes behind it with the Sender's other methods.
func TestTrySendTakesWhatFitsAndNeverWaits(t *testing.T) {
	near, far := connected(t)
	s := NewSender(near, &Buffers{}, time.Minute, 1<<20)
	want := make([]byte, 32<<20)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range want {
		want[i] = byte(r.Uint32())
	}
	sent, full := 0, false
	testkit.Eventually(t, "the socket is full", func() bool {
		n, err := s.TrySend(want[sent:])
		if err != nil {
			t.Fatal(err)
		}
		sent += n
		full = full || n == 0
		return full
	})
	if sent == len(want) || s.Sent() != int64(sent) {
		t.Fatalf("%d of %d bytes left, it says %d", sent, len(want), s.Sent())
	}
	rest := make(chan error, 1)
	go func() {
		err := s.Memory(want[sent:])
		if err == nil {
			err = s.Flush()
		}
		rest <- err
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("bytes are not what was sent (%v)", err)
	}
	if err := <-rest; err != nil {
		t.Error(err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TrySend(want); err == nil {
		t.Error("sent to a connection that is closed")
	}
}
