package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Listener is one address where Kafka clients are served.
type Listener struct {
	// Name is the listener's name in upper case, often its protocol.
	Name string
	// Host is where to listen, without brackets; "" is every interface.
	Host string
	// Port is where to listen; 0 is any free one.
	Port int32
	// AdvertisedHost is what clients are told to connect to. "" means that of
	// Host or, when that is every interface, the address the client came in on.
	AdvertisedHost string
	// AdvertisedPort is what clients are told to connect to. 0 means the port
	// that is listened on.
	AdvertisedPort int32
}

// Address returns host:port as net.Listen takes it.
func (l Listener) Address() string {
	return net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
}

// ParseListener reads NAME://host:port. IPv6 addresses stand in brackets; no
// host at all is every interface. The error says what is wrong, not where.
func ParseListener(s string) (Listener, error) {
	name, address, ok := strings.Cut(s, "://")
	if !ok || name == "" {
		return Listener{}, fmt.Errorf(
			"%q is not of the form NAME://host:port, like PLAINTEXT://localhost:9092", s)
	}
	if !validName(name) {
		return Listener{}, fmt.Errorf(
			"the name of listener %q may have letters, digits, _, - and . only", s)
	}
	host, port, err := ParseAddress(address)
	if err != nil {
		return Listener{}, fmt.Errorf("listener %q: %w", s, err)
	}
	return Listener{Name: strings.ToUpper(name), Host: host, Port: port}, nil
}

// ParseAddress reads host:port. IPv6 addresses stand in brackets; the host may
// be missing, the port may be 0. The error says what is wrong, not where.
func ParseAddress(s string) (host string, port int32, err error) {
	host, digits, err := net.SplitHostPort(s)
	var syntax *net.AddrError
	if errors.As(err, &syntax) {
		switch {
		case strings.Count(s, ":") > 1 && !strings.Contains(s, "["):
			return "", 0, fmt.Errorf("%q: an IPv6 address must stand in brackets, like [::1]:9092", s)
		default:
			return "", 0, fmt.Errorf("%q is not of the form host:port: %s", s, syntax.Err)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q of %q must be a number from 0 to 65535", digits, s)
	}
	if err := checkHost(host); err != nil {
		return "", 0, err
	}
	return host, int32(n), nil
}

// checkHost refuses what can be neither a name nor an address.
func checkHost(host string) error {
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("%q is no IPv6 address", host)
		}
		return nil
	}
	for _, r := range host {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune("-._%", r) {
			return fmt.Errorf("host %q may not contain %q", host, r)
		}
	}
	return nil
}

func validName(name string) bool {
	for _, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune("-._", r) {
			return false
		}
	}
	return true
}

// listen checks everything that is an address, and pairs listeners with what is
// advertised for them.
func (l *loader) listen() {
	for _, name := range []string{"http.listener", "actor.listener", "bulk.listener"} {
		if value := l.Value(name); value != "" {
			if _, _, err := ParseAddress(value); err != nil {
				l.fail(l.Origin(name), "%s: %v", name, err)
			}
		}
	}
	protocols := l.protocols()
	for _, listener := range l.parseListeners("listeners") {
		if err := servable(listener, protocols, l.listeners); err != nil {
			l.fail(l.Origin("listeners"), "listeners: %v", err)
			continue
		}
		l.listeners = append(l.listeners, listener)
	}
	if len(l.listeners) == 0 && len(l.errs) == 0 {
		l.fail(l.Origin("listeners"), "listeners names none for clients; "+
			"give one, like PLAINTEXT://:9092")
	}
	l.advertise()
}

// parseListeners reads a setting, without the listeners of Kafka's controllers.
func (l *loader) parseListeners(setting string) []Listener {
	controllers := strings.Split(strings.ToUpper(l.aside["controller.listener.names"].value), ",")
	for i := range controllers {
		controllers[i] = strings.TrimSpace(controllers[i])
	}
	var listeners []Listener
	for _, s := range l.List(setting) {
		listener, err := ParseListener(s)
		if err != nil {
			l.fail(l.Origin(setting), "%s: %v", setting, err)
			continue
		}
		if !slices.Contains(controllers, listener.Name) {
			listeners = append(listeners, listener)
		}
	}
	return listeners
}

// protocols reads listener.security.protocol.map, which gives listeners with
// names of their own a protocol.
func (l *loader) protocols() map[string]string {
	byName := map[string]string{}
	for pair := range strings.SplitSeq(l.aside["listener.security.protocol.map"].value, ",") {
		name, protocol, _ := strings.Cut(strings.ToUpper(pair), ":")
		byName[strings.TrimSpace(name)] = strings.TrimSpace(protocol)
	}
	return byName
}

// servable says why a listener cannot be served beside the others.
func servable(l Listener, protocols map[string]string, others []Listener) error {
	protocol, named := protocols[l.Name]
	if !named {
		protocol = l.Name
	}
	switch protocol {
	case "PLAINTEXT":
	case "SSL", "SASL_PLAINTEXT", "SASL_SSL":
		return fmt.Errorf("listener %s needs %s, which this version of Troupe does not have; "+
			"use PLAINTEXT, or remove the listener", l.Name, protocol)
	default:
		return fmt.Errorf("listener %s has no protocol; name it PLAINTEXT, or add %s:PLAINTEXT "+
			"to listener.security.protocol.map", l.Name, l.Name)
	}
	for _, o := range others {
		if o.Name == l.Name {
			return fmt.Errorf("two listeners are named %s", l.Name)
		}
		if o.Port == l.Port && l.Port != 0 && (o.Host == l.Host || o.Host == "" || l.Host == "") {
			return fmt.Errorf("listeners %s and %s have the same address", o.Name, l.Name)
		}
	}
	return nil
}

// advertise pairs advertised.listeners with listeners by their names.
func (l *loader) advertise() {
	const setting = "advertised.listeners"
	seen := map[string]bool{}
	for _, a := range l.parseListeners(setting) {
		i := slices.IndexFunc(l.listeners, func(o Listener) bool { return o.Name == a.Name })
		ip, _ := netip.ParseAddr(a.Host)
		switch {
		case i < 0 && len(l.errs) > 0: // its listener may be among what is wrong
		case i < 0:
			l.fail(l.Origin(setting), "%s: there is no listener %s; listeners (%s) has %s",
				setting, a.Name, l.Origin("listeners"), l.Value("listeners"))
		case seen[a.Name]:
			l.fail(l.Origin(setting), "%s: %s is advertised twice", setting, a.Name)
		case ip.IsValid() && ip.IsUnspecified():
			l.fail(l.Origin(setting), "%s: clients cannot connect to %s; "+
				"give a name or an address that leads to this node", setting, a.Host)
		default:
			l.listeners[i].AdvertisedHost = a.Host
			l.listeners[i].AdvertisedPort = a.Port
		}
		seen[a.Name] = true
	}
}
