package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/config"
	"github.com/troupelog/troupe/persistence/vfs"
)

// The settings of TLS between actors. All are set or none is.
const (
	settingCertificate = "actor.ssl.certificate.file"
	settingKey         = "actor.ssl.key.file"
	settingCA          = "actor.ssl.ca.file"
)

// pemMax bounds a file of certificates, in bytes: somebody may have named the wrong one.
const pemMax = 1 << 20

// secured is what secures the connections between actors: of nodes, and of programs that
// use the SDK. nil: nothing does. Both ends of a connection show a certificate, for who
// may send a message to an actor may do anything.
type secured struct {
	server, client *tls.Config
}

// loadSecured reads the certificates that the settings name. Its errors name the file
// and the remedy.
func loadSecured(cfg *config.Config, fsys vfs.FS, now time.Time) (secured, error) {
	var missing, files []string
	for _, name := range []string{settingCertificate, settingKey, settingCA} {
		if file := cfg.Value(name); file != "" {
			files = append(files, file)
		} else {
			missing = append(missing, name)
		}
	}
	if len(files) == 0 {
		return secured{}, nil
	}
	if len(missing) > 0 {
		return secured{}, fmt.Errorf("TLS between actors lacks %s; set %s, %s and %s together, or "+
			"none of them: %w", strings.Join(missing, " and "), settingCertificate, settingKey,
			settingCA, messages.ErrInvalidConfig)
	}
	var texts [3][]byte
	for i, file := range files {
		var err error
		if texts[i], err = readPEM(fsys, file); err != nil {
			return secured{}, err
		}
	}
	wrong := func(i int, what, remedy string) (secured, error) {
		return secured{}, fmt.Errorf("%s: %s; %s: %w", files[i], what, remedy,
			messages.ErrInvalidConfig)
	}
	pair, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		return wrong(0, fmt.Sprintf("it and the key %s cannot be used (%v)", files[1], err),
			fmt.Sprintf("give PEM files that belong together with %s and %s", settingCertificate,
				settingKey))
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(texts[2]) {
		return wrong(2, "it has no certificate in PEM",
			"name the file of the authority with "+settingCA)
	}
	if err := checkOwn(&pair, authorities, now); err != nil {
		return wrong(0, fmt.Sprintf("nobody would accept this certificate: %v", err),
			"have it signed anew, for servers and clients, by the authority in "+files[2])
	}
	return secure(pair, authorities), nil
}

func readPEM(fsys vfs.FS, file string) ([]byte, error) {
	failed := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("TLS between actors: %w; make the file readable for the node, or "+
			"name another one", err)
	}
	f, err := fsys.Open(file)
	if err != nil {
		return failed(err)
	}
	defer f.Close()
	b := make([]byte, pemMax+1)
	n, err := f.ReadAt(b, 0)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return failed(err)
	case n > pemMax:
		return failed(fmt.Errorf("%s is larger than any certificate: %w", file,
			messages.ErrInvalidConfig))
	}
	return b[:n], nil
}

// checkOwn finds what would make the peers refuse the node.
func checkOwn(pair *tls.Certificate, authorities *x509.CertPool, now time.Time) error {
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(c)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: authorities, Intermediates: between,
			CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if err != nil {
			return err
		}
	}
	return nil
}

// secure makes the settings of both directions. Whom the authority signed for is let in,
// and connected to, whatever he is called: nodes come and go with their addresses, and
// programs that use the SDK are told to nobody beforehand.
func secure(pair tls.Certificate, authorities *x509.CertPool) secured {
	server := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities,
	}
	client := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		// The library checks the name with the rest; VerifyConnection checks the rest.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(s tls.ConnectionState) error {
			between := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				between.AddCert(c)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: authorities, Intermediates: between,
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			return err
		},
	}
	return secured{server, client}
}
