// Package segment stores a run of record batches in one file, with its indexes.
//
// A segment is named by the offset of its first record, in 20 digits:
//
//	<base>.log        whole record batches, byte for byte as produced (format v2)
//	<base>.index      offset index: 4 bytes offset-base, 4 bytes position, big endian
//	<base>.timeindex  time index: 8 bytes timestamp, 4 bytes offset-base, big endian
//	<base>.txnindex   aborted transactions, see TxnEntrySize; only if there are any
//
// These are Kafka's own formats, and its tools read the files. The indexes are
// sparse, hold nothing the log does not, and are rebuilt from it when missing
// or damaged. The transaction index alone needs the producers' state for that, so
// the owner rebuilds it.
//
// Bytes enter by gathered writes into a file whose space was reserved in steps,
// so that a full disk is an error of Reserve and not of a store. They are read
// through a read-only memory mapping (headers, small reads, searches) or by the
// reader's own system calls on the file (large reads). Written bytes become
// visible when the owner commits them, and then never change: a segment is cut
// below its committed end only logically, because sendfile hands out the page
// cache itself and bytes may be on their way long after the call returned.
//
// Each Segment has one owner, the goroutine that writes; any goroutine may
// read. The Cache, shared by all segments of a node, bounds how many files are
// open and mapped. persistence/commitlog owns segments; the commands that
// inspect files use Batches.
package segment
