package console_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/console"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
)

const testUUID = "d6d5b0a0-0000-4000-8000-000000000001"

// world is a VM that runs, and a client of its monitor.
type world struct {
	grpc.ServerStream
	ctx      context.Context
	host     *fake.Host
	info     *hypervisorv1.VmInfo
	requests chan string
	answers  chan string
	*console.Service
}

func newWorld(t *testing.T) *world {
	t.Helper()
	host, driver := fake.New(fake.Options{})
	t.Cleanup(func() { _ = driver.Close() })
	spec := hypervisor.Spec{UUID: testUUID, Name: "vm", CPUs: 1, MemoryBytes: 64 << 20}
	if err := driver.Define(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := driver.Start(t.Context(), testUUID); err != nil {
		t.Fatal(err)
	}
	w := &world{
		ctx: t.Context(), host: host, info: &hypervisorv1.VmInfo{Uuid: testUUID, State: hypervisorv1.State_STATE_RUNNING},
		requests: make(chan string, 8), answers: make(chan string, 100),
	}
	w.Service = &console.Service{VMs: w, Driver: driver}
	return w
}

func (w *world) Info(string) (*hypervisorv1.VmInfo, error) { return w.info, nil }
func (w *world) Context() context.Context                  { return w.ctx }

func (w *world) Recv() (*hypervisorv1.ConnectToVmManagerRequest, error) {
	select {
	case r, more := <-w.requests:
		if !more {
			return nil, io.EOF
		}
		return &hypervisorv1.ConnectToVmManagerRequest{Vm: "u", Data: []byte(r)}, nil
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	}
}

func (w *world) Send(m *hypervisorv1.ConnectToVmManagerResponse) error {
	w.answers <- string(m.GetData())
	return nil
}

// ask sends the pieces and returns what came back, when the stream has ended.
func (w *world) ask(t *testing.T, pieces ...string) string {
	t.Helper()
	for _, p := range pieces {
		w.requests <- p
	}
	close(w.requests)
	if err := w.ConnectToVmManager(w); err != nil {
		t.Error(err)
	}
	close(w.answers)
	var all strings.Builder
	for a := range w.answers {
		all.WriteString(a)
	}
	return all.String()
}

func TestManagerSpeaksQMP(t *testing.T) {
	t.Parallel()
	got := newWorld(t).ask(t, "", `{"execute":"qmp_capabilities","id":1}`+"\r", "\n{\"execute\":", "\"query-name\",\"id\":\"a\"}\n\n", "nonsense\r", `{"execute":"no-such"}`+"\r\n")
	const want = `{"QMP":{"capabilities":[],"version":{"package":"fake","qemu":{"major":7,"micro":0,"minor":2}}}}
{"execute":"qmp_capabilities","id":1}
{"id":1,"return":{}}
{"execute":"query-name","id":"a"}
{"id":"a","return":{"name":"vm"}}
nonsense
{"error":{"class":"GenericError","desc":"JSON parse error: monitor: the command is not one JSON object"}}
{"execute":"no-such"}
{"error":{"class":"CommandNotFound","desc":"The command no-such has not been found"}}
`
	if got != strings.ReplaceAll(want, "\n", "\r\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestManagerTakesNoEndlessLine(t *testing.T) {
	t.Parallel()
	half := strings.Repeat("x", 600<<10)
	got := newWorld(t).ask(t, half, half, "\n"+`{"execute":"query-name"}`+"\n")
	if !strings.Contains(got, "too long") || !strings.Contains(got, `"name":"vm"`) || len(got) > 1000 {
		t.Errorf("%d bytes: %.1000s", len(got), got)
	}
}

func TestManagerEndsWithTheVM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.requests <- ""
	done := make(chan error, 1)
	go func() { done <- w.ConnectToVmManager(w) }()
	<-w.answers // the greeting
	if err := w.host.PowerOff(testUUID); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestManagerRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.requests <- ""
	w.info.State = hypervisorv1.State_STATE_STOPPED
	if err := w.ConnectToVmManager(w); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("stopped: %v", err)
	}
	close(w.requests)
	if err := w.ConnectToVmManager(w); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("no request: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w = newWorld(t)
	w.requests <- ""
	w.ctx = ctx
	if err := w.ConnectToVmManager(w); err == nil {
		t.Error("a client that has gone")
	}
}
