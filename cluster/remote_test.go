package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/remote"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/testkit"
)

func TestABurstOfTheLargestMessagesArrives(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 2)
	for _, p := range all {
		p.do(command{Name: "pin", Key: "x", Node: 2})
	}
	want := fmt.Sprintf("%d of %d", 2*transport.Batch, 2*transport.Batch)
	if got := all[0].do(command{Name: "burst", Kind: "pinned", Key: "x"}).Text; got != want {
		t.Errorf("%s large messages were answered", got)
	}
}

func TestAMessageThatCannotBeDecodedEndsItsConnectionOnly(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 1)
	address := all[0].do(command{Name: "view"}).Members[0].Address
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := remote.NewRemotingClient(conn).Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad := &remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{
		MessageBatch: &remote.MessageBatch{Envelopes: []*remote.MessageEnvelope{{TypeId: 99}}}}}
	if err := stream.Send(bad); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Internal {
		t.Errorf("the connection ended with %v", err)
	}
	all[0].do(command{Name: "pin", Key: "x", Node: 1})
	all[0].expectCall("pinned", "x", "1")
}

func TestACallThatTheLibraryLacksIsRefusedAndEndsNoNode(t *testing.T) {
	all := ensemble(t, testkit.SharedConsul(t), longTTL, 1)
	address := all[0].do(command{Name: "view"}).Members[0].Address
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := remote.NewRemotingClient(conn)
	_, err = client.ListProcesses(t.Context(), &remote.ListProcessesRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("ListProcesses ended with %v", err)
	}
	_, err = client.GetProcessDiagnostics(t.Context(), &remote.GetProcessDiagnosticsRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("GetProcessDiagnostics ended with %v", err)
	}
	all[0].do(command{Name: "pin", Key: "x", Node: 1})
	all[0].expectCall("pinned", "x", "1")
}

// certificate makes one for 127.0.0.1 that is its own authority.
func certificate(t *testing.T) (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func TestMembersSpeakTLSWithThoseTheyTrust(t *testing.T) {
	cfg := memberConfig{Cluster: "c" + uuid.NewString(), Consul: testkit.SharedConsul(t), TTL: longTTL}
	cfg.Cert, cfg.Key = certificate(t)
	all := ensembleOf(t, cfg, 2)
	cfg.Node, cfg.Cert, cfg.Key = 3, nil, nil
	outsider := start(t, cfg)
	for _, p := range append(all, outsider) {
		p.do(command{Name: "pin", Key: "x", Node: 2})
	}
	all[0].expectCall("pinned", "x", "2")
	if got := outsider.call("pinned", "x"); got != "" {
		t.Errorf("a member without a certificate was answered %q", got)
	}
}
