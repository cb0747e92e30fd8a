package bulk

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/troupelog/troupe/messages"
)

// The handshake: the caller says who it is and which versions it speaks, the
// other side answers with the version to use and who it is, or why not. A probe is
// a handshake and nothing more. The layout of both stays as it is in all versions:
// fields are only ever added at the end, and readers ignore what they do not know.
const (
	magic      = "TRPB"
	helloHead  = len(magic) + 2 // magic and the size of what follows
	maxHello   = 1024           // bytes that follow the head
	minVersion = 1
	maxVersion = 1
	maxName    = 255 // bytes of a name in a hello
)

// purpose says what the caller wants.
type purpose byte

const (
	toFetch purpose = 1
	toProbe purpose = 2
)

// status says whether the caller is taken.
type status byte

const (
	statusOK           status = 0
	statusVersion      status = 1 // no version in common
	statusCluster      status = 2 // the caller is of another cluster
	statusMalformed    status = 3
	statusUnknownNodes status = 4 // the caller has no valid node id
)

var (
	// errNotOurs: whatever listens or calls there, it is not a node of Troupe.
	errNotOurs = errors.New("peer does not speak Troupe's bulk protocol: " +
		"is the address that of another program?")
	// errRefused: the other side says why in the text.
	errRefused = errors.New("connection refused by the node")
)

// hello is what the caller says first.
type hello struct {
	min, max    uint16 // versions
	purpose     purpose
	node        messages.NodeID // of the caller; NoNode when it only probes
	incarnation string
	cluster     string
}

// welcome is the answer.
type welcome struct {
	version     uint16
	status      status
	node        messages.NodeID
	incarnation string
	text        string // for a human; empty when all is well
}

func (h *hello) encode() []byte {
	b, at := beginHello(nil)
	b = order.AppendUint16(b, h.min)
	b = order.AppendUint16(b, h.max)
	b = append(b, byte(h.purpose))
	b = order.AppendUint32(b, uint32(h.node))
	b = appendName(b, h.incarnation)
	b = appendName(b, h.cluster)
	return endHello(b, at)
}

func (w *welcome) encode() []byte {
	b, at := beginHello(nil)
	b = order.AppendUint16(b, w.version)
	b = append(b, byte(w.status))
	b = order.AppendUint32(b, uint32(w.node))
	b = appendName(b, w.incarnation)
	b = appendName(b, w.text)
	return endHello(b, at)
}

func beginHello(b []byte) (with []byte, at int) {
	b = append(b, magic...)
	return append(b, 0, 0), len(b)
}

func endHello(b []byte, at int) []byte {
	order.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}

func appendName(b []byte, name string) []byte {
	name = name[:min(len(name), maxName)]
	return append(append(b, byte(len(name))), name...)
}

func parseHello(b []byte) (h hello, err error) {
	p := parser{rest: b}
	h.min, h.max = p.uint16(), p.uint16()
	h.purpose = purpose(p.byte())
	h.node = messages.NodeID(p.uint32())
	h.incarnation, h.cluster = p.name(), p.name()
	return h, p.err
}

func parseWelcome(b []byte) (w welcome, err error) {
	p := parser{rest: b}
	w.version = p.uint16()
	w.status = status(p.byte())
	w.node = messages.NodeID(p.uint32())
	w.incarnation, w.text = p.name(), p.name()
	return w, p.err
}

// parser takes fields off the front of rest. After an error it returns zeroes.
type parser struct {
	rest []byte
	err  error
}

func (p *parser) take(n int) []byte {
	if p.err != nil || len(p.rest) < n {
		p.rest, p.err = nil, fmt.Errorf("%w: handshake ends too early", errMalformed)
		return make([]byte, n)
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) byte() byte     { return p.take(1)[0] }
func (p *parser) uint16() uint16 { return order.Uint16(p.take(2)) }
func (p *parser) uint32() uint32 { return order.Uint32(p.take(4)) }
func (p *parser) name() string   { return string(p.take(int(p.byte()))) }

// readHello reads the fields of a hello or a welcome, and not a byte more.
func readHello(nc net.Conn) ([]byte, error) {
	var head [helloHead]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	n := int(order.Uint16(head[len(magic):]))
	if string(head[:len(magic)]) != magic || n > maxHello {
		return nil, errNotOurs
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(nc, b); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return b, nil
}

// judge answers a hello.
func (i *Identity) judge(b []byte) (hello, welcome) {
	w := welcome{node: i.Node, incarnation: i.incarnation()}
	h, err := parseHello(b)
	switch {
	case err != nil || h.purpose != toFetch && h.purpose != toProbe:
		w.status, w.text = statusMalformed, "the handshake makes no sense"
	case h.min > maxVersion || h.max < minVersion:
		w.status = statusVersion
		w.text = fmt.Sprintf("node %d speaks versions %d to %d of the bulk protocol, node %d "+
			"versions %d to %d: upgrade the older one", i.Node, minVersion, maxVersion,
			h.node, h.min, h.max)
	case h.cluster != i.Cluster:
		w.status = statusCluster
		w.text = fmt.Sprintf("node %d belongs to cluster %.80q, the caller to %.80q: "+
			"is the address right?", i.Node, i.Cluster, h.cluster)
	case h.purpose == toFetch && h.node < 0:
		w.status, w.text = statusUnknownNodes, fmt.Sprintf("there is no node %d", h.node)
	default:
		w.version = min(h.max, maxVersion)
	}
	return h, w
}

// introduce says hello and returns the welcome, if it is one.
func (i *Identity) introduce(nc net.Conn, p purpose) (welcome, error) {
	h := hello{min: minVersion, max: maxVersion, purpose: p, node: i.Node,
		incarnation: i.incarnation(), cluster: i.Cluster}
	if _, err := nc.Write(h.encode()); err != nil {
		return welcome{}, fmt.Errorf("handshake: %w", err)
	}
	b, err := readHello(nc)
	if err != nil {
		return welcome{}, err
	}
	w, err := parseWelcome(b)
	switch {
	case err != nil:
		return w, err
	case w.status != statusOK:
		return w, fmt.Errorf("%w: %s", errRefused, w.text)
	case w.version < minVersion || w.version > maxVersion:
		return w, fmt.Errorf("%w: node %d chose version %d, which was not offered",
			errMalformed, w.node, w.version)
	}
	return w, nil
}
