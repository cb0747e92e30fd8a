package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"

	"github.com/troupelog/troupe/persistence/vfs"
)

// The layout of a bbolt file, version 2, in the byte order of the machine: pages
// of one size, each with a header; the first two hold the file's head ("meta"),
// alternately written; from the newer one a B+tree of buckets hangs.
const (
	pageHeaderBytes  = 16 // id 8, flags 2, count of elements 2, overflow pages 4
	elementBytes     = 16
	bucketBytes      = 16 // root page 8, sequence 8
	metaBytes        = 64 // from the end of the page header, the checksum last
	freelistManyMark = 0xFFFF

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10

	bucketElement = 0x01

	boltMagic       = 0xED0CDAED
	boltFileVersion = 2
	pageBytesMin    = 1 << 10
	pageBytesMax    = 64 << 10
	// treeDepthMax is far more than a tree of small records ever needs.
	treeDepthMax = 32
	// noFreelist in the head: bbolt was told not to store the list.
	noFreelist = ^uint64(0)
)

var order = binary.NativeEndian

// examine reads a metadata file before bbolt does and fails with ErrCorrupt
// unless every page that can be reached is sound. fresh means that there is no
// file yet, or an empty one.
//
// bbolt trusts its pages. A child that points at its own branch makes it loop
// for ever, an element longer than its page makes it read anything at all;
// neither can be caught once it happens. After this check it cannot happen.
func examine(fsys vfs.FS, name string) (fresh bool, err error) {
	f, err := fsys.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("metadata file: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return false, fmt.Errorf("metadata file: %w", err)
	}
	if size == 0 {
		return true, nil
	}
	switch err := examinePages(f, size); {
	case errors.Is(err, ErrCorrupt):
		return false, corrupt(name, err)
	case err != nil:
		return false, fmt.Errorf("metadata file: %w", err)
	}
	return false, nil
}

// examinePages checks the pages of a file of size bytes.
func examinePages(f io.ReaderAt, size int64) error {
	h, err := readHead(f, size)
	if err != nil {
		return err
	}
	if h.pages > uint64(size)/h.pageBytes {
		return damaged("it is %d bytes long, its head says %d pages of %d: the end is missing",
			size, h.pages, h.pageBytes)
	}
	e := &examiner{file: f, head: h, seen: make(map[uint64]bool)}
	if err := e.tree(h.root, 0); err != nil {
		return err
	}
	return e.freelist()
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// head is what a meta page says.
type head struct {
	pageBytes uint64
	root      uint64 // page of the root bucket
	freelist  uint64 // page, or noFreelist
	pages     uint64 // in use or on the freelist; ids below it are valid
	txid      uint64
}

// readHead returns the newer of the two valid heads. One of them may be torn: it
// was being written when the power went, and the other counts.
func readHead(f io.ReaderAt, size int64) (newest head, err error) {
	found := false
	for _, at := range headPositions(size) {
		b := make([]byte, pageHeaderBytes+metaBytes)
		if err := readFull(f, b, at); err != nil {
			if errors.Is(err, ErrCorrupt) {
				continue
			}
			return head{}, err
		}
		h, ok := parseHead(b)
		if ok && (!found || h.txid > newest.txid) && (at == 0 || at == int64(h.pageBytes)) {
			newest, found = h, true
		}
	}
	if !found {
		return head{}, damaged("it has no valid head: not a metadata file, or overwritten")
	}
	return newest, nil
}

// headPositions returns where heads may be: at the start, and one page further,
// for each size a page may have.
func headPositions(size int64) []int64 {
	at := []int64{0}
	for p := int64(pageBytesMin); p <= pageBytesMax && p < size; p *= 2 {
		at = append(at, p)
	}
	return at
}

func parseHead(b []byte) (head, bool) {
	m := b[pageHeaderBytes:]
	sum := fnv.New64a()
	_, _ = sum.Write(m[:metaBytes-8])
	h := head{
		pageBytes: uint64(order.Uint32(m[8:])),
		root:      order.Uint64(m[16:]),
		freelist:  order.Uint64(m[32:]),
		pages:     order.Uint64(m[40:]),
		txid:      order.Uint64(m[48:]),
	}
	size := h.pageBytes
	ok := order.Uint16(b[8:]) == metaPage && order.Uint32(m) == boltMagic &&
		order.Uint32(m[4:]) == boltFileVersion && order.Uint64(m[56:]) == sum.Sum64() &&
		size >= pageBytesMin && size <= pageBytesMax && size&(size-1) == 0
	return h, ok
}

// readFull reads all of b; a file that ends before is damaged.
func readFull(f io.ReaderAt, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return damaged("it ends at byte %d, inside a page", at+int64(n))
	}
	return err
}

// examiner walks the pages of one file.
type examiner struct {
	file io.ReaderAt
	head head
	seen map[uint64]bool // pages that belong to something, by id
}

// page is one page with its overflow pages; the elements start after its header.
type page struct {
	id    uint64
	flags uint16
	count int
	data  []byte
}

