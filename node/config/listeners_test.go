package config

import (
	"net"
	"slices"
	"strings"
	"testing"
)

func TestListenersAreReadAsKafkaDoes(t *testing.T) {
	for _, tt := range []struct {
		text    string
		want    Listener
		address string
	}{
		{"PLAINTEXT://:9092", Listener{Name: "PLAINTEXT", Port: 9092}, ":9092"},
		{"plaintext://localhost:0", Listener{Name: "PLAINTEXT", Host: "localhost"}, "localhost:0"},
		{"PLAINTEXT://0.0.0.0:1", Listener{Name: "PLAINTEXT", Host: "0.0.0.0", Port: 1},
			"0.0.0.0:1"},
		{"IN-1_a.b://[::1]:65535", Listener{Name: "IN-1_A.B", Host: "::1", Port: 65535},
			"[::1]:65535"},
		{"A://[fe80::1%eth0]:1", Listener{Name: "A", Host: "fe80::1%eth0", Port: 1},
			"[fe80::1%eth0]:1"},
		{"A://my-host_1.example.com:1",
			Listener{Name: "A", Host: "my-host_1.example.com", Port: 1}, "my-host_1.example.com:1"},
	} {
		got, err := ParseListener(tt.text)
		if err != nil || got != tt.want || got.Address() != tt.address {
			t.Errorf("%s is %+v at %s (%v), want %+v at %s",
				tt.text, got, got.Address(), err, tt.want, tt.address)
		}
	}
}

