// Package rest is the HTTP side of the server: the gateway to the gRPC services, uploads, consoles over WebSocket, health, metrics and the API
// description. It calls the services through an in-process channel, so that every request passes the same interceptors as a gRPC call.
package rest

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/frontdoor"
	"github.com/hyperplane-project/hyperplane/server/intercept"
	"github.com/hyperplane-project/hyperplane/server/rest/legacy"
)

// Deps are the collaborators.
type Deps struct {
	Log *slog.Logger
	// Channel leads to the services, through the interceptors.
	Channel grpc.ClientConnInterface
	Tokens  intercept.TokenChecker
	// Ready says why the server can not serve yet; nil = it can.
	Ready func(ctx context.Context) error
	// Metrics serves the metrics; callers need a credential unless OpenMetrics.
	Metrics     http.Handler
	OpenMetrics bool
	OpenAPI     []byte
	// Lists are pages of lines by their paths: what legacy clients ask a server about itself. Callers need a credential unless OpenLists.
	Lists     map[string]func() []string
	OpenLists bool
}

const requestIDHeader = "X-Request-Id"

// New makes the handler.
func New(ctx context.Context, d Deps) (http.Handler, error) {
	gateway, err := newGateway(ctx, d.Channel)
	if err != nil {
		return nil, err
	}
	h := handlers{Deps: d}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.alive)
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", h.authenticated(d.Metrics, d.OpenMetrics))
	mux.Handle("GET /openapi.json", h.authenticated(http.HandlerFunc(h.openAPI), false))
	for path, lines := range d.Lists {
		mux.Handle("GET "+path, h.authenticated(list(lines), d.OpenLists))
	}
	mux.HandleFunc("POST /v1/vms:upload", h.uploadVM)
	mux.HandleFunc("GET /v1/vms/{vm}/serial", h.serial)
	mux.HandleFunc("GET /v1/vms/{vm}/console", h.display)
	mux.HandleFunc("GET /v1/vms/{vm}/manager", h.manager)
	mux.Handle("/v1/", gateway)
	legacy.Register(mux, d.Channel)
	return prepared(mux), nil
}

// prepared puts who the connection stands for into the context, gives the request an id, and sets the headers that keep browsers from
// guessing.
func prepared(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if id == "" {
			id = uuid.NewString()
			r.Header.Set(requestIDHeader, id)
		}
		w.Header().Set(requestIDHeader, id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

type connKey struct{}

// ConnContext is the http.Server's hook that remembers what the front door knows of a connection.
func ConnContext(ctx context.Context, conn *frontdoor.Conn) context.Context {
	return principal.With(context.WithValue(ctx, connKey{}, conn), conn.Principal())
}

func (h handlers) alive(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") }

func (h handlers) ready(w http.ResponseWriter, r *http.Request) {
	if err := h.Ready(r.Context()); err != nil {
		plain(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	plain(w, http.StatusOK, "ok")
}

func (h handlers) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(h.OpenAPI) // a client that has gone needs no answer
}

// handlers are the routes that the gateway does not make.
type handlers struct{ Deps }

// authenticated lets only callers with a credential through, unless open.
func (h handlers) authenticated(next http.Handler, open bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !open {
			p, _ := principal.From(r.Context())
			if token, ok := intercept.BearerToken(r.Header.Values("Authorization")); ok {
				var err error
				if p, err = h.Tokens.CheckToken(r.Context(), token); err != nil {
					fail(w, r, err)
					return
				}
			}
			if !p.Authenticated() {
				fail(w, r, intercept.ErrNoCredential())
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func list(lines func() []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, strings.Join(lines(), "\n")) })
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // a client that has gone needs no answer
}

// fail answers with an error in the gateway's form.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	runtime.DefaultHTTPErrorHandler(r.Context(), runtime.NewServeMux(), marshaler(), w, r, intercept.Status(err))
}

// incoming says which HTTP headers become metadata.
func incoming(key string) (string, bool) {
	if strings.EqualFold(key, requestIDHeader) {
		return intercept.RequestIDKey, true
	}
	return "", false
}
