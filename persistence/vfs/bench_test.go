package vfs

import "testing"

// BenchmarkWritev is the append of a partition: eight batches of 2 KiB in one
// system call, into reserved space.
func BenchmarkWritev(b *testing.B) {
	f, err := OS{}.Create(b.TempDir() + "/a")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 64 << 20
	if err := f.Allocate(size); err != nil {
		b.Fatal(err)
	}
	bufs := make([][]byte, 8)
	for i := range bufs {
		bufs[i] = make([]byte, 2<<10)
	}
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	for i := range b.N {
		if _, err := f.Writev(bufs, int64(i)*(16<<10)%size); err != nil {
			b.Fatal(err)
		}
	}
}