func TestWhatIsNoListenerIsRefusedWithTheReason(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:9092": `"localhost:9092" is not of the form NAME://host:port, ` +
			`like PLAINTEXT://localhost:9092`,
		"://h:1": `"://h:1" is not of the form NAME://host:port`,
		"A B://h:1": `the name of listener "A B://h:1" may have letters, digits, _, - ` +
			`and . only`,
		"A://h": `listener "A://h": "h" is not of the form host:port: ` +
			`missing port in address`,
		"A://":        `listener "A://": "" is not of the form host:port: missing port in address`,
		"A://h:":      `listener "A://h:": port "" of "h:" must be a number from 0 to 65535`,
		"A://h:65536": `port "65536" of "h:65536" must be a number from 0 to 65535`,
		"A://h:-1":    `port "-1" of "h:-1" must be a number from 0 to 65535`,
		"A://h:kafka": `port "kafka" of "h:kafka" must be a number from 0 to 65535`,
		"A://::1:92": `"::1:92": an IPv6 address must stand in brackets, ` +
			`like [::1]:9092`,
		"A://[::1:92":    `"[::1:92" is not of the form host:port: missing ']' in address`,
		"A://[::zz]:92":  `"::zz" is no IPv6 address`,
		"A://h/x:1":      `host "h/x" may not contain '/'`,
		"A://user@h:1":   `host "user@h" may not contain '@'`,
		"A://hôte:1":     `host "hôte" may not contain 'ô'`,
		"A://h:1/path":   `port "1/path" of "h:1/path" must be a number from 0 to 65535`,
		"A://[::1]x:1":   `is not of the form host:port`,
		"A://a b:1":      `host "a b" may not contain ' '`,
		"A://[1.2.3.4]x": `is not of the form host:port`,
	} {
		if _, err := ParseListener(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestListenersArePairedWithWhatIsAdvertised(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  []string
		want []Listener
	}{
		{"the default is one for this machine alone", nil,
			[]Listener{{Name: "PLAINTEXT", Host: "127.0.0.1", Port: 9092}}},
		{"names of their own have a protocol by the map", []string{
			"listeners=INTERNAL://:9092, external://0.0.0.0:9093",
			"listener.security.protocol.map=internal:PLAINTEXT, EXTERNAL:plaintext",
			"advertised.listeners=EXTERNAL://kafka.example.com:19093"},
			[]Listener{
				{Name: "INTERNAL", Port: 9092},
				{Name: "EXTERNAL", Host: "0.0.0.0", Port: 9093,
					AdvertisedHost: "kafka.example.com", AdvertisedPort: 19093},
			}},
		{"any free port may be advertised as such",
			[]string{"listeners=PLAINTEXT://:0", "advertised.listeners=PLAINTEXT://h:0"},
			[]Listener{{Name: "PLAINTEXT", AdvertisedHost: "h"}}},
		{"two may listen on any free port",
			[]string{"listeners=PLAINTEXT://:0,B://:0",
				"listener.security.protocol.map=B:PLAINTEXT"},
			[]Listener{{Name: "PLAINTEXT"}, {Name: "B"}}},
		{"one port on two addresses is no conflict",
			[]string{"listeners=PLAINTEXT://127.0.0.1:1,B://[::1]:1",
				"listener.security.protocol.map=B:PLAINTEXT"},
			[]Listener{{Name: "PLAINTEXT", Host: "127.0.0.1", Port: 1},
				{Name: "B", Host: "::1", Port: 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustLoad(t, Sources{Set: tt.set}).Listeners(); !slices.Equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestListenersThatCannotBeServedAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  []string
		want []string
	}{
		{"encryption", []string{"listeners=PLAINTEXT://:1,SSL://:2"},
			[]string{"listeners: listener SSL needs SSL, which this version of Troupe does not " +
				"have; use PLAINTEXT, or remove the listener"}},
		{"authentication behind a name",
			[]string{"listeners=X://:1", "listener.security.protocol.map=X:SASL_PLAINTEXT"},
			[]string{"listeners: listener X needs SASL_PLAINTEXT, which this version of Troupe " +
				"does not have; use PLAINTEXT, or remove the listener"}},
		{"a name without a protocol", []string{"listeners=X://:1"},
			[]string{"listeners: listener X has no protocol; name it PLAINTEXT, or add " +
				"X:PLAINTEXT to listener.security.protocol.map"}},
		{"none at all", []string{"listeners="},
			[]string{"listeners names none for clients; give one, like PLAINTEXT://:9092"}},
		{"controllers only",
			[]string{"listeners=C://:1", "controller.listener.names=c"},
			[]string{"listeners names none for clients; give one, like PLAINTEXT://:9092"}},
		{"one name twice", []string{"listeners=PLAINTEXT://:1,plaintext://:2"},
			[]string{"listeners: two listeners are named PLAINTEXT"}},
		{"one address twice",
			[]string{"listeners=PLAINTEXT://:1,B://h:1",
				"listener.security.protocol.map=B:PLAINTEXT"},
			[]string{"listeners: listeners PLAINTEXT and B have the same address"}},
		{"an unknown name is advertised",
			[]string{"advertised.listeners=X://h:1"},
			[]string{"advertised.listeners: there is no listener X; " +
				"listeners (default) has PLAINTEXT://127.0.0.1:9092"}},
		{"one name is advertised twice",
			[]string{"advertised.listeners=PLAINTEXT://h:1,PLAINTEXT://i:1"},
			[]string{"advertised.listeners: PLAINTEXT is advertised twice"}},
		{"every interface is advertised",
			[]string{"advertised.listeners=PLAINTEXT://0.0.0.0:1"},
			[]string{"advertised.listeners: clients cannot connect to 0.0.0.0; " +
				"give a name or an address that leads to this node"}},
		{"what is no address", []string{"http.listener=8080", "actor.listener=h:x"},
			[]string{`http.listener: "8080" is not of the form host:port: missing port in address`,
				`actor.listener: port "x" of "h:x" must be a number from 0 to 65535`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			for _, w := range tt.want {
				want = append(want, "flag --set: "+w+": invalid configuration")
			}
			if got := errorLines(t, Sources{Set: tt.set}); !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestAnEmptyHTTPListenerIsNone(t *testing.T) {
	c := mustLoad(t, Sources{Set: []string{"http.listener="}})
	if c.Value("http.listener") != "" || !c.Overridden("http.listener") {
		t.Errorf("http.listener is %q", c.Value("http.listener"))
	}
}

// Other machines must reach a node of a cluster; one on its own is this machine's.
func TestANodeOfAClusterIsOpenToOtherMachines(t *testing.T) {
	for name, c := range map[string]struct {
		sources Sources
		want    string
	}{
		"on its own":         {Sources{}, "127.0.0.1:9092"},
		"of a cluster":       {Sources{Consul: "127.0.0.1:8500"}, ":9092"},
		"that is told where": {Sources{Consul: "h:8500", KafkaAddr: "10.0.0.1:9192"}, "10.0.0.1:9192"},
		"told in other words": {
			Sources{Consul: "h:8500", Set: []string{"listeners=PLAINTEXT://:1"}}, ":1"},
	} {
		listeners := mustLoad(t, c.sources).Listeners()
		if len(listeners) != 1 || listeners[0].Address() != c.want {
			t.Errorf("%s: %+v, want %s", name, listeners, c.want)
		}
	}
}

// What is accepted means the same to the standard library.
func FuzzParseListener(f *testing.F) {
	for _, s := range []string{"PLAINTEXT://:9092", "A://[::1]:1", "A://h:0", "://", "A://[:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseListener(s)
		if err != nil {
			return
		}
		host, _, err := net.SplitHostPort(l.Address())
		if err != nil || host != l.Host {
			t.Errorf("%q: %s has host %q: %v", s, l.Address(), host, err)
		}
		again, err := ParseListener(l.Name + "://" + l.Address())
		if err != nil || again != l {
			t.Errorf("%q is %+v, then %+v: %v", s, l, again, err)
		}
	})
}
