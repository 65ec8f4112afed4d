// Package legacy serves the paths and JSON that HyperSDK's users know, on the same services as everything else. What HyperSDK took and
// dropped without a word is an error here, with the field's name.
package legacy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	adminv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/admin/v1"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

// maxBody bounds a request.
const maxBody = 1 << 20

// api serves the paths.
type api struct {
	jobs   exportv1.JobServiceClient
	source exportv1.DiscoveryServiceClient
	system adminv1.SystemServiceClient
	images exportv1.ImageServiceClient
}

// Register adds the paths to the mux.
func Register(mux *http.ServeMux, cc grpc.ClientConnInterface) {
	a := &api{exportv1.NewJobServiceClient(cc), exportv1.NewDiscoveryServiceClient(cc), adminv1.NewSystemServiceClient(cc), exportv1.NewImageServiceClient(cc)}
	mux.HandleFunc("GET /health", a.health)
	for pattern, h := range map[string]func(*http.Request) (any, error){
		"GET /status":             a.status,
		"GET /capabilities":       a.capabilities,
		"POST /jobs/submit":       a.submit,
		"GET /jobs/query":         a.query,
		"POST /jobs/query":        a.query,
		"POST /jobs/cancel":       a.cancel,
		"GET /jobs/{id}":          a.job,
		"GET /jobs/progress/{id}": a.progress,
		"GET /jobs/logs/{id}":     a.logs,
		"POST /convert/format":    a.convert,
		"GET /vms/list":           a.listVMs,
		"POST /vms/info":          a.vmInfo,
	} {
		mux.Handle(pattern, handler(h))
	}
	registerLibvirt(mux, cc)
	registerAppliances(mux, cc)
}

// handler writes what h returns as JSON, or its error as {"error": …} with the HTTP status of its code.
func handler(h func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := h(authorized(r))
		if err != nil {
			s := status.Convert(intercept.Status(err))
			write(w, runtime.HTTPStatusFromCode(s.Code()), map[string]any{"error": s.Message(), "timestamp": time.Now().UTC()})
			return
		}
		if c, ok := body.(created); ok {
			write(w, http.StatusCreated, c.body)
			return
		}
		write(w, http.StatusOK, body)
	})
}

// authorized gives the calls that are made for a request its id and its credentials.
func authorized(r *http.Request) *http.Request {
	md := metadata.Pairs(intercept.RequestIDKey, r.Header.Get("X-Request-Id"))
	md.Append("authorization", r.Header.Values("Authorization")...)
	return r.WithContext(metadata.NewOutgoingContext(r.Context(), md))
}

func write(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone needs no answer
}

// decode reads a request's body, JSON or YAML by its content type, into v. Unknown fields are errors that name the field.
func decode(r *http.Request, v any) error {
	raw, err := readBody(r)
	if err != nil {
		return err
	}
	return decodeBytes(raw, v)
}

// readBody returns the body as JSON.
func readBody(r *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "body")
	}
	if len(raw) > maxBody {
		return nil, fault.New(fault.InvalidArgument, "body: is longer than %d bytes", maxBody)
	}
	if strings.Contains(r.Header.Get("Content-Type"), "yaml") {
		var doc any
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			return nil, fault.As(fault.InvalidArgument, err, "body")
		}
		return json.Marshal(doc)
	}
	return raw, nil
}

func decodeBytes(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return fault.New(fault.InvalidArgument, "body: is empty")
		}
		return fault.As(fault.InvalidArgument, err, "body")
	}
	return nil
}

// health answers anybody: the server serves.
func (a *api) health(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, map[string]any{"status": "healthy", "timestamp": time.Now().UTC()})
}

func (a *api) status(r *http.Request) (any, error) {
	s, err := a.system.GetStatus(r.Context(), &adminv1.GetStatusRequest{})
	if err != nil {
		return nil, err
	}
	var total uint32
	for _, n := range s.GetJobs() {
		total += n
	}
	return map[string]any{
		"version": s.GetVersion(), "uptime": s.GetUptime().AsDuration().Round(time.Second).String(), "total_jobs": total,
		"pending_jobs": s.GetJobs()["pending"], "running_jobs": s.GetJobs()["running"], "completed_jobs": s.GetJobs()["completed"],
		"failed_jobs": s.GetJobs()["failed"], "cancelled_jobs": s.GetJobs()["cancelled"], "timestamp": s.GetTime().AsTime(),
	}, nil
}

// capability is what HyperSDK says of a way to export; here it is a provider.
type capability struct {
	Method    string `json:"method"`
	Available bool   `json:"available"`
	Priority  int    `json:"priority"`
}

func (a *api) capabilities(r *http.Request) (any, error) {
	c, err := a.system.GetCapabilities(r.Context(), &adminv1.GetCapabilitiesRequest{})
	if err != nil {
		return nil, err
	}
	all := make(map[string]capability)
	for i, p := range c.GetProviders() {
		all[p] = capability{Method: p, Available: true, Priority: i + 1}
	}
	first := ""
	if len(c.GetProviders()) > 0 {
		first = c.GetProviders()[0]
	}
	return map[string]any{
		"capabilities": all, "default_method": first, "read_formats": c.GetReadFormats(), "write_formats": c.GetWriteFormats(),
		"timestamp": time.Now().UTC(),
	}, nil
}
