package testkit

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A truncated segment keeps what was cut off until the log is opened again.
func TestReplicasAreReadWithoutWhatWasCutOff(t *testing.T) {
	dir := t.TempDir()
	write := func(first int64, epochOf ...uint32) {
		var file []byte
		for i, epoch := range epochOf {
			b := make([]byte, 61)
			binary.BigEndian.PutUint64(b, uint64(first)+uint64(i))
			binary.BigEndian.PutUint32(b[8:], 61-12)
			binary.BigEndian.PutUint32(b[12:], epoch)
			file = append(file, b...)
		}
		name := filepath.Join(dir, fmt.Sprintf("%020d.log", first))
		if err := os.WriteFile(name, file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(8, 1, 1, 1)
	write(10, 7, 7)
	got, err := readBatches(dir)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, b := range got {
		text += fmt.Sprintf("%d:%d ", b.offset, b.bytes[15])
	}
	if want := "8:1 9:1 10:7 11:7 "; text != want {
		t.Errorf("offsets and epochs are %q, want %q", text, want)
	}
}
