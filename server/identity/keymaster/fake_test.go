package keymaster_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// provider is a fake of a Keymaster: it checks what it is sent and certifies keys, for requestors that its own CA has certified.
type provider struct {
	*httptest.Server
	t        *testing.T
	ca       *x509.Certificate
	key      *ecdsa.PrivateKey
	lifetime time.Duration
	broken   atomic.Bool // it answers with errors
	issued   atomic.Int32
	renewed  atomic.Int32
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{t: t, lifetime: time.Hour}
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "keymaster"}, NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &p.key.PublicKey, p.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /certgen/{name}", p.certify)
	mux.HandleFunc("POST /v1/refreshRoleRequestingCert", p.renew)
	p.Server = httptest.NewUnstartedServer(mux)
	pool := x509.NewCertPool()
	pool.AddCert(p.ca)
	p.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

// certificate certifies a key for a name.
func (p *provider) certificate(name string, public crypto.PublicKey) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(p.lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.ca, public, p.key)
	if err != nil {
		p.t.Error(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (p *provider) certify(w http.ResponseWriter, r *http.Request) {
	name := r.TLS.PeerCertificates[0].Subject.CommonName
	file, _, err := r.FormFile("pubkeyfile")
	if err != nil || r.PathValue("name") != name || p.broken.Load() {
		http.Error(w, "no", http.StatusBadGateway)
		return
	}
	raw, err := io.ReadAll(file)
	if err != nil {
		p.t.Error(err)
	}
	if r.URL.Query().Get("type") == "ssh" {
		if _, _, _, _, err := ssh.ParseAuthorizedKey(raw); err != nil {
			p.t.Errorf("SSH key: %v", err)
		}
		_, _ = io.WriteString(w, "ssh-rsa-cert-v01@openssh.com of "+name+"\n") //nolint:gosec // no browser reads it
		return
	}
	block, _ := pem.Decode(raw)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		p.t.Errorf("X.509 key: %v", err)
	}
	p.issued.Add(1)
	_, _ = w.Write(p.certificate(name, public)) //nolint:gosec // no browser reads it
}

func (p *provider) renew(w http.ResponseWriter, r *http.Request) {
	der, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(r.PostFormValue("pubkey")))
	if err != nil || p.broken.Load() {
		http.Error(w, "no", http.StatusBadGateway)
		return
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		p.t.Errorf("the host's key: %v", err)
	}
	p.renewed.Add(1)
	_, _ = w.Write(p.certificate(r.TLS.PeerCertificates[0].Subject.CommonName, public)) //nolint:gosec // no browser reads it
}
