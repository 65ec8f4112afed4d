package server_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

func TestEveryDoorOfTheFrontDoor(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	list := func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := hypervisorv1.NewVmServiceClient(cc).ListVMs(ctx, &hypervisorv1.ListVMsRequest{})
		return err
	}
	for name, c := range map[string]struct {
		ctx  context.Context
		cc   *grpc.ClientConn
		want codes.Code
	}{
		"certificate":             {t.Context(), s.Dial(true), codes.OK},
		"token over TLS":          {s.WithToken(t.Context()), s.Dial(false), codes.OK},
		"token in plain loopback": {s.WithToken(t.Context()), s.DialPlain(), codes.OK},
		"socket":                  {t.Context(), s.DialSocket(), codes.OK},
		"nothing over TLS":        {t.Context(), s.Dial(false), codes.Unauthenticated},
		"nothing in plain":        {t.Context(), s.DialPlain(), codes.Unauthenticated},
	} {
		if err := list(c.ctx, c.cc); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestHealthNeedsNoCredential(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	res, err := grpc_health_v1.NewHealthClient(s.Dial(false)).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || res.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("grpc health: %v, %v", res, err)
	}
	client, base := s.HTTP()
	for path, want := range map[string]int{
		"/healthz": http.StatusOK, "/readyz": http.StatusOK, "/health": http.StatusOK, "/metrics": http.StatusUnauthorized,
		"/openapi.json": http.StatusUnauthorized, "/v1/vms": http.StatusUnauthorized, "/jobs/query": http.StatusUnauthorized,
		"/status": http.StatusUnauthorized, "/nothing": http.StatusNotFound,
	} {
		if code, body := get(t, client, base+path, ""); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

func get(t *testing.T, client *http.Client, url, token string) (int, string) {
	t.Helper()
	return do(t, client, http.MethodGet, url, token, "")
}

func do(t *testing.T, client *http.Client, method, url, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

func TestCreateOverRESTAndSeeItEverywhere(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	client, base := s.HTTP()
	code, body := do(t, client, http.MethodPost, base+"/v1/vms", s.Token(),
		`{"spec":{"vm_info":{"hostname":"web-1","memory_in_mib":256,"milli_cpus":500},"minimum_free_bytes":1048576}}`)
	if code != http.StatusOK {
		t.Fatalf("create: %d %s", code, body)
	}
	updates, err := hypervisorv1.NewMonitoringServiceClient(s.DialSocket()).GetUpdates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := updates.Send(&hypervisorv1.GetUpdatesRequest{}); err != nil {
		t.Fatal(err)
	}
	for running := false; !running; {
		u, err := updates.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, vm := range u.GetUpdate().GetVms() {
			if vm.GetState() == hypervisorv1.State_STATE_FAILED_TO_START {
				t.Fatalf("failed to start: %s", vm.GetStateReason())
			}
			running = vm.GetState() == hypervisorv1.State_STATE_RUNNING
		}
	}
	code, body = get(t, client, base+"/v1/vms/web-1", s.Token())
	var got struct {
		VMInfo struct {
			State   string         `json:"state"`
			Address map[string]any `json:"address"`
		} `json:"vm_info"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK || got.VMInfo.State != "STATE_RUNNING" {
		t.Fatalf("get: %d %s %v", code, body, err)
	}
	for _, request := range []struct{ method, path, body string }{
		{http.MethodPatch, "/v1/vms/web-1/tags", `{"tags":{"a":"b"}}`},
		{http.MethodPost, "/v1/vms/web-1:reboot", `{}`},
		{http.MethodPost, "/v1/vms/web-1:stop", `{}`},
		{http.MethodPatch, "/v1/vms/web-1/size", `{"memory_in_mib":"512"}`},
		{http.MethodPost, "/v1/vms/web-1:start", `{}`},
		{http.MethodDelete, "/v1/vms/web-1", ``},
	} {
		if code, body := do(t, client, request.method, base+request.path, s.Token(), request.body); code != http.StatusOK {
			t.Errorf("%s %s: %d %s", request.method, request.path, code, body)
		}
	}
	if code, body := get(t, client, base+"/v1/vms/web-1", s.Token()); code != http.StatusNotFound {
		t.Errorf("after destroy: %d %s", code, body)
	}
}

func TestUnknownFieldsAreNamed(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	client, base := s.HTTP()
	for _, request := range []struct{ method, path, body, want string }{
		{http.MethodPost, "/v1/vms", `{"spec":{"vm_inof":{}}}`, "vm_inof"},
		{http.MethodGet, "/v1/vms?srot=true", ``, "srot"},
		{http.MethodPost, "/jobs/submit", `{"vm_path":"x","output_path":"/x","colour":1}`, "colour"},
		{http.MethodPost, "/jobs/submit", `{"vm_path":"x","output_path":"/x","incremental":true}`, "incremental"},
		{http.MethodGet, "/vms/list?password=x", ``, "password"},
	} {
		code, body := do(t, client, request.method, base+request.path, s.Token(), request.body)
		if code < 400 || code >= 600 || !strings.Contains(body, request.want) {
			t.Errorf("%s %s: %d %s, want an error that names %q", request.method, request.path, code, body, request.want)
		}
	}
}

func TestMetricsAndDescription(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	client, base := s.HTTP()
	if code, body := do(t, client, http.MethodPost, base+"/v1/vms", s.Token(),
		`{"spec":{"do_not_start":true,"vm_info":{"memory_in_mib":64,"milli_cpus":500},"minimum_free_bytes":4096}}`); code != http.StatusOK {
		t.Fatalf("create: %d %s", code, body)
	}
	code, body := get(t, client, base+"/metrics", s.Token())
	for _, want := range []string{
		`hyperplane_rpc_requests_total{code="OK",method="/hyperplane.hypervisor.v1.VmService/CreateVmAsync"} 1`,
		`hyperplane_rpc_duration_seconds_count{method="/hyperplane.hypervisor.v1.VmService/CreateVmAsync"} 1`,
		`hyperplane_vms{state="st`,
	} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("metrics: %d, without %s", code, want)
		}
	}
	code, body = get(t, client, base+"/openapi.json", s.Token())
	var api struct {
		Paths map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(body), &api); err != nil || code != http.StatusOK || api.Paths["/v1/vms/{vm}:start"] == nil {
		t.Errorf("description: %d %v", code, err)
	}
}
