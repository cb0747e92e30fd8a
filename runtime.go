package main

import (
	"os"
	"runtime"
)

// diskThreads is how many threads may run Go code beside one for each CPU. A thread in a
// system call keeps its place until the runtime notices that it takes long, and reads,
// writes and flushes of files have no other way. With a place for each CPU alone, two
// fdatasyncs stop a node of two CPUs: 100 partitions that flush each batch had 14,000
// acknowledgements per second so, and 24,000 with six places more.
const diskThreads = 6

// placeForDisks makes room for threads that wait for a disk, unless GOMAXPROCS in the
// environment says how many there are.
func placeForDisks() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + diskThreads)
	}
}
