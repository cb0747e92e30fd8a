package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

// What a power cut or a bad disk does to the end of a file must cost the bad
// part only.
func TestATornTailIsCutOff(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, log string)
	}{
		{"half a batch is missing", func(t *testing.T, log string) {
			end := dataEnd(t, log)
			if err := os.Truncate(log, end-20); err != nil {
				t.Fatal(err)
			}
		}},
		{"a bit of the last batch is flipped", func(t *testing.T, log string) {
			flip(t, log, dataEnd(t, log)-1)
		}},
		{"random bytes follow", func(t *testing.T, log string) {
			write(t, log, dataEnd(t, log), bytes.Repeat([]byte{0, 0, 0, 9, 0xfe}, 1000))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := testkit.StartNode(t)
			node.Troupe("topic", "create", "orders")
			produceOne(t, node, "first")
			produceOne(t, node, "second")
			node.Kill()
			tt.damage(t, filepath.Join(node.Dir, "orders-0", "00000000000000000000.log"))
			node.Restart()

			var got []string
			readAll(t, node, "orders", func(r *kgo.Record) { got = append(got, string(r.Value)) })
			if len(got) == 0 || got[0] != "first" || len(got) > 2 ||
				len(got) == 2 && got[1] != "second" {
				t.Errorf("read %q", got)
			}
			produceOne(t, node, "third")
			got = append(got, "third")
			expectRecords(t, node, got...)
		})
	}
}

// dataEnd returns where the last batch of a log ends: behind it are zeros.
func dataEnd(t *testing.T, log string) int64 {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	end := int64(len(bytes.TrimRight(b, "\x00")))
	if end < 61 {
		t.Fatalf("%s holds no batch", log)
	}
	return end
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	write(t, name, at, []byte{b[0] ^ 0x10})
}

func write(t *testing.T, name string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
