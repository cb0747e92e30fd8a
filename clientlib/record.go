package clientlib

import "time"

// Record is a message: of a producer on its way into a topic, or as a consumer reads it.
// While a producer has it, nobody may change it.
type Record struct {
	Topic string
	// Partition is where the record is; a producer sets it, unless the partitioner is
	// Explicit: then it is where the record goes.
	Partition int32
	// Offset is its number in the partition; a producer sets it once the record is there.
	Offset int64
	// Time is when it happened, to the millisecond; zero: now, when it is sent.
	Time time.Time
	// Key chooses the partition and, in compacted topics, what is replaced. Nil: none.
	Key []byte
	// Value nil deletes the key in compacted topics.
	Value   []byte
	Headers []Header

	epoch int32 // of the leader that wrote it; for commits
}

// Header is a name and a value that go with a record. Names may repeat.
type Header struct {
	Key   string
	Value []byte
}

// Header returns the value of the last header of that name, nil if there is none.
func (r *Record) Header(name string) []byte {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if r.Headers[i].Key == name {
			return r.Headers[i].Value
		}
	}
	return nil
}

// Partition names a partition of a topic.
type Partition struct {
	Topic string
	Index int32
}
