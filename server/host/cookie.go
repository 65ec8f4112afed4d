package host

import (
	"context"
	"crypto/rand"
	"crypto/subtle"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// cookieSize is the length of the root cookie in bytes.
const cookieSize = 32

// RootCookie is a secret in a file that only the daemon's user, which is root, can read: whoever shows it is root on this host.
type RootCookie struct {
	path   string
	secret [cookieSize]byte
}

// MakeRootCookie makes a new cookie in the file at path; an earlier one is void.
func MakeRootCookie(path string) (*RootCookie, error) {
	c := &RootCookie{path: path}
	if _, err := rand.Read(c.secret[:]); err != nil {
		return nil, fault.As(fault.Internal, err, "root cookie")
	}
	if err := atomicfile.Write(path, c.secret[:]); err != nil {
		return nil, fault.Wrap(err, "root cookie")
	}
	return c, nil
}

// Check returns PermissionDenied unless shown is the cookie.
func (c *RootCookie) Check(shown []byte) error {
	if subtle.ConstantTimeCompare(c.secret[:], shown) != 1 {
		return fault.New(fault.PermissionDenied, "verification_cookie: is not the content of %s; read it as root on this host", c.path)
	}
	return nil
}

// GetRootCookiePath implements HostService.
func (s *Service) GetRootCookiePath(
	context.Context, *hypervisorv1.GetRootCookiePathRequest,
) (*hypervisorv1.GetRootCookiePathResponse, error) {
	return &hypervisorv1.GetRootCookiePathResponse{Path: s.Cookie.path}, nil
}
