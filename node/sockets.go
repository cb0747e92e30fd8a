package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"github.com/troupelog/troupe/node/config"
	"github.com/troupelog/troupe/node/kafka"
	"github.com/troupelog/troupe/persistence/datadir"
	"github.com/troupelog/troupe/persistence/vfs"
)

// sockets are the node's listening sockets. All are bound before anything is
// started, so that a taken port stops the start early.
type sockets struct {
	kafka []kafka.Listener
	http  net.Listener // nil: none wanted
	actor net.Listener // nil: none wanted; the actor system takes its address over
	bulk  net.Listener // nil: not a node of a cluster
}

// listen binds the sockets of the configuration.
func listen(cfg *config.Config) (*sockets, error) {
	s := &sockets{}
	for _, l := range cfg.Listeners() {
		ln, err := bind("Kafka listener", l.Address(), "--kafka-addr")
		if err != nil {
			s.close()
			return nil, err
		}
		k := kafka.Listener{
			Listener:       ln,
			Name:           l.Name,
			AdvertisedHost: advertised(l),
			AdvertisedPort: l.AdvertisedPort,
		}
		if k.AdvertisedPort == 0 {
			k.AdvertisedPort = int32(ln.Addr().(*net.TCPAddr).Port)
		}
		s.kafka = append(s.kafka, k)
	}
	if addr := cfg.Value("http.listener"); addr != "" {
		var err error
		if s.http, err = bind("HTTP listener", addr, "--http-addr"); err != nil {
			s.close()
			return nil, err
		}
	}
	clustered := cfg.Value("consul.address") != ""
	for _, l := range []struct {
		to                  *net.Listener
		what, setting, flag string
		wanted              bool
	}{
		{&s.actor, "actor listener", "actor.listener", "--actor-addr", clustered},
		{&s.bulk, "bulk listener", "bulk.listener", "--bulk-addr", clustered},
	} {
		addr := cfg.Value(l.setting)
		if addr == "" && l.wanted {
			addr = net.JoinHostPort(s.reachable(), "0")
		}
		if addr == "" || !clustered && l.to == &s.bulk {
			continue
		}
		var err error
		if *l.to, err = bind(l.what, addr, l.flag); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// reachable is the address under which other nodes most probably reach this one:
// that of the Kafka listener, or the machine's first one.
func (s *sockets) reachable() string {
	if ip := s.kafka[0].Addr().(*net.TCPAddr).IP; !ip.IsUnspecified() {
		return ip.String()
	}
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

// advertised is the host that clients are told, "" for the one they came in on.
func advertised(l config.Listener) string {
	if l.AdvertisedHost != "" {
		return l.AdvertisedHost
	}
	if ip := net.ParseIP(l.Host); l.Host == "" || ip != nil && ip.IsUnspecified() {
		return ""
	}
	return l.Host
}

func bind(what, addr, flag string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf(
			"%s %s: the port is in use; stop the other program or choose another port with %s",
			what,
			addr,
			flag,
		)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w; choose another address with %s", what, addr, err, flag)
	}
	return ln, nil
}

func (s *sockets) close() {
	if s == nil {
		return
	}
	for _, l := range s.kafka {
		_ = l.Close() // the server may have closed it already
	}
	for _, l := range []net.Listener{s.http, s.actor, s.bulk} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// host is what other nodes and tools are told of this node.
func (s *sockets) host() string {
	if h := s.kafka[0].AdvertisedHost; h != "" {
		return h
	}
	if s.bulk != nil {
		return s.reachable() // names need not be known everywhere
	}
	if h, err := os.Hostname(); err == nil {
		return h
	}
	return "localhost"
}

// addresses is the content of the address file.
type addresses struct {
	Kafka string `json:"kafka"`
	HTTP  string `json:"http"`
	Actor string `json:"actor"`
}

// address is where a program on this machine reaches a listener.
func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	tcp := l.Addr().(*net.TCPAddr)
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

// announce writes the address file and prints the addresses: from now on the
// node can be used. The file comes first, so that it is there for who reads the
// print; and all is printed at once, so that a reader may leave after any line.
func (n *Node) announce(out io.Writer) error {
	a := addresses{Kafka: address(n.sockets.kafka[0].Listener),
		HTTP: address(n.sockets.http), Actor: address(n.sockets.actor)}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	err = vfs.WriteFileAtomic(n.fs, n.addressFile(), append(text, '\n'))
	if errors.Is(err, vfs.ErrNoSpace) {
		// A node on a full disk must start, or nobody could delete anything there.
		n.log.Warn().Err(err).Msg("disk is full: the address file is not written, free some space")
	} else if err != nil {
		return err
	}
	var lines strings.Builder
	for _, l := range n.sockets.kafka {
		fmt.Fprintf(&lines, "kafka %s\n", address(l.Listener))
	}
	if a.HTTP != "" {
		fmt.Fprintf(&lines, "http %s\n", a.HTTP)
	}
	if a.Actor != "" {
		fmt.Fprintf(&lines, "actor %s\n", a.Actor)
	}
	_, _ = io.WriteString(out, lines.String()) // nobody need listen
	return nil
}

func (n *Node) addressFile() string { return path.Join(n.dirs[0].Path, datadir.AddressFile) }

// removeAddress takes the address file away, which says that the node is ready:
// that of a process that was killed when the next one starts, ours when we stop.
func (n *Node) removeAddress() {
	if len(n.dirs) > 0 {
		_ = n.fs.Remove(n.addressFile()) // it may not have been written
	}
}
