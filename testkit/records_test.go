package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

func TestReplicasOfACompactedTopicMayLackWhatIsSuperseded(t *testing.T) {
	// at builds the batch of one record at an offset.
	at := func(offset messages.Offset, key, value string) []byte {
		bu := record.NewBuilder(record.Compression{}).BaseOffset(offset)
		bu.Append(1, []byte(key), []byte(value))
		b, err := bu.Build()
		if err != nil {
			t.Fatal(err)
		}
		return b.Bytes
	}
	whole := [][]byte{at(0, "a", "1"), at(1, "b", "1"), at(2, "a", "2")}
	for _, tt := range []struct {
		name string
		b    [][]byte
		want string
	}{
		{"the same", whole, ""},
		{"compacted", whole[1:], ""},
		{"without the newest", whole[:2], "the newest of key"},
		{"without a key", [][]byte{whole[0], whole[2]}, "the newest of key"},
		{"another value", [][]byte{whole[1], at(2, "a", "3")}, "at offset 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Cluster{tb: t}
			for i, content := range [][][]byte{whole, tt.b} {
				n := &Node{ID: int32(i + 1), Dir: t.TempDir()}
				c.Nodes = append(c.Nodes, n)
				dir := filepath.Join(n.Dir, "table-0")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				var all []byte
				for _, b := range content {
					all = append(all, b...)
				}
				name := filepath.Join(dir, fmt.Sprintf("%020d.log", 0))
				if err := os.WriteFile(name, all, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := c.sameRecords("table-0")
			if tt.want == "" && err != nil || tt.want != "" &&
				(err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
