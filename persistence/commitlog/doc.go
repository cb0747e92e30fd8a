// Package commitlog keeps the log of one partition: a row of segments in one
// folder, the epochs its records were written under, and what is needed to find
// the log's end again after a crash.
//
// The folder is laid out as Kafka does it, so its tools can read it:
//
//	<topic>-<partition>/
//	  00000000000000000000.log, .index, .timeindex   a segment, see package segment
//	  00000000000000000000.snapshot                  the producers' state at that offset
//	  leader-epoch-checkpoint                        where each leader epoch begins
//	  partition.metadata                             the topic's id
//
// and two files of our own, which Kafka ignores: truncation-point, there
// between a truncation and the next flush, and offset-gaps, which says where a log
// that was compacted, or copied from one that was, has no records.
//
// One goroutine owns a Log and calls the methods that change it; the others may
// be called by any goroutine at any time, and never wait for the owner: they
// work on an immutable list of segments published by an atomic pointer. A read
// returns a View, whose bytes stay as they are until its Release, whatever the
// owner does meanwhile.
//
// Durability. What Append stored survives the death of the process. It survives
// a power cut once a Flush ran, up to Durable; the owner saves that offset as
// the recovery point (WriteCheckpoint) and hands it to the next Open, which
// trusts what lies below and scans what lies above: every CRC is checked there,
// and the log ends before the first batch that is not whole.
//
// Errors of the disk are *segment.IOError and *segment.CorruptError, both a
// messages.ErrStorage. A full disk fails an operation and leaves the log as it
// was. A failed sync is final: the kernel may have dropped the pages it could
// not write, so the Log refuses every later Append until it is opened again.
package commitlog
