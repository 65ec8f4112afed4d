// Package keymaster asks a Keymaster for certificates, as Dominator's hypervisor does (github.com/Cloud-Foundations/keymaster, and hypervisor/manager/vmCredentials.go
// in Cloud-Foundations/Dominator): over HTTPS, with the requestor's certificate as the client's.
package keymaster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/identity"
)

const (
	certificatePath = "/certgen/"
	renewPath       = "/v1/refreshRoleRequestingCert"
	// maxAnswer is more than any certificate needs.
	maxAnswer = 1 << 20
	timeout   = 30 * time.Second
)

// Client is an identity.Issuer.
type Client struct {
	// BaseURL is the Keymaster's address.
	BaseURL string
	// Roots are whom to believe; nil = the system's.
	Roots *x509.CertPool
}

var _ identity.Issuer = (*Client)(nil)

// Certificate implements identity.Issuer.
func (c *Client) Certificate(ctx context.Context, requestor tls.Certificate, kind identity.CertificateKind, publicKey []byte) ([]byte, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("pubkeyfile", "key.pub")
	if err == nil {
		_, err = part.Write(publicKey)
	}
	if err := errors.Join(err, form.Close()); err != nil {
		return nil, fault.As(fault.Internal, err, "identity provider")
	}
	u, err := c.url(certificatePath+url.PathEscape(requestor.Leaf.Subject.CommonName), url.Values{"type": {string(kind)}})
	if err != nil {
		return nil, err
	}
	return c.post(ctx, requestor, u, form.FormDataContentType(), &body)
}

// RenewRequestor implements identity.Issuer.
func (c *Client) RenewRequestor(ctx context.Context, requestor tls.Certificate, publicKey []byte) ([]byte, error) {
	u, err := c.url(renewPath, nil)
	if err != nil {
		return nil, err
	}
	form := url.Values{"pubkey": {base64.RawURLEncoding.EncodeToString(publicKey)}}
	return c.post(ctx, requestor, u, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
}

// url returns the address of a path: escaped already, below the root of the host.
func (c *Client) url(path string, query url.Values) (string, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil {
		return "", fault.As(fault.InvalidArgument, err, "identity provider")
	}
	u := base.Scheme + "://" + base.Host + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return u, nil
}

func (c *Client) post(ctx context.Context, requestor tls.Certificate, address, kind string, body io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, body)
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "identity provider")
	}
	req.Header.Set("Content-Type", kind)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{requestor}, RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
		Proxy:           http.ProxyFromEnvironment,
	}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fault.As(fault.Unavailable, err, "identity provider")
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, fault.As(fault.Unavailable, err, "identity provider")
	}
	switch res.StatusCode {
	case http.StatusOK:
		return answer, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fault.New(fault.PermissionDenied, "identity provider %s: refused: %s", req.URL.Host, res.Status)
	default:
		return nil, fault.New(fault.Unavailable, "identity provider %s: answered %s", req.URL.Host, res.Status)
	}
}
