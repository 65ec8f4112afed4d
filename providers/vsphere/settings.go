package vsphere

import (
	"crypto/x509"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// The defaults of settings that were left empty. vCenter's own copy service allows about a dozen streams per host; four leave room for others.
const (
	defaultTimeout  = 2 * time.Minute
	defaultParallel = 4
)

// endpoint is what the settings say, checked.
type endpoint struct {
	url      *url.URL
	user     *url.Userinfo
	trust    *trust
	timeout  time.Duration
	parallel int
}

func newEndpoint(s driver.Settings) (endpoint, error) {
	u, err := parseURL(s.URL)
	if err != nil {
		return endpoint{}, err
	}
	if s.Username == "" {
		return endpoint{}, fault.New(fault.InvalidArgument, "vsphere: username is empty")
	}
	if s.Timeout < 0 || s.Parallel < 0 {
		return endpoint{}, fault.New(fault.InvalidArgument, "vsphere: timeout and parallel must not be negative")
	}
	t, err := newTrust(s, u.Host)
	if err != nil {
		return endpoint{}, err
	}
	ep := endpoint{
		url: u, user: url.UserPassword(s.Username, s.Password.Reveal()), trust: t,
		timeout: defaultTimeout, parallel: defaultParallel,
	}
	if s.Timeout > 0 {
		ep.timeout = s.Timeout
	}
	if s.Parallel > 0 {
		ep.parallel = s.Parallel
	}
	return ep, nil
}

// parseURL accepts a host name, a host with a port, or an https URL, and completes it to the address of the API. The text never appears in
// an error: people put passwords into URLs.
func parseURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, fault.New(fault.InvalidArgument, "vsphere: url is empty; give the address of the vCenter or ESXi host")
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return nil, fault.New(fault.InvalidArgument, "vsphere: url is not valid; it looks like https://vcenter.example.com")
	}
	switch {
	case u.User != nil:
		return nil, fault.New(fault.InvalidArgument, "vsphere: url holds a user name; give user name and password apart from the url")
	case u.Scheme != "https":
		return nil, fault.New(fault.InvalidArgument, "vsphere: url of host %q has scheme %q; only https is used, so that the password is not sent in clear", u.Host, u.Scheme)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fault.New(fault.InvalidArgument, "vsphere: url of host %q has a query or a fragment; leave it out", u.Host)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/sdk"
	}
	if u.Port() == "" {
		u.Host += ":443"
	}
	return u, nil
}

func newTrust(s driver.Settings, addr string) (*trust, error) {
	if s.InsecureSkipVerify && (s.CAFile != "" || s.Thumbprint != "") {
		return nil, fault.New(fault.InvalidArgument, "vsphere: insecure_skip_verify contradicts ca_file and thumbprint; give only one of them")
	}
	t := &trust{insecure: s.InsecureSkipVerify, addr: addr, hosts: make(map[string]fingerprint)}
	if s.Thumbprint != "" {
		pin, err := parseFingerprint(s.Thumbprint)
		if err != nil {
			return nil, err
		}
		t.pin, t.chain = pin, s.CAFile != ""
	}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fault.Wrap(err, "vsphere: ca_file")
		}
		t.roots = x509.NewCertPool()
		if !t.roots.AppendCertsFromPEM(pem) {
			return nil, fault.New(fault.InvalidArgument, "vsphere: ca_file %s holds no certificate in PEM form", s.CAFile)
		}
	}
	return t, nil
}
