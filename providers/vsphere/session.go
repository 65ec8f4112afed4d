package vsphere

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// conn is one logged-in session. It is the soap.RoundTripper of its own client: every call gets a time limit, and a call that
// finds the session ended logs in again, once, and is repeated.
type conn struct {
	content types.ServiceContent
	http    *http.Client // for disks: same transport and cookies as the API
	inner   *soap.Client
	user    *url.Userinfo
	trust   *trust
	timeout time.Duration
	tune    tuning
	log     *slog.Logger

	gate   chan struct{} // holds one element while somebody logs in
	logins atomic.Uint64
}

var _ soap.RoundTripper = (*conn)(nil)

func dial(ctx context.Context, ep endpoint, tune tuning, log *slog.Logger) (*conn, error) {
	transport := ep.trust.transport(min(ep.timeout, 30*time.Second))
	inner := soap.NewClient(ep.url, false)
	inner.Transport = apiTransport{transport}
	inner.UserAgent, inner.Namespace, inner.Version = "hyperplane", "urn:"+vim25.Namespace, vim25.Version
	c := &conn{
		inner: inner, user: ep.user, trust: ep.trust, timeout: ep.timeout, tune: tune, log: log,
		gate: make(chan struct{}, 1),
		http: &http.Client{
			Transport:     transport,
			Jar:           inner.Jar,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	var err error
	if c.content, err = methods.GetServiceContent(ctx, c); err != nil {
		return nil, err
	}
	if c.content.SessionManager == nil {
		return nil, &statusError{status: http.StatusNotFound, host: ep.url.Host, api: true}
	}
	if err := c.login(ctx, 0); err != nil {
		c.http.CloseIdleConnections()
		return nil, err
	}
	return c, nil
}

// apiTransport passes on only answers that can be of the API: it says what it has to say with 200 and 500.
type apiTransport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t apiTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.next.RoundTrip(req)
	if err != nil || res.StatusCode == http.StatusOK || res.StatusCode == http.StatusInternalServerError {
		return res, err
	}
	_ = res.Body.Close()
	return nil, &statusError{status: res.StatusCode, host: req.URL.Host, api: true}
}

// RoundTrip implements soap.RoundTripper.
func (c *conn) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	seen := c.logins.Load()
	err := c.call(ctx, req, res)
	if !sessionEnded(err) || managesSession(req) {
		return err
	}
	c.log.WarnContext(ctx, "vsphere session ended, logging in again", slog.String("host", c.inner.URL().Host))
	if err := c.login(ctx, seen); err != nil {
		return err
	}
	reflect.ValueOf(res).Elem().SetZero()
	return c.call(ctx, req, res)
}

func (c *conn) call(ctx context.Context, req, res soap.HasFault) error {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := c.inner.RoundTrip(limited, req, res)
	if err != nil && ctx.Err() == nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return fault.New(fault.Unavailable, "%s did not answer within %s", c.inner.URL().Host, c.timeout)
	}
	return err
}

// login logs in unless somebody else did since the caller saw the given number of logins.
func (c *conn) login(ctx context.Context, seen uint64) error {
	select {
	case c.gate <- struct{}{}:
		defer func() { <-c.gate }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.logins.Load() != seen {
		return nil
	}
	pass, _ := c.user.Password()
	_, err := methods.Login(ctx, c, &types.Login{
		This: *c.content.SessionManager, UserName: c.user.Username(), Password: pass, Locale: session.Locale,
	})
	if err != nil {
		return err
	}
	c.logins.Add(1)
	return nil
}

func (c *conn) logout(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	_, err := methods.Logout(ctx, c, &types.Logout{This: *c.content.SessionManager})
	if sessionEnded(err) {
		return nil
	}
	return err
}

// serverID tells one server from another. A standalone host has no instance UUID; it goes by its address.
func (c *conn) serverID() string {
	return cmp.Or(c.content.About.InstanceUuid, c.inner.URL().Host)
}

// keepAlive uses the session until ctx ends. vCenter ends a session after 30 minutes without a call, unless configured otherwise.
func (c *conn) keepAlive(ctx context.Context) {
	tick := time.NewTicker(c.tune.keepAliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := methods.GetCurrentTime(ctx, c); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "vsphere session could not be kept alive", slog.Any("error", err))
			}
		}
	}
}

func managesSession(req soap.HasFault) bool {
	switch req.(type) {
	case *methods.LoginBody, *methods.LogoutBody:
		return true
	default:
		return false
	}
}
