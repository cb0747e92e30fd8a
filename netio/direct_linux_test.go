package netio

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"testing"
)

func TestADirectWriteTakesWhatTheSocketHasRoomForAndNeverWaits(t *testing.T) {
	near, far := connected(t)
	d := NewDirect(near)
	r := rand.New(rand.NewPCG(1, 1))
	var want []byte
	full := false
	for !full { // nobody reads: a write that waited would hang
		a, b := make([]byte, 1+r.IntN(100)), make([]byte, 1+r.IntN(64<<10))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		n, err := d.Write([][]byte{a, b})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, append(a, b...)[:n]...)
		full = n < len(a)+len(b)
	}
	if n, err := d.Write([][]byte{{1}}); n != 0 || err != nil {
		t.Fatalf("a full socket took %d bytes, error %v", n, err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("other bytes arrive than were taken")
	}
}

func TestADirectWriteToAClosedConnectionFails(t *testing.T) {
	near, _ := connected(t)
	d := NewDirect(near)
	_ = near.Close()
	if n, err := d.Write([][]byte{{1}}); err == nil {
		t.Fatalf("a closed connection took %d bytes", n)
	}
}

func TestTLSIsNotWrittenDirectly(t *testing.T) {
	near, _ := connected(t)
	if NewDirect(tls.Client(near, &tls.Config{InsecureSkipVerify: true})) != nil {
		t.Fatal("bytes go past TLS")
	}
}
