package testkit

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rawBatch is the least that looks like a batch: offset, length, epoch.
func rawBatch(offset int64, epoch uint32) []byte {
	b := make([]byte, 61)
	binary.BigEndian.PutUint64(b, uint64(offset))
	binary.BigEndian.PutUint32(b[8:], 61-12)
	binary.BigEndian.PutUint32(b[12:], epoch)
	return b
}

func TestReplicasThatDifferAreFound(t *testing.T) {
	type files map[int64][]byte // content by first offset
	join := func(batches ...[]byte) (all []byte) {
		for _, b := range batches {
			all = append(all, b...)
		}
		return all
	}
	whole := files{0: join(rawBatch(0, 0), rawBatch(1, 0), rawBatch(2, 1))}
	for _, tt := range []struct {
		name string
		b    files
		want string // in the error; "" means that all is well
	}{
		{"the same", whole, ""},
		{"cut into segments elsewhere",
			files{0: rawBatch(0, 0), 1: join(rawBatch(1, 0), rawBatch(2, 1))}, ""},
		{"room at the end", files{0: join(whole[0], make([]byte, 100))}, ""},
		{"a later start", files{1: join(rawBatch(1, 0), rawBatch(2, 1))}, ""},
		{"what was cut off is still in the file",
			files{0: join(rawBatch(0, 0), rawBatch(1, 9)), 1: join(rawBatch(1, 0), rawBatch(2, 1))}, ""},
		{"one batch less", files{0: join(rawBatch(0, 0), rawBatch(1, 0))}, "3 batches"},
		{"another epoch", files{0: join(rawBatch(0, 0), rawBatch(1, 1), rawBatch(2, 1))}, "batch 1"},
		{"garbage at the end", files{0: join(whole[0], []byte{1})}, "no batch"},
		{"no replica anywhere else", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Cluster{tb: t}
			for i, content := range []files{whole, tt.b} {
				n := &Node{ID: int32(i + 1), Dir: t.TempDir()}
				c.Nodes = append(c.Nodes, n)
				if content == nil {
					continue
				}
				dir := filepath.Join(n.Dir, "orders-0")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				for first, b := range content {
					name := filepath.Join(dir, fmt.Sprintf("%020d.log", first))
					if err := os.WriteFile(name, b, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			err := c.sameReplicas("orders-0")
			if tt.want == "" && err != nil {
				t.Errorf("all is well, but there is an error: %v", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}
