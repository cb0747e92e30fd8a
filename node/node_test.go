package node

import "testing"

func TestLogFilesLeaveDescriptorsToConnections(t *testing.T) {
	for limit, want := range map[uint64]int{
		0: 1, 256: 112, 1024: 448, 20_000: 4096, 1 << 63: 4096,
	} {
		if got := openFiles(limit); got != want {
			t.Errorf("of %d descriptors logs take %d, want %d", limit, got, want)
		}
	}
}
