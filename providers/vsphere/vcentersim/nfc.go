package vcentersim

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// loggedIn reports whether the request carries the cookie of a live session.
func (s *Simulator) loggedIn(r *http.Request) bool {
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return false
	}
	reg := s.model.Map()
	res := reg.SessionManager().SessionIsActive(&simulator.Context{Context: r.Context(), Map: reg},
		&types.SessionIsActive{SessionID: cookie.Value, UserName: s.cfg.Username})
	body, ok := res.(*methods.SessionIsActiveBody)
	return ok && body.Res != nil && body.Res.Returnval
}

// serveLease answers GET /nfc/<secret>/<file>. The secret is the ticket; who reads at the host of the API must be logged in as well. Another
// host never sees the session's cookie.
func (s *Simulator) serveLease(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	defer func() { s.recordRequest(r, rec) }()
	if r.Host == s.server.URL.Host && !s.loggedIn(r) {
		http.Error(rec, "not logged in", http.StatusUnauthorized)
		return
	}
	l, f := s.leaseFile(r.URL.Path)
	if l == nil || !l.isOpen() {
		http.NotFound(rec, r)
		return
	}
	plan := s.takeFaults(f)
	if plan.unavailable {
		http.Error(rec, "try again", http.StatusServiceUnavailable)
		return
	}
	if err := s.sendFile(r.Context(), rec, l, f, plan); err != nil {
		s.log.InfoContext(r.Context(), "disk was not sent to its end", slog.String("disk", f.key), slog.Any("error", err))
		_ = http.NewResponseController(w).Flush() // what was sent so far arrives before the cut
		panic(http.ErrAbortHandler)
	}
}

func (s *Simulator) leaseFile(at string) (*lease, *leaseFile) {
	dir, name := path.Split(at)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[path.Base(strings.TrimSuffix(dir, "/"))]
	if l == nil || !l.serving {
		return nil, nil
	}
	for _, f := range l.files {
		if f.name == name {
			return l, f
		}
	}
	return nil, nil
}

// sendFile sends a stream as the plan wants it. An error means that the connection must be cut.
func (s *Simulator) sendFile(ctx context.Context, w http.ResponseWriter, l *lease, f *leaseFile, p plan) error {
	src, err := os.Open(f.stream.path)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	size := f.stream.size
	if p.truncateAt >= 0 {
		size = min(size, p.truncateAt)
	}
	w.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	if s.cfg.ContentLength {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	w.WriteHeader(http.StatusOK)
	out := &pacer{ctx: ctx, w: w, sim: s, lease: l, plan: p}
	if _, err := io.CopyBuffer(out, io.LimitReader(src, size), make([]byte, out.step())); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.sent, f.lie = true, p.lie
	return nil
}