// read reads a page and marks it as taken: no page belongs to two things.
func (e *examiner) read(id uint64) (page, error) {
	if id < 2 || id >= e.head.pages {
		return page{}, damaged("page %d does not exist", id)
	}
	header := make([]byte, pageHeaderBytes)
	at := int64(id * e.head.pageBytes)
	if err := readFull(e.file, header, at); err != nil {
		return page{}, err
	}
	overflow := uint64(order.Uint32(header[12:]))
	if order.Uint64(header) != id || overflow >= e.head.pages-id {
		return page{}, damaged("page %d has a bad header", id)
	}
	for i := id; i <= id+overflow; i++ {
		if e.seen[i] {
			return page{}, damaged("page %d is used twice", i)
		}
		e.seen[i] = true
	}
	p := page{id: id, flags: order.Uint16(header[8:]), count: int(order.Uint16(header[10:]))}
	p.data = make([]byte, (overflow+1)*e.head.pageBytes)
	return p, readFull(e.file, p.data, at)
}

// tree checks a page of the B+tree and all below it.
func (e *examiner) tree(id uint64, depth int) error {
	if depth > treeDepthMax {
		return damaged("page %d is more than %d levels deep", id, treeDepthMax)
	}
	p, err := e.read(id)
	if err != nil {
		return err
	}
	switch p.flags {
	case branchPage:
		return e.branch(p, depth)
	case leafPage:
		return e.leaf(p, depth)
	}
	return damaged("page %d is of kind %#x where records should be", id, p.flags)
}

func (e *examiner) branch(p page, depth int) error {
	if p.count == 0 {
		return damaged("page %d is a branch without children", p.id)
	}
	var last []byte
	for i := range p.count {
		element, at, err := p.element(i)
		if err != nil {
			return err
		}
		last, err = p.nextKey(i, last, at, order.Uint32(element), order.Uint32(element[4:]))
		if err != nil {
			return err
		}
		if err := e.tree(order.Uint64(element[8:]), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (e *examiner) leaf(p page, depth int) error {
	var last []byte
	for i := range p.count {
		element, at, err := p.element(i)
		if err != nil {
			return err
		}
		pos, keyLen := order.Uint32(element[4:]), order.Uint32(element[8:])
		last, err = p.nextKey(i, last, at, pos, keyLen)
		if err != nil {
			return err
		}
		value, ok := slice(p.data, at+uint64(pos)+uint64(keyLen), order.Uint32(element[12:]))
		if !ok {
			return damaged("value %d of page %d is longer than the page", i, p.id)
		}
		switch flags := order.Uint32(element); flags {
		case 0:
		case bucketElement:
			if err := e.bucket(p, value, depth+1); err != nil {
				return err
			}
		default:
			return damaged("element %d of page %d is of kind %#x", i, p.id, flags)
		}
	}
	return nil
}

// bucket checks a bucket: a small one lies inside its parent's page.
func (e *examiner) bucket(parent page, value []byte, depth int) error {
	if len(value) < bucketBytes {
		return damaged("a bucket in page %d is %d bytes long", parent.id, len(value))
	}
	if root := order.Uint64(value); root != 0 {
		return e.tree(root, depth)
	}
	inline := value[bucketBytes:]
	if len(inline) < pageHeaderBytes || depth > treeDepthMax ||
		order.Uint64(inline) != 0 || order.Uint16(inline[8:]) != leafPage {
		return damaged("a bucket inside page %d has a bad header", parent.id)
	}
	count := int(order.Uint16(inline[10:]))
	return e.leaf(page{id: parent.id, flags: leafPage, count: count, data: inline}, depth)
}

// element returns the i-th element and its position, from which it counts.
func (p page) element(i int) (element []byte, at uint64, err error) {
	at = pageHeaderBytes + uint64(i)*elementBytes
	element, ok := slice(p.data, at, elementBytes)
	if !ok {
		return nil, 0, damaged("page %d has more elements than room", p.id)
	}
	return element, at, nil
}

// nextKey returns the key of element i and checks that it follows last.
func (p page) nextKey(i int, last []byte, at uint64, pos, n uint32) ([]byte, error) {
	key, ok := slice(p.data, at+uint64(pos), n)
	if !ok {
		return nil, damaged("key %d of page %d is longer than the page", i, p.id)
	}
	if i > 0 && bytes.Compare(last, key) >= 0 {
		return nil, damaged("key %d of page %d is out of order", i, p.id)
	}
	return key, nil
}

// slice returns n bytes of b from at on, if b has them.
func slice(b []byte, at uint64, n uint32) ([]byte, bool) {
	if at > uint64(len(b)) || uint64(n) > uint64(len(b))-at {
		return nil, false
	}
	return b[at : at+uint64(n)], true
}

// freelist checks that no page is both free and in use, or free twice: the next
// commit would overwrite records.
func (e *examiner) freelist() error {
	if e.head.freelist == noFreelist {
		return nil
	}
	p, err := e.read(e.head.freelist)
	if err != nil {
		return err
	}
	if p.flags != freelistPage {
		return damaged("page %d is of kind %#x where free pages are listed", p.id, p.flags)
	}
	ids, count := p.data[pageHeaderBytes:], uint64(p.count)
	if count == freelistManyMark {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return damaged("page %d lists more free pages than it has room for", p.id)
	}
	for i := range count {
		id := order.Uint64(ids[i*8:])
		if id < 2 || id >= e.head.pages || e.seen[id] {
			return damaged("page %d is listed as free and is not", id)
		}
		e.seen[id] = true
	}
	return nil
}
