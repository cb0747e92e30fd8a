package netio

import "testing"

func TestBufferClasses(t *testing.T) {
	last := -1
	for n := 1; n <= bufferMax; n += 1 + n/50 {
		class, size := sizeClass(n)
		if size < n || n > BufferMin && size > n+n/4+1 {
			t.Fatalf("%d bytes get %d", n, size)
		}
		if class < last || class >= classes {
			t.Fatalf("%d bytes are of class %d after %d", n, class, last)
		}
		if again, _ := sizeClass(size); again != class {
			t.Fatalf("class %d has the size %d, which is of class %d", class, size, again)
		}
		last = class
	}
	if class, size := sizeClass(bufferMax); class != classes-1 || size != bufferMax {
		t.Fatalf("the largest class is %d of %d bytes", class, size)
	}
	if class, size := sizeClass(bufferMax + 1); class != -1 || size != bufferMax+1 {
		t.Fatalf("above the pool: class %d of %d bytes", class, size)
	}
}
