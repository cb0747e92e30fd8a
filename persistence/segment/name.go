package segment

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
)

// Suffixes of the files that belong to one segment, and of those on their way out.
const (
	LogSuffix       = ".log"
	IndexSuffix     = ".index"
	TimeIndexSuffix = ".timeindex"
	TxnIndexSuffix  = ".txnindex"
	SnapshotSuffix  = ".snapshot"
	DeletedSuffix   = ".deleted"
)

// baseDigits is the width of a base offset in file names: enough for any int64,
// so that names sort as offsets do.
const baseDigits = 20

// FileName returns the path of a segment's file in a partition's folder.
func FileName(dir string, base messages.Offset, suffix string) string {
	return path.Join(dir, fmt.Sprintf("%0*d%s", baseDigits, base, suffix))
}

// ParseFileName takes the name of a segment's file apart; ok is false for names
// that FileName does not make.
func ParseFileName(name string) (base messages.Offset, suffix string, ok bool) {
	digits, rest, found := strings.Cut(name, ".")
	if !found || len(digits) != baseDigits {
		return 0, "", false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, "", false
	}
	return messages.Offset(n), "." + rest, true
}
